// holdfast: where a guard keeps its stream, so that operations that are pending may outlive the guard.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_STREAM_HOLDER_HPP
#define HOLDFAST_DETAIL_CONNECTION_STREAM_HOLDER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>

#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// Whether operations may outlive a stream: a socket's state is the reactor's, a layer above it is referred to unless
/// it says otherwise.
template <class Stream>
inline constexpr bool operations_outlive = requires { requires Stream::operations_may_outlive; };
template <class Protocol, class Executor>
inline constexpr bool operations_outlive<net::basic_stream_socket<Protocol, Executor>> = true;

/// Of a socket: in the guard itself.
template <class Stream>
class stream_holder {
public:
    /// Keeps nothing: nothing is needed.
    struct keeper {};

    template <class Make>
    stream_holder(std::in_place_t, Make&& make) : stream_(std::forward<Make>(make)())
    {
    }

    [[nodiscard]] Stream& get() noexcept { return stream_; }
    [[nodiscard]] const Stream& get() const noexcept { return stream_; }
    [[nodiscard]] keeper keep() noexcept { return {}; }

    static constexpr bool makes_noexcept = std::is_nothrow_move_constructible_v<Stream>;
    static constexpr bool moves_noexcept = std::is_nothrow_move_constructible_v<Stream>;
    static constexpr bool assigns = std::is_move_assignable_v<Stream>;

private:
    Stream stream_;
};

/// Of a layered stream: in a block that it shares with pending operations. A guard that was moved from keeps its
/// share, for its executor.
template <class Stream>
    requires(!operations_outlive<Stream>)
class stream_holder<Stream> {
    struct block {
        template <class Make>
        explicit block(Make&& make) : stream(std::forward<Make>(make)())
        {
        }

        void destroy() noexcept { delete this; }

        synchronized::count owners;
        Stream stream;
    };

public:
    using keeper = counted_ptr<block>;

    template <class Make>
    stream_holder(std::in_place_t, Make&& make) : block_(new block(std::forward<Make>(make)))
    {
    }

    stream_holder(const stream_holder&) noexcept = default;
    stream_holder& operator=(const stream_holder&) noexcept = default;

    [[nodiscard]] Stream& get() noexcept { return block_->stream; }
    [[nodiscard]] const Stream& get() const noexcept { return block_->stream; }
    [[nodiscard]] keeper keep() noexcept { return block_; }

    static constexpr bool makes_noexcept = false;
    static constexpr bool moves_noexcept = true;
    static constexpr bool assigns = true;

private:
    keeper block_;
};

} // namespace holdfast::detail

#endif
