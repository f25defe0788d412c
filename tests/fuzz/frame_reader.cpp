// holdfast: a fuzz target: bytes that arrive in chosen pieces are read as the lines that they are, up to the
// limit.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"

#include <holdfast/frame_reader.hpp>

#include <optional>
#include <string_view>

namespace net = holdfast::net;
using holdfast::error_code;

namespace {

/// A stream that gives the rest of a fuzzer's bytes, in pieces of some sizes, and then ends.
class piecemeal {
public:
    using executor_type = net::io_context::executor_type;

    piecemeal(net::io_context& io, std::string_view bytes, std::size_t most)
        : io_(io), bytes_(bytes), most_(most)
    {
    }

    executor_type get_executor() { return io_.get_executor(); }

    template <class Token>
    auto async_read_some(const net::mutable_buffer& into, Token&& token)
    {
        return net::async_compose<Token, void(error_code, std::size_t)>(
            [this, into, begun = false](auto& self) mutable {
                if (!std::exchange(begun, true)) return net::post(io_, std::move(self));
                const std::size_t n = std::min({into.size(), bytes_.size(), 1 + turn_++ % most_});
                std::memcpy(into.data(), bytes_.data(), n);
                bytes_.remove_prefix(n);
                self.complete(n == 0 ? error_code(net::error::eof) : error_code(), n);
            },
            token, io_);
    }

private:
    net::io_context& io_;
    std::string_view bytes_;
    std::size_t most_;
    std::size_t turn_ = 0;
};

/// What the bytes hold: the next line, taken off their front; else why there is none.
std::optional<std::string_view> next_line(std::string_view& bytes, std::size_t limit, error_code& why)
{
    const std::size_t end = bytes.find('\n');
    std::string_view line = bytes.substr(0, end);
    const bool terminated = end != std::string_view::npos;
    const bool may_end = !terminated && line.size() == limit + 1; // in the middle of a CRLF
    if (line.ends_with('\r') && (terminated || may_end)) line.remove_suffix(1);
    why = {};
    if (line.size() > limit)
        why = holdfast::errc::frame_too_long;
    else if (!terminated && !bytes.empty())
        why = holdfast::errc::truncated_frame;
    if (why || !terminated) return std::nullopt;
    bytes.remove_prefix(end + 1);
    return line;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    const std::size_t limit = 1 + choices.below(40);
    const std::size_t most = 1 + choices.below(9);
    std::string_view rest(reinterpret_cast<const char*>(data) + size - choices.rest(), choices.rest());
    static net::io_context io;
    piecemeal stream(io, rest, most);
    holdfast::frame_reader lines(stream, {.max_frame_bytes = limit});
    for (bool more = true; more;) {
        error_code expected;
        const auto line = next_line(rest, limit, expected);
        more = false;
        int completed = 0;
        lines.async_next([&](error_code why, std::optional<std::string_view> got) {
            ++completed;
            fuzz::check(why == expected && got == line);
            more = got.has_value();
        });
        io.restart();
        io.run();
        fuzz::check(completed == 1);
    }
    return 0;
}
