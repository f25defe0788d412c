// holdfast: the quotes of a push_gateway: the engine's messages, the last of them for clients that come again, and the state.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_QUOTE_FEED_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_QUOTE_FEED_HPP

#include "engine_option.hpp"
#include "feed_event.hpp"
#include "gateway_options.hpp"
#include "log.hpp"
#include "market.hpp"
#include "quote_messages.hpp"
#include "quote_reader.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/replay_topic.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/websocket_compression.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// The messages of the engine on one thread: the ring keeps the last of them, and the market is the state after all of them.
/// A quote that changed only in messages which the engine has dropped is as at first, until its next change: the engine has
/// to keep more messages than it takes to change each quote.
///
/// The feed of the first thread reads the engine, and passes each event on to the feeds of the others, which are numbered. A
/// thread that was so far behind that events were dropped is sent the state.
///
/// Lifetime: `options` and the compression must outlive it. Thread safety: one thread.
class quote_feed {
public:
    using topic_type = holdfast::replay_topic<3>;

    /// `compression` is that of the WebSocket clients, or null.
    quote_feed(const gateway_options& options, holdfast::replay_ring ring, holdfast::websocket_compression* compression)
        : options_(options),
          market_(options.instruments),
          topic_(std::move(ring), {as_event, as_frame(nullptr), as_frame(compression)}),
          last_id_(to_string(topic_.ring().last()))
    {
        const auto last = topic_.ring().last();
        topic_.ring().resume({last.epoch, last.id - topic_.ring().size()},
                             [this](const holdfast::replay_position&, const holdfast::payload& kept) {
                                 const quote_message message{kept.text()};
                                 last_id_ = message.id;
                                 return reader_.apply(message.quotes, market_);
                             });
    }
    quote_feed(const quote_feed&) = delete;
    quote_feed& operator=(const quote_feed&) = delete;

    /// Of the first thread: reads all that the engine has, then each new message. `others` passes an event on to the other
    /// threads; it may be empty, and may be called until the feed is destroyed.
    void subscribe(const holdfast::net::any_io_executor& executor, std::function<void(holdfast::payload)> others)
    {
        others_ = std::move(others);
        engine_ = make_engine(executor, options_, topic_.ring().last());
        engine_->subscribe(topic_.ring().size() != 0 ? last_id_ : "0",
                           {.on_message =
                                [this](std::string_view id, std::string_view quotes) {
                                    pass_on(feed_event::message, id, quotes);
                                    take(id, quotes);
                                },
                            .on_gap =
                                [this](std::string_view) {
                                    pass_on(feed_event::gap);
                                    lose();
                                },
                            .on_connected =
                                [this](bool on) {
                                    log_line("feed: ", on ? "the engine is there" : engine_->problem());
                                    pass_condition_on();
                                },
                            .on_caught_up =
                                [this] {
                                    ready_ = true;
                                    pass_condition_on();
                                }});
    }

    /// Of the first thread: reads no more. To be called while its context is whole, as an engine may have threads that post to
    /// it.
    void end() noexcept { engine_.reset(); }

    /// Of the other threads: takes an event of the first one. Calls `ask()` where events are missing: the first thread is to
    /// call `pass_state_on()`.
    void receive(std::string_view text, const std::function<void()>& ask)
    {
        const feed_event event{text};
        if (event.number != number_ + 1) {
            log_line("feed: this thread was too slow after ", last_id_, ", and asks for the state");
            lost_ = true;
            ask();
        }
        number_ = event.number;
        if (event.what == feed_event::condition) {
            ready_ = event.id == "ready";
            problem_ = event.text;
        } else if (event.what == feed_event::state && lost_) {
            lost_ = false;
            reader_.apply(event.text, market_);
            last_id_ = event.id;
            topic_.restart({topic_.ring().epoch() + 1, 0});
        } else if (event.what == feed_event::message && !lost_) {
            take(event.id, event.text);
        } else if (event.what == feed_event::gap && !lost_) {
            lose();
        }
    }

    /// Of the first thread: passes on all that there is.
    void pass_state_on()
    {
        pass_on(feed_event::state, last_id_, holdfast::serialize_to_string<holdfast::json>(market_.snapshot()));
        pass_condition_on();
    }

    [[nodiscard]] topic_type& topic() noexcept { return topic_; }
    /// The market after the message `last_id()`.
    [[nodiscard]] const market& state() const noexcept { return market_; }
    [[nodiscard]] const std::string& last_id() const noexcept { return last_id_; }

    /// Whether it has the state. It stays so when the engine is away: clients get what there is.
    [[nodiscard]] bool ready() const noexcept { return ready_; }
    /// For /healthz.
    [[nodiscard]] std::string condition() const
    {
        std::string text = ready_ ? "ready" : "starting";
        if (const std::string& why = problem(); !why.empty()) text.append(", but ").append(why);
        return text;
    }

    /// Subscribes a client that has had this message last: it continues after it, or where the ring does not have it any more
    /// from the state, by `send_state`. Completes without a subscription where it is to continue on another node.
    ///
    /// A client of another node or thread may have had a message that is still to come here: then this completes once it has
    /// come, or the time is over. The id is the client's text, and can be any: so the time is short, as nothing is read from the
    /// client meanwhile, and beyond `max_waiting` clients none waits.
    ///
    /// Lifetime: until it completes, `outbox` and `send_state` too.
    ///
    /// Cost: one timer for each client that waits, which no other message wakes.
    holdfast::net::awaitable<topic_type::subscription> async_subscribe(auto& outbox, form kind, std::string last,
                                                                       const auto& send_state)
    {
        if (!ending_ && expects(last) && waiting_->size() < max_waiting) {
            holdfast::net::steady_timer limit(co_await holdfast::net::this_coro::executor, max_wait);
            const waiting_entry here(waiting_, waiting_->emplace(*numbers_of(last), &limit));
            holdfast::error_code ignored; // the ring shows whether the message has come
            co_await limit.async_wait(holdfast::net::redirect_error(holdfast::net::use_awaitable, ignored));
        }
        std::optional<holdfast::replay_position> from;
        if (!last.empty())
            from = topic_.ring().find(
                [&](const holdfast::payload& each) { return quote_message(each.text()).id == last; });
        if (!from && ending_ && expects(last)) co_return topic_type::subscription();
        co_return topic_.subscribe(outbox, kind, from, send_state);
    }

    /// Ends all waits for messages that are to come, as clients are about to be sent away: none begins any more, and those
    /// clients are not subscribed.
    void end_waits() noexcept
    {
        ending_ = true;
        for (const auto& each : *waiting_)
            each.second->cancel();
    }

    static constexpr std::size_t max_waiting = 256; ///< of a thread
    static constexpr std::chrono::seconds max_wait{5};

    /// Of the first thread: changes `rate` instruments after each interval, and publishes them; for ever. What the engine
    /// has not taken is not sent to any client.
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
        const auto come = numbers_of(id);
        for (auto each = waiting_->begin(); come && each != waiting_->end() && each->first <= *come; ++each)
            each->second->cancel();
    }

    /// Messages are missing: each client is sent the state.
    void lose()
    {
        log_line("feed: the engine has dropped messages after ", last_id_);
        topic_.restart({topic_.ring().epoch() + 1, 0});
    }

    void pass_on(char what, std::string_view id = {}, std::string_view text = {})
    {
        if (others_) others_(feed_event::make(++number_, what, id, text));
    }
    void pass_condition_on() { pass_on(feed_event::condition, ready_ ? "ready" : "starting", engine_->problem()); }

    [[nodiscard]] const std::string& problem() const noexcept { return engine_ ? engine_->problem() : problem_; }

    using id_numbers = std::pair<std::uint64_t, std::uint64_t>;

    /// The numbers of an engine's id, or of a node that is alone.
    [[nodiscard]] std::optional<id_numbers> numbers_of(std::string_view id) const
    {
        if (options_.has_engine()) return parse_id(id);
        const auto position = holdfast::parse_replay_position(id);
        return position ? std::optional(id_numbers(position->epoch, position->id)) : std::nullopt;
    }

    /// Whether the message is still to come, as far as one can know.
    [[nodiscard]] bool expects(std::string_view id) const
    {
        const auto wanted = numbers_of(id), last = numbers_of(last_id_);
        return wanted && last && *wanted > *last && (options_.has_engine() || wanted->first == last->first);
    }

    using waiting_clients = std::multimap<id_numbers, holdfast::net::steady_timer*>;

    struct waiting_entry {
        waiting_entry(std::shared_ptr<waiting_clients> in, waiting_clients::iterator at) noexcept
            : clients(std::move(in)), here(at)
        {
        }
        waiting_entry(const waiting_entry&) = delete;
        ~waiting_entry() { clients->erase(here); }

        const std::shared_ptr<waiting_clients> clients; // the session may be destroyed after the feed
        const waiting_clients::iterator here;
    };

    const gateway_options& options_;
    market market_;
    quote_reader reader_;
    topic_type topic_;
    std::string last_id_;
    std::string problem_;
    std::function<void(holdfast::payload)> others_;
    std::uint64_t number_ = 0; // of the last event
    bool ready_ = false;
    bool ending_ = false;
    const std::shared_ptr<waiting_clients> waiting_ =
        std::make_shared<waiting_clients>(); // by the id that each has had
    bool lost_ = false;                      // events, until the state comes
    std::unique_ptr<message_engine> engine_;
};

} // namespace examples

#endif
