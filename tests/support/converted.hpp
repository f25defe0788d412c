// holdfast: text that goes through an ndjson_converter in pieces and chunks of any sizes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_CONVERTED_HPP
#define HOLDFAST_TESTS_SUPPORT_CONVERTED_HPP

#include "chosen.hpp"

#include <holdfast/serialize/ndjson_converter.hpp>

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace tests {

struct converted_text : chunked_text {
    std::uint64_t elements = 0;
};

/// The text in pieces of `piece_size()` bytes, and out in chunks of `chunk_size()`. Throws where a piece is
/// not taken, and where it goes on after an error.
template <holdfast::ndjson_conversion To, class PieceSize, class ChunkSize>
converted_text converted(std::string_view text, PieceSize piece_size, ChunkSize chunk_size)
{
    holdfast::ndjson_converter<To> to;
    converted_text whole;
    const auto take = [&](auto next) {
        for (bool more = true; more;) {
            const std::string_view part = next(a_chunk(chunk_size()));
            whole.text += part;
            more = !part.empty();
        }
    };
    while (!text.empty() && !whole.error) {
        std::string_view piece = text.substr(0, piece_size());
        text.remove_prefix(piece.size());
        take([&](auto chunk) { return to.next(piece, chunk, whole.error); });
        if (!whole.error && !piece.empty()) throw std::logic_error("a piece was not taken");
    }
    if (!whole.error) take([&](auto chunk) { return to.finish(chunk, whole.error); });
    whole.elements = to.elements();
    if (whole.error) {
        std::error_code again;
        std::string_view more = "1\n";
        if (!to.next(more, a_chunk(9), again).empty() || again != whole.error)
            throw std::logic_error("it went on after an error");
        if (!to.finish(a_chunk(9), again).empty() || again != whole.error)
            throw std::logic_error("it ended well after an error");
    }
    return whole;
}

} // namespace tests

#endif
