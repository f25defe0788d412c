// holdfast: tests of paced_executor: one step a turn, after the handlers that are ready; none is lost, none leaks.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/async/paced_executor.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

namespace net = holdfast::net;
using holdfast::detail::paced_executor;
using context_executor = net::io_context::executor_type;

TEST_CASE("handlers that have been posted before, and what they post, run before the first step and between two")
{
    net::io_context io;
    const paced_executor<context_executor> paced(io.get_executor());
    std::string log;
    for (int i = 0; i != 3; ++i)
        paced.execute([&] {
            log += 's';
            net::post(io, [&] { log += 'h'; });
        });
    net::post(io, [&] { log += 'h'; });
    CHECK(log.empty()); // none runs inside execute()
    io.run();
    CHECK(log == "hshshsh");
}

TEST_CASE("a step that throws is followed by the next one")
{
    net::io_context io;
    const paced_executor<context_executor> paced(io.get_executor());
    int done = 0;
    paced.execute([] { throw std::runtime_error("a step"); });
    paced.execute([&] { ++done; });
    CHECK_THROWS_AS(io.run(), std::runtime_error);
    io.run();
    CHECK(done == 1);
    paced.execute([&] { ++done; });
    io.restart();
    io.run();
    CHECK(done == 2);
}

TEST_CASE("a step may add others, and executors of one context share its turns")
{
    net::io_context io;
    const paced_executor<context_executor> paced(io.get_executor());
    const paced_executor<net::any_io_executor> other(net::any_io_executor(net::make_strand(io)));
    std::string log;
    paced.execute([&] {
        log += 'a';
        other.execute([&] { log += 'c'; });
        paced.execute([&] { log += 'd'; });
    });
    other.execute([&] { log += 'b'; });
    io.run();
    CHECK(log == "abcd");
}

TEST_CASE("what steps own is destroyed with the context, and that of later steps too")
{
    auto held = std::make_shared<int>(0);
    {
        net::io_context io;
        const paced_executor<context_executor> paced(io.get_executor());
        struct adds_one {
            std::shared_ptr<int> own;
            paced_executor<context_executor> to;
            ~adds_one()
            {
                if (own) to.execute([kept = own] { ++*kept; }); // the context is gone: dropped
            }
            adds_one(std::shared_ptr<int> p, paced_executor<context_executor> e) : own(std::move(p)), to(e) {}
            adds_one(adds_one&&) = default;
            void operator()() { own.reset(); }
        };
        for (int i = 0; i != 3; ++i)
            paced.execute(adds_one(held, paced));
        const bool begun = GENERATE(false, true);
        if (begun) io.poll_one();
    }
    CHECK(held.use_count() == 1);
    CHECK(*held == 0);
}

TEST_CASE("two threads of a context carry out two steps at a time")
{
    net::io_context io(2);
    const paced_executor<context_executor> paced(io.get_executor());
    std::mutex mutex;
    std::condition_variable changed;
    int inside = 0, met = 0;
    for (int i = 0; i != 2; ++i)
        paced.execute([&] {
            std::unique_lock lock(mutex);
            ++inside;
            changed.notify_all();
            if (changed.wait_for(lock, std::chrono::seconds(30), [&] { return inside == 2; })) ++met;
        });
    std::thread other([&] { io.run(); });
    io.run();
    other.join();
    CHECK(met == 2);
}
