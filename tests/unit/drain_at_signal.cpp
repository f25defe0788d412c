// holdfast: tests of draining at a signal: what each signal does, and that nothing is left of it afterwards.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <csignal>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using tests::tcp;
namespace net = holdfast::net;
using acceptor = holdfast::bounded_acceptor<tcp>;

namespace {

bool has_default_effect(int signal)
{
    struct ::sigaction action{};
    ::sigaction(signal, nullptr, &action);
    return action.sa_handler == SIG_DFL;
}

net::awaitable<void> read_to_end(acceptor::connection_type peer)
{
    char byte;
    holdfast::error_code ec;
    co_await peer.stream().async_read_some(net::buffer(&byte, 1), net::redirect_error(net::use_awaitable, ec));
    CHECK(peer.draining());
}

struct fixture {
    fixture()
    {
        clients_of.async_serve(read_to_end, net::detached);
        client.connect(clients_of.local_endpoint());
        tests::run_until(io, [&] { return clients_of.census().live() == 1; });
    }

    holdfast::drain_at_signal_options options()
    {
        return {.drain = {.deadline = 10s},
                .on_signal = [this] { ++begun; },
                .on_drained = [this](std::size_t reset) { drained = reset; },
                .on_report = [this] { ++reports; },
                .on_reload = [this] { ++reloads; }};
    }

    int begun = 0, reports = 0, reloads = 0;
    std::optional<std::size_t> drained;
    net::io_context io, elsewhere;
    acceptor clients_of{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    tcp::socket client{elsewhere};
};

} // namespace

TEST_CASE("reports and reloads as often as they are wanted, then a drain at the first signal to end")
{
    const int signal = GENERATE(SIGINT, SIGTERM);
    fixture f;
    const holdfast::drain_at_signal stop{f.clients_of, f.options()};
    for (int i = 1; i != 4; ++i) {
        ::raise(SIGUSR1);
        tests::run_until(f.io, [&] { return f.reports == i; });
        ::raise(SIGHUP);
        tests::run_until(f.io, [&] { return f.reloads == i; });
    }
    CHECK(f.begun == 0);
    CHECK(!has_default_effect(signal));
    ::raise(signal);
    tests::run(f.io); // returns: nothing waits for a signal any more
    CHECK(f.begun == 1);
    CHECK(f.drained == 0U);
    CHECK(f.clients_of.census().live() == 0);
    for (const int each : {SIGINT, SIGTERM, SIGUSR1, SIGHUP})
        CHECK(has_default_effect(each));
}

TEST_CASE("with a notice the server accepts after the signal, until the drain begins")
{
    fixture f;
    auto options = f.options();
    options.notice = 1h;
    std::optional<holdfast::drain_at_signal<acceptor>> stop(std::in_place, f.clients_of, options);
    tcp::socket late(f.elsewhere);
    ::raise(SIGTERM);
    tests::run_until(f.io, [&] { return f.begun == 1; });
    CHECK(has_default_effect(SIGTERM));
    late.connect(f.clients_of.local_endpoint());
    tests::run_until(f.io, [&] { return f.clients_of.census().live() == 2; });
    options.notice = 1ms;
    stop.reset();
    stop.emplace(f.clients_of, options);
    ::raise(SIGTERM);
    tests::run(f.io);
    CHECK(f.drained == 0U);
    CHECK(f.clients_of.census().live() == 0);
    // Options out of range are refused at the start, not when the signal comes; the largest notice is for ever.
    using duration = std::chrono::steady_clock::duration;
    const auto refused = [&](const holdfast::drain_at_signal_options& tried) {
        try {
            const holdfast::drain_at_signal started{f.clients_of, tried};
            return false;
        } catch (const std::invalid_argument&) {
            return true;
        }
    };
    for (const duration time :
         {duration::min(), duration(-1), duration(0), duration(1), duration::max() - duration(1), duration::max()}) {
        CHECK(refused({.notice = time}) == (time < duration(0)));
        CHECK(refused({.drain = {.deadline = time}}) == (time < duration(0)));
        CHECK(refused({.drain = {.deadline = 1s, .stagger = time}}) == (time < duration(0) || time >= 1s));
    }
}

TEST_CASE("a second signal has its default effect while the drain continues, the others are still handled")
{
    net::io_context io;
    acceptor clients{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    std::vector<acceptor::connection_type> kept; // its session does not end
    clients.async_serve([&](auto peer) { kept.push_back(std::move(peer)); }, net::detached);
    tcp::socket client(io);
    client.connect(clients.local_endpoint());
    tests::run_until(io, [&] { return kept.size() == 1; });
    int reloads = 0;
    std::optional<std::size_t> drained;
    const holdfast::drain_at_signal stop{clients,
                                         {.drain = {.deadline = 1h},
                                          .on_drained = [&](std::size_t reset) { drained = reset; },
                                          .on_reload = [&] { ++reloads; }}};
    CHECK(has_default_effect(SIGUSR1)); // nothing is done at it
    ::raise(SIGTERM);
    tests::run_until(io, [&] { return kept[0].draining(); });
    CHECK(has_default_effect(SIGTERM));
    CHECK(has_default_effect(SIGINT));
    ::raise(SIGHUP);
    tests::run_until(io, [&] { return reloads == 1; });
    CHECK(!drained);
    kept.clear();
    tests::run(io);
    CHECK(drained == 0U);
}

TEST_CASE("destroyed before a signal, during the drain, or with its wait in a context that is destroyed")
{
    std::optional<fixture> f(std::in_place);
    std::optional<holdfast::drain_at_signal<acceptor>> stop(std::in_place, f->clients_of, f->options());
    SECTION("before a signal")
    {
        stop.reset();
        CHECK(has_default_effect(SIGTERM));
        f->io.poll();
    }
    SECTION("with a signal on its way")
    {
        ::raise(SIGTERM);
        stop.reset();
        f->io.poll();
        CHECK(f->begun == 0);
    }
    SECTION("within the notice")
    {
        auto options = f->options();
        options.notice = 1h;
        stop.reset();
        stop.emplace(f->clients_of, options);
        ::raise(SIGTERM);
        tests::run_until(f->io, [&] { return f->begun == 1; });
        if (GENERATE(false, true)) {
            stop.reset();
            f->clients_of.async_drain({.deadline = 10s}, net::detached);
            tests::run(f->io); // returns: nothing waits for the end of the notice
            CHECK(!f->drained);
        }
    }
    SECTION("during the drain")
    {
        ::raise(SIGTERM);
        tests::run_until(f->io, [&] { return f->begun == 1; });
        stop.reset();
        tests::run(f->io);
        CHECK(f->clients_of.census().live() == 0);
        CHECK(!f->drained);
    }
    stop.reset();
    f.reset();
    CHECK(has_default_effect(SIGTERM));
}
