// holdfast: where the benchmark's text goes: copied once, as a socket does.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_SINK_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_SINK_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

namespace benchmarks {

/// Copies what it is given into a ring of the size of a large socket buffer.
class sink {
public:
    void take(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const std::size_t n = std::min(bytes.size(), ring_.size() - at_);
            std::memcpy(ring_.data() + at_, bytes.data(), n);
            at_ += n;
            if (at_ == ring_.size()) at_ = 0;
            taken_ += n;
            bytes.remove_prefix(n);
        }
    }

    std::size_t taken() const noexcept { return taken_; }

    /// Whether both took the same bytes last.
    bool same_as(const sink& other) const { return taken_ == other.taken_ && ring_ == other.ring_; }

private:
    std::vector<char> ring_ = std::vector<char>(256 * 1024);
    std::size_t at_ = 0;
    std::size_t taken_ = 0;
};

} // namespace benchmarks

#endif
