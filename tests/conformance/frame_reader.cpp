// holdfast: the operations of a frame_reader in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#include <holdfast/adapters/next_json.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/read_rate.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

namespace {

namespace net = holdfast::net;

/// A reader of a stream on which nothing has come yet.
template <class Layer, class Executor>
struct reader_of {
    explicit reader_of(const Executor& executor) : ends(executor), reader(*ends.stream) {}

    void step() { ends.peer.write("12"); }
    void complete() { ends.peer.write("12345\n"); }

    typename Layer::template connected<Executor> ends;
    holdfast::frame_reader<typename Layer::template stream<Executor>> reader;
};

struct of_reader : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false;
    static constexpr bool outlives_context = false; // as its stream
    static constexpr bool several = false;
};

template <class Layer>
struct next : of_reader {
    template <class Executor>
    struct object : reader_of<Layer, Executor> {
        using reader_of<Layer, Executor>::reader_of;
        template <class Token>
        auto start(Token&& token)
        {
            return this->reader.async_next(std::forward<Token>(token));
        }
    };
};

template <class Layer>
struct read_exactly : of_reader {
    template <class Executor>
    struct object : reader_of<Layer, Executor> {
        using reader_of<Layer, Executor>::reader_of;
        template <class Token>
        auto start(Token&& token)
        {
            return this->reader.async_read_exactly(5, std::forward<Token>(token));
        }
    };
};

template <class Layer>
struct read_some : of_reader {
    template <class Executor>
    struct object : reader_of<Layer, Executor> {
        using reader_of<Layer, Executor>::reader_of;
        template <class Token>
        auto start(Token&& token)
        {
            return this->reader.async_read_some(100, std::forward<Token>(token));
        }

        void step() {} // the first byte completes it
    };
};

template <class Layer>
struct next_json : of_reader {
    template <class Executor>
    struct object : reader_of<Layer, Executor> {
        using reader_of<Layer, Executor>::reader_of;
        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_next_json(this->reader, parser, std::forward<Token>(token));
        }

        simdjson::dom::parser parser;
    };
};

/// Waits for a buffer of an exhausted pool.
template <class Layer>
struct next_without_buffer : of_reader {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor), pool(executor, {.max_bytes = 1024})
        {
            all = pool.try_borrow(1024);
        }

        template <class Token>
        auto start(Token&& token)
        {
            return reader.async_next(std::forward<Token>(token));
        }
        void step() { all.release(); }
        void complete()
        {
            all.release();
            ends.peer.write("12345\n");
        }

        typename Layer::template connected<Executor> ends;
        holdfast::shared_buffer_pool pool;
        holdfast::shared_buffer_pool::loan_type all;
        holdfast::frame_reader<typename Layer::template stream<Executor>> reader{*ends.stream, pool};
    };
};

/// Ticks by hand. What the peer may send is used up.
class one_message final : public holdfast::detail::rate_source {
public:
    one_message() : rate_source({1, 1}, {0, 1e9}, false) {}

    [[nodiscard]] std::uint64_t now() const noexcept override { return tick_; }
    void await_tick() override {}
    void tick()
    {
        ++tick_;
        ticked->notify_all();
    }

private:
    std::atomic<std::uint64_t> tick_ = 0;
};

/// Waits until the rate limit allows more.
template <class Layer>
struct next_paused : of_reader {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor) { rate.message(); }

        template <class Token>
        auto start(Token&& token)
        {
            return reader.async_next(std::forward<Token>(token));
        }
        void step() { limit.tick(); }
        void complete()
        {
            ends.peer.write("12345\n");
            limit.tick();
        }

        typename Layer::template connected<Executor> ends;
        one_message limit;
        holdfast::read_rate rate = holdfast::detail::rate_access::rate_of(limit);
        holdfast::frame_reader<typename Layer::template stream<Executor>> reader{*ends.stream, {.rate = &rate}};
    };
};

} // namespace

HOLDFAST_CONFORMANCE_OF_STREAMS(next);
HOLDFAST_CONFORMANCE_OF_STREAMS(next_without_buffer);
HOLDFAST_CONFORMANCE_OF_STREAMS(next_paused);
HOLDFAST_CONFORMANCE_OF_STREAMS(next_json);
HOLDFAST_CONFORMANCE_OF_STREAMS(read_exactly);
HOLDFAST_CONFORMANCE_OF_STREAMS(read_some);
