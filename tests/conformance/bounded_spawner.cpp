// holdfast: the operations of bounded_spawner in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/bounded_spawner.hpp>

#include <memory>

namespace {

namespace net = holdfast::net;
using holdfast::async_semaphore;
using holdfast::bounded_spawner;

/// What children wait for: a unit that comes when the permit is released.
struct gate {
    explicit gate(const net::any_io_executor& executor) : units(executor, 1) { closed = units.try_acquire(); }

    holdfast::permit closed;
    async_semaphore units;
};

net::awaitable<void> pass(std::shared_ptr<gate> through)
{
    const auto passed = co_await through->units.async_acquire();
}

/// A body whose child waits.
struct one_child {
    net::awaitable<void> operator()(bounded_spawner& children) const { co_await children.async_spawn(pass(way)); }

    std::shared_ptr<gate> way;
};

/// The whole operation.
struct with_spawner : conformance::operation {
    static constexpr bool uses_handler_allocator = false; // coroutine frames

    template <class Executor>
    struct object {
        explicit object(const Executor& ex) : executor(ex), way(std::make_shared<gate>(ex)) {}
        ~object() { way->units.close(); }

        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_with_spawner(executor, {.max_children = 2}, one_child{way},
                                                std::forward<Token>(token));
        }
        void complete() { way->closed.release(); }

        net::any_io_executor executor;
        std::shared_ptr<gate> way;
    };
};

/// The same on the handler's executor.
struct with_own_spawner : conformance::operation {
    static constexpr bool uses_handler_allocator = false;
    static constexpr bool on_handler_executor = true;
    static constexpr bool names_executor = false;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : way(std::make_shared<gate>(executor)) {}
        ~object() { way->units.close(); }

        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_with_spawner({.max_children = 2}, one_child{way}, std::forward<Token>(token));
        }
        void complete() { way->closed.release(); }

        std::shared_ptr<gate> way;
    };
};

/// A spawn that waits for a slot.
struct spawn : conformance::operation {
    static constexpr bool object_may_go = false; // body and children keep the spawner

    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
            : child_may_end(std::make_shared<gate>(executor)), body_may_end(std::make_shared<gate>(executor))
        {
            const auto body = [this, first = child_may_end,
                               last = body_may_end](bounded_spawner& children) -> net::awaitable<void> {
                spawner = &children;
                CHECK(children.try_spawn(pass(first)));
                co_await pass(last);
            };
            holdfast::async_with_spawner(executor, {.max_children = 1}, body, net::detached);
        }
        ~object() // the operation goes on without this
        {
            complete();
            body_may_end->closed.release();
        }

        template <class Token>
        auto start(Token&& token)
        {
            return spawner->async_spawn(pass(child_may_end), std::forward<Token>(token));
        }
        void complete() { child_may_end->closed.release(); }

        std::shared_ptr<gate> child_may_end;
        std::shared_ptr<gate> body_may_end;
        bounded_spawner* spawner = nullptr;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(with_spawner);
HOLDFAST_CONFORMANCE(with_own_spawner);
HOLDFAST_CONFORMANCE(spawn);
