// holdfast: the bodies of connection_guard. Its header includes this one.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_CONNECTION_GUARD_IMPL_HPP
#define HOLDFAST_DETAIL_CONNECTION_CONNECTION_GUARD_IMPL_HPP

namespace holdfast {

template <class Stream, connection_finalizer Finalizer>
connection_guard<Stream, Finalizer>::connection_guard(Stream stream, Finalizer finalizer,
                                                      std::source_location where) noexcept(holder::makes_noexcept)
    : stream_(std::in_place, [&]() -> Stream { return std::move(stream); }),
      finalizer_(std::move(finalizer)),
      tracked_(where)
{
    detail::expect_context_shutdown(get_executor());
}

template <class Stream, connection_finalizer Finalizer>
connection_guard<Stream, Finalizer>::connection_guard(connection_guard&& other) noexcept(holder::moves_noexcept)
    : stream_(std::move(other.stream_)),
      created_at_(other.created_at_),
      noted_(other.noted_),
      reason_(other.reason_),
      live_(other.take_live()),
      within_message_(other.within_message_),
      holds_bytes_(other.holds_bytes_),
      finalizer_(std::move(other.finalizer_)),
      tracked_(std::move(other.tracked_))
{
}

template <class Stream, connection_finalizer Finalizer>
connection_guard<Stream, Finalizer>&
connection_guard<Stream, Finalizer>::operator=(connection_guard&& other) noexcept(holder::moves_noexcept)
    requires holder::assigns && std::is_nothrow_move_assignable_v<Finalizer>
{
    if (this == &other) return *this;
    connection_guard replaced(std::move(*this));
    stream_ = std::move(other.stream_);
    created_at_ = other.created_at_;
    noted_ = other.noted_;
    reason_ = other.reason_;
    live_ = other.take_live();
    within_message_ = other.within_message_;
    holds_bytes_ = other.holds_bytes_;
    finalizer_ = std::move(other.finalizer_);
    tracked_ = std::move(other.tracked_);
    replaced.close(close_reason::replaced); // the last step: its finalizer may destroy this guard
    return *this;
}

template <class Stream, connection_finalizer Finalizer>
connection_guard<Stream, Finalizer>::connection_guard(ended_t, Stream stream,
                                                      Finalizer finalizer) noexcept(holder::makes_noexcept)
    : stream_(std::in_place, [&]() -> Stream { return std::move(stream); }),
      live_(false),
      finalizer_(std::move(finalizer)),
      tracked_(std::source_location())
{
    tracked_.end();
}

template <class Stream, connection_finalizer Finalizer>
template <class Below, class Make>
connection_guard<Stream, Finalizer>::connection_guard(layered_t, connection_guard<Below, Finalizer>& below, Make&& make)
    : stream_(make_layer(below, std::forward<Make>(make))),
      created_at_(below.created_at_),
      noted_(below.noted_),
      reason_(below.reason_),
      live_(below.take_live()),
      within_message_(below.within_message_),
      finalizer_(std::move(below.finalizer_)),
      tracked_(std::move(below.tracked_))
{
    if constexpr (requires { finalizer_.resume(0); })
        if (live_) finalizer_.resume(descriptor());
}

/// While the socket moves it may be closed by an exception: the registry must not use its number then.
template <class Stream, connection_finalizer Finalizer>
template <class Below, class Make>
auto connection_guard<Stream, Finalizer>::make_layer(connection_guard<Below, Finalizer>& below, Make&& make) -> holder
{
    if constexpr (requires { below.finalizer_.suspend(); })
        if (below.live_) below.finalizer_.suspend();
    try {
        if (below.holds_bytes_) throw system_error(error_code(errc::bytes_before_layer));
        return holder(std::in_place, [&]() -> Stream { return make(std::move(below.stream())); });
    } catch (...) {
        const connection_end end = end_by(std::current_exception());
        below.close(end.reason, end.error);
        throw;
    }
}

template <class Stream, connection_finalizer Finalizer>
Stream connection_guard<Stream, Finalizer>::release_unbounded()
{
    if (!live_) return std::move(stream_.get());
    const connection_end last = begin_end(close_reason::released, {}); // reads the peer's address from the stream
    Stream released = std::move(stream_.get());
    finish_end(last); // it may destroy this guard
    return released;
}

template <class Stream, connection_finalizer Finalizer>
connection_end connection_guard<Stream, Finalizer>::begin_end(close_reason reason, const error_code& error) noexcept
{
    live_ = false;
    connection_end last{reason, error, {}, {}};
    if constexpr (requires { finalizer_.before_close(last); }) {
        finalizer_.before_close(last);
    } else {
        last.age = age();
        if constexpr (!std::is_same_v<Finalizer, no_finalizer>) last.peer = peer_address::of_socket(descriptor());
    }
    reason_ = last.reason;
    return last;
}

template <class Stream, connection_finalizer Finalizer>
void connection_guard<Stream, Finalizer>::finish_end(const connection_end& last) noexcept
{
    tracked_.end();
    Finalizer finalize = std::move(finalizer_); // it may destroy this guard, and goes on after that
    finalize(last);
}

template <class Stream, connection_finalizer Finalizer>
void connection_guard<Stream, Finalizer>::end(close_reason reason, const error_code& error, ending how) noexcept
{
    if (!live_) return;
    const connection_end last = begin_end(reason, error);
    if (how == ending::reset) {
        detail::reset_at_close(descriptor());
    } else if (how == ending::orderly) {
        if constexpr (requires { finalizer_.prepare_close(0); })
            finalizer_.prepare_close(descriptor());
        else
            detail::prepare_close(descriptor());
    }
    error_code ignored; // the descriptor is closed afterwards, whatever close() returns
    detail::lowest_layer(stream_.get()).close(ignored);
    finish_end(last);
}

template <class Stream, connection_finalizer Finalizer>
void connection_guard<Stream, Finalizer>::close_unnamed() noexcept
{
    const bool unwinding = std::uncaught_exceptions() > 0;
    if (detail::context_is_ending(get_executor()))
        close(close_reason::context_destroyed);
    else if (const error_code noted = noted_.get(); noted && (unwinding || noted != net::error::operation_aborted))
        close(reason_of(noted), noted);
    else if (!unwinding)
        close(close_reason::abandoned);
    else if (const error_code found = end_of_stream())
        end(reason_of(found), found, found == net::error::not_connected ? ending::disconnected : ending::orderly);
    else
        close(close_reason::exception);
}

namespace detail {

struct upgrade_access {
    template <class Stream, class Finalizer>
    static connection_guard<Stream, Finalizer>& guard_of(connection_guard<Stream, Finalizer>& guard) noexcept
    {
        return guard;
    }

    /// Of a connection_guard; an admitted_connection has its own.
    template <class Layer, class Stream, class Finalizer, class Make>
    static auto upgrade(connection_guard<Stream, Finalizer>& peer, Make&& make)
    {
        using guard = connection_guard<Layer, Finalizer>;
        return guard(typename guard::layered_t{}, peer, std::forward<Make>(make));
    }

    template <class Layer, class Guard, class Make>
        requires requires { typename Guard::template rebind_stream<Layer>; }
    static auto upgrade(Guard& peer, Make&& make)
    {
        using guard = typename Guard::template rebind_stream<Layer>;
        return guard(typename guard::layered_t{}, guard_of(peer), std::forward<Make>(make));
    }
};

} // namespace detail

template <class Layer, class Guard, class... Args>
    requires(!std::is_lvalue_reference_v<Guard>)
auto upgrade(Guard&& peer, Args&&... args)
{
    return detail::upgrade_access::upgrade<Layer>(peer, [&](typename Guard::stream_type&& stream) -> Layer {
        return Layer(std::move(stream), std::forward<Args>(args)...);
    });
}

template <class Guard, class Make>
    requires(!std::is_lvalue_reference_v<Guard>) && std::invocable<Make&, typename Guard::stream_type&&>
auto upgrade(Guard&& peer, Make&& make)
{
    using layer = std::invoke_result_t<Make&, typename Guard::stream_type&&>;
    return detail::upgrade_access::upgrade<layer>(peer, make);
}

} // namespace holdfast

#endif
