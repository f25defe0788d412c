// holdfast: tests of buffer pools: bounded in bytes, first come first served, and free memory goes back.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <holdfast/buffer_pool.hpp>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <thread>
#include <vector>

namespace net = holdfast::net;
using holdfast::buffer_loan;
using holdfast::buffer_pool;
using holdfast::errc;
using holdfast::error_code;
using holdfast::shared_buffer_pool;

namespace {

/// What one async_borrow came to.
struct outcome {
    int completed = 0;
    error_code error;
    buffer_loan loan;

    auto handler()
    {
        return [this](error_code ec, buffer_loan got) {
            ++completed;
            error = ec;
            loan = std::move(got);
        };
    }
};

void run(net::io_context& io)
{
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a buffer has at least the requested size, and is used by one borrower at a time")
{
    net::io_context io;
    buffer_pool pool{io.get_executor()};
    std::vector<buffer_loan> out;
    std::set<char*> places;
    for (const std::size_t size : {0U, 1U, 512U, 513U, 1024U, 4096U, 16'384U, 16'385U, 2'000'000U})
        for (int i = 0; i != 70; ++i) {
            out.push_back(pool.try_borrow(size));
            REQUIRE(out.back());
            REQUIRE(out.back().size() >= size);
            CHECK(out.back().size() <= std::max<std::size_t>(512, 2 * size));
            std::memset(out.back().data(), static_cast<int>(out.size() % 251),
                        std::min<std::size_t>(out.back().size(), 4096));
            places.insert(out.back().data());
        }
    CHECK(places.size() == out.size());
    for (std::size_t i = 0; i != out.size(); ++i)
        CHECK(*out[i].data() == static_cast<char>((i + 1) % 251));
    char* const last = out.back().data();
    out.pop_back();
    CHECK(pool.try_borrow(2'000'000).data() == last); // the warm one first
    out.clear();
    CHECK(pool.counters().lent_bytes == 0);
    CHECK(pool.counters().lent == 9 * 70 + 1);
}

TEST_CASE("no more bytes are lent than allowed, and requests that wait are granted in order")
{
    net::io_context io;
    buffer_pool pool{io.get_executor(), {.max_bytes = 4096}};
    auto first = pool.try_borrow(2048);
    auto second = pool.try_borrow(1024);
    REQUIRE(first);
    REQUIRE(second);
    CHECK_FALSE(pool.try_borrow(2048)); // 1,024 are left
    outcome large, small;
    pool.async_borrow(4096, large.handler());
    pool.async_borrow(512, small.handler());
    CHECK_FALSE(pool.try_borrow(512)); // which would pass them by
    run(io);
    CHECK(large.completed + small.completed == 0);
    CHECK(pool.waiting() == 2);
    first.release();
    run(io);
    CHECK(large.completed + small.completed == 0); // the small one does not pass the large one
    second.release();
    run(io);
    CHECK(large.completed == 1);
    CHECK(large.loan.size() == 4096);
    CHECK(small.completed == 0);
    large.loan.release();
    run(io);
    CHECK(small.loan.size() == 512);
    const auto counters = pool.counters();
    CHECK(counters.lent == 4);
    CHECK(counters.refused == 2);
    CHECK(counters.lent_bytes == 512);
    CHECK(counters.peak_bytes == 4096);
}

TEST_CASE("more than can ever be lent is refused, and a wait can be cancelled, of each type")
{
    net::io_context io;
    buffer_pool pool{io.get_executor(), {.max_bytes = 1024}};
    outcome never, stopped, next;
    pool.async_borrow(1025, never.handler());
    CHECK(never.completed == 0); // never inside the call
    run(io);
    CHECK(never.error == errc::exceeds_limit);
    auto all = pool.try_borrow(1024);
    for (const auto type :
         {net::cancellation_type::terminal, net::cancellation_type::partial, net::cancellation_type::total}) {
        net::cancellation_signal stop;
        stopped = {};
        pool.async_borrow(512, net::bind_cancellation_slot(stop.slot(), stopped.handler()));
        run(io);
        stop.emit(type);
        run(io);
        CHECK(stopped.error == net::error::operation_aborted);
    }
    pool.async_borrow(512, next.handler());
    all.release();
    run(io);
    CHECK(next.loan);
}

TEST_CASE("a loan may outlive its pool and its context, and the end of the pool fails pending requests")
{
    buffer_loan kept;
    holdfast::shared_buffer_loan shared;
    {
        net::io_context io;
        outcome waits;
        {
            buffer_pool pool{io.get_executor(), {.max_bytes = 512}};
            kept = pool.try_borrow(512);
            pool.async_borrow(512, waits.handler());
        }
        run(io);
        CHECK(waits.error == errc::semaphore_closed);
        shared = shared_buffer_pool::of(io.get_executor()).try_borrow(5000);
    }
    std::memset(kept.data(), 1, kept.size());
    std::memset(shared.data(), 1, shared.size());
    CHECK(shared.data()[4999] == 1);
}

TEST_CASE("a wait that is destroyed uncalled, with its context, takes nothing along")
{
    std::optional<net::io_context> io(std::in_place);
    buffer_pool pool{io->get_executor(), {.max_bytes = 512}};
    auto all = pool.try_borrow(512);
    outcome waits;
    pool.async_borrow(512, waits.handler());
    all.release(); // granted, but never called
    io.reset();
    CHECK(waits.completed == 0);
    CHECK(pool.counters().lent_bytes == 0);
    CHECK(pool.try_borrow(512));
}

TEST_CASE(
    "borrowing and returning allocates nothing once there is a slab, and free memory beyond keep_bytes is released")
{
    net::io_context io;
    buffer_pool pool{io.get_executor(), {.max_bytes = 1 << 20, .keep_bytes = 64 * 1024}};
    std::vector<buffer_loan> out(256);
    const auto burst = [&] {
        for (auto& each : out)
            each = pool.try_borrow(4096);
        for (auto& each : out)
            each.release();
    };
    burst();
    CHECK(pool.counters().kept_bytes <= 64 * 1024);
    CHECK(tests::allocations_in(burst) == 0);
    CHECK(pool.counters().kept_bytes <= 64 * 1024);
    CHECK(pool.counters().peak_bytes == 1 << 20);
}

TEST_CASE("what was unused from one trim to the next is released, also where blocks share a page")
{
    net::io_context io;
    buffer_pool pool{io.get_executor()};
    for (const std::size_t size : {512U, 4096U, 65'536U}) {
        std::vector<buffer_loan> out;
        for (int i = 0; i != 16; ++i) {
            out.push_back(pool.try_borrow(size));
            std::memset(out.back().data(), 1, size);
        }
        out.resize(8);
        pool.trim(); // the 8 were free, but not since the trim before
        CHECK(pool.counters().kept_bytes == 8 * size);
        auto used = pool.try_borrow(size);
        used.release();
        pool.trim();                                                       // one of them was used meanwhile
        CHECK(pool.counters().kept_bytes == (size == 512 ? 8 : 1) * size); // no whole page of 7 to give back
        out.clear();
        pool.trim();
        pool.trim();
        CHECK(pool.counters().kept_bytes == 0);
        CHECK(*pool.try_borrow(size).data() == 0); // the system's memory, anew
        pool.trim();
        pool.trim();
    }
}

TEST_CASE("a context has one pool of its own, for all its executors")
{
    net::io_context io;
    net::io_context other;
    auto& pool = shared_buffer_pool::of(io.get_executor());
    CHECK(&shared_buffer_pool::of(net::any_io_executor(net::make_strand(io))) == &pool);
    CHECK(&shared_buffer_pool::of(other.get_executor()) != &pool);
    CHECK_FALSE(pool.limited());
}

TEST_CASE("a shared pool lends to several threads, never more than its bytes, and none to two at a time")
{
    net::io_context io;
    shared_buffer_pool pool{io.get_executor(), {.max_bytes = 16 * 1024, .keep_bytes = 4096}};
    std::vector<std::thread> threads;
    std::atomic<int> lent = 0;
    std::atomic<bool> intact = true;
    for (int t = 0; t != 4; ++t)
        threads.emplace_back([&, mark = static_cast<char>(t + 1)] {
            std::vector<holdfast::shared_buffer_loan> mine(5);
            for (std::size_t i = 0; i != 2000; ++i) {
                auto& loan = mine[i % mine.size()];
                for (std::size_t k = 0; k != loan.size(); ++k)
                    if (loan.data()[k] != mark) intact = false;
                loan = pool.try_borrow(std::size_t{512} << i % 3);
                if (!loan) continue;
                ++lent;
                std::memset(loan.data(), mark, loan.size());
            }
        });
    for (auto& each : threads)
        each.join();
    CHECK(intact);
    CHECK(lent > 0);
    CHECK(pool.counters().peak_bytes <= 16 * 1024);
    CHECK(pool.counters().lent_bytes == 0);
    CHECK(pool.counters().lent == static_cast<std::uint64_t>(lent));
}

TEST_CASE("the pool of a context lends to operations, too, on the context's threads")
{
    net::io_context io;
    int completed = 0;
    SECTION("found by its executor")
    {
        shared_buffer_pool::of(io.get_executor()).async_borrow(512, [&](error_code ec, auto loan) {
            completed += !ec && loan && io.get_executor().running_in_this_thread() ? 1 : 0;
        });
    }
    SECTION("found by the context")
    {
        shared_buffer_pool::of(io).async_borrow(512, [&](error_code ec, auto loan) {
            completed += !ec && loan && io.get_executor().running_in_this_thread() ? 1 : 0;
        });
    }
    SECTION("found by a type-erased executor")
    {
        shared_buffer_pool::of(net::any_io_executor(io.get_executor()))
            .async_borrow(512, [&](error_code ec, auto loan) {
                completed += !ec && loan && io.get_executor().running_in_this_thread() ? 1 : 0;
            });
    }
    SECTION("found by a strand, which it does not keep")
    {
        shared_buffer_pool::of(net::make_strand(net::any_io_executor(io.get_executor())))
            .async_borrow(512, [&](error_code ec, auto loan) {
                completed += !ec && loan && io.get_executor().running_in_this_thread() ? 1 : 0;
            });
    }
    CHECK(completed == 0);
    run(io);
    CHECK(completed == 1);
    const auto& pool = shared_buffer_pool::of(io.get_executor()); // no warning: it refers to no temporary
    CHECK(pool.get_executor() == net::any_io_executor(io.get_executor()));
}

TEST_CASE("a size that no buffer can have is refused at once, with a limit and without")
{
    net::io_context io;
    buffer_pool unlimited{io};
    buffer_pool limited{io, {.max_bytes = 4096}};
    const auto kept = unlimited.try_borrow(512);
    outcome beyond_memory, beyond_limit;
    unlimited.async_borrow(std::numeric_limits<std::size_t>::max(), beyond_memory.handler());
    limited.async_borrow(std::numeric_limits<std::size_t>::max(), beyond_limit.handler());
    run(io);
    CHECK(beyond_memory.error == net::error::no_memory);
    CHECK(beyond_limit.error == errc::exceeds_limit);
    CHECK_FALSE(unlimited.try_borrow(std::numeric_limits<std::size_t>::max()));
}
