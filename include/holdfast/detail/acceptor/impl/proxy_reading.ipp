// holdfast: the bodies of proxy_reading.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_PROXY_READING_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_PROXY_READING_IPP

#include <holdfast/detail/acceptor/proxy_reading.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include <sys/socket.h>

namespace holdfast::detail {

HOLDFAST_DECL proxied_sessions::proxied_sessions(const std::shared_ptr<event_reporter>& reporter,
                                                 std::shared_ptr<proxy_gate> gate)
    : gate_(std::move(gate)),
      turn_(new semaphore_core<synchronized>(1, SIZE_MAX)),
      of_sender_([reporter](const acceptor_event& event) {
          const bool health_check = event.what == acceptor_event::kind::handshake_failed &&
                                    report_failed_session::is_departure(reason_of(event.error));
          if (!health_check) reporter->report(event);
      })
{
}

HOLDFAST_DECL proxy_reading::proxy_reading(std::shared_ptr<proxied_sessions> owner,
                                           const net::any_io_executor& executor,
                                           std::shared_ptr<event_reporter> reporter, std::size_t shard,
                                           const net::ip::tcp::endpoint& remote, int descriptor)
    : timed_steps(executor, std::move(reporter), shard, remote, descriptor),
      owner_(std::move(owner)),
      parser_(owner_->gate_->options.max_header_bytes)
{
}

HOLDFAST_DECL proxy_reading::~proxy_reading() { leave(); }

HOLDFAST_DECL std::shared_ptr<proxy_reading> proxy_reading::self()
{
    return std::static_pointer_cast<proxy_reading>(shared_from_this());
}

HOLDFAST_DECL void proxy_reading::start()
{
    proxy_gate& gate = *owner_->gate_;
    if (gate.pending >= gate.options.max_pending_headers) return reject(admission_limit::proxy_headers);
    counted_ = true;
    ++gate.pending;
    net::dispatch(executor_, [self = self()] { self->read(); });
}

/// Reads what has come of the header, and not a byte more: where it ends is known before it is taken.
HOLDFAST_DECL void proxy_reading::read() noexcept
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

HOLDFAST_DECL void proxy_reading::wait()
{
    if (!std::exchange(timed_, true)) limit_time(owner_->gate_->header_timeout);
    await_input();
}

HOLDFAST_DECL void proxy_reading::wait_readable(net::ip::tcp::socket& socket)
{
    socket.async_wait(net::socket_base::wait_read, readable{self()});
}

HOLDFAST_DECL void proxy_reading::resume(const error_code& ec) noexcept
{
    if (!ec || expired()) return read();
    lost(ec);
}

HOLDFAST_DECL void proxy_reading::finish()
{
    if (end_time_limit()) return fail(close_reason::handshake_timeout, errc::proxy_header_timeout);
    end();
    const proxy_header& header = parser_.header();
    if (!header.source || *header.source == remote_) {
        reporter_ = {owner_, &owner_->of_sender_};
    } else {
        remote_ = *header.source;
        if (const auto checked = learn_peer(remote_); checked != address_verdict::what::allowed)
            return reject(checked == address_verdict::what::full ? admission_limit::per_address
                                                                 : admission_limit::address_filter);
    }
    start_in_turn(owner_->turn_);
}

HOLDFAST_DECL void proxy_reading::reject(admission_limit limit) noexcept
{
    ++owner_->gate_->rejected;
    abort();
    reporter_->report({acceptor_event::kind::rejected, {}, {}, limit, 1, remote_});
}

/// The connection has ended before its header. Without a byte of it that is how a sender looks whether the port is
/// open.
HOLDFAST_DECL void proxy_reading::lost(const error_code& error) noexcept
{
    if (parser_.begun()) return fail(close_reason::handshake_failed, error);
    end();
    close(reason_of(error), error);
}

HOLDFAST_DECL void proxy_reading::fail(close_reason reason, const error_code& error) noexcept
{
    end();
    close(reason, error);
    reporter_->report({acceptor_event::kind::proxy_header_failed, error, {}, {}, 1, remote_});
}

/// From now on the time limit does nothing, and another header may be awaited.
HOLDFAST_DECL void proxy_reading::end() noexcept
{
    end_time_limit();
    set_descriptor(-1);
    leave();
}

HOLDFAST_DECL void proxy_reading::leave() noexcept
{
    if (std::exchange(counted_, false)) --owner_->gate_->pending;
}

} // namespace holdfast::detail

#endif
