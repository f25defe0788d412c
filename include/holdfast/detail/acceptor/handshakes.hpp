// holdfast: puts a layer upon each admitted connection before its session begins, some at a time, each within its time.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_HANDSHAKES_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_HANDSHAKES_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/paced_executor.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/unread_input.hpp>
#include <holdfast/error.hpp>
#include <holdfast/layer_factory.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <cerrno>
#include <sys/socket.h>

namespace holdfast::detail {

template <class Factory>
concept client_begins = requires { requires Factory::client_begins; };

/// The most bytes of a client's first message: of one TLS record.
inline constexpr std::size_t max_first_message = 5 + 16 * 1024;

/// The connection over a factory's layer.
template <class Factory, class Connection>
using layered_connection = typename Connection::template rebind_stream<decltype(std::declval<Factory&>().make(
    std::declval<typename Connection::stream_type>()))>;

/// What the connections of one `async_serve` share: the factory, the slots, and the handler of the sessions.
template <class Connection, class Factory, class Handler>
class handshakes final : public session_starter<Connection>,
                         public std::enable_shared_from_this<handshakes<Connection, Factory, Handler>> {
    using layered = layered_connection<Factory, Connection>;

public:
    handshakes(std::shared_ptr<event_reporter> reporter, const handshake_options& options, Factory factory,
               Handler handler)
        : session_starter<Connection>(std::move(reporter)),
          factory_(std::move(factory)),
          sessions_(std::move(handler)),
          time_limit_(options.handshake_timeout),
          contended_limit_(options.contended_timeout),
          slots_(new semaphore(options.max_handshakes, SIZE_MAX)),
          turn_(new semaphore(1, SIZE_MAX))
    {
    }

    void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote) override
    {
        const auto executor = peer.get_executor();
        auto one = std::make_shared<handshake>(this->shared_from_this(), reporter, std::move(peer), shard, remote);
        net::dispatch(executor, [one = std::move(one)] { one->start(); });
    }

private:
    class handshake;
    using semaphore = semaphore_core<synchronized>;

    // It outlives each of the execution contexts that its connections have: it holds no executor and no wait. A
    // connection that waits does so on its own executor, and goes with that one's context.
    Factory factory_;
    session_caller<layered, Handler> sessions_;
    const std::chrono::steady_clock::duration time_limit_, contended_limit_;
    const counted_ptr<semaphore> slots_;
    const counted_ptr<semaphore> turn_; // sessions start one at a time
};

/// One connection, from its admission until its session starts or it has ended. Its steps run one after another on the
/// connection's executor; the time limit may run beside them, and only wakes them, by a system call.
template <class Connection, class Factory, class Handler>
class handshakes<Connection, Factory, Handler>::handshake : public std::enable_shared_from_this<handshake> {
    using clock = std::chrono::steady_clock;
    using executor_type = typename Connection::executor_type;

public:
    handshake(std::shared_ptr<handshakes> owner, std::shared_ptr<event_reporter> reporter, Connection&& peer,
              std::size_t shard, const net::ip::tcp::endpoint& remote)
        : owner_(std::move(owner)),
          reporter_(std::move(reporter)),
          peer_(std::move(peer)),
          executor_(peer_->get_executor()),
          timer_(executor_),
          claim_(owner_->slots_),
          shard_(shard),
          remote_(remote),
          descriptor_(detail::lowest_layer(peer_->stream()).native_handle())
    {
    }

    handshake(const handshake&) = delete;

    void start() noexcept
    {
        step([this] {
            if constexpr (client_begins<Factory>) {
                limit_time(false);
                wait_for_bytes(1);
            } else {
                take_slot();
            }
        });
    }

private:
    /// Carries out a part of it; an exception ends the connection.
    template <class F>
    void step(F f) noexcept
    {
        try {
            f();
        } catch (...) {
            const connection_end end = end_by(std::current_exception());
            fail(end.reason, end.error);
        }
    }

    /// Begins a step's time limit. One that holds a slot may end before it, while others wait for one.
    void limit_time(bool holds_slot)
    {
        const std::lock_guard lock(mutex_);
        holds_slot_ = holds_slot;
        deadline_ = later_by(owner_->time_limit_);
        await_time_limit();
    }

    static clock::time_point later_by(clock::duration time) noexcept
    {
        const auto now = clock::now();
        return time < clock::time_point::max() - now ? now + time : clock::time_point::max();
    }

    void await_time_limit()
    {
        wake_at_ = holds_slot_ ? std::min(deadline_, later_by(owner_->contended_limit_)) : deadline_;
        if (wake_at_ == clock::time_point::max()) return;
        timer_.expires_at(wake_at_);
        timer_.async_wait([self = this->shared_from_this()](const error_code& ec) {
            if (!ec) self->expire();
        });
    }

    void expire() noexcept
    {
        const std::lock_guard lock(mutex_);
        const auto now = clock::now();
        if (now < wake_at_) return; // the step that it was for has ended
        if (now < deadline_ && owner_->slots_->waiting() == 0) {
            try {
                return await_time_limit();
            } catch (...) { // without memory for the wait it ends now
            }
        }
        expired_ = true;
        if (descriptor_ >= 0) detail::disconnect(descriptor_);
    }

    /// Returns whether the time limit had come before.
    bool end_time_limit() noexcept
    {
        const std::lock_guard lock(mutex_);
        timer_.cancel();
        wake_at_ = clock::time_point::max();
        return expired_;
    }

    [[nodiscard]] bool expired() noexcept
    {
        const std::lock_guard lock(mutex_);
        return expired_;
    }

    /// Waits until so many bytes can be read at once, or the connection has ended. The kernel counts them: a client
    /// that sends them one by one does not wake this, and bytes that stay unread cause no further wake.
    void wait_for_bytes(std::size_t size)
    {
        if (size != awaited_) detail::set_receive_low_watermark(descriptor_, size);
        awaited_ = size;
        detail::lowest_layer(peer_->stream())
            .async_wait(net::socket_base::wait_read,
                        [self = this->shared_from_this()](const error_code& ec) { self->readable(ec); });
    }

    void readable(const error_code& ec) noexcept
    {
        step([&] {
            if (expired()) return fail(close_reason::handshake_timeout, errc::handshake_timeout);
            if (ec) return fail(close_reason::handshake_failed, ec);
            std::array<std::byte, max_first_message> bytes; // NOLINT(*-member-init): recv() fills it
            const auto n = ::recv(descriptor_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_PEEK);
            if (n == 0) return fail(close_reason::handshake_failed, net::error::eof);
            if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
                return fail(close_reason::handshake_failed, error_code(errno, net::error::get_system_category()));
            const std::span<const std::byte> begun(bytes.data(), n < 0 ? 0 : static_cast<std::size_t>(n));
            if (const std::size_t size = message_size(begun); size > begun.size()) {
                if (size > max_first_message) return fail(close_reason::handshake_failed, net::error::message_size);
                const auto now = detail::look_at_input(descriptor_);
                if (now.end) return fail(close_reason::handshake_failed, now.end);
                // Where it is readable with fewer bytes than were waited for, no more will come before it is read.
                if (!now.readable || size != awaited_) return wait_for_bytes(size);
            }
            if (end_time_limit()) return fail(close_reason::handshake_timeout, errc::handshake_timeout);
            take_slot();
        });
    }

    [[nodiscard]] std::size_t message_size(std::span<const std::byte> begun)
    {
        if constexpr (requires { owner_->factory_.first_message_size(begun); })
            if (!begun.empty()) return owner_->factory_.first_message_size(begun);
        return 1;
    }

    void take_slot()
    {
        slot_ = claim_.try_acquire();
        if (slot_) return await_turn();
        detail::set_receive_low_watermark(descriptor_, max_first_message + 1); // more than it has yet to send
        const std::lock_guard lock(mutex_);
        claim_.async_acquire(net::any_io_executor(executor_), 1,
                             [self = this->shared_from_this()](const error_code& ec, permit slot) {
                                 self->granted(ec, std::move(slot));
                             });
        waits_ = 1;
        try {
            detail::lowest_layer(peer_->stream())
                .async_wait(net::socket_base::wait_read,
                            [self = this->shared_from_this()](const error_code&) { self->stirred(); });
            ++waits_;
        } catch (const std::bad_alloc&) { // that the client has left is found when there is a slot
        }
    }

    void granted(const error_code& ec, permit slot) noexcept
    {
        {
            const std::lock_guard lock(mutex_);
            slot_ = std::move(slot);
            slot_error_ = ec;
            if (--waits_ != 0) {
                error_code ignored;
                detail::lowest_layer(peer_->stream()).cancel(ignored);
                return;
            }
        }
        leave_queue();
    }

    /// While it waits for a slot its client has left, or has sent more than expected.
    void stirred() noexcept
    {
        {
            const std::lock_guard lock(mutex_);
            if (--waits_ != 0) {
                peer_end_ = detail::look_at_input(descriptor_).end;
                if (peer_end_) claim_.cancel();
                return;
            }
        }
        leave_queue();
    }

    void leave_queue() noexcept
    {
        step([&] {
            if (!peer_end_) peer_end_ = detail::look_at_input(descriptor_).end;
            if (peer_end_) return fail(close_reason::handshake_failed, peer_end_);
            if (!slot_) return fail(close_reason::handshake_failed, slot_error_);
            await_turn();
        });
    }

    /// Handshakes take turns, and handlers that are ready, of sessions that exist, run between two of their steps.
    void await_turn()
    {
        paced_executor<executor_type>(executor_).execute(
            [self = this->shared_from_this()] { self->step([&] { self->shake_hands(); }); });
    }

    void shake_hands()
    {
        limit_time(true);
        detail::set_receive_low_watermark(descriptor_, 1);
        set_descriptor(-1); // it may be closed meanwhile, by an exception
        layered_.emplace(upgrade(std::move(*peer_), [this](typename Connection::stream_type&& socket) {
            return owner_->factory_.make(std::move(socket));
        }));
        peer_.reset();
        set_descriptor(detail::lowest_layer(layered_->stream()).native_handle());
        owner_->factory_.async_handshake(layered_->stream(),
                                         net::bind_executor(paced_executor<executor_type>(executor_),
                                                            [self = this->shared_from_this()](const error_code& ec) {
                                                                self->step([&] { self->done(ec); });
                                                            }));
    }

    void set_descriptor(int descriptor) noexcept
    {
        const std::lock_guard lock(mutex_);
        descriptor_ = descriptor;
        if (expired_ && descriptor >= 0) detail::disconnect(descriptor);
    }

    void done(const error_code& ec)
    {
        const bool late = end_time_limit();
        slot_.release();
        if (late) return fail(close_reason::handshake_timeout, errc::handshake_timeout);
        if (ec) return fail(close_reason::handshake_failed, ec);
        if constexpr (requires { owner_->factory_.peer_name(layered_->stream()); })
            if (const auto name = owner_->factory_.peer_name(layered_->stream()); !name.empty())
                layered_->set_name(name);
        if (permit turn = owner_->turn_->try_take(1)) return start_session(turn);
        start_acquire(
            owner_->turn_, net::any_io_executor(executor_), 1,
            [self = this->shared_from_this()](const error_code&, const permit& turn) { self->start_session(turn); });
    }

    void start_session(const permit& /*turn*/) noexcept
    {
        try {
            layered session = std::move(*layered_);
            owner_->sessions_.start(reporter_, std::move(session), shard_, remote_);
        } catch (...) {
            reporter_->report({acceptor_event::kind::session_failed, {}, std::current_exception(), {}, 1, remote_});
        }
    }

    /// Ends the connection without a session.
    void fail(close_reason reason, const error_code& error) noexcept
    {
        end_time_limit();
        set_descriptor(-1);
        slot_.release();
        if (layered_) layered_->close(reason, error);
        if (peer_) peer_->close(reason, error);
        reporter_->report({acceptor_event::kind::handshake_failed, error, {}, {}, 1, remote_});
    }

    const std::shared_ptr<handshakes> owner_;
    const std::shared_ptr<event_reporter> reporter_;
    std::optional<Connection> peer_; // until it has its layer
    std::optional<layered> layered_;
    const executor_type executor_;
    net::basic_waitable_timer<clock, net::wait_traits<clock>, executor_type> timer_;
    semaphore_claim<synchronized> claim_; // on a slot
    const std::size_t shard_;
    const net::ip::tcp::endpoint remote_;
    permit slot_;
    error_code slot_error_;
    error_code peer_end_;     // seen in the queue
    std::size_t awaited_ = 1; // bytes
    int waits_ = 0;           // pending in the queue for a slot
    std::mutex mutex_;
    clock::time_point deadline_ = clock::time_point::max();
    clock::time_point wake_at_ = clock::time_point::max(); // the timer, while it is awaited
    int descriptor_;
    bool holds_slot_ = false;
    bool expired_ = false;
};

} // namespace holdfast::detail

#endif
