// holdfast: reads the PROXY header of each admitted connection before its session or its handshake begins.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_PROXIED_STARTER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_PROXIED_STARTER_HPP

#include <holdfast/acceptor_event.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/proxy_gate.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/error.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <cerrno>
#include <sys/socket.h>

namespace holdfast::detail {

/// Starts another starter's sessions, those of the acceptor's `async_serve`, once their header was read.
template <class Connection>
class proxied_starter final : public session_starter<Connection>,
                              public std::enable_shared_from_this<proxied_starter<Connection>> {
    using base = session_starter<Connection>;

public:
    proxied_starter(std::shared_ptr<event_reporter> reporter, std::shared_ptr<proxy_gate> gate,
                    std::shared_ptr<base> sessions)
        : base(reporter),
          gate_(std::move(gate)),
          sessions_(std::move(sessions)),
          turn_(new semaphore(1, SIZE_MAX)),
          of_sender_([reporter = std::move(reporter)](const acceptor_event& event) {
              const bool health_check = event.what == acceptor_event::kind::handshake_failed &&
                                        report_failed_session::is_departure(reason_of(event.error));
              if (!health_check) reporter->report(event);
          })
    {
    }

    void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote) override
    {
        if (gate_->pending >= gate_->options.max_pending_headers)
            return reject(reporter, peer, admission_limit::proxy_headers, remote);
        const auto executor = peer.get_executor();
        auto one = std::make_shared<reading>(this->shared_from_this(), reporter, std::move(peer), shard, remote);
        net::dispatch(executor, [one = std::move(one)] { one->read(); });
    }

private:
    class reading;
    using semaphore = semaphore_core<synchronized>;

    void reject(const std::shared_ptr<event_reporter>& reporter, Connection& peer, admission_limit limit,
                const net::ip::tcp::endpoint& remote) noexcept
    {
        ++gate_->rejected;
        peer.abort(close_reason::refused);
        reporter->report({acceptor_event::kind::rejected, {}, {}, limit, 1, remote});
    }

    // It outlives each of the execution contexts that its connections have: it holds no executor and no wait.
    const std::shared_ptr<proxy_gate> gate_;
    const std::shared_ptr<base> sessions_;
    const counted_ptr<semaphore> turn_; // sessions start one at a time
    event_reporter of_sender_;          // of its own connections
};

/// One connection, from its admission until its header was read or it has ended. Its steps run one after another on the
/// connection's executor; the time limit may run beside them, and only wakes them, by a system call.
template <class Connection>
class proxied_starter<Connection>::reading : public std::enable_shared_from_this<reading> {
    using clock = std::chrono::steady_clock;
    using executor_type = typename Connection::executor_type;

public:
    reading(std::shared_ptr<proxied_starter> owner, std::shared_ptr<event_reporter> reporter, Connection&& peer,
            std::size_t shard, const net::ip::tcp::endpoint& remote)
        : owner_(std::move(owner)),
          reporter_(std::move(reporter)),
          peer_(std::move(peer)),
          executor_(peer_->get_executor()),
          timer_(executor_),
          shard_(shard),
          remote_(remote),
          descriptor_(peer_->stream().native_handle()),
          parser_(owner_->gate_->options.max_header_bytes)
    {
        ++owner_->gate_->pending;
    }

    reading(const reading&) = delete;

    ~reading() { leave(); }

    /// Reads what has come of the header, and not a byte more: where it ends is known before it is taken.
    void read() noexcept
    {
        step([this] {
            std::array<char, 512> bytes; // NOLINT(*-member-init): recv() fills it
            for (;;) {
                if (expired()) return fail(close_reason::handshake_timeout, errc::proxy_header_timeout);
                const auto n = ::recv(descriptor_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_PEEK);
                if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return wait();
                if (n < 0 && errno == EINTR) continue;
                if (n < 0) return lost(error_code(errno, net::error::get_system_category()));
                if (n == 0) return lost(net::error::eof);
                const auto size = static_cast<std::size_t>(n);
                const std::size_t used = parser_.parse({bytes.data(), size});
                if (::recv(descriptor_, bytes.data(), used, MSG_DONTWAIT) != static_cast<::ssize_t>(used))
                    return lost(net::error::eof); // a drain has ended the reading meanwhile
                if (parser_.failed()) return fail(close_reason::handshake_failed, errc::malformed_proxy_header);
                if (parser_.done()) return finish();
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

    void wait()
    {
        if (!std::exchange(timed_, true)) limit_time();
        peer_->stream().async_wait(net::socket_base::wait_read,
                                   [self = this->shared_from_this()](const error_code& ec) {
                                       if (!ec || self->expired()) return self->read();
                                       self->step([&] { self->lost(ec); });
                                   });
    }

    void limit_time()
    {
        const auto now = clock::now();
        const auto limit = owner_->gate_->header_timeout;
        if (limit >= clock::time_point::max() - now) return;
        timer_.expires_at(now + limit);
        timer_.async_wait([self = this->shared_from_this()](const error_code& ec) {
            if (!ec) self->expire();
        });
    }

    void expire() noexcept
    {
        const std::lock_guard lock(mutex_);
        expired_ = true;
        if (descriptor_ >= 0) detail::disconnect(descriptor_);
    }

    [[nodiscard]] bool expired() noexcept
    {
        const std::lock_guard lock(mutex_);
        return expired_;
    }

    /// From now on the time limit does nothing. Returns whether it had come before.
    bool end_time_limit() noexcept
    {
        if (timed_) timer_.cancel();
        const std::lock_guard lock(mutex_);
        descriptor_ = -1;
        return expired_;
    }

    void leave() noexcept
    {
        if (std::exchange(counted_, false)) --owner_->gate_->pending;
    }

    /// The connection has ended before its header. Without a byte of it that is how a sender looks whether the port is
    /// open.
    void lost(const error_code& error) noexcept
    {
        if (parser_.begun()) return fail(close_reason::handshake_failed, error);
        end_time_limit();
        leave();
        peer_->close(reason_of(error), error);
    }

    /// Ends the connection without a session.
    void fail(close_reason reason, const error_code& error) noexcept
    {
        end_time_limit();
        leave();
        if (!peer_) return;
        peer_->close(reason, error);
        reporter_->report({acceptor_event::kind::proxy_header_failed, error, {}, {}, 1, remote_});
    }

    void finish()
    {
        if (end_time_limit()) return fail(close_reason::handshake_timeout, errc::proxy_header_timeout);
        leave();
        const proxy_header& header = parser_.header();
        if (!header.source || *header.source == remote_) {
            reporter_ = {owner_, &owner_->of_sender_};
        } else {
            remote_ = *header.source;
            if (const auto checked = peer_->learn_peer(remote_); checked != address_verdict::what::allowed)
                return owner_->reject(reporter_, *peer_,
                                      checked == address_verdict::what::full ? admission_limit::per_address
                                                                             : admission_limit::address_filter,
                                      remote_);
        }
        if (permit turn = owner_->turn_->try_take(1)) return start_session(turn);
        start_acquire(
            owner_->turn_, net::any_io_executor(executor_), 1,
            [self = this->shared_from_this()](const error_code&, const permit& turn) { self->start_session(turn); });
    }

    void start_session(const permit& /*turn*/) noexcept
    {
        try {
            Connection peer = std::move(*peer_);
            peer_.reset();
            owner_->sessions_->start(reporter_, std::move(peer), shard_, remote_);
        } catch (...) {
            reporter_->report({acceptor_event::kind::session_failed, {}, std::current_exception(), {}, 1, remote_});
        }
    }

    const std::shared_ptr<proxied_starter> owner_;
    std::shared_ptr<event_reporter> reporter_;
    std::optional<Connection> peer_; // until its session begins
    const executor_type executor_;
    net::basic_waitable_timer<clock, net::wait_traits<clock>, executor_type> timer_;
    const std::size_t shard_;
    net::ip::tcp::endpoint remote_; // the sender, then its client
    std::mutex mutex_;
    int descriptor_; // -1 once the time limit must not use it
    bool expired_ = false;
    bool timed_ = false;
    bool counted_ = true;
    proxy_header_parser parser_;
};

} // namespace holdfast::detail

#endif
