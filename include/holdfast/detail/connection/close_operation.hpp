// holdfast: async_close carried out: what the state machine decides, done with a socket and two timers.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_CLOSE_OPERATION_HPP
#define HOLDFAST_DETAIL_CONNECTION_CLOSE_OPERATION_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/as_terminal.hpp>
#include <holdfast/detail/async/context_shutdown.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/connection/close_machine.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast::detail {

/// What the operation and its watchdog share. The guard moves in, so that the caller's may be destroyed meanwhile.
/// It needs no strand: the watchdog may run on another thread, and only wakes the operation, by a system call under
/// the lock.
template <class Guard>
struct closing_connection {
    using clock = std::chrono::steady_clock;
    using timer = net::basic_waitable_timer<clock, net::wait_traits<clock>, typename Guard::executor_type>;

    closing_connection(Guard&& g, std::size_t drain_bytes, const error_code& noted)
        : guard(std::move(g)),
          watchdog(guard.get_executor()),
          pause(guard.get_executor()),
          machine(drain_bytes, closing_layer<typename Guard::stream_type>::exists, noted)
    {
    }

    closing_connection(const closing_connection&) = delete;

    /// The first cause of the end is this close, even when the execution context is destroyed before it is done.
    ~closing_connection() { guard.close(machine.reason()); }

    int descriptor() noexcept { return detail::lowest_layer(guard.stream()).native_handle(); }

    bool resets_at_close() noexcept
    {
        ::linger option{};
        ::socklen_t size = sizeof option;
        return ::getsockopt(descriptor(), SOL_SOCKET, SO_LINGER, &option, &size) == 0 && option.l_onoff != 0 &&
               option.l_linger == 0;
    }

    close_machine::reading peek() noexcept
    {
        char next = 0;
        return interpret(::recv(descriptor(), &next, 1, MSG_DONTWAIT | MSG_PEEK), true);
    }

    close_machine::reading read() noexcept
    {
        std::array<char, 4096> discarded;
        return interpret(::recv(descriptor(), discarded.data(), discarded.size(), MSG_DONTWAIT), false);
    }

    error_code end_sending() noexcept
    {
        if (::shutdown(descriptor(), SHUT_WR) == 0) return {};
        return {errno, net::error::get_system_category()};
    }

    /// The deadline has come: the operation that is pending wakes, and sees it.
    void expire() noexcept
    {
        const std::lock_guard lock(mutex);
        if (finished) return;
        expired = true;
        if (all_acknowledged(descriptor()))
            ::shutdown(descriptor(), SHUT_RDWR);
        else
            disconnect(descriptor());
    }

    bool has_expired() noexcept
    {
        const std::lock_guard lock(mutex);
        return expired;
    }

    /// Ends the guard; returns what the operation completes with.
    error_code finish(bool reset) noexcept
    {
        {
            const std::lock_guard lock(mutex);
            finished = true;
        }
        watchdog.cancel();
        if (reset && !all_acknowledged(descriptor())) reset_at_close(descriptor());
        guard.close(machine.reason(), machine.error());
        const bool from_elsewhere = guard.reason() != machine.reason() && guard.reason() != close_reason::drained;
        if (!machine.result() && from_elsewhere) return errc::close_incomplete;
        return machine.result();
    }

    void end_for_want_of_memory() noexcept
    {
        {
            const std::lock_guard lock(mutex);
            finished = true;
        }
        watchdog.cancel();
        guard.close(close_reason::out_of_memory, net::error::no_memory);
    }

    Guard guard;
    timer watchdog;
    timer pause;
    close_machine machine;
    std::mutex mutex;
    bool expired = false;
    bool finished = false;

private:
    close_machine::reading interpret(::ssize_t n, bool first) noexcept
    {
        using found = close_machine::found;
        if (n > 0) return {found::bytes, static_cast<std::size_t>(n), {}, true};
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return {found::nothing, 0, {}, all_acknowledged(descriptor())};
        if (n < 0) return {found::failed, 0, {errno, net::error::get_system_category()}, true};
        // Of a connection that the peer has reset, reads return the end of the stream after the first error.
        if (first && is_disconnected(descriptor())) return {found::failed, 0, net::error::not_connected, true};
        return {peer_has_ended(descriptor()) ? found::peer_end : found::own_end, 0, {}, all_acknowledged(descriptor())};
    }
};

/// The steps, for net::async_compose.
template <class Guard>
class close_operation {
public:
    close_operation(Guard& guard, std::chrono::steady_clock::duration deadline, std::size_t drain_bytes) noexcept
        : guard_(&guard), deadline_(deadline), drain_bytes_(drain_bytes)
    {
    }

    close_operation(close_operation&&) noexcept = default;

    /// Where an exception destroys the operation, memory is exhausted: only the watchdog still holds the connection.
    ~close_operation()
    {
        if (connection_ && !detail::context_is_ending(connection_->guard.get_executor()))
            connection_->end_for_want_of_memory();
    }

    /// Takes the connection over, unless it has ended. Called before the handler is given away: its destruction, where
    /// something throws, may destroy the guard. Where there is no memory, the connection has ended.
    void take_over()
    {
        if (!guard_->is_open()) return;
        try {
            // Not the handler's memory: the watchdog's completion may hold it for longer than the operation lasts.
            connection_ =
                std::make_shared<closing_connection<Guard>>(std::move(*guard_), drain_bytes_, guard_->noted_.get());
        } catch (const std::bad_alloc&) {
            guard_->abort(close_reason::out_of_memory, net::error::no_memory);
            throw;
        }
    }

    template <class Self>
    void operator()(Self& self, const error_code& = {})
    {
        switch (step_) {
        case step::start:
            start(self);
            return;
        case step::layer:
            proceed(self, [](close_machine& m) { return m.layer_is_down(); });
            return;
        case step::wait:
            proceed(self, [](close_machine& m) { return m.wait_ended(); });
            return;
        case step::finished:
            finish(self);
            return;
        }
    }

private:
    enum class step : unsigned char { start, layer, wait, finished };
    using action = close_machine::action;

    template <class Self>
    void start(Self& self)
    {
        if (!connection_) take_over();
        self.reset_cancellation_state(net::enable_total_cancellation(), as_terminal());
        Guard& guard = *std::exchange(guard_, nullptr);
        if (!connection_) return complete_later(self, guard.get_executor());
        const action first = connection_->machine.start(connection_->peek(), connection_->resets_at_close());
        guard.reason_ = connection_->machine.reason(); // what an empty one returns
        if (first != action::close) {
            using clock = std::chrono::steady_clock;
            const auto now = clock::now();
            connection_->watchdog.expires_at(
                now + std::clamp(deadline_, clock::duration::zero(), clock::time_point::max() - now));
            connection_->watchdog.async_wait([connection = connection_](const error_code& ec) {
                if (!ec) connection->expire();
            });
        }
        perform(self, first, true);
    }

    /// Goes on after an event, unless a limit was reached or the operation cancelled meanwhile.
    template <class Self, class Event>
    void proceed(Self& self, Event event)
    {
        close_machine& machine = connection_->machine;
        perform(self,
                connection_->has_expired()                                                  ? machine.expired()
                : self.get_cancellation_state().cancelled() != net::cancellation_type::none ? machine.cancelled()
                                                                                            : event(machine),
                false);
    }

    template <class Self>
    void perform(Self& self, action next, bool initiating)
    {
        closing_connection<Guard>& c = *connection_;
        for (;;) {
            switch (next) {
            case action::shut_layer_down:
                return shut_layer_down(self);
            case action::end_sending:
                next = c.machine.sending_ended(c.end_sending());
                break;
            case action::read:
                next = c.machine.read(c.read());
                break;
            case action::wait_readable:
                step_ = step::wait;
                detail::lowest_layer(c.guard.stream()).async_wait(net::socket_base::wait_read, std::move(self));
                return;
            case action::wait_briefly:
                step_ = step::wait;
                c.pause.expires_after(polling_interval);
                c.pause.async_wait(std::move(self));
                return;
            case action::close:
            case action::reset:
                resets_ = next == action::reset;
                if (initiating) return complete_later(self, c.guard.get_executor());
                return finish(self);
            }
        }
    }

    template <class Self>
    void shut_layer_down(Self& self)
    {
        using layer = closing_layer<typename Guard::stream_type>;
        step_ = step::layer;
        if constexpr (layer::exists) {
            auto& top = layer::of(connection_->guard.stream());
            const auto executor = connection_->guard.get_executor();
            top.async_shutdown(never_immediate(executor, std::move(self)));
        }
    }

    /// `self` as the handler of a step that may complete at once: without the immediate executor of the user's handler,
    /// which would complete the whole operation inside the initiating function.
    template <class Executor, class Self>
    static decltype(auto) never_immediate([[maybe_unused]] const Executor& executor, Self&& self)
    {
#if defined(HOLDFAST_HAS_IMMEDIATE_EXECUTORS)
        if constexpr (net::can_require_v<Executor, decltype(net::execution::blocking.never)>)
            return net::bind_immediate_executor(net::require(executor, net::execution::blocking.never),
                                                std::forward<Self>(self));
        else
#endif
            return std::forward<Self>(self);
    }

    /// Completing now would be inside the initiating function.
    template <class Self, class Executor>
    void complete_later(Self& self, const Executor& executor)
    {
        step_ = step::finished;
        execute_later(executor, std::move(self));
    }

    template <class Self>
    void finish(Self& self)
    {
        error_code result;
        if (const auto connection = std::move(connection_)) result = connection->finish(resets_);
        self.complete(result);
    }

    static constexpr std::chrono::milliseconds polling_interval{10};

    Guard* guard_;
    std::chrono::steady_clock::duration deadline_;
    std::size_t drain_bytes_;
    std::shared_ptr<closing_connection<Guard>> connection_;
    step step_ = step::start;
    bool resets_ = false;
};

} // namespace holdfast::detail

#endif
