// holdfast: the acceptor's operations in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <utility>
#include <vector>

namespace {

namespace net = holdfast::net;
using net::ip::tcp;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

struct of_acceptor : conformance::operation {
    static constexpr bool any_thread = true;
    static constexpr bool any_executor = true;
};

template <class Executor>
using acceptor = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, Executor>;

struct accept : of_acceptor {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : accepting(executor, any_port) {}

        template <class Token>
        auto start(Token&& token)
        {
            return accepting.async_accept(std::forward<Token>(token));
        }
        void complete()
        {
            for (int i = 0; i != 3; ++i)
                clients.emplace_back(io).connect(accepting.local_endpoint());
        }

        net::io_context io;
        std::vector<tcp::socket> clients;
        acceptor<Executor> accepting;
    };
};

struct serve : of_acceptor {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : accepting(executor, any_port) {}

        template <class Token>
        auto start(Token&& token)
        {
            return accepting.async_serve([](auto) {}, std::forward<Token>(token));
        }
        void complete() { accepting.close(); }

        acceptor<Executor> accepting;
    };
};

struct drain : of_acceptor {
    static constexpr bool object_may_go = false; // it waits for connections, not for the acceptor
    static constexpr bool cancellable = false;   // without connections it completes at once

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : accepting(executor, any_port) {}

        template <class Token>
        auto start(Token&& token)
        {
            return accepting.async_drain(std::forward<Token>(token));
        }
        void complete() {}

        acceptor<Executor> accepting;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(accept);
HOLDFAST_CONFORMANCE(serve);
HOLDFAST_CONFORMANCE(drain);
