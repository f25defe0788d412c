// holdfast: connection_name, the name that a program gives to a connection's peer, as a value of 64 bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_CONNECTION_NAME_HPP
#define HOLDFAST_CONNECTION_NAME_HPP

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace holdfast {

/// The name of a connection's peer, such as that of the user that has logged in or that in a client's certificate.
/// Trivially copyable; holds no memory.
class connection_name {
public:
    /// No name.
    constexpr connection_name() noexcept = default;

    /// Copies the first 63 bytes of `name`, which may cut a UTF-8 character.
    explicit connection_name(std::string_view name) noexcept
        : size_(static_cast<std::uint8_t>(std::min(name.size(), bytes_.size())))
    {
        std::copy_n(name.data(), size_, bytes_.data()); // of an empty one there may be no data
    }

    [[nodiscard]] std::string_view view() const noexcept { return {bytes_.data(), size_}; }

    /// Whether there is a name.
    explicit operator bool() const noexcept { return size_ != 0; }

private:
    std::array<char, 63> bytes_{};
    std::uint8_t size_ = 0;
};

} // namespace holdfast

#endif
