// holdfast: one write on any stream, which raises no signal.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_WRITE_SOME_HPP
#define HOLDFAST_DETAIL_OUTBOX_WRITE_SOME_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/execute_later.hpp>

#include <array>
#include <cerrno>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

namespace holdfast::detail {

/// Keeps SIGPIPE from the calling thread while it writes to a pipe: the default action would end the process.
/// (Sockets have MSG_NOSIGNAL; writes to other descriptors have nothing like it before Linux 6.18.)
class sigpipe_blocker {
public:
    sigpipe_blocker() noexcept
    {
        ::sigset_t pending;
        ::sigemptyset(&pipe_);
        ::sigaddset(&pipe_, SIGPIPE);
        ::sigpending(&pending);
        was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
        if (!was_pending_) ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    sigpipe_blocker(const sigpipe_blocker&) = delete;

    /// Discards the signal of a write that failed with EPIPE.
    void discard() noexcept
    {
        if (was_pending_) return; // it is blocked, and stays pending
        const ::timespec at_once{};
        while (::sigtimedwait(&pipe_, nullptr, &at_once) == -1 && errno == EINTR) {
        }
    }

    ~sigpipe_blocker()
    {
        if (!was_pending_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    ::sigset_t pipe_, before_;
    bool was_pending_;
};

/// A socket itself, on which a write needs nothing but the system's call. (A class derived from one may do more.)
template <class Stream>
inline constexpr bool is_stream_socket = false;
template <class Protocol, class Executor>
inline constexpr bool is_stream_socket<net::basic_stream_socket<Protocol, Executor>> = true;

/// One system call: a part alone is cheaper without a msghdr. Not inlined, so that send_now() is.
[[gnu::noinline]] inline ::ssize_t send_parts(int socket, ::iovec* parts, std::size_t count) noexcept
{
    constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (count == 1) return ::send(socket, parts->iov_base, parts->iov_len, flags);
    ::msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    return ::sendmsg(socket, &message, flags);
}

/// Sends what the socket takes at once, whether it is in non-blocking mode or not.
template <class Buffers>
std::size_t send_now(int socket, const Buffers& buffers, error_code& ec) noexcept
{
    std::array<::iovec, 64> parts; // as many as Asio sends at once
    std::size_t count = 0;
    for (auto each = buffers.begin(); each != buffers.end() && count != parts.size(); ++each) {
        const net::const_buffer part(*each);
        parts[count++] = {const_cast<void*>(part.data()), part.size()};
    }
    ::ssize_t n = 0;
    do
        n = send_parts(socket, parts.data(), count);
    while (n < 0 && errno == EINTR);
    ec = n < 0 ? error_code(errno, net::error::get_system_category()) : error_code();
    return n < 0 ? 0 : static_cast<std::size_t>(n);
}

/// Writes what the descriptor takes at once.
template <class Buffers>
std::size_t write_now(int descriptor, const Buffers& buffers, error_code& ec) noexcept
{
    std::array<::iovec, 64> parts; // as many as Asio writes at once
    std::size_t count = 0;
    for (auto each = net::buffer_sequence_begin(buffers);
         each != net::buffer_sequence_end(buffers) && count != parts.size(); ++each) {
        const net::const_buffer part(*each);
        parts[count++] = {const_cast<void*>(part.data()), part.size()};
    }
    sigpipe_blocker blocker;
    ::ssize_t n = 0;
    do
        n = ::writev(descriptor, parts.data(), static_cast<int>(count));
    while (n < 0 && errno == EINTR);
    ec = n < 0 ? error_code(errno, net::error::get_system_category()) : error_code();
    if (n < 0 && errno == EPIPE) blocker.discard();
    return n < 0 ? 0 : static_cast<std::size_t>(n);
}

/// A write on a `posix::stream_descriptor`: Asio's own raises SIGPIPE, on whichever thread runs the context.
template <class Descriptor, class Buffers, class Handler>
class descriptor_write {
public:
    using executor_type = net::associated_executor_t<Handler, typename Descriptor::executor_type>;
    using allocator_type = net::associated_allocator_t<Handler>;
    using cancellation_slot_type = net::associated_cancellation_slot_t<Handler>;

    descriptor_write(Descriptor& to, const Buffers& buffers, Handler&& handler)
        : to_(&to), executor_(to.get_executor()), buffers_(buffers), handler_(std::move(handler))
    {
    }

    executor_type get_executor() const noexcept { return net::get_associated_executor(handler_, executor_); }
    allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler_); }
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return net::get_associated_cancellation_slot(handler_);
    }

    /// The first step, inside the initiating function.
    void start()
    {
        if (!to_->native_non_blocking()) to_->native_non_blocking(true, result_);
        if (!result_) written_ = detail::write_now(to_->native_handle(), buffers_, result_);
        if (result_ == net::error::would_block || result_ == net::error::try_again) return wait();
        auto executor = executor_;
        execute_later(executor, std::move(*this));
    }

    /// After the wait. Where it failed, or the handler's owner is gone, the descriptor may have been destroyed.
    void operator()(const error_code& ec)
    {
        result_ = ec;
        if constexpr (requires { handler_.abandoned(); })
            if (handler_.abandoned()) result_ = net::error::operation_aborted;
        if (!result_) written_ = detail::write_now(to_->native_handle(), buffers_, result_);
        if (result_ == net::error::would_block || result_ == net::error::try_again) return wait();
        (*this)();
    }

    void operator()() { std::move(handler_)(result_, written_); }

private:
    void wait()
    {
        result_ = {};
        to_->async_wait(net::posix::descriptor_base::wait_write, std::move(*this));
    }

    Descriptor* to_;
    typename Descriptor::executor_type executor_;
    Buffers buffers_;
    Handler handler_;
    error_code result_{};
    std::size_t written_ = 0;
};

/// `stream.async_write_some(buffers, handler)`, for a handler `void(error_code, std::size_t)`.
template <class Stream, class Buffers, class Handler>
void write_some(Stream& stream, const Buffers& buffers, Handler handler)
{
#if defined(ASIO_HAS_POSIX_STREAM_DESCRIPTOR) || defined(BOOST_ASIO_HAS_POSIX_STREAM_DESCRIPTOR)
    if constexpr (std::derived_from<Stream, net::posix::descriptor_base>) {
        descriptor_write<Stream, Buffers, Handler>(stream, buffers, std::move(handler)).start();
        return;
    } else
#endif
        stream.async_write_some(buffers, std::move(handler));
}

} // namespace holdfast::detail

#endif
