// holdfast: buffer pools' async_borrow in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/buffer_pool.hpp>

namespace {

template <class Pool>
struct borrow : conformance::operation {
    static constexpr bool any_thread = std::is_same_v<Pool, holdfast::shared_buffer_pool>;
    static constexpr bool unsynchronized = !any_thread;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : pool(executor, {.max_bytes = 512}) { all = pool.try_borrow(512); }

        template <class Token>
        auto start(Token&& token)
        {
            return pool.async_borrow(512, std::forward<Token>(token));
        }
        void complete() { all.release(); }

        typename Pool::loan_type all; // returned after the pool has gone
        Pool pool;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(borrow<holdfast::buffer_pool>);
HOLDFAST_CONFORMANCE(borrow<holdfast::shared_buffer_pool>);
