// holdfast: the speed and the memory of JSON in 16 KiB chunks, beside writing it whole.
// SPDX-License-Identifier: BSL-1.0
#include "support/results.hpp"

#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/simdjson.hpp>

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define HAVE_NLOHMANN 1
#else
#define HAVE_NLOHMANN 0
#endif

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <new>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// The heap, counted: everything below allocates through here.
namespace {
std::atomic<std::size_t> heap_now{0};
std::atomic<std::size_t> heap_peak{0};

void count_up(void* p) noexcept
{
    const std::size_t now =
        heap_now.fetch_add(malloc_usable_size(p), std::memory_order_relaxed) + malloc_usable_size(p);
    if (now > heap_peak.load(std::memory_order_relaxed)) heap_peak.store(now, std::memory_order_relaxed);
}
} // namespace

// Not inlined, or g++ takes the free() for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size)
{
    void* p = std::malloc(size != 0 ? size : 1);
    if (p == nullptr) throw std::bad_alloc();
    count_up(p);
    return p;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept
{
    void* p = std::malloc(size != 0 ? size : 1);
    if (p != nullptr) count_up(p);
    return p;
}
[[gnu::noinline]] void operator delete(void* p) noexcept
{
    heap_now.fetch_sub(malloc_usable_size(p), std::memory_order_relaxed);
    std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace {

constexpr std::size_t chunk_bytes = 16 * 1024;

struct quote {
    std::uint64_t id;
    std::string symbol;
    double bid, ask;
    std::uint32_t bid_size, ask_size;
    std::uint64_t time;
    bool open;
};

constexpr auto describe(holdfast::type<quote>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol),
                            field("bid", &quote::bid), field("ask", &quote::ask),
                            field("bid_size", &quote::bid_size), field("ask_size", &quote::ask_size),
                            field("time", &quote::time), field("open", &quote::open));
}

std::vector<quote> make_quotes(std::size_t rows)
{
    std::mt19937_64 random(42);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    std::vector<quote> quotes;
    quotes.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        quote q{};
        q.id = 1'000'000 + i;
        for (auto letters = 4 + below(3); letters != 0; --letters)
            q.symbol += static_cast<char>('A' + below(26));
        const auto cents = 100 + below(100'000);
        q.bid = static_cast<double>(cents) / 100;
        q.ask = static_cast<double>(cents + 1 + below(10)) / 100;
        q.bid_size = static_cast<std::uint32_t>(below(10'000));
        q.ask_size = static_cast<std::uint32_t>(below(10'000));
        q.time = 1'700'000'000'000'000'000 + i * 1'000 + below(1'000);
        q.open = below(2) == 0;
        quotes.push_back(std::move(q));
    }
    return quotes;
}

// Copies what it is given once, as a socket does: into a ring of the size of a large socket buffer.
class sink {
public:
    sink() : ring_(256 * 1024) {}

    void take(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const std::size_t n = std::min(bytes.size(), ring_.size() - at_);
            std::memcpy(ring_.data() + at_, bytes.data(), n);
            at_ = (at_ + n) % ring_.size();
            taken_ += n;
            bytes.remove_prefix(n);
        }
    }

    std::size_t taken() const noexcept { return taken_; }

private:
    std::vector<char> ring_;
    std::size_t at_ = 0;
    std::size_t taken_ = 0;
};

struct subject {
    std::string name;
    std::function<void(sink&)> run;
    std::vector<double> bytes_per_second{};
    std::size_t peak_extra_bytes = 0;
};

template <class Source>
void stream(const Source& source, sink& to)
{
    holdfast::streaming_serializer<holdfast::json, std::reference_wrapper<const Source>> text{
        std::cref(source)};
    std::vector<char> chunk(chunk_bytes);
    std::error_code ec;
    for (auto part = text.next(chunk, ec); !part.empty(); part = text.next(chunk, ec))
        to.take({part.data(), part.size()});
    if (ec) throw std::system_error(ec);
}

void measure(benchmarks::results& results, const std::string& name, std::vector<subject> subjects, int rounds)
{
    sink to;
    for (int round = -1; round < rounds; ++round) { // the first one warms up, and measures the memory
        for (auto& s : subjects) {
            const std::size_t before = heap_now;
            heap_peak = before;
            const std::size_t taken = to.taken();
            const auto start = std::chrono::steady_clock::now();
            s.run(to);
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            if (round < 0)
                s.peak_extra_bytes = heap_peak - before;
            else
                s.bytes_per_second.push_back(static_cast<double>(to.taken() - taken) / took.count());
        }
    }
    for (const auto& s : subjects) {
        results.add(s.name, name, "bytes_per_second", benchmarks::median(s.bytes_per_second), "B/s");
        results.add(s.name, name, "peak_extra_bytes", static_cast<double>(s.peak_extra_bytes), "B");
    }
}

#if HAVE_NLOHMANN
nlohmann::json nlohmann_of(const std::vector<quote>& quotes)
{
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& q : quotes)
        rows.push_back({{"id", q.id},
                        {"symbol", q.symbol},
                        {"bid", q.bid},
                        {"ask", q.ask},
                        {"bid_size", q.bid_size},
                        {"ask_size", q.ask_size},
                        {"time", q.time},
                        {"open", q.open}});
    return rows;
}
#endif

// `document` is nlohmann's own; nullptr where it is not installed.
template <class Source>
std::vector<subject> subjects_of(const Source& source, const std::string& finished,
                                 [[maybe_unused]] const void* document)
{
    std::vector<subject> subjects{{"holdfast", [&](sink& to) { stream(source, to); }}};
#if HAVE_NLOHMANN
    subjects.push_back({"nlohmann", [document](sink& to) {
                            to.take(static_cast<const nlohmann::json*>(document)->dump());
                        }});
#endif
    subjects.push_back({"memcpy", [&](sink& to) { to.take(finished); }});
    return subjects;
}

struct settings {
    std::string document = "/usr/share/iso-codes/json/iso_639-3.json";
    std::uint32_t rows = 1'000'000;
    std::uint32_t rounds = 7;
};

void run_cases(benchmarks::results& results, const settings& s)
{
    const int rounds = static_cast<int>(s.rounds);
    if (!HAVE_NLOHMANN)
        std::puts("nlohmann is left out: <nlohmann/json.hpp> was not found (apt: nlohmann-json3-dev)");
    {
        const std::vector<quote> quotes = make_quotes(s.rows);
        const std::string finished = holdfast::serialize_to_string<holdfast::json>(quotes);
        const void* document = nullptr;
#if HAVE_NLOHMANN
        const nlohmann::json rows = nlohmann_of(quotes);
        if (nlohmann::json::parse(finished) != rows) throw std::runtime_error("the quotes do not read back");
        document = &rows;
#endif
        measure(results, "quotes", subjects_of(quotes, finished, document), rounds);
    }
    {
        simdjson::dom::parser parser;
        simdjson::dom::element root;
        if (const auto error = parser.load(s.document).get(root))
            throw std::runtime_error(s.document + ": " + simdjson::error_message(error) +
                                     (error == simdjson::IO_ERROR ? " (apt: iso-codes)" : ""));
        const std::string finished = holdfast::serialize_to_string<holdfast::json>(root);
        const void* document = nullptr;
#if HAVE_NLOHMANN
        std::ifstream file(s.document);
        const nlohmann::json own = nlohmann::json::parse(file);
        if (nlohmann::json::parse(finished) != own)
            throw std::runtime_error("the document does not read back");
        document = &own;
#endif
        // It is small: many times over, so that a round is long enough to be measured.
        auto subjects = subjects_of(root, finished, document);
        for (auto& one : subjects)
            one.run = [run = one.run](sink& to) {
                for (int i = 0; i < 20; ++i)
                    run(to);
            };
        measure(results, "document", std::move(subjects), rounds);
    }
}

int run(int argc, char** argv)
{
    settings s;
    benchmarks::results results{"serialize"};
    benchmarks::command_line cli{
        "serialize", "JSON in 16 KiB chunks into a sink that copies them once, beside whole strings."};
    results.add_options(cli);
    cli.add("rows", s.rows, "N", "quotes; nlohmann's DOM of a million takes about a gigabyte");
    cli.add("document", s.document, "FILE", "the document; the default is in Debian's package iso-codes");
    cli.add("rounds", s.rounds, "N", "rounds, of which the median counts");
    if (!cli.parse(argc, argv)) return 0;
    if (s.rows == 0) benchmarks::command_line::fail("rows", "must be at least 1");
    if (s.rounds == 0) benchmarks::command_line::fail("rounds", "must be at least 1");
    results.open();
    run_cases(results, s);
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
