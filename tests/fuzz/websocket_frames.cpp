// holdfast: a fuzz target: a WebSocket client's bytes, valid frames and others, compressed ones among them, in chosen
// pieces. What is read does not depend on the pieces, and is what a plain model of RFC 6455 and RFC 7692 reads.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"

#include <holdfast/adapters/websocket_deflate.hpp>
#include <holdfast/detail/websocket/inflated_message.hpp>
#include <holdfast/detail/websocket/message_assembler.hpp>

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using holdfast::websocket_errc;
using holdfast::detail::message_assembler;
using event = message_assembler::event;

/// What was read: an opcode and its bytes, and at the end 'e' and the error, or 'i' for an incomplete frame. All errors
/// of a compressed message are one: which comes first depends on the size of the buffer.
using reading = std::vector<std::string>;
const std::string not_inflated = "e compressed";

bool is_utf8(const std::string& s, bool prefix);

/// Lends buffers of exactly what is asked for.
struct exact_pool {
    class loan {
    public:
        loan() = default;
        explicit loan(std::size_t size) : bytes_(std::make_unique_for_overwrite<char[]>(size)), size_(size) {}
        char* data() const noexcept { return bytes_.get(); }
        std::size_t size() const noexcept { return size_; }
        explicit operator bool() const noexcept { return bytes_ != nullptr; }

    private:
        std::unique_ptr<char[]> bytes_;
        std::size_t size_ = 0;
    };

    static loan try_borrow(std::size_t size) { return loan(size); }
};

std::string inflate(const message_assembler::result& one, const holdfast::detail::websocket_limits& limits)
{
    static holdfast::websocket_deflate by;
    holdfast::detail::inflated_message<exact_pool::loan> message;
    exact_pool pool;
    if (message.take(by, one.bytes, one.text, limits.max_message, pool)) return not_inflated;
    return (one.text ? "t" : "b") + std::string(message.bytes());
}

/// The same by zlib alone, from the whole.
std::string inflate_model(std::string bytes, bool text, std::size_t most)
{
    const std::size_t size = bytes.size();
    bytes.append("\0\0\xff\xff", 4);
    std::string out(most + 1, '\0');
    ::z_stream z{};
    fuzz::check(::inflateInit2(&z, -15) == Z_OK);
    z.next_in = reinterpret_cast<Bytef*>(bytes.data());
    z.avail_in = static_cast<uInt>(bytes.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    bool good = size == 0;
    while (!good) {
        const int result = ::inflate(&z, Z_SYNC_FLUSH);
        const std::size_t read = bytes.size() - z.avail_in;
        if (z.avail_out == 0 || (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)) break;
        if (result != Z_STREAM_END) {
            good = z.avail_in == 0 && (z.data_type & ~64) == 128;
            break;
        }
        if (read > size) break; // a stream that ends within the flush's own bytes
        good = read == size;
        ::inflateReset(&z);
    }
    out.resize(out.size() - z.avail_out);
    ::inflateEnd(&z);
    if (!good || (text && !is_utf8(out, false))) return not_inflated;
    return (text ? "t" : "b") + out;
}

void note(reading& all, const message_assembler::result& one, const holdfast::detail::websocket_limits& limits)
{
    switch (one.what) {
    case event::message:
        if (one.compressed)
            all.push_back(inflate(one, limits));
        else
            all.push_back((one.text ? "t" : "b") + std::string(one.bytes));
        break;
    case event::ping:
        all.push_back("p" + std::string(one.bytes));
        break;
    case event::pong:
        all.push_back("q" + std::string(one.bytes));
        break;
    case event::close:
        all.push_back("c" + std::string(one.bytes));
        break;
    case event::violation:
        all.push_back("e" + std::to_string(static_cast<int>(one.error)));
        break;
    case event::incomplete:
        break;
    }
}

/// Reads the bytes in pieces, each in a buffer of exactly what is in use, so that no byte after them is touched.
reading assemble(std::string_view bytes, const holdfast::detail::websocket_limits& limits, fuzz::choices pieces)
{
    reading all;
    message_assembler assembler;
    std::vector<char> buffer;
    while (!bytes.empty()) {
        const std::size_t n = std::min(bytes.size(), 1 + pieces.below(1 + pieces.below(40)));
        assembler.compact(buffer.data());
        buffer.resize(assembler.end());
        fuzz::check(buffer.size() <= limits.max_received(true) + 14 + 139);
        buffer.insert(buffer.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
        buffer.shrink_to_fit();
        bytes.remove_prefix(n);
        assembler.received(n);
        for (;;) {
            const auto one = assembler.next(buffer.data(), limits);
            note(all, one, limits);
            if (one.what == event::violation || (!all.empty() && all.back() == not_inflated)) return all;
            if (one.what == event::incomplete) break;
        }
    }
    if (!assembler.idle()) all.push_back("i");
    return all;
}

bool is_utf8(const std::string& s, bool prefix)
{
    for (std::size_t i = 0; i != s.size();) {
        const auto at = [&](std::size_t j) { return static_cast<unsigned char>(s[j]); };
        const unsigned char lead = at(i);
        const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4) return false;
        unsigned code = size == 1 ? lead : lead & (0xffU >> (size + 1));
        for (std::size_t j = 1; j != size; ++j) {
            const bool there = i + j < s.size();
            if (!there && !prefix) return false;
            if (there && (at(i + j) & 0xc0) != 0x80) return false;
            // what is missing may be anything: the range of codes that the rest can still become
            code = code << 6U | (there ? at(i + j) & 0x3fU : 0U);
            const unsigned free = there ? 0U : 0x3fU;
            const unsigned rest = 6 * static_cast<unsigned>(size - 1 - j);
            const unsigned low = code << rest;
            const unsigned high = ((code | free) << rest) | ((1U << rest) - 1);
            const unsigned least = size == 2 ? 0x80 : size == 3 ? 0x800 : 0x10000;
            if (high < least || low > 0x10ffff || (low >= 0xd800 && high <= 0xdfff)) return false;
            if (!there) return true;
        }
        i += size;
    }
    return true;
}

/// The same from the whole, frame by frame.
reading model(std::string_view bytes, const holdfast::detail::websocket_limits& limits)
{
    reading all;
    std::string message;
    unsigned kind = 0;
    bool compressed = false;
    std::size_t empty_fragments = 0;
    const auto fail = [&](websocket_errc error) {
        all.push_back("e" + std::to_string(static_cast<int>(error)));
        return all;
    };
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    while (!bytes.empty()) {
        const unsigned opcode = at(0) & 15U;
        const bool final = at(0) >= 0x80;
        const bool control = opcode >= 8;
        const bool rsv1 = (at(0) & 0x40U) != 0;
        if ((at(0) & 0x30U) != 0 || (rsv1 && !(limits.compressed && (opcode == 1 || opcode == 2))))
            return fail(websocket_errc::reserved_bit);
        if (opcode > 10 || (opcode > 2 && opcode < 8)) return fail(websocket_errc::reserved_opcode);
        if (control && !final) return fail(websocket_errc::fragmented_control);
        if (opcode == 0 && kind == 0) return fail(websocket_errc::unexpected_continuation);
        if (!control && opcode != 0 && kind != 0) return fail(websocket_errc::message_interrupted);
        if ((opcode == 1 && !limits.text) || (opcode == 2 && !limits.binary))
            return fail(websocket_errc::unaccepted_kind);
        if (bytes.size() < 2) break;
        if (at(1) < 0x80) return fail(websocket_errc::unmasked_frame);
        unsigned __int128 length = at(1) & 0x7fU;
        if (control && length > 125) return fail(websocket_errc::control_too_long);
        const std::size_t extra = length < 126 ? 0 : length == 126 ? 2 : 8;
        if (bytes.size() < 2 + extra) break;
        if (extra != 0) length = 0;
        for (std::size_t i = 0; i != extra; ++i)
            length = length * 256 + at(2 + i);
        if ((extra == 2 && length < 126) || (extra == 8 && (length < 65536 || length >> 63U != 0)))
            return fail(websocket_errc::invalid_length);
        const bool of_compressed = opcode == 0 ? compressed : rsv1;
        const std::size_t most =
            of_compressed ? limits.max_message + limits.max_message / 8 + 64 : std::size_t{limits.max_message};
        if (!control && message.size() + length > most) return fail(websocket_errc::message_too_long);
        if (!control && opcode != 0) empty_fragments = 0;
        if (!control && !final && length == 0 && ++empty_fragments > limits.max_message && opcode == 0)
            return fail(websocket_errc::too_many_fragments);
        const std::size_t head = 6 + extra;
        if (bytes.size() < head) break;
        std::string payload;
        for (std::size_t i = 0; i != length && head + i != bytes.size(); ++i)
            payload += static_cast<char>(bytes[head + i] ^ bytes[head - 4 + i % 4]);
        const bool whole = payload.size() == length;
        if (control && !whole) break;
        bytes.remove_prefix(head + payload.size());
        if (control) {
            all.push_back((opcode == 8 ? "c" : opcode == 9 ? "p" : "q") + payload);
            continue;
        }
        if (opcode != 0) kind = opcode;
        compressed = of_compressed;
        message += payload;
        if (kind == 1 && !compressed && !is_utf8(message, !whole || !final)) return fail(websocket_errc::invalid_text);
        if (!whole || !final) continue;
        all.push_back(compressed ? inflate_model(message, kind == 1, limits.max_message)
                                 : (kind == 1 ? "t" : "b") + message);
        if (all.back() == not_inflated) return all;
        message.clear();
        kind = 0;
    }
    if (!bytes.empty() || kind != 0) all.push_back("i");
    return all;
}

/// As a client compresses it.
std::string deflate(const std::string& text, int flush)
{
    ::z_stream z{};
    fuzz::check(::deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string in = text, out(text.size() + 100, '\0');
    z.next_in = reinterpret_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    ::deflate(&z, flush);
    out.resize(out.size() - z.avail_out - (flush == Z_SYNC_FLUSH ? 4 : 0));
    ::deflateEnd(&z);
    return out;
}

/// Frames that are mostly valid, of chosen kinds and sizes.
std::string frames(fuzz::choices& choices, bool compressed)
{
    std::string bytes;
    for (std::size_t n = choices.below(12); n != 0; --n) {
        static constexpr unsigned char firsts[]{0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x8a, 0x88};
        const std::size_t first = choices.below(12);
        bytes += static_cast<char>(first < 10 ? firsts[first] : choices.below(256));
        std::string payload = choices.text(300);
        if (choices.below(16) == 0) payload = payload + "\xe2\x82\xac\xf0\x9f\x8c\x8a";
        if (compressed && choices.below(3) != 0) {
            static constexpr unsigned char rsv1s[]{0xc1, 0xc2, 0x41, 0x42};
            bytes.back() = static_cast<char>(rsv1s[choices.below(4)]);
            if (choices.below(4) != 0) payload = deflate(payload, choices.below(3) == 0 ? Z_FINISH : Z_SYNC_FLUSH);
            if (choices.below(4) == 0) payload += deflate(choices.text(80), Z_SYNC_FLUSH);
        }
        const std::size_t form = choices.below(20);
        if (payload.size() < 126 && form != 0) {
            bytes += static_cast<char>(0x80U | payload.size());
        } else {
            bytes += static_cast<char>(form == 1 ? 0xff : 0xfe);
            for (unsigned i = form == 1 ? 8 : 2; i-- != 0;)
                bytes += static_cast<char>(payload.size() >> 8 * i);
        }
        char mask[4];
        for (char& each : mask)
            bytes += each = static_cast<char>(choices.below(256));
        for (std::size_t i = 0; i != payload.size(); ++i)
            bytes += static_cast<char>(payload[i] ^ mask[i % 4]);
    }
    return bytes;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    const holdfast::detail::websocket_limits limits{.max_message = static_cast<std::uint32_t>(1 + choices.below(600)),
                                                    .text = choices.below(8) != 0,
                                                    .binary = choices.below(8) != 0,
                                                    .compressed = choices.below(2) != 0};
    const fuzz::choices pieces = choices;
    std::string bytes = frames(choices, limits.compressed);
    bytes.append(reinterpret_cast<const char*>(data) + size - choices.rest(), choices.rest());
    const reading expected = model(bytes, limits);
    fuzz::check(assemble(bytes, limits, pieces) == expected);
    const std::uint8_t nothing = 0;
    fuzz::check(assemble(bytes, limits, fuzz::choices(&nothing, 0)) == expected); // byte by byte
    for (const std::string& each : expected)
        if (each.front() == 'c') {
            const auto close = holdfast::detail::websocket_close_payload::parse(std::string_view(each).substr(1));
            fuzz::check(close.error != websocket_errc{} || close.reason.size() <= 123);
        }
    return 0;
}
