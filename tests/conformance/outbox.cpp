// holdfast: the operations of an outbox in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#include <holdfast/connection_guard.hpp>
#include <holdfast/outbox.hpp>

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>

#include <sys/socket.h>

namespace {

namespace net = holdfast::net;

/// More than the buffers of both sockets take.
const holdfast::payload& long_message()
{
    static const holdfast::payload text(std::string(1'000'000 - 16, 'x')); // which counts as 1'000'000
    return text;
}

/// Full, until the peer reads, on a thread of its own.
template <class Layer, class Executor>
struct full_outbox {
    explicit full_outbox(const Executor& executor) : ends(executor), guard(std::move(*ends.stream))
    {
        guard.stream().lowest_layer().set_option(net::socket_base::send_buffer_size(65536));
        if (outbox.push(long_message())) std::abort();
    }

    void step()
    {
        char taken[65536];
        CHECK(::recv(ends.peer.descriptor(), taken, sizeof taken, MSG_DONTWAIT) > 0);
    }
    void complete() { rest.start(ends.peer.descriptor()); }

    typename Layer::template connected<Executor> ends;
    conformance::taker rest;
    holdfast::connection_guard<typename Layer::template stream<Executor>> guard;
    holdfast::outbox<typename Layer::template stream<Executor>> outbox{
        guard, {.high_watermark = 1'000'000, .on_overflow = holdfast::overflow_policy::wait}};
};

struct of_outbox : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool outlives_context = false; // as its stream
};

template <class Layer>
struct outbox_push : of_outbox {
    template <class Executor>
    struct object : full_outbox<Layer, Executor> {
        using full_outbox<Layer, Executor>::full_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->outbox.async_push(holdfast::payload("x"), std::forward<Token>(token));
        }
    };
};

template <class Layer>
struct outbox_push_conflated : of_outbox {
    template <class Executor>
    struct object : full_outbox<Layer, Executor> {
        using full_outbox<Layer, Executor>::full_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->outbox.async_push(holdfast::payload("x"), holdfast::conflate{1}, std::forward<Token>(token));
        }
    };
};

template <class Layer>
struct outbox_flush : of_outbox {
    template <class Executor>
    struct object : full_outbox<Layer, Executor> {
        using full_outbox<Layer, Executor>::full_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->outbox.async_flush(std::forward<Token>(token));
        }
    };
};

template <class Layer>
struct outbox_close : of_outbox {
    template <class Executor>
    struct object : full_outbox<Layer, Executor> {
        using full_outbox<Layer, Executor>::full_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->outbox.async_close({.deadline = std::chrono::hours(1)}, std::forward<Token>(token));
        }
    };
};

} // namespace

HOLDFAST_CONFORMANCE_OF_STREAMS(outbox_push);
HOLDFAST_CONFORMANCE_OF_STREAMS(outbox_push_conflated);
HOLDFAST_CONFORMANCE_OF_STREAMS(outbox_flush);
HOLDFAST_CONFORMANCE_OF_STREAMS(outbox_close);
