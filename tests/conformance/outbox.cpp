// holdfast: the operations of an outbox, and async_write_streamed, in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/outbox.hpp>
#include <holdfast/write_streamed.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace {

namespace net = holdfast::net;
using holdfast::error_code;

/// A stream that takes nothing until it is opened, and then everything. Like a socket, it may go before its
/// writes have completed.
template <class Executor>
class gated_stream {
    using clock = std::chrono::steady_clock;

    struct state {
        explicit state(const Executor& executor) : gate(executor, clock::time_point::max()) {}

        net::basic_waitable_timer<clock, net::wait_traits<clock>, Executor> gate;
        bool open = false;
    };

public:
    using executor_type = Executor;

    explicit gated_stream(const Executor& executor) : state_(std::make_shared<state>(executor)) {}
    gated_stream(const gated_stream&) = delete;
    ~gated_stream() { state_->gate.cancel(); }

    executor_type get_executor() { return state_->gate.get_executor(); }

    void open()
    {
        state_->open = true;
        state_->gate.cancel();
    }

    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token)
    {
        return net::async_compose<Token, void(error_code, std::size_t)>(
            [at = state_, n = net::buffer_size(buffers), waits = true](auto& self, error_code ec = {}) mutable {
                if (std::exchange(waits, false)) {
                    auto& gate = at->gate;
                    if (!at->open) return gate.async_wait(std::move(self));
                    return net::post(gate.get_executor(), std::move(self));
                }
                if (ec && at->open) ec = {}; // by open()
                self.complete(ec, ec ? 0 : n);
            },
            token, state_->gate);
    }

private:
    std::shared_ptr<state> state_;
};

template <class Executor>
struct gated_outbox {
    explicit gated_outbox(const Executor& executor) : stream(executor)
    {
        if (box.push(holdfast::payload(std::string(84, 'x')))) std::abort();
    }
    void complete() { stream.open(); }

    gated_stream<Executor> stream;
    holdfast::outbox<gated_stream<Executor>> box{
        stream, {.high_watermark = 100, .on_overflow = holdfast::overflow_policy::wait}};
};

struct of_outbox : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool outlives_context = false; // as its stream
};

struct outbox_push : of_outbox {
    template <class Executor>
    struct object : gated_outbox<Executor> {
        using gated_outbox<Executor>::gated_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->box.async_push(holdfast::payload("x"), std::forward<Token>(token));
        }
    };
};

struct outbox_push_conflated : of_outbox {
    template <class Executor>
    struct object : gated_outbox<Executor> {
        using gated_outbox<Executor>::gated_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->box.async_push(holdfast::payload("x"), holdfast::conflate{1}, std::forward<Token>(token));
        }
    };
};

struct outbox_flush : of_outbox {
    template <class Executor>
    struct object : gated_outbox<Executor> {
        using gated_outbox<Executor>::gated_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->box.async_flush(std::forward<Token>(token));
        }
    };
};

struct outbox_close : of_outbox {
    template <class Executor>
    struct object : gated_outbox<Executor> {
        using gated_outbox<Executor>::gated_outbox;
        template <class Token>
        auto start(Token&& token)
        {
            return this->box.async_close({.deadline = std::chrono::hours(1)}, std::forward<Token>(token));
        }
    };
};

struct write_message : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false;
    static constexpr bool outlives_context = false;
    static constexpr bool several = false;
    static constexpr bool uses_handler_allocator = false; // the buffer pool's

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : stream(executor) {}
        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_write_streamed(stream, 12345, std::forward<Token>(token));
        }
        void complete() { stream.open(); }

        gated_stream<Executor> stream;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(outbox_push);
HOLDFAST_CONFORMANCE(outbox_push_conflated);
HOLDFAST_CONFORMANCE(outbox_flush);
HOLDFAST_CONFORMANCE(outbox_close);
HOLDFAST_CONFORMANCE(write_message);
