// holdfast: reading and closing a WebSocket in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#if defined(CONFORMANCE_ZLIB)
#include <holdfast/adapters/websocket_deflate.hpp>
#endif
#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/websocket.hpp>

#include <chrono>
#include <string_view>
#include <utility>

namespace {

using namespace std::string_view_literals;

struct of_websocket : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false;
    static constexpr bool outlives_context = false; // as its stream
    static constexpr bool several = false;
    static constexpr bool unsynchronized = true; // they use the outbox
};

/// Waits for the second fragment of a message.
template <class Layer>
struct next_message : of_websocket {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor), outbox(*ends.stream), reader(*ends.stream, outbox)
        {
            ends.peer.write("\x01\x81\0\0\0\0a"sv);
        }

        template <class Token>
        auto start(Token&& token)
        {
            return reader.async_next(std::forward<Token>(token));
        }
        void step() { ends.peer.write("\x89\x80\0\0\0\0"sv); } // a ping
        void complete() { ends.peer.write("\x80\x80\0\0\0\0"sv); }

        typename Layer::template connected<Executor> ends;
        holdfast::outbox<typename Layer::template stream<Executor>> outbox;
        holdfast::websocket_reader<typename Layer::template stream<Executor>> reader;
    };
};

#if defined(CONFORMANCE_ZLIB)
/// Waits for the second fragment of a compressed message.
template <class Layer>
struct next_compressed : of_websocket {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
            : ends(executor), outbox(*ends.stream), reader(*ends.stream, outbox, {.compression = &deflate()})
        {
            ends.peer.write("\x41\x83\0\0\0\0\xf2\x48\xcd"sv);
        }

        template <class Token>
        auto start(Token&& token)
        {
            return reader.async_next(std::forward<Token>(token));
        }
        void step() { ends.peer.write("\x89\x80\0\0\0\0"sv); } // a ping
        void complete() { ends.peer.write("\x80\x84\0\0\0\0\xc9\xc9\x07\0"sv); }

        typename Layer::template connected<Executor> ends;
        holdfast::outbox<typename Layer::template stream<Executor>> outbox;
        holdfast::websocket_reader<typename Layer::template stream<Executor>> reader;
    };

    static holdfast::websocket_deflate& deflate()
    {
        static holdfast::websocket_deflate all;
        return all;
    }
};
#endif

/// Waits for the peer's end of stream.
template <class Layer>
struct close_websocket : of_websocket {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor), guard(std::move(*ends.stream)), outbox(guard) {}

        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_close_websocket(guard, outbox, {.deadline = std::chrono::hours(1)},
                                                   std::forward<Token>(token));
        }
        void step() { ends.peer.write("\x88\x80\0\0\0\0"sv); } // its Close frame
        void complete() { rest.end_stream_and_start(ends.peer.descriptor()); }

        typename Layer::template connected<Executor> ends;
        conformance::taker rest;
        holdfast::connection_guard<typename Layer::template stream<Executor>> guard;
        holdfast::outbox<typename Layer::template stream<Executor>> outbox;
    };
};

} // namespace

HOLDFAST_CONFORMANCE_OF_STREAMS(next_message);
#if defined(CONFORMANCE_ZLIB)
HOLDFAST_CONFORMANCE_OF_STREAMS(next_compressed);
#endif
HOLDFAST_CONFORMANCE_OF_STREAMS(close_websocket);
