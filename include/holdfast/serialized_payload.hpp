// holdfast: serialize_to_payload, which serializes a message once for any number of receivers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZED_PAYLOAD_HPP
#define HOLDFAST_SERIALIZED_PAYLOAD_HPP

#include <holdfast/payload.hpp>
#include <holdfast/serialize/formatted.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace holdfast {

/// Serializes `source` into a payload: `serialize_to_payload<ndjson>(quote, ec)`. An lvalue is only read. For a format
/// with options pass `formatted(std::ref(source), format)`.
///
/// `ec` is cleared on success. On failure it is what `streaming_serializer::next` reports, and the payload is empty.
///
/// Exceptions: what the source throws; `std::bad_alloc`.
/// Cost: up to 4 KiB one allocation, that of the payload. Beyond that a string that grows, and one copy of it.
template <class Format = json, class Source>
[[nodiscard]] payload serialize_to_payload(Source&& source, std::error_code& ec,
                                           payload_sharing sharing = payload_sharing::any_thread)
{
    return detail::with_format<Format>(std::forward<Source>(source), [&](auto&& of, auto format) -> payload {
        detail::serializer_of<decltype(format), decltype(of)> text(std::forward<decltype(of)>(of), format);
        char chunk[4096];
        auto part = text.next(chunk, ec);
        if (!ec && text.done()) return payload(std::string_view(part.data(), part.size()), sharing);
        std::string whole;
        while (!ec && !part.empty()) {
            whole.append(part.data(), part.size());
            part = text.next(chunk, ec);
        }
        return ec ? payload() : payload(whole, sharing);
    });
}

/// The same. Exceptions: `std::system_error` too, instead of an error code.
template <class Format = json, class Source>
[[nodiscard]] payload serialize_to_payload(Source&& source, payload_sharing sharing = payload_sharing::any_thread)
{
    std::error_code ec;
    payload made = serialize_to_payload<Format>(std::forward<Source>(source), ec, sharing);
    if (ec) throw std::system_error(ec, "serialize_to_payload");
    return made;
}

} // namespace holdfast

#endif
