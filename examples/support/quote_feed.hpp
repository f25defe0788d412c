// holdfast: the quotes of a push_gateway: the engine's messages, the last of them for clients that come again, and the state.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_QUOTE_FEED_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_QUOTE_FEED_HPP

#include "engine_option.hpp"
#include "gateway_options.hpp"
#include "log.hpp"
#include "market.hpp"
#include "quote_messages.hpp"
#include "quote_reader.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/replay_topic.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/websocket_compression.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// Reads all that the engine has: the ring keeps the last messages, and the market is the state after all of them. Then sends
/// each new one. A quote that changed only in messages which the engine has dropped is as at first, until its next change:
/// the engine has to keep more messages than it takes to change each quote.
///
/// Lifetime: `options` and the compression must outlive it. Thread safety: one thread.
class quote_feed {
public:
    using topic_type = holdfast::replay_topic<3>;

    /// `compression` is that of the WebSocket clients, or null.
    quote_feed(const holdfast::net::any_io_executor& executor, const gateway_options& options,
               holdfast::replay_ring ring, holdfast::websocket_compression* compression)
        : options_(options),
          market_(options.instruments),
          topic_(std::move(ring), {as_event, as_frame(nullptr), as_frame(compression)}),
          last_id_(to_string(topic_.ring().last())),
          engine_(make_engine(executor, options, topic_.ring().last()))
    {
        const auto last = topic_.ring().last();
        topic_.ring().resume({last.epoch, last.id - topic_.ring().size()},
                             [this](const holdfast::replay_position&, const holdfast::payload& kept) {
                                 const quote_message message{kept.text()};
                                 last_id_ = message.id;
                                 return reader_.apply(message.quotes, market_);
                             });
        engine_->subscribe(
            topic_.ring().size() != 0 ? last_id_ : "0",
            {.on_message = [this](std::string_view id, std::string_view quotes) { take(id, quotes); },
             .on_gap = [this](std::string_view) { lose(); },
             .on_connected = [this](bool on) { log_line("feed: ", on ? "the engine is there" : problem()); },
             .on_caught_up = [this] { ready_ = true; }});
    }
    quote_feed(const quote_feed&) = delete;
    quote_feed& operator=(const quote_feed&) = delete;

    [[nodiscard]] topic_type& topic() noexcept { return topic_; }
    /// The market after the message `last_id()`.
    [[nodiscard]] const market& state() const noexcept { return market_; }
    [[nodiscard]] const std::string& last_id() const noexcept { return last_id_; }

    /// Whether it has the state. It stays so when the engine is away: clients get what there is.
    [[nodiscard]] bool ready() const noexcept { return ready_; }
    /// For /healthz.
    [[nodiscard]] std::string condition() const
    {
        return (ready_ ? "ready" : "starting") + (engine_->connected() ? std::string() : ", but " + problem());
    }

    /// Completes with the position of a client that has had this message last; with none where the ring does not have it any
    /// more. A client of another node may have had a message that is still to come here: then once it has come, or the
    /// client's time is over.
    holdfast::net::awaitable<std::optional<holdfast::replay_position>> async_find(std::string id)
    {
        using namespace std::chrono_literals;
        holdfast::net::steady_timer clock(co_await holdfast::net::this_coro::executor);
        for (auto left = options_.timeout; engine_->expects(id) && left > 0ms; left -= 50ms) {
            clock.expires_after(50ms);
            co_await clock.async_wait(holdfast::net::use_awaitable);
        }
        if (id.empty()) co_return std::nullopt;
        co_return topic_.ring().find(
            [&](const holdfast::payload& each) { return quote_message(each.text()).id == id; });
    }

    /// Changes `rate` instruments after each interval, and publishes them; for ever. What the engine has not taken is not
    /// sent to any client.
    holdfast::net::awaitable<void> publish(std::size_t rate, std::chrono::milliseconds interval)
    {
        std::optional<market> source;
        holdfast::net::steady_timer clock(co_await holdfast::net::this_coro::executor);
        for (;;) {
            clock.expires_after(interval);
            co_await clock.async_wait(holdfast::net::use_awaitable);
            if (!ready_) continue;
            if (!source) { // continues where the feed is
                source.emplace(market_.size());
                for (const quote each : market_.snapshot())
                    source->apply(each);
            }
            const std::uint64_t before = source->version();
            source->tick(rate);
            engine_->publish(holdfast::serialize_to_string<holdfast::json>(source->changed_since(before)),
                             [](std::string_view) {});
        }
    }

private:
    void take(std::string_view id, std::string_view quotes)
    {
        if (!reader_.apply(quotes, market_)) return log_line("feed: left out, as it is not an array of quotes: ", id);
        last_id_ = id;
        topic_.push(quote_message::text(id, quotes));
    }

    /// Messages are missing: each client is sent the state.
    void lose()
    {
        log_line("feed: the engine has dropped messages after ", last_id_);
        topic_.restart({topic_.ring().epoch() + 1, 0});
    }

    [[nodiscard]] std::string problem() const { return engine_->problem(); }

    const gateway_options& options_;
    market market_;
    quote_reader reader_;
    topic_type topic_;
    std::string last_id_;
    std::unique_ptr<message_engine> engine_;
    bool ready_ = false;
};

} // namespace examples

#endif
