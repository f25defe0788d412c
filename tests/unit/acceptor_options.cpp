// holdfast: is every option of an acceptor either refused by name, or does it mean what it says, up to the ends of
// its type?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>

#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using holdfast::acceptor_options;
using holdfast::drain_options;
using holdfast::error_code;
using holdfast::overload_policy;
using tests::connect, tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;
using options_change = std::function<void(acceptor_options&)>;
const tcp::endpoint any_port{net::ip::address_v4::loopback(), 0};
constexpr auto all_sizes = {std::size_t(0), std::size_t(1), SIZE_MAX - 1, SIZE_MAX};
constexpr std::initializer_list<std::chrono::milliseconds> all_times{
    std::chrono::milliseconds::min(), -1ms, 0ms, 1ms, std::chrono::milliseconds::max() - 1ms,
    std::chrono::milliseconds::max()};

/// Refused with the option's name, or else a client is served.
void check(const std::string& name, bool valid, const options_change& change)
{
    INFO(name);
    net::io_context io;
    acceptor_options options{.max_connections = 10};
    change(options);
    if (!valid) {
        try {
            const acceptor refused{io, any_port, options};
            FAIL("not refused");
        } catch (const std::invalid_argument& error) {
            CHECK(std::string(error.what()).find(name) != std::string::npos);
        }
        return;
    }
    acceptor accepting{io, any_port, options};
    std::vector<connection> kept;
    accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    const auto client = connect(io, accepting.local_endpoint(), 1);
    tests::run_until(io, [&] { return kept.size() == 1; });
    accepting.close();
    kept.clear();
    tests::run(io);
}

template <class Set>
void check_sizes(const std::string& name, std::size_t least, Set set)
{
    for (const std::size_t value : all_sizes)
        check(name, value >= least, [&](acceptor_options& o) { set(o, value); });
}

template <class Set>
void check_times(const std::string& name, Set set)
{
    for (const auto value : all_times)
        check(name, value >= 0ms, [&](acceptor_options& o) { set(o, value); });
}

} // namespace

TEST_CASE("numbers of connections, up to the largest")
{
    check_sizes("max_connections", 1, [](auto& o, auto n) { o.max_connections = n; });
    check_sizes("max_connections", 1, [](auto& o, auto n) {
        o.max_connections = n;
        o.max_per_address = 5;
    });
    check_sizes("max_per_address", 0, [](auto& o, auto n) { o.max_per_address = n; });
    check_sizes("max_pending_rejects", 0, [](auto& o, auto n) { o.max_pending_rejects = n; });
    check_sizes("accept_burst", 1, [](auto& o, auto n) { o.accept_burst = n; });
    check_sizes("accept_burst", 1, [](auto& o, auto n) {
        o.accept_burst = n;
        o.accepts_per_second = 1e-300;
    });
}

TEST_CASE("prefixes of addresses")
{
    for (const unsigned bits : {0U, 1U, 31U, 32U, 33U, 127U, 128U, 129U, UINT_MAX - 1, UINT_MAX}) {
        check("ipv4_prefix", bits >= 1 && bits <= 32, [&](auto& o) { o.ipv4_prefix = bits; });
        check("ipv6_prefix", bits >= 1 && bits <= 128, [&](auto& o) { o.ipv6_prefix = bits; });
    }
}

TEST_CASE("rates, from the smallest to those that are none")
{
    using limits = std::numeric_limits<double>;
    for (const double rate : {0.0, limits::denorm_min(), limits::min(), 1e-12, 1.0, 999999999.0, 1e9})
        check("accepts_per_second", true, [&](auto& o) { o.accepts_per_second = rate; });
    for (const double rate : {-limits::denorm_min(), -1.0, 1e9 + 1, limits::max(), limits::infinity(),
                              -limits::infinity(), limits::quiet_NaN()})
        check("accepts_per_second", false, [&](auto& o) { o.accepts_per_second = rate; });
}

TEST_CASE("times, of which the largest means for ever")
{
    check_times("backlog_timeout", [](auto& o, auto time) { o.backlog_timeout = time; });
    check_times("reject_deadline", [](auto& o, auto time) { o.reject_deadline = time; });
    check_times("probe_interval", [](auto& o, auto time) { o.memory.probe_interval = time; });
}

TEST_CASE("watermarks of memory")
{
    using source = holdfast::memory_limits::memory_source;
    for (const std::uint64_t low : {std::uint64_t(0), std::uint64_t(1), UINT64_MAX - 1, UINT64_MAX})
        for (const std::uint64_t high : {std::uint64_t(0), std::uint64_t(1), UINT64_MAX - 1, UINT64_MAX})
            for (const source of : {source::none, source::process})
                check("low_watermark", high == 0 || low <= high, [&](auto& o) {
                    o.memory = {.of = of, .high_watermark = high, .low_watermark = low, .probe_interval = 1ms};
                });
}

TEST_CASE("sizes of the system's buffers and of the backlog")
{
    for (const int value : {INT_MIN, -1, 0, 1, INT_MAX - 1, INT_MAX}) {
        check("send_buffer_bytes", value >= 0, [&](auto& o) { o.send_buffer_bytes = value; });
        check("receive_buffer_bytes", value >= 0, [&](auto& o) { o.receive_buffer_bytes = value; });
        check("backlog", value >= 0, [&](auto& o) { o.backlog = value; });
    }
}

TEST_CASE("policies that a limit or a protocol cannot have are refused")
{
    check("on_address_limit", false, [](auto& o) { o.on_address_limit = overload_policy::wait; });
    using local = net::local::stream_protocol;
    net::io_context io;
    CHECK_THROWS_AS(holdfast::bounded_acceptor<local>(io, local::endpoint("/nowhere"), {.backlog_timeout = 1s}),
                    std::invalid_argument);
    using concrete = holdfast::bounded_acceptor<tcp, holdfast::no_finalizer, net::io_context::executor_type>;
    CHECK_THROWS_AS(concrete(io, any_port, {.next_executor = [&] { return io.get_executor(); }}),
                    std::invalid_argument);
}

TEST_CASE("with an unlimited time in the backlog no client is rejected")
{
    for (const auto time : {0ms, std::chrono::milliseconds::max() - 1ms, std::chrono::milliseconds::max()}) {
        net::io_context io;
        acceptor accepting{io, any_port, {.max_connections = 1, .backlog_timeout = time}};
        std::vector<connection> kept;
        accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
        auto clients = connect(io, accepting.local_endpoint(), 2);
        tests::run_until(io, [&] { return kept.size() == 1; });
        io.run_for(50ms);
        CHECK(accepting.rejected() == 0);
        kept.clear();
        tests::run_until(io, [&] { return kept.size() == 1; });
        accepting.close();
        kept.clear();
        tests::run(io);
    }
}

TEST_CASE("a burst without a limit admits all clients at once, whatever the rate")
{
    net::io_context io;
    acceptor accepting{io, any_port, {.accepts_per_second = 0.001, .accept_burst = SIZE_MAX}};
    std::vector<connection> kept;
    accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
    auto clients = connect(io, accepting.local_endpoint(), 300);
    tests::run_until(io, [&] { return kept.size() == 300; });
    accepting.close();
    kept.clear();
    tests::run(io);
}

TEST_CASE("times of a drain are refused when negative or beyond the deadline, and the largest means for ever")
{
    using duration = std::chrono::steady_clock::duration;
    const std::initializer_list<duration> times{
        duration::min(), duration(-1), 0s, duration(1), duration::max() - duration(1), duration::max()};
    for (const duration deadline : times)
        for (const duration stagger : times) {
            INFO("deadline " << deadline.count() << ", stagger " << stagger.count());
            net::io_context io;
            acceptor accepting{io, any_port};
            std::vector<connection> kept;
            accepting.async_serve([&](connection peer) { kept.push_back(std::move(peer)); }, net::detached);
            auto client = connect(io, accepting.local_endpoint(), 1);
            tests::run_until(io, [&] { return kept.size() == 1; });
            std::optional<std::size_t> aborted;
            const auto drain = [&] {
                accepting.async_drain({.deadline = deadline, .stagger = stagger}, [&](error_code ec, std::size_t n) {
                    CHECK_FALSE(ec);
                    aborted = n;
                });
            };
            if (deadline < 0s || stagger < 0s || (stagger != 0s && stagger >= deadline)) {
                CHECK_THROWS_AS(drain(), std::invalid_argument);
                accepting.close();
            } else {
                drain();
                if (deadline > 1h) {
                    io.run_for(20ms);
                    CHECK_FALSE(aborted);
                    kept.clear();
                }
                tests::run_until(io, [&] { return aborted.has_value(); });
                CHECK(aborted == (deadline > 1h ? 0U : 1U));
            }
            kept.clear();
            tests::run(io);
        }
}
