// holdfast: stored_endpoint, a client's address and port in 8 bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_STORED_ENDPOINT_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_STORED_ENDPOINT_HPP

#include <holdfast/asio.hpp>

#include <cstdint>
#include <utility>

namespace holdfast::detail {

/// Keeps an endpoint in one word, for as long as a session lives, where Asio's takes 28 bytes. IPv4, also as IPv6
/// denotes it, is in the word itself; any other address is in memory of its own.
class stored_endpoint {
public:
    using endpoint = net::ip::tcp::endpoint;

    /// Throws std::bad_alloc.
    explicit stored_endpoint(const endpoint& of)
    {
        const net::ip::address& address = of.address();
        const std::uint64_t low = std::uint64_t{of.port()} << 16U;
        if (address.is_v4())
            word_ = std::uint64_t{address.to_v4().to_uint()} << 32U | low | inline_v4;
        else if (address.to_v6().is_v4_mapped())
            word_ = std::uint64_t{net::ip::make_address_v4(net::ip::v4_mapped, address.to_v6()).to_uint()} << 32U |
                    low | inline_mapped;
        else
            word_ = reinterpret_cast<std::uintptr_t>(
                new v6{address.to_v6().to_bytes(), static_cast<std::uint32_t>(address.to_v6().scope_id()), of.port()});
    }

    stored_endpoint(stored_endpoint&& other) noexcept : word_(std::exchange(other.word_, inline_v4)) {}

    ~stored_endpoint()
    {
        if ((word_ & inline_bit) == 0) delete &outside();
    }

    [[nodiscard]] endpoint get() const
    {
        if ((word_ & inline_bit) == 0) return {net::ip::address_v6(outside().address, outside().scope), outside().port};
        const net::ip::address_v4 v4(static_cast<std::uint32_t>(word_ >> 32U));
        const auto port = static_cast<std::uint16_t>(word_ >> 16U);
        if ((word_ & mapped_bit) != 0) return {net::ip::make_address_v6(net::ip::v4_mapped, v4), port};
        return {v4, port};
    }

private:
    struct v6 {
        net::ip::address_v6::bytes_type address;
        std::uint32_t scope;
        std::uint16_t port;
    };
    static_assert(alignof(v6) > 1);

    [[nodiscard]] const v6& outside() const noexcept
    {
        return *reinterpret_cast<const v6*>(static_cast<std::uintptr_t>(word_));
    }

    // The lowest bit of a pointer is 0.
    static constexpr std::uint64_t inline_bit = 1, mapped_bit = 2;
    static constexpr std::uint64_t inline_v4 = inline_bit, inline_mapped = inline_bit | mapped_bit;

    std::uint64_t word_;
};

} // namespace holdfast::detail

#endif
