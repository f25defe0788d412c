// holdfast: how the ladder's clients open a WebSocket or a stream of server-sent events, and what they do with the frames
// of a WebSocket.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_HTTP_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_HTTP_HPP

#include "ladder_plan.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

#include <openssl/evp.h>
#include <openssl/sha.h>

namespace ladder {

inline std::string base64(std::string_view bytes)
{
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.pop_back();
    return text;
}

/// What Sec-WebSocket-Accept has to be for a key.
inline std::string accept_of(const std::string& key)
{
    const std::string text = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH];
    ::SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    return base64({reinterpret_cast<const char*>(digest), sizeof digest});
}

/// The request that a client sends once it is connected, and the check of the answer. One for all clients of a process.
class http_opening {
public:
    explicit http_opening(const settings& wanted) : websocket_(!wanted.websocket_path.empty())
    {
        std::random_device random;
        for (int i = 0; i != 16; ++i)
            key_ += static_cast<char>(random());
        key_ = base64(key_);
        request_ = "GET " + (websocket_ ? wanted.websocket_path : wanted.events_path) +
                   " HTTP/1.1\r\nHost: " + wanted.host + ":" + std::to_string(wanted.port) + "\r\n";
        request_ += websocket_ ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: " +
                                     key_ + "\r\n\r\n"
                               : "Accept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n";
    }

    static constexpr std::size_t max_head = 8192;

    const std::string& request() const { return request_; }

    /// Why the head of a response, its empty line included, opens nothing; empty if it does.
    std::string refusal(std::string_view head) const
    {
        const std::string_view line = head.substr(0, head.find("\r\n"));
        const std::string_view status =
            line.starts_with("HTTP/1.") ? line.substr(std::min<std::size_t>(9, line.size())) : std::string_view();
        const auto answered = [&](std::string_view instead) {
            return "the server has answered '" + std::string(line.substr(0, 40)) + "'" + std::string(instead);
        };
        if (!status.starts_with(websocket_ ? "101" : "200")) return answered("");
        if (!websocket_)
            return equal(field(head, "content-type").substr(0, 17), "text/event-stream")
                       ? ""
                       : answered(" without the Content-Type text/event-stream");
        return field(head, "sec-websocket-accept") == accept_of(key_) ? ""
                                                                      : answered(" with a wrong Sec-WebSocket-Accept");
    }

    const std::string& key() const { return key_; }

private:
    /// Without regard to the case of the first.
    static bool equal(std::string_view text, std::string_view lower)
    {
        return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                          [](char t, char l) { return std::tolower(static_cast<unsigned char>(t)) == l; });
    }

    static std::string_view field(std::string_view head, std::string_view name)
    {
        while (!head.empty()) {
            const std::size_t end = head.find("\r\n");
            const std::string_view line = head.substr(0, end);
            if (line.size() > name.size() && line[name.size()] == ':' && equal(line.substr(0, name.size()), name)) {
                const std::size_t first = line.find_first_not_of(" \t", name.size() + 1);
                return first == line.npos ? "" : line.substr(first, line.find_last_not_of(" \t") - first + 1);
            }
            head.remove_prefix(end == head.npos ? head.size() : end + 2);
        }
        return {};
    }

    bool websocket_;
    std::string key_, request_;
};

/// A client's frame. Its mask is 0: the server takes off whichever it is.
inline std::string websocket_frame(unsigned opcode, std::string_view payload)
{
    std::string frame{static_cast<char>(0x80U | opcode)};
    const unsigned extra = payload.size() < 126 ? 0 : payload.size() < 65536 ? 2 : 8;
    frame += static_cast<char>(0x80U | (extra == 0 ? payload.size() : extra == 2 ? 126U : 127U));
    for (unsigned i = extra; i-- != 0;)
        frame += static_cast<char>(payload.size() >> 8 * i);
    frame.append(4, '\0');
    frame.append(payload);
    return frame;
}

/// Follows the frames of a server through pieces of any size.
class websocket_frames {
public:
    /// Calls `answer(opcode, payload)` for each Close frame and each ping that end in this piece, with what answers them.
    template <class F>
    void take(std::string_view piece, F&& answer)
    {
        while (!piece.empty()) {
            if (!in_payload_) {
                header_ += piece.front();
                piece.remove_prefix(1);
                begin_payload();
            }
            const auto some = static_cast<std::size_t>(std::min<std::uint64_t>(in_payload_ ? left_ : 0, piece.size()));
            if (control()) payload_.append(piece.substr(0, some));
            left_ -= in_payload_ ? some : 0;
            piece.remove_prefix(some);
            if (!in_payload_ || left_ != 0) continue;
            if (control()) {
                if (opcode() == closing) answer(closing, std::string_view(payload_).substr(0, 2)); // the code
                if (opcode() == ping) answer(pong, std::string_view(payload_));
            }
            *this = {};
        }
    }

private:
    static constexpr unsigned closing = 8, ping = 9, pong = 10;

    unsigned opcode() const { return static_cast<unsigned char>(header_.front()) & 15U; }
    bool control() const { return in_payload_ && opcode() >= closing; }

    void begin_payload()
    {
        const auto at = [&](std::size_t i) { return static_cast<unsigned char>(header_[i]); };
        if (header_.size() < 2) return;
        const std::uint64_t length = at(1) & 0x7fU;
        const std::size_t extra = length < 126 ? 0 : length == 126 ? 2 : 8;
        if (header_.size() < 2 + extra) return;
        left_ = extra == 0 ? length : 0;
        for (std::size_t i = 0; i != extra; ++i)
            left_ = left_ << 8U | at(2 + i);
        in_payload_ = true;
    }

    std::string header_, payload_; // short ones, inside the objects
    std::uint64_t left_ = 0;
    bool in_payload_ = false;
};

} // namespace ladder

#endif
