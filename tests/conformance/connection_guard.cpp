// holdfast: async_close of a connection in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#include <holdfast/connection_guard.hpp>

#include <utility>

namespace {

/// Waits for the peer's end of stream.
template <class Layer>
struct close_gracefully : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false; // the operation takes the connection over
    static constexpr bool outlives_context = false;
    static constexpr bool several = false;

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor), guard(std::move(*ends.stream)) {}

        template <class Token>
        auto start(Token&& token)
        {
            return guard.async_close({.deadline = std::chrono::hours(1)}, std::forward<Token>(token));
        }
        void complete() { ends.peer.close(); }

        typename Layer::template connected<Executor> ends;
        holdfast::connection_guard<typename Layer::template stream<Executor>> guard;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(close_gracefully<conformance::tcp_layer>);
HOLDFAST_CONFORMANCE(close_gracefully<conformance::local_layer>);
HOLDFAST_CONFORMANCE(close_gracefully<conformance::user_layer>);
HOLDFAST_CONFORMANCE(close_gracefully<conformance::tls_layer>);
