// holdfast: the PROXY protocol, by which a load balancer states whose connection it forwards: options, header, parser.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROXY_PROTOCOL_HPP
#define HOLDFAST_PROXY_PROTOCOL_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/ip_network.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include <arpa/inet.h>

namespace holdfast {

/// How an acceptor takes the clients' addresses from load balancers (HAProxy's `send-proxy` and `send-proxy-v2`, and
/// others that speak the PROXY protocol, version 1 or 2).
///
/// Each connection begins with a header, which the acceptor reads before the session, or before the handshake of its
/// layer. Not a byte after the header is read. From then on the client's address counts: for `max_per_address` and
/// `address_filter`, in the census, in `connection_end` and in events. The sender's own address does not. A client that
/// `max_per_address` or `address_filter` refuses is reset, whatever `on_address_limit` says.
///
/// Some headers state no client: LOCAL, as for a health check, UNKNOWN, the sender's own address and port, and families
/// other than TCP over IP. Such a connection keeps the sender's address and counts against no limit per address. No
/// event is reported when it ends during the handshake of its layer. No event is reported either for a connection that
/// ends before its first byte; its reason is `peer_closed` or `peer_reset`.
struct proxy_options {
    /// The networks of the load balancers. **None: the PROXY protocol is off.** Else a connection from any other
    /// address is reset (`admission_limit::proxy_senders`): it could claim any address. Of a local socket every peer is
    /// trusted.
    std::vector<ip_network> trusted_senders{};
    /// The time from the admission until the header is complete. Must be positive. The maximum: unlimited.
    std::chrono::milliseconds header_timeout{5000};
    /// Maximum size in bytes of a header of version 2, with the additional fields (TLV), which are skipped. Must be 107
    /// to 65551. A header of version 1 has at most 107 bytes.
    std::size_t max_header_bytes = 1024;
    /// Maximum number of connections whose header is awaited. At least 1. SIZE_MAX: unlimited. Further ones are reset
    /// (`admission_limit::proxy_headers`). Each one takes a permit, a socket and a block of about 600 bytes.
    std::size_t max_pending_headers = 1024;
};

/// What a PROXY header says.
struct proxy_header {
    /// Whether the sender has made the connection for itself, as for a health check: the command LOCAL.
    bool local = false;
    /// The client's address and port, and those that it has connected to. None where the connection is the sender's
    /// own, where the sender does not know them, or where they are not of TCP over IP.
    std::optional<net::ip::tcp::endpoint> source{};
    std::optional<net::ip::tcp::endpoint> destination{};
};

/// Parses a PROXY header of version 1 or 2, piece by piece. It fails at the first byte that cannot be part of one. For
/// programs that accept without `async_serve`; the acceptor uses it itself.
///
/// Size: about 350 bytes; allocates nothing.
/// Exceptions: none.
///
///     holdfast::proxy_header_parser parser;
///     const std::size_t used = parser.parse(received); // what follows belongs to the session
///     if (parser.done() && parser.header().source) trusted = peer.set_peer(*parser.header().source);
class proxy_header_parser {
public:
    /// Maximum size of a header of version 1.
    static constexpr std::size_t max_text_bytes = 107;

    /// `max_header_bytes`: as in `proxy_options`.
    explicit proxy_header_parser(std::size_t max_header_bytes = proxy_options().max_header_bytes) noexcept
        : limit_(max_header_bytes)
    {
    }

    /// Parses the next bytes, up to the end of the header. Returns how many of them belong to it: all, unless it is
    /// done or has failed.
    HOLDFAST_DECL std::size_t parse(std::string_view bytes) noexcept;

    /// Whether the header is complete.
    [[nodiscard]] bool done() const noexcept { return state_ == state::done; }

    /// Whether the bytes are not those of a header, or it is too long.
    [[nodiscard]] bool failed() const noexcept { return state_ == state::failed; }

    /// Whether a byte was parsed.
    [[nodiscard]] bool begun() const noexcept { return size_ != 0; }

    /// Returns the header. Precondition: `done()`.
    [[nodiscard]] const proxy_header& header() const noexcept { return header_; }

private:
    enum class state : std::uint8_t { incomplete, done, failed };

    static constexpr std::string_view text_begin = "PROXY ";
    static constexpr std::string_view signature{"\r\n\r\n\0\r\nQUIT\n", 12};
    static constexpr std::size_t fixed_size = 16;          // of version 2: signature, command, family, length
    static constexpr std::size_t addresses_size = 2 * 108; // the largest: those of local sockets

    [[nodiscard]] std::uint8_t byte(std::size_t i) const noexcept { return static_cast<std::uint8_t>(bytes_[i]); }

    // Version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".

    [[nodiscard]] HOLDFAST_DECL state take_text() noexcept;

    HOLDFAST_DECL bool end_text(std::string_view line) noexcept;

    /// Up to the next space, which there must be where more is expected: else what follows is empty, and refused.
    HOLDFAST_DECL static std::string_view next_word(std::string_view& line) noexcept;

    HOLDFAST_DECL static std::optional<net::ip::address> address_of(int family, std::string_view text) noexcept;

    HOLDFAST_DECL static std::optional<std::uint16_t> port_of(std::string_view text) noexcept;

    // Version 2: the signature, version and command, family and protocol, the length of the rest, then addresses and
    // additional fields.

    [[nodiscard]] HOLDFAST_DECL state take_binary() noexcept;

    [[nodiscard]] HOLDFAST_DECL std::size_t least_length() const noexcept;

    HOLDFAST_DECL void end_binary() noexcept;

    template <class Address>
    void take_addresses() noexcept
    {
        typename Address::bytes_type source;
        typename Address::bytes_type destination;
        const std::size_t ports = fixed_size + 2 * source.size();
        std::memcpy(source.data(), bytes_.data() + fixed_size, source.size());
        std::memcpy(destination.data(), bytes_.data() + fixed_size + source.size(), source.size());
        const auto port_at = [this](std::size_t i) { return static_cast<std::uint16_t>(byte(i) * 256U + byte(i + 1)); };
        header_.source.emplace(net::ip::address(Address(source)), port_at(ports));
        header_.destination.emplace(net::ip::address(Address(destination)), port_at(ports + 2));
    }

    const std::size_t limit_;
    std::size_t size_ = 0;  // of what was parsed
    std::size_t total_ = 0; // of a header of version 2, once it is known
    state state_ = state::incomplete;
    proxy_header header_{};
    std::array<char, fixed_size + addresses_size> bytes_{};
};

} // namespace holdfast

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/proxy_protocol.ipp>
#endif

#endif
