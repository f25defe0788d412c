// holdfast: a doubly linked list of objects that carry their own links.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_INTRUSIVE_LIST_HPP
#define HOLDFAST_DETAIL_ASYNC_INTRUSIVE_LIST_HPP

namespace holdfast::detail {

template <class T>
class intrusive_list;

/// The links of an object that is in at most one list at a time. Unlinking needs no reference to the list.
class list_hook {
public:
    list_hook() noexcept = default;
    list_hook(const list_hook&) = delete;
    list_hook& operator=(const list_hook&) = delete;
    ~list_hook() { unlink(); }

    [[nodiscard]] bool linked() const noexcept { return next_ != nullptr; }

    /// Leaves the list, if it is in one.
    void unlink() noexcept
    {
        if (next_ == nullptr) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        next_ = previous_ = nullptr;
    }

private:
    template <class T>
    friend class intrusive_list;

    list_hook* next_ = nullptr;
    list_hook* previous_ = nullptr;
};

/// A list of objects whose type derives from list_hook. It owns none of them.
template <class T>
class intrusive_list {
public:
    intrusive_list() noexcept { ends_.next_ = ends_.previous_ = &ends_; }
    intrusive_list(const intrusive_list&) = delete;
    intrusive_list& operator=(const intrusive_list&) = delete;
    ~intrusive_list()
    {
        while (!empty())
            front().unlink();
        ends_.next_ = ends_.previous_ = nullptr; // linked to itself alone
    }

    [[nodiscard]] bool empty() const noexcept { return ends_.next_ == &ends_; }

    /// Precondition: it is not empty.
    [[nodiscard]] T& front() const noexcept { return static_cast<T&>(*ends_.next_); }

    void push_back(T& object) noexcept
    {
        list_hook& hook = object;
        hook.previous_ = ends_.previous_;
        hook.next_ = &ends_;
        ends_.previous_->next_ = &hook;
        ends_.previous_ = &hook;
    }

    /// Appends all objects of the other list, which is empty afterwards.
    void splice_back(intrusive_list& other) noexcept
    {
        if (other.empty()) return;
        other.ends_.next_->previous_ = ends_.previous_;
        ends_.previous_->next_ = other.ends_.next_;
        other.ends_.previous_->next_ = &ends_;
        ends_.previous_ = other.ends_.previous_;
        other.ends_.next_ = other.ends_.previous_ = &other.ends_;
    }

    /// Calls `visit` with each object, which may leave the list meanwhile.
    template <class Visit>
    void for_each(Visit visit)
    {
        for (list_hook* each = ends_.next_; each != &ends_;) {
            list_hook& current = *each;
            each = each->next_;
            visit(static_cast<T&>(current));
        }
    }

private:
    list_hook ends_; // before the first, and after the last
};

} // namespace holdfast::detail

#endif
