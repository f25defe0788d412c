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
#include <holdfast/detail/acceptor/timed_steps.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/paced_executor.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/unread_input.hpp>
#include <holdfast/error.hpp>
#include <holdfast/layer_factory.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
    handshakes(std::shared_ptr<event_reporter> reporter, std::shared_ptr<registry> members,
               const handshake_options& options, Factory factory, Handler handler)
        : members_(std::move(members)),
          factory_(std::move(factory)),
          sessions_(std::move(reporter), std::move(handler)),
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

    /// Counts one handshake.
    class count {
    public:
        explicit count(registry& members) noexcept : members_(&members) { members_->begin_handshake(); }
        count(const count&) = delete;
        ~count() { end(false); }

        /// Only the first call counts.
        void end(bool completed) noexcept
        {
            if (registry* const members = std::exchange(members_, nullptr)) members->end_handshake(completed);
        }

    private:
        registry* members_; // of the handshakes
    };

    // It outlives each of the execution contexts that its connections have: it holds no executor and no wait. A
    // connection that waits does so on its own executor, and goes with that one's context.
    const std::shared_ptr<registry> members_;
    Factory factory_;
    session_caller<layered, Handler> sessions_;
    const std::chrono::steady_clock::duration time_limit_, contended_limit_;
    const counted_ptr<semaphore> slots_;
    const counted_ptr<semaphore> turn_; // sessions start one at a time
};

/// One connection, from its admission until its session starts or it has ended.
template <class Connection, class Factory, class Handler>
class handshakes<Connection, Factory, Handler>::handshake final : public timed_steps {
public:
    handshake(std::shared_ptr<handshakes> owner, std::shared_ptr<event_reporter> reporter, Connection&& peer,
              std::size_t shard, const net::ip::tcp::endpoint& remote)
        : timed_steps(peer.get_executor(), std::move(reporter), shard, remote,
                      detail::lowest_layer(peer.stream()).native_handle()),
          owner_(std::move(owner)),
          count_(*owner_->members_),
          peer_(std::move(peer)),
          claim_(owner_->slots_)
    {
    }

    void start() noexcept
    {
        step([this] {
            if constexpr (client_begins<Factory>) {
                limit_time(owner_->time_limit_);
                wait_for_bytes(1);
            } else {
                take_slot();
            }
        });
    }

private:
    [[nodiscard]] std::shared_ptr<handshake> self()
    {
        return std::static_pointer_cast<handshake>(this->shared_from_this());
    }

    /// One that holds a slot has less time while others wait for one, unless its client has answered and this side is
    /// late.
    [[nodiscard]] bool contended() const noexcept override
    {
        return owner_->slots_->waiting() != 0 && !detail::has_unread_input(descriptor_);
    }

    /// Waits until so many bytes can be read at once, or the connection has ended. The kernel counts them: a client
    /// that sends them one by one does not wake this, and bytes that stay unread cause no further wake.
    void wait_for_bytes(std::size_t size)
    {
        if (size != awaited_) detail::set_receive_low_watermark(descriptor_, size);
        awaited_ = size;
        detail::lowest_layer(peer_->stream())
            .async_wait(net::socket_base::wait_read, [self = self()](const error_code& ec) { self->readable(ec); });
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
                const auto now = detail::poll_input(descriptor_);
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
        claim_.async_acquire(
            executor_, 1, [self = self()](const error_code& ec, permit slot) { self->granted(ec, std::move(slot)); });
        waits_ = 1;
        try {
            detail::lowest_layer(peer_->stream())
                .async_wait(net::socket_base::wait_read, [self = self()](const error_code&) { self->input_changed(); });
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
    void input_changed() noexcept
    {
        {
            const std::lock_guard lock(mutex_);
            if (--waits_ != 0) {
                peer_end_ = detail::poll_input(descriptor_).end;
                if (peer_end_) claim_.cancel();
                return;
            }
        }
        leave_queue();
    }

    void leave_queue() noexcept
    {
        step([&] {
            if (!peer_end_) peer_end_ = detail::poll_input(descriptor_).end;
            if (peer_end_) return fail(close_reason::handshake_failed, peer_end_);
            if (!slot_) return fail(close_reason::handshake_failed, slot_error_);
            await_turn();
        });
    }

    /// Handshakes take turns, and handlers that are ready, of sessions that exist, run between two of their steps.
    void await_turn()
    {
        paced_executor<net::any_io_executor>(executor_).execute(
            [self = self()] { self->step([&] { self->shake_hands(); }); });
    }

    void shake_hands()
    {
        limit_time(owner_->time_limit_, owner_->contended_limit_);
        detail::set_receive_low_watermark(descriptor_, 1);
        set_descriptor(-1); // it may be closed meanwhile, by an exception
        layered_.emplace(upgrade(std::move(*peer_), [this](typename Connection::stream_type&& socket) {
            return owner_->factory_.make(std::move(socket));
        }));
        peer_.reset();
        set_descriptor(detail::lowest_layer(layered_->stream()).native_handle());
        owner_->factory_.async_handshake(
            layered_->stream(),
            net::bind_executor(paced_executor<net::any_io_executor>(executor_),
                               [self = self()](const error_code& ec) { self->step([&] { self->done(ec); }); }));
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
        count_.end(true);
        start_in_turn(owner_->turn_);
    }

    void start_session() override
    {
        layered session = std::move(*layered_);
        owner_->sessions_.start(std::move(session), shard_, remote_);
    }

    void fail(close_reason reason, const error_code& error) noexcept override
    {
        end_time_limit();
        set_descriptor(-1);
        slot_.release();
        count_.end(false);
        if (layered_) layered_->close(reason, error);
        if (peer_) peer_->close(reason, error);
        reporter_->report({acceptor_event::kind::handshake_failed, error, {}, {}, 1, remote_});
    }

    const std::shared_ptr<handshakes> owner_;
    count count_;
    std::optional<Connection> peer_; // until it has its layer
    std::optional<layered> layered_;
    semaphore_claim<synchronized> claim_; // on a slot
    permit slot_;
    error_code slot_error_;
    error_code peer_end_;     // seen in the queue
    std::size_t awaited_ = 1; // bytes
    int waits_ = 0;           // pending in the queue for a slot
};

} // namespace holdfast::detail

#endif
