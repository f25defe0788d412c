// holdfast: an executor for expensive steps: one a turn of the event loop, after the handlers that are ready.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ASYNC_PACED_EXECUTOR_HPP
#define HOLDFAST_DETAIL_ASYNC_PACED_EXECUTOR_HPP

#include <holdfast/asio.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The expensive steps that wait in an execution context, in order. The first of them is posted twice, one post after
/// the other has run: between the two the event loop runs the handlers that it has found ready, and after the second one
/// it looks for ready ones at once, before the step. The next step is posted when a step begins, so that several threads
/// of one context carry out several steps.
class paced_steps final : public net::execution_context::service {
public:
    using key_type = paced_steps;
    static inline net::execution_context::id id;

    explicit paced_steps(net::execution_context& context) : service(context) {}
    paced_steps(const paced_steps&) = delete;

    /// Takes a step, and carries it out in a later turn of `executor`, a part of the context.
    template <class Executor, class Function>
    void add(const Executor& executor, Function&& function)
    {
        auto added =
            std::make_unique<step_of<Executor, std::decay_t<Function>>>(executor, std::forward<Function>(function));
        step* first = nullptr;
        {
            const std::lock_guard lock(mutex_);
            if (ended_) return;
            if (first_ == nullptr)
                first = first_ = added.release();
            else
                last_->next = added.release();
            last_ = first != nullptr ? first : last_->next;
        }
        if (first != nullptr && !post(*first, &paced_steps::once_more)) carry_out();
    }

private:
    using turn = void (paced_steps::*)();

    struct step {
        virtual ~step() = default;
        virtual void post(paced_steps& steps, turn then) = 0;
        virtual void run() = 0;
        step* next = nullptr;
    };

    template <class Executor, class Function>
    struct step_of final : step {
        template <class F>
        step_of(const Executor& e, F&& f) : executor(e), function(std::forward<F>(f))
        {
        }
        void post(paced_steps& steps, turn then) override
        {
            net::post(executor, [&steps, then] { (steps.*then)(); });
        }
        void run() override { std::move(function)(); }

        const Executor executor;
        Function function;
    };

    ~paced_steps() override { destroy_all(); }
    void shutdown() noexcept override { destroy_all(); }

    void destroy_all() noexcept
    {
        step* all;
        {
            const std::lock_guard lock(mutex_);
            ended_ = true;
            all = std::exchange(first_, nullptr);
        }
        while (all != nullptr)
            delete std::exchange(all, all->next);
    }

    /// False without memory.
    bool post(step& of, turn then) noexcept
    {
        try {
            of.post(*this, then);
            return true;
        } catch (const std::exception&) {
            return false;
        }
    }

    void once_more()
    {
        step* first;
        {
            const std::lock_guard lock(mutex_);
            first = first_;
        }
        if (!post(*first, &paced_steps::carry_out)) carry_out();
    }

    /// The first step; others only where they cannot be posted.
    void carry_out()
    {
        for (bool posted = false; !posted;) {
            std::unique_ptr<step> current;
            step* following;
            {
                const std::lock_guard lock(mutex_);
                current.reset(std::exchange(first_, first_->next));
                following = first_;
            }
            posted = following == nullptr || post(*following, &paced_steps::once_more);
            current->run();
        }
    }

    std::mutex mutex_;
    step* first_ = nullptr; // has been posted, or is about to be
    step* last_ = nullptr;
    bool ended_ = false;
};

/// Carries out what it is given in turn with the context's other expensive steps. Never inside `execute()`.
template <class Executor>
class paced_executor {
public:
    // A template, so that copying it does not try to convert it to the executor that it is made of.
    template <std::same_as<Executor> E>
    explicit paced_executor(const E& executor)
        : executor_(executor), steps_(&net::use_service<paced_steps>(net::query(executor, net::execution::context)))
    {
    }

    template <class Function>
    void execute(Function&& function) const
    {
        steps_->add(executor_, std::forward<Function>(function));
    }

    [[nodiscard]] net::execution_context& query(net::execution::context_t) const noexcept { return steps_->context(); }
    [[nodiscard]] static constexpr net::execution::blocking_t query(net::execution::blocking_t) noexcept
    {
        return net::execution::blocking.never;
    }
    [[nodiscard]] paced_executor require(net::execution::blocking_t::never_t) const noexcept { return *this; }

    friend bool operator==(const paced_executor& a, const paced_executor& b) noexcept
    {
        return a.executor_ == b.executor_;
    }
    friend bool operator!=(const paced_executor& a, const paced_executor& b) noexcept { return !(a == b); }

private:
    Executor executor_;
    paced_steps* steps_;
};

} // namespace holdfast::detail

#endif
