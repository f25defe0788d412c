// holdfast: writers that are given the same case: their speed, taking turns, and their memory.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_WRITERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_WRITERS_HPP

#include "heap.hpp"
#include "json_sink.hpp"
#include "results.hpp"

#include <holdfast/serialize/streaming_serializer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <system_error>
#include <vector>

namespace benchmarks {

/// A writer of one case. `run` writes the whole case once.
struct subject {
    std::string name;
    std::function<void(sink&)> run;
    std::function<void(sink&)> counted{}; // the same with its memory counted, where that makes it slower
    std::vector<double> seconds{};
    std::size_t bytes = 0;
    std::size_t peak_extra_bytes = 0;
};

/// Writes the source in chunks of that size.
template <class Format, class Source>
void stream(const Source& source, std::size_t chunk_bytes, sink& to)
{
    holdfast::streaming_serializer<Format, std::reference_wrapper<const Source>> text{std::cref(source)};
    std::vector<char> chunk(chunk_bytes);
    std::error_code ec;
    for (auto part = text.next(chunk, ec); !part.empty(); part = text.next(chunk, ec))
        to.take({part.data(), part.size()});
    if (ec) throw std::system_error(ec);
}

/// The processor time of this thread: other programs may run beside it.
inline double thread_seconds()
{
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline void run_once(subject& s, sink& to, int times)
{
    const std::size_t taken = to.taken();
    const double start = thread_seconds();
    for (int i = 0; i < times; ++i)
        s.run(to);
    s.seconds.push_back(thread_seconds() - start);
    s.bytes = to.taken() - taken;
}

/// The subjects take turns, in another order each round: who follows a reader of a large document of its own
/// finds cold caches. A small case is written many times over, so that a turn is long enough to be
/// measured.
inline void measure(results& to, const std::string& name, std::vector<subject> subjects, std::uint32_t rounds)
{
    sink ring;
    for (auto& s : subjects) { // warms up, and measures the memory
        const std::size_t before = heap::now();
        heap::reset_peak();
        (s.counted ? s.counted : s.run)(ring);
        s.peak_extra_bytes = heap::peak() - before;
        run_once(s, ring, 1);
        s.seconds.clear();
    }
    const int times = static_cast<int>(1 + 16'000'000 / (subjects.front().bytes + 1));
    std::vector<subject*> order;
    for (auto& s : subjects)
        order.push_back(&s);
    std::mt19937 random{42};
    for (std::uint32_t round = 0; round < rounds; ++round) {
        std::shuffle(order.begin(), order.end(), random);
        for (subject* s : order)
            run_once(*s, ring, times);
    }
    for (const auto& s : subjects) {
        const measured seconds = median(s.seconds);
        to.add(s.name, name, "bytes_per_second", {static_cast<double>(s.bytes) / seconds.value, seconds.spread}, "B/s");
        to.add(s.name, name, "peak_extra_bytes", static_cast<double>(s.peak_extra_bytes), "B");
    }
}

} // namespace benchmarks

#endif
