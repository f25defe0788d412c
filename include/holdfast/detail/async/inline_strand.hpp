// holdfast: a strand that needs no memory.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_INLINE_STRAND_HPP
#define HOLDFAST_DETAIL_ASYNC_INLINE_STRAND_HPP

#include <memory>
#include <mutex>
#include <utility>

namespace holdfast::detail {

/// Runs tasks one after the other: in the thread that brings the first one, who also runs those that others
/// bring meanwhile. A task that brings another runs it afterwards, never inside itself.
///
/// Not `net::strand`, which allocates each time it is entered: without memory what was to be done is lost,
/// and where that shows between queueing and scheduling, Asio 1.22's never runs again. Here a task is a
/// member of the object that it belongs to.
class inline_strand {
public:
    class task {
    public:
        task() noexcept = default;
        task(const task&) = delete;
        virtual void run() noexcept = 0;

    protected:
        ~task() = default;

    private:
        friend class inline_strand;
        task* next_ = nullptr;
        std::shared_ptr<void> keep_;
        bool queued_ = false;
    };

    /// A task that calls `(object.*member)()`.
    template <class Object, void (Object::*member)() noexcept>
    class member_task final : public task {
    public:
        explicit member_task(Object& object) noexcept : object_(object) {}
        void run() noexcept override { (object_.*member)(); }

    private:
        Object& object_;
    };

    inline_strand() noexcept = default;
    inline_strand(const inline_strand&) = delete;

    /// Has it run, now or soon; a task that is queued already runs once. `keep`, which keeps the strand alive
    /// as well, is held until it has run, and let go without the lock: it may be the last of its owners.
    void run(task& t, std::shared_ptr<void> keep) noexcept
    {
        std::unique_lock lock(mutex_);
        if (std::exchange(t.queued_, true)) return;
        t.keep_ = keep; // a copy: this call, too, needs the strand to its end
        (last_ != nullptr ? last_->next_ : first_) = &t;
        last_ = &t;
        if (std::exchange(running_, true)) return;
        while (first_ != nullptr) {
            task& next = *first_;
            first_ = std::exchange(next.next_, nullptr);
            if (first_ == nullptr) last_ = nullptr;
            next.queued_ = false;
            auto kept = std::move(next.keep_);
            lock.unlock();
            next.run();
            kept.reset();
            lock.lock();
        }
        running_ = false;
    }

private:
    std::mutex mutex_;
    task* first_ = nullptr;
    task* last_ = nullptr;
    bool running_ = false;
};

} // namespace holdfast::detail

#endif
