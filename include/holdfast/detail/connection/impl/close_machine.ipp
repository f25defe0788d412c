// holdfast: the decisions of async_close.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_IMPL_CLOSE_MACHINE_IPP
#define HOLDFAST_DETAIL_CONNECTION_IMPL_CLOSE_MACHINE_IPP

#include <holdfast/connection_end.hpp>
#include <holdfast/detail/connection/close_machine.hpp>
#include <holdfast/error.hpp>

#include <cstddef>

namespace holdfast::detail {

HOLDFAST_DECL close_machine::close_machine(std::size_t drain_bytes, bool has_layer_shutdown,
                                           const error_code& noted) noexcept
    : bytes_left_(drain_bytes), has_layer_shutdown_(has_layer_shutdown)
{
    // An operation that was cancelled is no cause: the session went on, and closes now.
    if (!noted || noted == net::error::operation_aborted) return;
    noted_ = true;
    error_ = noted;
    reason_ = reason_of(noted);
}

HOLDFAST_DECL close_machine::action close_machine::start(const reading& peeked, bool resets) noexcept
{
    if (resets) return finish(action::close, errc::close_incomplete);
    if (peeked.what == found::failed) return lost(peeked.error);
    if (peeked.what == found::peer_end && !noted_) reason_ = close_reason::peer_closed;
    own_end_ = peeked.what == found::own_end;
    return has_layer_shutdown_ ? action::shut_layer_down : layer_is_down();
}

HOLDFAST_DECL close_machine::action close_machine::sending_ended(const error_code& error) noexcept
{
    if (error) return lost(error);
    ended_sending_ = true;
    return own_end_ ? action::wait_briefly : action::wait_readable;
}

HOLDFAST_DECL close_machine::action close_machine::read(const reading& r) noexcept
{
    switch (r.what) {
    case found::bytes:
        if (r.bytes > bytes_left_) return expired();
        bytes_left_ -= r.bytes;
        return action::read;
    case found::nothing:
        return own_end_ ? poll(r.acknowledged) : action::wait_readable;
    case found::own_end:
        own_end_ = true;
        return poll(r.acknowledged);
    case found::peer_end:
        if (r.acknowledged && ended_sending_) return finish(action::close, {});
        return poll(r.acknowledged);
    case found::failed:
        break;
    }
    return lost(r.error);
}

HOLDFAST_DECL close_machine::action close_machine::expired() noexcept
{
    return finish(action::reset, errc::close_incomplete);
}

HOLDFAST_DECL close_machine::action close_machine::cancelled() noexcept
{
    return finish(action::reset, net::error::operation_aborted);
}

HOLDFAST_DECL close_machine::action close_machine::finish(action last, const error_code& result) noexcept
{
    result_ = result;
    return last;
}

HOLDFAST_DECL close_machine::action close_machine::poll(bool acknowledged) noexcept
{
    return acknowledged && !ended_sending_ ? action::end_sending : action::wait_briefly;
}

HOLDFAST_DECL close_machine::action close_machine::lost(const error_code& error) noexcept
{
    if (!noted_) {
        error_ = error;
        if (!ended_sending_ && !own_end_) reason_ = reason_of(error);
    }
    return finish(action::close, reason_of(error) == close_reason::peer_reset ? error_code() : error);
}

} // namespace holdfast::detail

#endif
