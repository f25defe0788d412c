// holdfast: the acceptor's operations in the conformance matrix.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"

#include <holdfast/async_semaphore.hpp>
#include <holdfast/bounded_acceptor.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace {

namespace net = holdfast::net;
using net::ip::tcp;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};

struct of_acceptor : conformance::operation {
    static constexpr bool any_thread = true;
    static constexpr bool any_executor = true;
    static constexpr bool outlives_strand = true;
};

template <class Executor>
using acceptor_of = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, Executor>;

struct accept_one : of_acceptor {
    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : acceptor(executor, any_port) {}

        template <class Token>
        auto start(Token&& token)
        {
            return acceptor.async_accept(std::forward<Token>(token));
        }
        void complete()
        {
            for (int i = 0; i != 3; ++i)
                clients.emplace_back(io).connect(acceptor.local_endpoint());
        }

        net::io_context io;
        std::vector<tcp::socket> clients;
        acceptor_of<Executor> acceptor;
    };
};

struct serve : of_acceptor {
    static constexpr bool fails_without_object = false; // as after close()

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : acceptor(executor, any_port) {}

        template <class Token>
        auto start(Token&& token)
        {
            return acceptor.async_serve([](auto) {}, std::forward<Token>(token));
        }
        void complete() { acceptor.close(); }

        acceptor_of<Executor> acceptor;
    };
};

/// The permit's release lets a session pass.
struct gate {
    explicit gate(const net::any_io_executor& executor) : units(executor, 1) { closed = units.try_acquire(); }

    holdfast::permit closed;
    holdfast::async_semaphore units;
};

template <class Connection>
net::awaitable<void> session(Connection, std::shared_ptr<gate> through)
{
    const auto passed = co_await through->units.async_acquire();
}

/// Waits for a session that does not end by itself.
struct drain : of_acceptor {
    static constexpr bool object_may_go = false;   // it waits for connections, not for the acceptor
    static constexpr bool outlives_strand = false; // the semaphore of the session does not

    template <class Executor>
    struct object {
        explicit object(const Executor& executor)
            : acceptor(executor, any_port), way(std::make_shared<gate>(executor)), client(io)
        {
            acceptor.async_serve([way = way](auto peer) { return session(std::move(peer), way); }, net::detached);
            client.connect(acceptor.local_endpoint());
        }
        ~object() { way->units.close(); }

        bool ready() { return acceptor.census().live() == 1; }

        template <class Token>
        auto start(Token&& token)
        {
            return acceptor.async_drain({.deadline = std::chrono::hours(1)}, std::forward<Token>(token));
        }
        void complete() { way->closed.release(); }

        acceptor_of<Executor> acceptor;
        std::shared_ptr<gate> way;
        net::io_context io;
        tcp::socket client;
    };
};

} // namespace

HOLDFAST_CONFORMANCE(accept_one);
HOLDFAST_CONFORMANCE(serve);
HOLDFAST_CONFORMANCE(drain);
