// holdfast: a WebSocket client's bytes, and what a server answers to them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_WEBSOCKET_HPP
#define HOLDFAST_TESTS_SUPPORT_WEBSOCKET_HPP

#include "support/sockets.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/websocket.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace tests {

/// The header of a frame of either side, in the shortest form.
inline std::string websocket_header(unsigned first_byte, std::uint64_t length, bool masked)
{
    std::string header(1, static_cast<char>(first_byte));
    const unsigned mask = masked ? 0x80 : 0;
    unsigned extra = 0;
    if (length < 126) {
        header += static_cast<char>(mask | length);
    } else {
        extra = length < 65536 ? 2 : 8;
        header += static_cast<char>(mask | (extra == 2 ? 126 : 127));
    }
    for (unsigned i = extra; i-- != 0;)
        header += static_cast<char>(length >> 8 * i);
    return header;
}

/// A client's frame. The first byte is FIN (0x80), reserved bits and the opcode.
inline std::string client_frame(unsigned first_byte, std::string_view payload,
                                std::string_view mask = "\x37\xfa\x21\x3d")
{
    std::string frame = websocket_header(first_byte, payload.size(), true);
    frame.append(mask);
    for (std::size_t i = 0; i != payload.size(); ++i)
        frame += static_cast<char>(payload[i] ^ mask[i % 4]);
    return frame;
}

/// A server's frame.
inline std::string server_frame(unsigned first_byte, std::string_view payload)
{
    std::string frame = websocket_header(first_byte, payload.size(), false);
    frame.append(payload);
    return frame;
}

/// The payload of a Close frame.
inline std::string close_payload(unsigned code, std::string_view reason = {})
{
    std::string payload{static_cast<char>(code >> 8U), static_cast<char>(code)};
    payload.append(reason);
    return payload;
}

/// What came of a session of an echo server.
struct websocket_session {
    unsigned status = 0;     // of the handshake
    bool compressed = false; // as it has agreed
    std::vector<std::string> messages;
    std::vector<bool> binary;
    holdfast::error_code error; // of async_next
    unsigned close_code = 0;
    std::string close_reason;
    std::string answer; // all that the client got
    holdfast::error_code end;
};

/// Answers each message by itself, and ends the connection as a server does.
template <class Peer, class Outbox, class Reader>
net::awaitable<void> echo_messages(Peer& peer, Outbox& outbox, Reader& messages, websocket_session& result,
                                   holdfast::websocket_compression* compression = nullptr)
{
    try {
        while (const auto message = co_await messages.async_next(net::use_awaitable)) {
            result.messages.emplace_back(message->data);
            result.binary.push_back(message->kind == holdfast::websocket_kind::binary);
            outbox.push(holdfast::websocket_frame(compression, message->data, message->kind));
        }
    } catch (const holdfast::system_error& failure) {
        result.error = failure.code();
    }
    result.close_code = static_cast<unsigned>(messages.close_code());
    result.close_reason = messages.close_reason();
    co_await holdfast::async_close_websocket(peer, outbox, net::use_awaitable);
}

inline constexpr holdfast::outbox_options echo_outbox{.high_watermark = 64U << 20U, .reserve_bytes = 1024};

/// Serves a connection whose handshake has been.
template <class Peer>
net::awaitable<void> echo_messages(Peer& peer, holdfast::websocket_options options, websocket_session& result)
{
    holdfast::outbox outbox{peer, echo_outbox};
    holdfast::websocket_reader messages{peer, outbox, options};
    co_await echo_messages(peer, outbox, messages, result, options.compression);
}

/// The lines of a request's head.
class request_head {
public:
    std::string method;

    void add(std::string_view line)
    {
        if (method.empty()) {
            method = line.substr(0, line.find(' '));
            return;
        }
        const auto colon = line.find(':');
        fields_[lower(line.substr(0, colon))] = line.substr(colon + 1);
    }

    /// The value of a field.
    std::string_view operator()(std::string_view name) const
    {
        const auto found = fields_.find(lower(name));
        return found == fields_.end() ? std::string_view() : found->second;
    }

private:
    static std::string lower(std::string_view text)
    {
        std::string result(text);
        for (char& c : result)
            c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        return result;
    }

    std::map<std::string, std::string> fields_;
};

/// Serves a connection from its request on.
template <class Peer>
net::awaitable<void> accept_and_echo(Peer& peer, holdfast::websocket_accept_options accepted,
                                     holdfast::websocket_options options, websocket_session& result)
{
    holdfast::outbox outbox{peer, echo_outbox};
    holdfast::frame_reader lines{peer, {.max_frame_bytes = 8192}};
    request_head head;
    while (const auto line = co_await lines.async_next(net::use_awaitable)) {
        if (line->empty()) break;
        head.add(*line);
    }
    const auto handshake = holdfast::accept_websocket(head.method, head, accepted);
    outbox.push(handshake.response);
    result.status = handshake.status;
    if (!handshake) {
        co_await outbox.async_close(net::use_awaitable);
        co_await peer.async_close(net::use_awaitable);
        co_return;
    }
    result.compressed = handshake.compression != nullptr;
    options.compression = handshake.compression;
    holdfast::websocket_reader messages{std::move(lines), outbox, options};
    co_await echo_messages(peer, outbox, messages, result, options.compression);
}

/// Sends the bytes to a server, `serve(peer, result)`: those before `cut` first, which it then reads; and reads the
/// answers.
template <class Serve>
websocket_session talk_to(Serve serve, std::string_view bytes, std::size_t cut = std::string_view::npos)
{
    net::io_context io;
    auto both = socket_pair(io);
    websocket_session result;
    holdfast::connection_guard<tcp::socket> peer(std::move(both.first));
    net::co_spawn(io, serve(peer, result), net::detached);
    for (const auto part : {bytes.substr(0, cut), cut < bytes.size() ? bytes.substr(cut) : std::string_view()}) {
        if (part.empty()) continue;
        holdfast::error_code ignored; // the server may have ended the connection
        net::write(both.second, net::buffer(part.data(), part.size()), ignored);
        if (peer.is_open()) await_readable(peer.stream());
        io.restart();
        io.poll();
    }
    holdfast::error_code ignored;
    both.second.shutdown(tcp::socket::shutdown_send, ignored);
    io.restart();
    const auto read = [&] {
        auto [answer, end] = read_to_end(both.second);
        result.answer = std::move(answer);
        result.end = end;
    };
    if (bytes.size() <= 65536) {
        run(io);
        read();
    } else { // the kernel may not take all of the answer
        std::thread reading(read);
        run(io);
        reading.join();
    }
    return result;
}

/// The same with an echo server whose handshake has been.
inline websocket_session talk(std::string_view bytes, const holdfast::websocket_options& options = {},
                              std::size_t cut = std::string_view::npos)
{
    return talk_to([&](auto& peer, websocket_session& result) { return echo_messages(peer, options, result); }, bytes,
                   cut);
}

/// The same for more bytes than the kernel takes: the client sends them in pieces, on a thread of its own.
inline websocket_session talk_in_pieces(std::string_view bytes, const holdfast::websocket_options& options,
                                        std::size_t piece)
{
    net::io_context io;
    auto both = socket_pair(io);
    websocket_session result;
    holdfast::connection_guard<tcp::socket> peer(std::move(both.first));
    net::co_spawn(io, echo_messages(peer, options, result), net::detached);
    std::thread client([&, rest = bytes]() mutable {
        holdfast::error_code ec;
        for (; !rest.empty() && !ec; rest.remove_prefix(std::min(piece, rest.size())))
            net::write(both.second, net::buffer(rest.data(), std::min(piece, rest.size())), ec);
        both.second.shutdown(tcp::socket::shutdown_send, ec);
        auto [answer, end] = read_to_end(both.second);
        result.answer = std::move(answer);
        result.end = end;
    });
    run(io);
    client.join();
    return result;
}

} // namespace tests

#endif
