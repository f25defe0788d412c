// holdfast: what one thread of push_gateway passes on to the others: an event of the engine as text.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_FEED_EVENT_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_FEED_EVENT_HPP

#include <holdfast/payload.hpp>

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace examples {

/// An event: its number, what it is, an id and a text.
struct feed_event {
    enum kind : char {
        message = 'm',   ///< with its id
        gap = 'g',       ///< messages are missing before the next one
        condition = 'c', ///< "ready" or "starting", and why the engine cannot be reached
        state = 's',     ///< the id of the last message, and all quotes
    };

    /// Reads what `make` has written.
    explicit feed_event(std::string_view made) noexcept
    {
        const auto parsed = std::from_chars(made.data(), made.data() + made.size(), number);
        made.remove_prefix(static_cast<std::size_t>(parsed.ptr - made.data()));
        what = made[0];
        const auto line = made.find('\n');
        id = made.substr(1, line - 1);
        text = made.substr(line + 1);
    }

    static holdfast::payload make(std::uint64_t number, char what, std::string_view id, std::string_view text)
    {
        std::string head = std::to_string(number);
        head += what;
        head.append(id).append("\n");
        return holdfast::payload(head, text);
    }

    std::uint64_t number = 0;
    char what = 0;
    std::string_view id{}, text{};
};

} // namespace examples

#endif
