// holdfast: deflate_pool's async_borrow in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/adapters/deflate.hpp>

#include <utility>

namespace {

struct borrow : conformance::operation {
    static constexpr bool any_thread = true;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
            : pool(executor, {.compressors = 1, .window_bits = 9, .memory_level = 1})
        {
            lent = pool.try_borrow();
        }

        template <class Token>
        auto start(Token&& token)
        {
            return pool.async_borrow(std::forward<Token>(token));
        }
        void complete() { lent = {}; }

        holdfast::compressor lent; // returned after the pool has gone
        holdfast::deflate_pool pool;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(borrow);
