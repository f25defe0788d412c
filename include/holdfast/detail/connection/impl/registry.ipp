// holdfast: the bodies of registry.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_IMPL_REGISTRY_IPP
#define HOLDFAST_DETAIL_CONNECTION_IMPL_REGISTRY_IPP

#include <holdfast/detail/connection/lingering_sockets.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

namespace holdfast::detail {

HOLDFAST_DECL registry::registry(counted_ptr<semaphore_core<synchronized>> semaphore, std::size_t expected,
                                 std::size_t max_per_address)
    : addresses(max_per_address, expected),
      semaphore_(std::move(semaphore)),
      sockets_(semaphore_->shared<socket_bound>())
{
    nodes_.reserve(std::min<std::size_t>(expected, 1U << 20U)); // address space only, until used
}

HOLDFAST_DECL registry::index registry::enter(int descriptor, permit& unit, const peer_address& peer)
{
    const auto now = clock::now();
    const std::size_t limit = semaphore_->limit();
    const std::lock_guard lock(mutex_);
    index place = free_;
    if (place == nowhere) {
        place = static_cast<index>(nodes_.size());
        nodes_.emplace_back();
    } else {
        free_ = nodes_[place].next_free();
    }
    node& n = nodes_[place];
    n = node{.since = now, .descriptor = descriptor, .generation = n.generation + 1, .peer = peer, .live = true};
    if (live_ == 0) self_ = shared_from_this();
    units_.merge(unit);
    peak_ = std::max(peak_, ++live_);
    sockets_->enter(limit, now);
    return place;
}

HOLDFAST_DECL registry::ending registry::disarm(index place, close_reason cause) noexcept
{
    const std::lock_guard lock(mutex_);
    node& n = nodes_[place];
    n.descriptor = closed;
    if (n.cause != close_reason::none)
        cause = n.cause;
    else if (n.notified &&
             (cause == close_reason::local || cause == close_reason::abandoned || cause == close_reason::peer_closed ||
              cause == close_reason::peer_truncated || cause == close_reason::handshake_failed))
        cause = close_reason::drained;
    n.cause = cause;
    return {n.since, cause, n.peer, name_of(place)};
}

HOLDFAST_DECL void registry::prepare_close(int descriptor) noexcept
{
    if (!detail::prepare_close(descriptor) || !detail::is_tcp_without_unread(descriptor)) return;
    if (!sockets_->keep(descriptor)) detail::reset_at_close(descriptor);
}

HOLDFAST_DECL bool registry::drop_lingering() noexcept { return sockets_->drop_oldest(); }

HOLDFAST_DECL void registry::set_name(index place, const connection_name& name)
{
    const std::lock_guard lock(mutex_);
    names_[place] = name;
}

HOLDFAST_DECL void registry::resume(index place, int descriptor) noexcept
{
    const std::lock_guard lock(mutex_);
    node& n = nodes_[place];
    n.descriptor = descriptor;
    if (n.cause != close_reason::none)
        disconnect(descriptor);
    else if (n.notified)
        end_reading(n);
}

HOLDFAST_DECL void registry::leave(index place) noexcept
{
    std::shared_ptr<registry> last; // released outside of the lock, like the unit
    permit freed;
    const std::lock_guard lock(mutex_);
    node& n = nodes_[place];
    ++ended_[static_cast<std::size_t>(n.cause)];
    n.live = false;
    if (!names_.empty()) names_.erase(place);
    n.next_free(std::exchange(free_, place));
    ++departures_;
    ++changes_;
    wake_waits();
    freed = units_.split(1);
    sockets_->leave();
    if (--live_ == 0) last = std::move(self_);
}

HOLDFAST_DECL std::optional<std::size_t> registry::notify(std::size_t cursor, std::size_t limit,
                                                          bool finish_frames) noexcept
{
    const std::lock_guard lock(mutex_);
    for (; cursor < nodes_.size() && limit != 0; ++cursor) {
        node& n = nodes_[cursor];
        if (!n.live || n.notified) continue;
        n.notified = true;
        n.postponed = finish_frames && n.within_message;
        end_reading(n);
        --limit;
    }
    return cursor < nodes_.size() ? std::optional(cursor) : std::nullopt;
}

HOLDFAST_DECL std::size_t registry::shed(std::size_t limit) noexcept
{
    const std::lock_guard lock(mutex_);
    std::size_t notified = 0;
    for (std::size_t left = nodes_.size(); left != 0 && notified != limit; --left) {
        if (shed_cursor_ >= nodes_.size()) shed_cursor_ = 0;
        node& n = nodes_[shed_cursor_++];
        if (!n.live || n.notified) continue;
        n.notified = true;
        end_reading(n);
        ++notified;
    }
    return notified;
}

HOLDFAST_DECL bool registry::end(id which, close_reason cause) noexcept
{
    const std::lock_guard lock(mutex_);
    const auto place = static_cast<std::size_t>(which & nowhere);
    if (place >= nodes_.size()) return false;
    node& n = nodes_[place];
    return n.live && n.generation == which >> 32U && abort(n, cause);
}

HOLDFAST_DECL std::size_t registry::abort_all() noexcept
{
    const std::lock_guard lock(mutex_);
    std::size_t aborted = 0;
    for (node& n : nodes_) {
        if (!n.live || !abort(n, close_reason::drain_deadline)) continue;
        n.notified = true;
        ++aborted;
    }
    return aborted;
}

HOLDFAST_DECL void registry::within_message(index place, bool within) noexcept
{
    const std::lock_guard lock(mutex_);
    node& n = nodes_[place];
    n.within_message = within;
    if (within || !n.postponed) return;
    n.postponed = false;
    end_reading(n);
}

HOLDFAST_DECL std::size_t registry::list(std::size_t& cursor, std::span<member> page) const noexcept
{
    const std::lock_guard lock(mutex_);
    std::size_t listed = 0;
    for (; cursor < nodes_.size() && listed != page.size(); ++cursor) {
        const node& n = nodes_[cursor];
        if (n.live && n.descriptor >= 0) page[listed++] = describe(cursor, n);
    }
    return listed;
}

HOLDFAST_DECL registry::departure_wait::departure_wait(registry& members, const net::any_io_executor& executor)
    : members_(members), timer_(executor)
{
    const std::lock_guard lock(members_.mutex_);
    next_ = members_.waits_;
    if (next_ != nullptr) next_->previous_ = this;
    members_.waits_ = this;
}

HOLDFAST_DECL registry::departure_wait::~departure_wait()
{
    const std::lock_guard lock(members_.mutex_);
    (previous_ != nullptr ? previous_->next_ : members_.waits_) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
}

HOLDFAST_DECL void registry::departure_wait::cancel() noexcept
{
    const std::lock_guard lock(members_.mutex_);
    timer_.cancel();
}

HOLDFAST_DECL void registry::wake_waits() noexcept
{
    for (departure_wait* each = waits_; each != nullptr; each = each->next_)
        each->timer_.cancel();
}

HOLDFAST_DECL std::optional<registry::clock::time_point> registry::oldest() const noexcept
{
    const std::lock_guard lock(mutex_);
    std::optional<clock::time_point> first;
    for (const node& n : nodes_)
        if (n.live && (!first || n.since < *first)) first = n.since;
    return first;
}

HOLDFAST_DECL connection_name registry::name_of(index place) const noexcept
{
    if (names_.empty()) return {};
    const auto found = names_.find(place);
    return found == names_.end() ? connection_name() : found->second;
}

HOLDFAST_DECL registry::member registry::describe(std::size_t place, const node& n) const noexcept
{
    return {id(n.generation) << 32U | place, n.since, n.notified,
            bytes_of(n.descriptor),          n.peer,  name_of(static_cast<index>(place))};
}

} // namespace holdfast::detail

#endif
