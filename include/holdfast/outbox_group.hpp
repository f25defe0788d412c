// holdfast: outbox_group, receivers of the same messages.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_GROUP_HPP
#define HOLDFAST_OUTBOX_GROUP_HPP

#include <holdfast/outbox.hpp>

#include <cstddef>
#include <utility>

namespace holdfast {

/// A list of outboxes, of whatever streams, that get the same messages: a topic, a room, everybody. It
/// allocates nothing: each receiver holds a `member`, and as many as it likes of different groups.
///
/// A receiver that refuses a message has missed one, or has ended: it leaves the group. Where it lives on
/// (`overflow_policy::wait`) its session sees that (`if (!here)`), brings it up to date and lets it in again.
///
/// Receivers may come and go while a message goes round, by the end of their connection for one, and so may
/// the group. Who comes meanwhile does not get that message; who goes before its turn does not either.
///
/// Thread safety: it belongs to the thread or strand of its outboxes. Where there are several, each has a
/// group of its own, and a message is posted once to each.
///
///     holdfast::outbox box{peer};
///     holdfast::outbox_group::member here{room, box};
///     room.push(holdfast::payload("hello\n"));
class outbox_group {
public:
    /// A place in a group, for as long as it lives. The outbox must outlive it: make it behind that one.
    class member {
    public:
        /// In no group.
        member() noexcept = default;
        member(outbox_group& group, outbox_base& box) noexcept : box_(&box) { group.link(*this); }
        member(member&& other) noexcept : box_(other.box_) { take_place_of(other); }
        member& operator=(member&& other) noexcept
        {
            if (this != &other) {
                leave();
                box_ = other.box_;
                take_place_of(other);
            }
            return *this;
        }
        ~member() { leave(); }

        /// Leaves the group; nothing happens where it is in none.
        void leave() noexcept
        {
            if (group_ != nullptr) group_->unlink(*this);
        }

        /// Whether it is in a group.
        explicit operator bool() const noexcept { return group_ != nullptr; }

    private:
        friend outbox_group;

        void take_place_of(member& other) noexcept
        {
            if (other.group_ != nullptr) other.group_->replace(other, *this);
        }

        outbox_base* box_ = nullptr;
        outbox_group* group_ = nullptr;
        member* next_ = nullptr;
        member* previous_ = nullptr;
    };

    outbox_group() noexcept = default;
    outbox_group(const outbox_group&) = delete;
    outbox_group& operator=(const outbox_group&) = delete;

    /// Its members are in no group then.
    ~outbox_group()
    {
        while (first_ != nullptr)
            unlink(*first_);
        for (round* each = rounds_; each != nullptr; each = each->outer)
            each->group = nullptr;
    }

    /// How many members it has.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Pushes the message to all; how many of them took it. No allocation of its own, and no copy: 16 bytes
    /// in each queue.
    std::size_t push(const payload& message) noexcept
    {
        return push_to_all([&](outbox_base& box) noexcept { return box.push(message); });
    }

    /// The same for the newest value of a key.
    std::size_t push(const payload& message, conflate key) noexcept
    {
        return push_to_all([&](outbox_base& box) noexcept { return box.push(message, key); });
    }

    /// Calls `f(outbox_base&)` for each, whatever it does to the group and its members.
    template <class F>
    void for_each(F f)
    {
        round here(*this);
        while (member* const each = here.next) {
            here.advance(each);
            f(*each->box_);
        }
    }

private:
    /// One message that goes round. The group keeps it informed of who goes.
    struct round {
        outbox_group* group;
        member* next;
        member* current = nullptr; // null once it has gone
        round* outer;

        // Not inlined, or g++ 12 takes a round on the stack for one that is forgotten there.
        [[gnu::noinline]] explicit round(outbox_group& of) noexcept
            : group(&of), next(of.first_), outer(of.rounds_)
        {
            of.rounds_ = this;
        }
        round(const round&) = delete;
        void advance(member* to) noexcept
        {
            current = to;
            next = to->next_;
        }
        ~round()
        {
            if (group != nullptr) group->rounds_ = outer;
        }
    };

    template <class Push>
    std::size_t push_to_all(Push push) noexcept
    {
        std::size_t taken = 0;
        round here(*this);
        while (member* const each = here.next) {
            here.advance(each);
            if (!push(*each->box_))
                ++taken;
            else if (here.current != nullptr)
                here.current->leave();
        }
        return taken;
    }

    /// In front: a round on its way does not come there any more.
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
        for (round* each = rounds_; each != nullptr; each = each->outer) {
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
        for (round* each = rounds_; each != nullptr; each = each->outer) {
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
    round* rounds_ = nullptr;
};

} // namespace holdfast

#endif
