// holdfast: choices of which values are made: random ones; and messages in chunks of chosen sizes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_CHOSEN_HPP
#define HOLDFAST_TESTS_SUPPORT_CHOSEN_HPP

#include <holdfast/serialize/streaming_serializer.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace tests {

// `Choices` has bits(), a number of 64; below(n), a number below n; text(n), a string of about n bytes at
// most; and `finite`, whether no double may be NaN or infinite.

/// A size of 0 to `most`, whose logarithm is uniform: many are small.
template <class Choices>
std::size_t any_size(Choices& choices, std::size_t most)
{
    return choices.below((most >> choices.below(static_cast<std::size_t>(std::bit_width(most)))) + 1);
}

/// Random choices; texts are UTF-8 of every length, with all that has to be escaped.
class random_choices {
public:
    static constexpr bool finite = true;

    explicit random_choices(std::uint64_t seed) : random_(seed) {}

    std::uint64_t bits() { return random_(); }
    std::size_t below(std::size_t n) { return bits() % n; }

    std::string text(std::size_t most)
    {
        static constexpr std::array<std::string_view, 12> awkward = {
            "\"",     "\\",     "\n",     "/",          "\x7f",       "\u00e9",
            "\u20ac", "\u2028", "\uffff", "\U0001f30a", "\U0010ffff", std::string_view("\0", 1)};
        std::string made;
        for (std::size_t left = any_size(*this, most); left != 0; --left) {
            const std::uint64_t r = bits();
            if (r % 16 == 0)
                made += awkward[(r >> 8) % awkward.size()];
            else
                made += static_cast<char>(r % 32 == 1 ? (r >> 8) % 32 : 32 + (r >> 8) % 95);
        }
        return made;
    }

private:
    std::mt19937_64 random_;
};

/// What a serializer gave: up to its end, or up to an error.
struct chunked_text {
    std::string text;
    std::error_code error;
};

/// Always the same memory, of n bytes of a MiB: its last, so that a sanitizer sees a byte too many.
inline std::span<char> a_chunk(std::size_t n)
{
    static std::vector<char> memory(std::size_t{1} << 20);
    return std::span(memory).last(n);
}

/// The text in chunks of `size()` bytes, up to a MiB. Throws where one is not full, not the last and no
/// error.
template <class Format, class Source, class Size>
chunked_text in_chunks(Source source, Size size, Format format = {})
{
    holdfast::streaming_serializer<Format, Source> serializer(std::move(source), format);
    chunked_text whole;
    while (!serializer.done()) {
        const auto chunk = a_chunk(size());
        const auto part = serializer.next(chunk, whole.error);
        if (whole.error) break;
        if (part.size() != chunk.size() && !serializer.done())
            throw std::logic_error("a chunk that is not the last is not full");
        whole.text.append(part.data(), part.size());
    }
    if (serializer.bytes_written() != whole.text.size()) throw std::logic_error("miscounted");
    return whole;
}

} // namespace tests

#endif
