// holdfast: names of members, enumerators and alternatives as JSON text, made at compile time.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_NAME_HPP
#define HOLDFAST_SERIALIZE_JSON_NAME_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace holdfast::detail {

// The text of a name, made at compile time: in quotes and escaped, between the characters Before and After
// (NUL: none). `Named::name` is the name.
template <class Named, char Before, char After>
struct json_name {
    static constexpr std::size_t write(char* to)
    {
        std::size_t n = 0;
        const auto put = [&](char c) {
            if (to) to[n] = c;
            ++n;
        };
        if (Before != 0) put(Before);
        put('"');
        for (const char c : Named::name) {
            const auto u = static_cast<unsigned char>(c);
            if (u < 0x20) {
                for (const char e : {'\\', 'u', '0', '0', char('0' + u / 16), "0123456789abcdef"[u % 16]})
                    put(e);
            } else {
                if (c == '"' || c == '\\') put('\\');
                put(c);
            }
        }
        put('"');
        if (After != 0) put(After);
        return n;
    }

    static constexpr auto bytes = [] {
        std::array<char, write(nullptr)> made{};
        write(made.data());
        return made;
    }();
    static constexpr std::string_view text{bytes.data(), bytes.size()};
};

// Texts with static storage, one after the other.
template <const std::string_view&... Parts>
struct json_joined {
    static constexpr auto bytes = [] {
        std::array<char, (Parts.size() + ...)> made{};
        char* to = made.data();
        ((to = std::copy(Parts.begin(), Parts.end(), to)), ...);
        return made;
    }();
    static constexpr std::string_view text{bytes.data(), bytes.size()};
};

inline constexpr std::string_view json_closing_brace = "}";

inline char* copy_text(char* p, std::string_view text) noexcept
{
    std::memcpy(p, text.data(), text.size());
    return p + text.size();
}

} // namespace holdfast::detail

#endif
