// holdfast: the semaphores' operations in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/async_semaphore.hpp>

namespace {

namespace net = holdfast::net;

template <class Semaphore>
struct acquire : conformance::operation {
    static constexpr bool any_thread = std::is_same_v<Semaphore, holdfast::async_semaphore>;
    static constexpr bool unsynchronized = !any_thread;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : semaphore(executor, 1) { taken = semaphore.try_acquire(); }

        template <class Token>
        auto start(Token&& token)
        {
            return semaphore.async_acquire(1, std::forward<Token>(token));
        }
        void complete() { taken.release(); }

        typename Semaphore::permit_type taken; // returned after the semaphore has gone
        Semaphore semaphore;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(acquire<holdfast::async_semaphore>);
HOLDFAST_CONFORMANCE(acquire<holdfast::unsynchronized_semaphore>);
