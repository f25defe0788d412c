// holdfast: a fuzz target: bytes that arrive in chosen pieces are read as the frames that they are, in each
// framing, up to the limit.
// SPDX-License-Identifier: BSL-1.0
#include "../../examples/support/netstring.hpp"
#include "choices.hpp"

#include <holdfast/frame_reader.hpp>

#include <bit>
#include <optional>
#include <string_view>

namespace net = holdfast::net;
using holdfast::errc;
using holdfast::error_code;
namespace framing = holdfast::framing;

namespace {

/// A stream that gives the rest of a fuzzer's bytes, in pieces of some sizes, and then ends.
class piecemeal {
public:
    using executor_type = net::io_context::executor_type;

    piecemeal(net::io_context& io, std::string_view bytes, std::size_t most) : io_(io), bytes_(bytes), most_(most) {}

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

using frame = std::optional<std::string_view>;

/// Takes a frame of `head`, `payload` and `tail` bytes off the front of the bytes; else says why there is
/// none.
frame cut(std::string_view& bytes, std::size_t head, std::uint64_t payload, std::size_t tail, std::size_t limit,
          error_code& why)
{
    if (payload > limit)
        why = errc::frame_too_long;
    else if (bytes.size() < head + payload + tail)
        why = errc::truncated_frame;
    if (why) return std::nullopt;
    const std::string_view found = bytes.substr(head, payload);
    bytes.remove_prefix(head + payload + tail);
    return found;
}

// What the bytes, which are not none, hold next, said in another way than the framings do.

frame next(framing::line, std::string_view& bytes, std::size_t limit, error_code& why)
{
    const std::size_t end = bytes.find('\n');
    std::string_view line = bytes.substr(0, end);
    const bool terminated = end != std::string_view::npos;
    const bool may_end = !terminated && line.size() == limit + 1; // in the middle of a CRLF
    if (line.ends_with('\r') && (terminated || may_end)) line.remove_suffix(1);
    return cut(bytes, 0, line.size(), terminated ? end + 1 - line.size() : bytes.size() + 1, limit, why);
}

template <std::endian Order>
frame next(framing::u32_length<Order>, std::string_view& bytes, std::size_t limit, error_code& why)
{
    if (bytes.size() < 4) {
        why = errc::truncated_frame;
        return std::nullopt;
    }
    std::uint32_t length = 0;
    std::memcpy(&length, bytes.data(), 4);
    if (Order != std::endian::native) length = __builtin_bswap32(length);
    return cut(bytes, 4, length, 0, limit, why);
}

frame next(framing::varint_length, std::string_view& bytes, std::size_t limit, error_code& why)
{
    unsigned __int128 length = 0;
    for (std::size_t i = 0; i != bytes.size() && i != 10; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        length += static_cast<unsigned __int128>(byte % 128) << 7 * i;
        if (byte >= 128) continue;
        if (length >> 64 != 0) break;
        return cut(bytes, i + 1, static_cast<std::uint64_t>(length), 0, limit, why);
    }
    why = bytes.size() < 10 ? errc::truncated_frame : errc::malformed_frame;
    return std::nullopt;
}

frame next(examples::netstring, std::string_view& bytes, std::size_t limit, error_code& why)
{
    const std::size_t digits = std::min(bytes.find_first_not_of("0123456789"), bytes.size());
    if (digits > 9 || (digits < bytes.size() && (digits == 0 || bytes[digits] != ':')))
        why = errc::malformed_frame;
    else if (digits == bytes.size())
        why = errc::truncated_frame;
    if (why) return std::nullopt;
    const std::string number(bytes.substr(0, digits));
    return cut(bytes, digits + 1, std::strtoull(number.c_str(), nullptr, 10), 1, limit, why);
}

/// Reads all frames, and compares each.
template <class Framing>
void read(std::string_view rest, std::size_t limit, std::size_t most, std::size_t buffer_bytes)
{
    static net::io_context io;
    piecemeal stream(io, rest, most);
    holdfast::frame_reader frames(stream, {.max_frame_bytes = limit, .buffer_bytes = buffer_bytes}, Framing());
    for (bool more = true; more;) {
        error_code expected;
        const frame one = rest.empty() ? std::nullopt : next(Framing(), rest, limit, expected);
        more = false;
        int completed = 0;
        frames.async_next([&](error_code why, frame got) {
            ++completed;
            fuzz::check(why == expected && got == one);
            more = got.has_value();
        });
        io.restart();
        io.run();
        fuzz::check(completed == 1);
    }
    fuzz::check(holdfast::shared_buffer_pool::of(io.get_executor()).counters().lent_bytes <= 4096);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    const std::size_t how = choices.below(5);
    const std::size_t limit = 1 + choices.below(40) * (1 + choices.below(20)); // beyond the first buffer, too
    const std::size_t most = 1 + choices.below(9);
    const std::string_view rest(reinterpret_cast<const char*>(data) + size - choices.rest(), choices.rest());
    constexpr std::size_t smallest = 1;
    if (how == 0) read<framing::line>(rest, limit, most, smallest);
    if (how == 1) read<framing::u32_length<std::endian::big>>(rest, limit, most, smallest);
    if (how == 2) read<framing::u32_length<std::endian::little>>(rest, limit, most, smallest);
    if (how == 3) read<framing::varint_length>(rest, limit, most, smallest);
    if (how == 4) read<examples::netstring>(rest, limit, most, smallest); // a user's own
    return 0;
}
