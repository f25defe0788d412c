// holdfast: a fuzzer's bytes as a sequence of choices; when there are no more, all further ones are 0.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_FUZZ_CHOICES_HPP
#define HOLDFAST_TESTS_FUZZ_CHOICES_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <source_location>
#include <string>

namespace fuzz {

class choices {
public:
    static constexpr bool finite = false; // doubles may be NaN

    choices(const std::uint8_t* data, std::size_t size) noexcept : at_(data), end_(data + size) {}

    std::uint64_t bits() noexcept { return take(8); }

    /// A number below n; a byte where that is enough.
    std::size_t below(std::size_t n) noexcept { return take(n <= 256 ? 1 : n <= 65536 ? 2 : 8) % n; }

    /// Up to n bytes, whatever they are.
    std::string text(std::size_t n)
    {
        const std::size_t size = std::min({below(8) == 0 ? n : below(64), n, rest()});
        std::string made(reinterpret_cast<const char*>(at_), size);
        at_ += size;
        return made;
    }

    [[nodiscard]] std::size_t rest() const noexcept { return static_cast<std::size_t>(end_ - at_); }

private:
    std::uint64_t take(std::size_t bytes) noexcept
    {
        std::uint64_t value = 0;
        const std::size_t n = std::min(bytes, rest());
        std::memcpy(&value, at_, n);
        at_ += n;
        return value;
    }

    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

/// Ends the program where what must hold does not; the fuzzer keeps the input.
inline void check(bool holds, std::source_location where = std::source_location::current())
{
    if (holds) return;
    std::fprintf(stderr, "%s:%u: does not hold\n", where.file_name(), static_cast<unsigned>(where.line()));
    std::abort();
}

} // namespace fuzz

#endif
