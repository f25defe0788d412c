// holdfast: how an acceptor's connections are told to end, and waited for.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_DRAIN_OPERATION_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_DRAIN_OPERATION_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/inline_strand.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/async/strand_operation.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace holdfast::detail {

/// Tells all connections of the owner's registry `members` that they are to end, some at a time; waits until
/// the last has, and aborts those that are left at the deadline.
template <class Owner>
class drain_operation : public strand_operation<Owner> {
public:
    using duration = std::chrono::steady_clock::duration;

    drain_operation(std::shared_ptr<Owner> owner, duration deadline, duration spread)
        : strand_operation<Owner>(std::move(owner)),
          deadline_(start_ + deadline),
          spread_(spread),
          pause_(this->owner().executor),
          departure_(*this->owner().members, this->owner().executor),
          proceed_(*this)
    {
    }

    /// Tells how many had to be aborted.
    template <class Handler>
    void deliver(Handler& handler)
    {
        handler(this->error(), aborted_);
    }

    void begin() noexcept override
    {
        this->owner().draining = true;
        this->owner().close();
        batches_ = std::max<std::size_t>(1, (members().live() + batch_size - 1) / batch_size);
        proceed();
    }

    void cancel() noexcept override
    {
        this->finish(net::error::operation_aborted);
        pause_.cancel();
        departure_.cancel();
    }

private:
    static constexpr std::size_t batch_size = 64; // connections told in one turn of the strand

    /// The handler of the one wait under way.
    struct resumption {
        using allocator_type = op_allocator<std::byte>;

        std::shared_ptr<drain_operation> self;
        op_storage* storage; // apart, since Asio asks for the allocator when it has moved it, too

        allocator_type get_allocator() const noexcept { return allocator_type(*storage); }
        void operator()(const error_code&)
        {
            drain_operation& o = *self;
            o.owner().strand.run(o.proceed_, std::move(self));
        }
    };

    resumption keep()
    {
        return {std::static_pointer_cast<drain_operation>(this->shared_from_this()), &storage_};
    }

    registry& members() const noexcept { return *this->owner().members; }

    void proceed() noexcept
    try {
        if (this->finished()) return;
        if (cursor_ && (cursor_ = members().notify(*cursor_, batch_size))) {
            pause_.expires_at(start_ + spread_ * static_cast<long>(std::min(++batch_, batches_)) /
                                           static_cast<long>(batches_));
            pause_.async_wait(keep());
            return;
        }
        const auto seen = members().departures();
        if (members().live() == 0) {
            this->finish({});
        } else if (std::chrono::steady_clock::now() >= deadline_) {
            aborted_ = members().abort_all();
            this->finish({});
        } else {
            departure_.async_wait(seen, deadline_, keep());
        }
    } catch (const std::bad_alloc&) {
        this->finish(net::error::no_memory);
    }

    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    const std::chrono::steady_clock::time_point deadline_;
    const duration spread_;
    std::size_t batch_ = 0;
    std::size_t batches_ = 1;
    std::optional<std::size_t> cursor_ = 0;
    std::size_t aborted_ = 0;
    op_storage storage_; // of the wait
    net::steady_timer pause_;
    registry::departure_wait departure_;
    inline_strand::member_task<drain_operation, &drain_operation::proceed> proceed_;
};

} // namespace holdfast::detail

#endif
