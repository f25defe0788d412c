// holdfast: SHA-1 and base64, for Sec-WebSocket-Accept alone. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_WEBSOCKET_SHA1_HPP
#define HOLDFAST_DETAIL_WEBSOCKET_SHA1_HPP

#include <holdfast/detail/linkage.hpp>

#include <array>
#include <string>
#include <string_view>

namespace holdfast::detail {

/// SHA-1 (FIPS 180-4). Not for security: RFC 6455 proves with it that a server has read the request.
HOLDFAST_DECL std::array<unsigned char, 20> sha1(std::string_view text);

inline constexpr std::string_view digest_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of a digest of 20 bytes.
HOLDFAST_DECL std::string base64_digest(const std::array<unsigned char, 20>& bytes);

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/websocket/impl/sha1.ipp>
#endif

#endif
