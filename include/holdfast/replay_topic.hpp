// holdfast: replay_topic, which sends a topic's messages to its receivers, and to slow ones from the ring.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_REPLAY_TOPIC_HPP
#define HOLDFAST_REPLAY_TOPIC_HPP

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/replay_ring.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

/// What a `replay_topic` has done since its construction.
struct replay_counters {
    std::uint64_t published = 0;   ///< Messages that were pushed to the topic.
    std::uint64_t sent = 0;        ///< Messages that were queued to a receiver, counted for each receiver.
    std::uint64_t fell_behind = 0; ///< How often a receiver's outbox was full, so that it continues from the ring.
    std::uint64_t gaps = 0;        ///< How often a receiver had missed messages that are not in the ring any more.
};

/// Sends the messages of a topic to any number of receivers, each from the position that it names. A receiver gets each
/// message once and in order, or is notified of a gap and gets the current state (`OnGap`).
///
/// A receiver whose outbox is full is no longer live. It continues from the ring as soon as its outbox has drained to
/// the low watermark, and is live again when it has everything: it needs no queue beside its outbox. A receiver that is
/// too slow for the ring has a gap.
///
/// A message has `Forms` forms, such as a server-sent event and a WebSocket frame, of which each receiver gets one. A
/// form is made when the first receiver needs it, and is shared by all. The memory of the topic is at most `max_bytes`
/// of the ring for the messages, as much again for each form, and 64 bytes for each message and form.
///
/// `Clock` is that of the ring, for `max_age`.
/// Lifetime: subscriptions may be destroyed after the topic.
/// Thread safety: a topic, its subscriptions and their outboxes belong to one thread or strand.
/// Cost: a push costs a reference of 16 bytes in the queue of each live receiver. A receiver that is behind has one
/// pending `async_push`.
///
///     holdfast::replay_topic<2> news{{.max_bytes = 1 << 20}, {as_event, as_frame}};
///     const auto subscription = news.subscribe(outbox, 0, position, [&] { return outbox.push_streamed(snapshot()); });
///     news.push(text);
template <std::size_t Forms, class Clock = std::chrono::steady_clock>
class replay_topic {
public:
    using ring_type = basic_replay_ring<Clock>;

    /// Makes one form of the message at a position, from its text. An exception is one of the call that needs the form.
    using form_maker = std::function<payload(const replay_position&, std::string_view)>;

    /// A receiver, from `subscribe` until it is destroyed.
    ///
    /// Lifetime: must be destroyed before its outbox.
    class subscription;

    /// Makes a topic with an empty ring. No function in `forms` may be empty.
    ///
    /// Exceptions: those of the constructor of `replay_ring`.
    replay_topic(const replay_ring_options& options, std::array<form_maker, Forms> forms)
        : replay_topic(ring_type(options), std::move(forms))
    {
    }

    /// Continues with a ring, such as one that `replay_ring::load` has made.
    replay_topic(ring_type ring, std::array<form_maker, Forms> forms)
        : ring_(std::move(ring)), forms_(std::move(forms)), made_(ring_.size())
    {
    }

    replay_topic(const replay_topic&) = delete;
    replay_topic& operator=(const replay_topic&) = delete;

    ~replay_topic()
    {
        for (receiver* each : {&live_, &behind_, &waiting_})
            while (each->next != each)
                each->next->leave();
    }

    /// Adds a message, and sends it to all live receivers. Returns its position.
    ///
    /// Exceptions: std::bad_alloc, and those of the forms. `ring().last()` shows whether the message was added. All
    /// receivers for which nothing failed have got it; the others continue at the next push.
    replay_position push(std::string_view message)
    {
        made_.emplace_back();
        try {
            ring_.push(payload(message));
        } catch (...) {
            made_.pop_back();
            throw;
        }
        while (made_.size() > ring_.size())
            made_.pop_front();
        ++counters_.published;
        const replay_position at = ring_.last();
        std::array<payload, Forms> ready; // of a message that exceeds the ring, none is kept
        receiver now, one; // by a finalizer, which an outbox may call, any receiver may end, and more may be pushed
        now.take(live_);
        while (now.next != &now) {
            receiver& here = *now.next;
            here.unlink();
            here.link(one);
            error_code ec;
            const bool tried = ring_.last() == at;
            if (tried) ec = push_to(here, at, message, ready[here.form]);
            const bool sent = tried && !ec;
            if (sent) ++counters_.sent;
            if (ec == errc::outbox_full) ++counters_.fell_behind;
            if (one.next == &one) continue; // it has left
            here.unlink();
            if (sent && ring_.last() == at) {
                here.link(live_);
            } else {
                here.position = {at.epoch, sent ? at.id : at.id - 1};
                here.link(behind_);
            }
        }
        continue_behind();
        return at;
    }

    /// Continues after `last`, for messages that come from elsewhere with their ids. Has no effect where that is the
    /// last message. Else messages are missing: all receivers have a gap, and those that are live are sent the state at
    /// once.
    ///
    /// Exceptions: std::bad_alloc; receivers for which memory was missing continue at the next push.
    void restart(const replay_position& last)
    {
        if (last == ring_.last()) return;
        ring_.restart(last);
        made_.clear();
        ++restarts_;
        while (live_.next != &live_) {
            receiver& here = *live_.next;
            here.unlink();
            here.link(behind_);
        }
        continue_behind();
    }

    /// Sends `outbox` everything after `from`, and from then on each message, in form number `form`, which must be less
    /// than `Forms`. Without `from`, or if messages after it are missing, calls `on_gap(position)`, which pushes the
    /// current state; the receiver continues after `position`. `on_gap` returns the `error_code` of its push: after
    /// `errc::outbox_full` it is called again when the outbox is empty; after another error the subscription ends.
    ///
    /// An exception that `on_gap` throws later, outside of this call, is caught: the receiver continues at the next
    /// push, where `on_gap` is called again. So is that of a form, except within `push`.
    ///
    /// The outbox must have `overflow_policy::wait`: with `drop_oldest` messages are lost without a gap, and with
    /// `disconnect` a slow receiver is disconnected. A message that exceeds its high watermark alone is a gap.
    ///
    /// Exceptions: std::bad_alloc, and those of the forms and of `on_gap`; then there is no subscription.
    template <class Stream, class OnGap>
        requires std::is_invocable_r_v<error_code, OnGap&, const replay_position&>
    [[nodiscard]] subscription subscribe(outbox<Stream>& outbox, std::size_t form,
                                         const std::optional<replay_position>& from, OnGap on_gap)
    {
        const auto made = std::make_shared<receiver_of<Stream, OnGap>>(*this, outbox, form, from, std::move(on_gap));
        subscription begun(made); // ends it after an exception
        made->catch_up();
        made->subscribed = true;
        return begun;
    }

    /// Returns the ring: for `last()` and `save()`.
    [[nodiscard]] ring_type& ring() noexcept { return ring_; }
    [[nodiscard]] const replay_counters& counters() const noexcept { return counters_; }
    /// Returns the number of receivers, live or not.
    [[nodiscard]] std::size_t receivers() const noexcept { return receivers_; }
    /// Returns the number of receivers that are behind: their outboxes are full.
    [[nodiscard]] std::size_t behind() const noexcept { return waiters_; }

private:
    struct receiver {
        receiver() noexcept : next(this), previous(this) {}
        receiver(const receiver&) = delete;
        receiver& operator=(const receiver&) = delete;
        virtual ~receiver() = default;

        virtual void catch_up() {}

        void link(receiver& list) noexcept
        {
            next = &list;
            previous = std::exchange(list.previous, this);
            previous->next = this;
        }
        void unlink() noexcept
        {
            next->previous = previous;
            previous->next = next;
            next = previous = this;
        }
        /// Takes all of another list.
        void take(receiver& list) noexcept
        {
            link(list);
            list.unlink();
        }
        /// Ends the subscription. A message that waits for space is not sent: nothing of the receiver stays.
        void leave() noexcept
        {
            unlink();
            if (topic == nullptr) return;
            if (waiting) --topic->waiters_;
            --topic->receivers_;
            topic = nullptr;
            stop.emit(net::cancellation_type::terminal);
        }

        receiver* next;
        receiver* previous;
        replay_topic* topic = nullptr;
        outbox_base* outbox = nullptr;
        replay_position position{};
        std::size_t form = 0;
        std::size_t restarts = 0; // of the topic, when the position was known
        net::cancellation_signal stop;
        bool waiting = false;
        bool knows = false; // a position
        bool subscribed = false;
    };

    template <class Stream, class OnGap>
    struct receiver_of final : receiver, std::enable_shared_from_this<receiver_of<Stream, OnGap>> {
        receiver_of(replay_topic& of, holdfast::outbox<Stream>& to, std::size_t number,
                    const std::optional<replay_position>& from, OnGap gap)
            : stream(&to), on_gap(std::move(gap))
        {
            this->topic = &of;
            this->outbox = &to;
            this->form = number;
            this->knows = from.has_value();
            this->position = from.value_or(replay_position());
            this->restarts = of.restarts_;
            ++of.receivers_;
            this->link(of.behind_);
        }

        /// Queues what there is; then it is live, or waits for space. After an exception its turn comes again at the
        /// next push.
        void catch_up() override
        {
            const auto self = this->shared_from_this(); // on_gap may end the subscription
            this->unlink();
            try {
                while (this->topic != nullptr && queue_next()) {
                }
            } catch (...) {
                if (this->topic != nullptr) this->link(this->topic->behind_);
                throw;
            }
        }

        /// Returns false once it is live, waits, or has left.
        bool queue_next()
        {
            replay_topic& from = *this->topic;
            if (!this->knows || this->restarts != from.restarts_ || !from.has_all_after(this->position))
                return report_gap();
            if (this->position == from.ring_.last()) {
                this->link(from.live_);
                return false;
            }
            payload message = from.form_of(this->position.id + 1, this->form);
            const error_code ec = this->outbox->push(message);
            if (this->topic == nullptr) return false; // its connection has ended, and the subscription with it
            if (ec == errc::outbox_full) {
                stream->async_push(std::move(message), waiter(true));
                note_wait();
            } else if (ec == errc::exceeds_high_watermark) {
                this->knows = false;
            } else if (ec == net::error::no_memory) {
                throw std::bad_alloc();
            } else if (ec) {
                this->leave();
            } else {
                ++this->position.id;
                ++from.counters_.sent;
            }
            return !this->waiting;
        }

        /// Returns whether the state is queued, so that the receiver goes on.
        bool report_gap()
        {
            const replay_position at = this->topic->ring_.last();
            const std::size_t restarts_before = this->topic->restarts_;
            error_code ec;
            try {
                ec = on_gap(at);
            } catch (...) { // of a later call: the caller may be a publisher, which can do nothing about it
                if (!this->subscribed) throw;
                if (this->topic != nullptr) this->link(this->topic->behind_);
                return false;
            }
            if (this->topic == nullptr) return false;
            if (ec == errc::outbox_full) {
                stream->async_flush(waiter(false));
                note_wait();
                return false;
            }
            if (ec) {
                this->leave();
                return false;
            }
            ++this->topic->counters_.gaps;
            this->knows = true;
            this->position = at;
            this->restarts = restarts_before;
            return true;
        }

        auto waiter(bool pushes)
        {
            return net::bind_cancellation_slot(
                this->stop.slot(),
                [self = this->shared_from_this(), pushes](const error_code& ec) { self->go_on(ec, pushes); });
        }

        void note_wait() noexcept
        {
            this->waiting = true;
            ++this->topic->waiters_;
            this->link(this->topic->waiting_);
        }

        void go_on(const error_code& ec, bool pushed)
        {
            if (this->topic == nullptr) return;
            this->waiting = false;
            --this->topic->waiters_;
            this->unlink();
            if (ec == net::error::no_memory) return this->link(this->topic->behind_);
            if (ec) return this->leave();
            if (pushed) {
                ++this->position.id;
                ++this->topic->counters_.sent;
            }
            try {
                catch_up();
            } catch (...) { // without memory: at the next push
            }
        }

        holdfast::outbox<Stream>* stream;
        [[no_unique_address]] OnGap on_gap;
    };

    /// Queues a message. Returns an error after an exception, too: its turn comes with those that are behind.
    error_code push_to(receiver& to, const replay_position& at, std::string_view message, payload& form) noexcept
    try {
        if (form.empty()) form = made_.empty() ? forms_[to.form](at, message) : form_of(at.id, to.form);
        return to.outbox->push(form);
    } catch (...) {
        return net::error::no_memory;
    }

    /// One that fails is behind again, and does not keep the others from their turn.
    void continue_behind()
    {
        receiver now;
        now.take(behind_);
        std::exception_ptr failure;
        while (now.next != &now) {
            try {
                now.next->catch_up();
            } catch (...) {
                if (!failure) failure = std::current_exception();
            }
        }
        if (failure) std::rethrow_exception(failure);
    }

    [[nodiscard]] bool has_all_after(const replay_position& from) noexcept
    {
        ring_.expire();
        while (made_.size() > ring_.size())
            made_.pop_front();
        const replay_position last = ring_.last();
        return from.epoch == last.epoch && from.id <= last.id && last.id - from.id <= ring_.size();
    }

    /// Precondition: the ring has it. No message is dropped between that check and this call, whatever time it is.
    const payload& form_of(std::uint64_t id, std::size_t which)
    {
        const replay_position last = ring_.last();
        payload& form = made_[made_.size() - 1 - static_cast<std::size_t>(last.id - id)][which];
        const replay_position at{last.epoch, id};
        if (form.empty()) form = forms_[which](at, ring_.message(at)->text());
        return form;
    }

    ring_type ring_;
    std::array<form_maker, Forms> forms_;
    std::deque<std::array<payload, Forms>> made_; // of the ring's messages
    receiver live_, waiting_;                     // lists
    receiver behind_;                             // those whose turn comes in this call, or at the next push
    replay_counters counters_;
    std::size_t receivers_ = 0;
    std::size_t waiters_ = 0;
    std::size_t restarts_ = 0;
};

template <std::size_t Forms, class Clock>
class [[nodiscard]] replay_topic<Forms, Clock>::subscription {
public:
    /// Makes a subscription of nothing.
    subscription() noexcept = default;
    subscription(subscription&&) noexcept = default;
    subscription& operator=(subscription&& other) noexcept
    {
        end();
        receiver_ = std::move(other.receiver_);
        return *this;
    }
    ~subscription() { end(); }

    /// Ends the subscription. What is queued is still sent. A message that waits for space is not, unless it got the space
    /// in the same turn of the event loop.
    void end() noexcept
    {
        if (receiver_) receiver_->leave();
        receiver_.reset();
    }

    /// Returns whether the receiver gets messages: false once its outbox was closed or has failed.
    explicit operator bool() const noexcept { return receiver_ && receiver_->topic != nullptr; }

private:
    friend class replay_topic;
    explicit subscription(std::shared_ptr<receiver> made) noexcept : receiver_(std::move(made)) {}

    std::shared_ptr<receiver> receiver_;
};

} // namespace holdfast

#endif
