// holdfast: outbox_group, a list of outboxes that receive the same messages.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_GROUP_HPP
#define HOLDFAST_OUTBOX_GROUP_HPP

#include <holdfast/outbox.hpp>

#include <cstddef>
#include <utility>

namespace holdfast {

/// A list of outboxes, of any streams, that receive the same messages: the subscribers of a topic, the members of a
/// chat room. Each receiver holds a `member`; it can be a member of several groups.
///
/// An outbox that refuses a message is removed from the group: it has missed a message, or its connection has ended. A
/// session that continues (`overflow_policy::wait`) finds its member false, sends the current state, and joins again.
///
/// Members may join and leave during a push, also because a push ends their connection, and the group itself may be
/// destroyed. A member that joins during a push does not receive that message; one that leaves before its turn does
/// not either.
///
/// Thread safety: it belongs to the thread or strand of its outboxes. With several threads, each has a group of its
/// own, and a message is posted once to each.
/// Cost: allocates nothing.
///
///     holdfast::outbox outbox{peer};
///     holdfast::outbox_group::member member{topic, outbox};
///     topic.push(holdfast::payload("hello\n"));
class outbox_group {
public:
    /// Membership of an outbox in a group, until it is destroyed. Move-only.
    ///
    /// Lifetime: the outbox must outlive it, so declare it after the outbox. The group may be destroyed before.
    class [[nodiscard]] member {
    public:
        /// Makes a member of no group.
        member() noexcept = default;
        /// Joins the group. Cost: O(1).
        member(outbox_group& group, outbox_base& outbox) noexcept : outbox_(&outbox) { group.link(*this); }
        member(member&& other) noexcept : outbox_(other.outbox_) { take_place_of(other); }
        member& operator=(member&& other) noexcept
        {
            if (this != &other) {
                leave();
                outbox_ = other.outbox_;
                take_place_of(other);
            }
            return *this;
        }
        ~member() { leave(); }

        /// Leaves the group. Has no effect if it is in none.
        void leave() noexcept
        {
            if (group_ != nullptr) group_->unlink(*this);
        }

        /// Returns whether it is in a group.
        explicit operator bool() const noexcept { return group_ != nullptr; }

    private:
        friend outbox_group;

        void take_place_of(member& other) noexcept
        {
            if (other.group_ != nullptr) other.group_->replace(other, *this);
        }

        outbox_base* outbox_ = nullptr;
        outbox_group* group_ = nullptr;
        member* next_ = nullptr;
        member* previous_ = nullptr;
    };

    outbox_group() noexcept = default;
    outbox_group(const outbox_group&) = delete;
    outbox_group& operator=(const outbox_group&) = delete;

    /// Removes all members.
    ~outbox_group()
    {
        while (first_ != nullptr)
            unlink(*first_);
        for (iteration* each = iterations_; each != nullptr; each = each->outer)
            each->group = nullptr;
    }

    /// Returns the number of members.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Pushes the message to all members, and removes those that refuse it. Returns the number of those that queue it.
    ///
    /// Cost: one reference of 16 bytes in each queue; no copy.
    std::size_t push(const payload& message) noexcept
    {
        return push_to_all([&](outbox_base& outbox) noexcept { return outbox.push(message); });
    }

    /// The same for the newest value of a key.
    std::size_t push(const payload& message, conflate key) noexcept
    {
        return push_to_all([&](outbox_base& outbox) noexcept { return outbox.push(message, key); });
    }

    /// Calls `f(outbox_base&)` for each member. `f` may add and remove members, and destroy the group.
    template <class F>
    void for_each(F f)
    {
        iteration here(*this);
        while (member* const each = here.next) {
            here.advance(each);
            f(*each->outbox_);
        }
    }

private:
    /// An iteration over the members. The group updates it when a member leaves.
    struct iteration {
        outbox_group* group;
        member* next;
        member* current = nullptr; // null once it has left
        iteration* outer;

        // Not inlined, or g++ 12 warns of a dangling pointer to the stack.
        [[gnu::noinline]] explicit iteration(outbox_group& of) noexcept
            : group(&of), next(of.first_), outer(of.iterations_)
        {
            of.iterations_ = this;
        }
        iteration(const iteration&) = delete;
        void advance(member* to) noexcept
        {
            current = to;
            next = to->next_;
        }
        ~iteration()
        {
            if (group != nullptr) group->iterations_ = outer;
        }
    };

    template <class Push>
    std::size_t push_to_all(Push push) noexcept
    {
        std::size_t taken = 0;
        iteration here(*this);
        while (member* const each = here.next) {
            here.advance(each);
            if (!push(*each->outbox_))
                ++taken;
            else if (here.current != nullptr)
                here.current->leave();
        }
        return taken;
    }

    /// At the front, where an iteration that is under way has passed already.
    void link(member& m) noexcept
    {
        m.group_ = this;
        m.previous_ = nullptr;
        m.next_ = first_;
        if (first_ != nullptr) first_->previous_ = &m;
        first_ = &m;
        ++size_;
    }

    void unlink(member& m) noexcept
    {
        for (iteration* each = iterations_; each != nullptr; each = each->outer) {
            if (each->next == &m) each->next = m.next_;
            if (each->current == &m) each->current = nullptr;
        }
        (m.previous_ != nullptr ? m.previous_->next_ : first_) = m.next_;
        if (m.next_ != nullptr) m.next_->previous_ = m.previous_;
        m.group_ = nullptr;
        --size_;
    }

    void replace(member& old, member& by) noexcept
    {
        for (iteration* each = iterations_; each != nullptr; each = each->outer) {
            if (each->next == &old) each->next = &by;
            if (each->current == &old) each->current = &by;
        }
        by.group_ = std::exchange(old.group_, nullptr);
        by.next_ = old.next_;
        by.previous_ = old.previous_;
        (by.previous_ != nullptr ? by.previous_->next_ : first_) = &by;
        if (by.next_ != nullptr) by.next_->previous_ = &by;
    }

    member* first_ = nullptr;
    std::size_t size_ = 0;
    iteration* iterations_ = nullptr;
};

} // namespace holdfast

#endif
