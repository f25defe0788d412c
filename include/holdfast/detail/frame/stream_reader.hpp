// holdfast: what the readers have in common: their stream, what is notified, and the buffer.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_STREAM_READER_HPP
#define HOLDFAST_DETAIL_FRAME_STREAM_READER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/unread_input.hpp>
#include <holdfast/detail/frame/next_frame.hpp>
#include <holdfast/error.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/read_rate.hpp>

#include <new>
#include <type_traits>
#include <utility>

#include <sys/socket.h>

namespace holdfast::detail {

/// The stream of a reader's peer, which is a stream or a guard of one.
template <class Peer>
using read_stream_of = std::remove_reference_t<decltype(detail::readable_stream(std::declval<Peer&>()))>;

template <class Peer, class Buffer>
class stream_reader {
public:
    using stream_type = read_stream_of<Peer>;

    template <class... Args>
    stream_reader(Peer& peer, const holdfast::progress& progress, read_rate* rate, Args&&... buffer)
        : peer_(peer), progress_(progress), rate_(rate), buffer_(std::forward<Args>(buffer)...)
    {
    }

    [[nodiscard]] stream_type& stream() const noexcept { return detail::readable_stream(peer_); }

    /// Whether the peer has its connection, as far as its type can say.
    [[nodiscard]] bool is_open() const noexcept
    {
        if constexpr (requires { peer_.is_open(); })
            return peer_.is_open();
        else
            return true;
    }

    /// Notes an error on the guard, if there is one.
    void note(const error_code& error) noexcept
    {
        if constexpr (requires { peer_.note(error); })
            peer_.note(error);
        else
            static_cast<void>(error);
    }

    /// Notes on an acceptor's connection whether a frame has begun, which a drain may let finish.
    void note_frame(bool begun) noexcept
    {
        if constexpr (requires { peer_.within_message(begun); })
            peer_.within_message(begun);
        else
            static_cast<void>(begun);
    }

    /// Notes on a guard whether bytes were received and not handed out, which `upgrade()` refuses.
    void note_buffered() noexcept
    {
        if constexpr (requires { peer_.note_buffered(true); }) peer_.note_buffered(!buffer_.empty());
    }

    /// Notes and times the frame that has begun, since the reader waits within it.
    error_code time_frame() noexcept
    {
        if (!buffer_.empty()) note_frame(true);
        note_buffered(); // now: where memory runs out the operation is destroyed, and its completion is not called
        if (!buffer_.timed() || buffer_.empty()) return {};
        if constexpr (detail::has_socket<stream_type>) {
            using socket_type = std::remove_reference_t<decltype(detail::lowest_layer(stream()))>;
            try {
                buffer_.time(&detail::lowest_layer(stream()), [](void* socket) noexcept {
                    ::shutdown(static_cast<socket_type*>(socket)->native_handle(), SHUT_RD);
                });
            } catch (const std::bad_alloc&) {
                return net::error::no_memory;
            }
        }
        return {};
    }

    /// Whether the rate limit has the reading pause. Not where it would only delay the end.
    [[nodiscard]] bool must_pause()
    {
        if (rate_ == nullptr || rate_->disconnects() || !rate_->exceeded()) return false;
        if constexpr (requires { peer_.draining(); })
            if (peer_.draining()) return false;
        if constexpr (detail::has_socket<stream_type>)
            return !detail::has_hung_up(detail::lowest_layer(stream()).native_handle());
        else
            return true;
    }

    Peer& peer_;
    progress progress_;
    read_rate* rate_;
    Buffer buffer_;
};

} // namespace holdfast::detail

#endif
