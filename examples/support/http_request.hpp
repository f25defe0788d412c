// holdfast: the head of an HTTP/1.1 request, as much of it as a server of streams wants to know.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_HTTP_REQUEST_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_HTTP_REQUEST_HPP

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace examples {

/// Filled by the lines of a head, without their ends, up to the empty one. For a GET without a body; a server
/// on the internet has a proxy in front that knows the rest.
struct http_request {
    std::string method, path, query, version;
    bool accepts_gzip = false;
    bool accepts_events = false; ///< a browser's EventSource
    std::string last_event_id;

    /// The first line; false where it is none.
    bool begin(std::string_view line)
    {
        const std::size_t target = line.find(' ');
        const std::size_t end = line.rfind(' ');
        if (target == line.npos || end == target) return false;
        method = line.substr(0, target);
        version = line.substr(end + 1);
        path = line.substr(target + 1, end - target - 1);
        if (const std::size_t mark = path.find('?'); mark != path.npos) {
            query = path.substr(mark + 1);
            path.resize(mark);
        }
        return version.starts_with("HTTP/");
    }

    /// One more line.
    void add(std::string_view line)
    {
        const std::size_t colon = line.find(':');
        if (colon == line.npos) return;
        const std::string name = lower(line.substr(0, colon));
        std::string_view value = line.substr(colon + 1);
        while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
            value.remove_prefix(1);
        if (name == "accept-encoding") accepts_gzip = accepts_gzip || offers(lower(value), "gzip");
        if (name == "accept") accepts_events = accepts_events || offers(lower(value), "text/event-stream");
        if (name == "last-event-id") last_event_id = value;
    }

    /// The value of `name` in the query, decoded; nothing where it is not there.
    [[nodiscard]] std::optional<std::string> parameter(std::string_view name) const
    {
        for (std::string_view rest = query; !rest.empty();) {
            const std::string_view pair = rest.substr(0, rest.find('&'));
            rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
            if (pair.substr(0, pair.find('=')) == name)
                return decoded(pair.substr(std::min(pair.size(), name.size() + 1)));
        }
        return {};
    }

private:
    static std::string lower(std::string_view text)
    {
        std::string result(text);
        for (char& c : result)
            if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
        return result;
    }

    /// Whether a list such as `gzip;q=0.8, br` has the word, and does not refuse it.
    static bool offers(std::string_view list, std::string_view word)
    {
        while (!list.empty()) {
            std::string_view item = list.substr(0, list.find(','));
            list.remove_prefix(std::min(list.size(), item.size() + 1));
            while (!item.empty() && item.front() == ' ')
                item.remove_prefix(1);
            const std::string_view name = item.substr(0, item.find_first_of("; "));
            const std::string_view quality = item.substr(name.size());
            const bool refused = quality.find("q=0") != quality.npos &&
                                 quality.find_first_of("123456789", quality.find("q=0")) == quality.npos;
            if (name == word) return !refused;
        }
        return false;
    }

    static std::string decoded(std::string_view text)
    {
        std::string result;
        for (std::size_t i = 0; i != text.size(); ++i) {
            unsigned char byte = 0;
            if (text[i] == '%' && text.size() - i > 2 &&
                std::from_chars(&text[i + 1], &text[i + 1] + 2, byte, 16).ptr == &text[i + 1] + 2) {
                result += static_cast<char>(byte);
                i += 2;
            } else {
                result += text[i] == '+' ? ' ' : text[i];
            }
        }
        return result;
    }
};

} // namespace examples

#endif
