// holdfast: a test that a large message in parts delays another on the same connection by one chunk at most.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"

#include <holdfast/outbox.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/serialized_payload.hpp>

#include <algorithm>
#include <cstdint>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

using holdfast::framed;
using holdfast::ndjson;
using tests::tcp;
namespace framing = holdfast::framing;
namespace net = holdfast::net;

namespace {

constexpr std::size_t mib = 1024 * 1024;
constexpr std::size_t snapshot_bytes = (tests::sanitized ? 10 : 100) * mib;
constexpr std::size_t tick_every = snapshot_bytes / 50;
constexpr std::string_view row = "a row of a snapshot that is a hundred bytes long with its quotes and its end; "
                                 "so far it is 78 and so";

/// A socket that counts the bytes that it has taken.
class counting_stream {
public:
    using executor_type = tcp::socket::executor_type;

    counting_stream(tcp::socket socket, std::uint64_t& taken) : socket_(std::move(socket)), taken_(&taken) {}

    executor_type get_executor() { return socket_.get_executor(); }

    template <class Buffers, class Handler>
    void async_write_some(const Buffers& buffers, Handler handler)
    {
        socket_.async_write_some(
            buffers, [taken = taken_, h = std::move(handler)](holdfast::error_code ec, std::size_t n) mutable {
                *taken += n;
                std::move(h)(ec, n);
            });
    }

private:
    tcp::socket socket_;
    std::uint64_t* taken_;
};

/// Takes a stream of frames apart as it comes, and holds no more than the head of one.
class receiver {
public:
    struct whole_message {
        std::uint64_t at; // where in the stream its frame begins
        std::string payload;
    };

    void take(std::string_view bytes)
    {
        while (!bytes.empty()) {
            if (left_ == 0 && head_.size() < 4) {
                if (head_.empty()) begins_ = at_;
                head_ += bytes.front();
                bytes.remove_prefix(1);
                ++at_;
                if (head_.size() == 4) begin();
                continue;
            }
            const std::string_view piece = bytes.substr(0, left_);
            if (of_many_)
                snapshot += piece.size();
            else
                others.back().payload += piece;
            left_ -= piece.size();
            at_ += piece.size();
            bytes.remove_prefix(piece.size());
            if (left_ == 0) head_.clear();
        }
    }

    std::uint64_t snapshot = 0; // bytes of it
    std::uint64_t parts = 0;
    std::size_t largest = 0; // of the frames
    bool complete = false;   // the snapshot
    std::vector<whole_message> others;

private:
    void begin()
    {
        std::uint32_t head = 0;
        for (const char c : head_)
            head = head << 8 | static_cast<unsigned char>(c);
        using in_parts = framing::u32_parts<>;
        of_many_ = (head & in_parts::is_part) != 0;
        left_ = head & in_parts::max_size;
        largest = std::max(largest, left_ + 4);
        if (of_many_) {
            ++parts;
            complete = (head & in_parts::more_follow) == 0;
        } else {
            others.push_back({begins_, {}});
        }
        if (left_ == 0) head_.clear();
    }

    std::uint64_t at_ = 0, begins_ = 0;
    std::string head_;
    std::size_t left_ = 0; // of the frame
    bool of_many_ = false;
};

} // namespace

TEST_CASE("a tick waits for one chunk of a snapshot of 100 MB at most, and the snapshot comes whole")
{
    constexpr std::uint32_t chunk = 16 * 1024;
    net::io_context io;
    auto [server, client] = tests::socket_pair(io);
    std::uint64_t sent = 0; // that the socket took
    counting_stream counted(std::move(server), sent);
    holdfast::outbox outbox{counted, {.chunk_bytes = chunk}};
    auto rows = std::views::iota(std::size_t{0}, snapshot_bytes / (row.size() + 3)) |
                std::views::transform([](std::size_t) { return row; });
    const std::uint64_t size = holdfast::serialized_size<ndjson>(rows);
    REQUIRE_FALSE(outbox.push_streamed(holdfast::formatted(rows, framed{framing::u32_parts<>{}, ndjson{}}),
                                       {.interleave = true}));

    receiver received;
    std::vector<char> buffer(256 * 1024);
    std::uint64_t ticks = 0, next_tick = 0;
    const auto read = [&](auto& self) -> void {
        client.async_read_some(net::buffer(buffer), [&](holdfast::error_code ec, std::size_t n) {
            if (ec) return;
            received.take({buffer.data(), n});
            if (received.snapshot >= next_tick && !received.complete) {
                next_tick += tick_every;
                ++ticks;
                CHECK_FALSE(outbox.push(holdfast::serialize_to_payload<framed<framing::u32_length<>>>(sent)));
            }
            self(self);
        });
    };
    read(read);
    tests::run_until(io, [&] { return received.complete && received.others.size() == ticks; });

    CHECK(received.snapshot == size);
    CHECK(received.largest == chunk);
    CHECK(received.parts > snapshot_bytes / chunk);
    CHECK(ticks >= 10);
    std::uint64_t longest = 0;
    for (const auto& tick : received.others)
        longest = std::max<std::uint64_t>(longest, tick.at - std::stoull(tick.payload)); // bytes that went between
    INFO("a tick waited for " << longest << " bytes at most");
    CHECK(longest <= chunk);
    CHECK(longest > 0); // it did come into the middle
    client.close();
}
