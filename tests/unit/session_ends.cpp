// holdfast: tests that an end that the server itself has decided is not reported as a failed session.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/async_event.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/outbox.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::close_reason;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor = holdfast::bounded_acceptor<tcp>;
using connection = acceptor::connection_type;

/// What a session does when its connection ends.
enum class activity { reads, writes, flushes, pushes, waits };

/// What ends it.
enum class decision { abort, close, overflow, other_thread, drain };

struct scene {
    net::io_context io;
    std::string failure;
    acceptor server{io, {net::ip::address_v4::loopback(), 0}, {.on_event = [this](const acceptor_event& event) {
                        if (event.what == acceptor_event::kind::session_failed) note(event.exception);
                    }}};
    holdfast::async_event woken{io.get_executor()};
    std::function<void(decision)> end; // from within the session's scope

    void note(const std::exception_ptr& thrown)
    {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& why) {
            failure = why.what();
        }
    }

    template <class Peer>
    net::awaitable<void> session(Peer peer, activity what)
    {
        using holdfast::overflow_policy;
        holdfast::outbox outbox{
            peer,
            {.high_watermark = 10'000'000,
             .on_overflow = what == activity::pushes ? overflow_policy::wait : overflow_policy::disconnect}};
        end = [&](decision by) {
            if (by == decision::abort) return peer.abort(close_reason::heartbeat_timeout); // as a heartbeat does
            if (by == decision::close) return peer.close(close_reason::max_lifetime);
            outbox.push(holdfast::payload(std::string(9'000'000, 'x')));
            outbox.push(holdfast::payload(std::string(9'000'000, 'x')));
        };
        const std::string much(8'000'000, 'x'); // more than the client's socket takes
        holdfast::frame_reader lines{peer};
        switch (what) {
        case activity::reads:
            while (co_await lines.async_next())
                ;
            break;
        case activity::writes:
            co_await net::async_write(peer.stream(), net::buffer(much), net::use_awaitable);
            break;
        case activity::flushes:
            outbox.push(holdfast::payload(much));
            co_await outbox.async_flush();
            break;
        case activity::pushes:
            outbox.push(holdfast::payload(much));
            co_await outbox.async_push(holdfast::payload(much));
            break;
        case activity::waits:
            co_await woken.async_wait();
            co_await net::async_write(peer.stream(), net::buffer(much), net::use_awaitable);
            break;
        }
        co_await peer.async_close();
    }

    /// Lets the session begin to wait, ends it, and lets it notice.
    void end_by(decision by)
    {
        tests::run_until(io, [&] { return end != nullptr; });
        for (int i = 0; i != 20; ++i)
            io.poll_one();
        switch (by) {
        case decision::other_thread: // as key_limits does
            std::thread([&] {
                server.census().for_each(
                    [&](const auto& entry) { CHECK(server.end(entry.id, close_reason::superseded)); });
            }).join();
            break;
        case decision::drain: {
            bool drained = false; // all are notified, and what is left at the deadline is reset
            server.async_drain({.deadline = 10ms}, [&](holdfast::error_code, std::size_t) { drained = true; });
            tests::run_until(io, [&] { return drained; });
        } break;
        case decision::abort:
        case decision::close:
        case decision::overflow:
            end(by);
            break;
        }
        woken.set();
        tests::run_until(io, [&] { return server.census().live() == 0; });
        server.close();
        tests::run(io);
    }
};

constexpr decision decisions[]{decision::abort, decision::close, decision::overflow, decision::other_thread,
                               decision::drain};
constexpr activity activities[]{activity::reads, activity::writes, activity::flushes, activity::pushes,
                                activity::waits};

/// A session writes by its outbox, or without it, and waits for space, or is disconnected.
bool exclude_each_other(activity what, decision by)
{
    return by == decision::overflow && (what == activity::writes || what == activity::pushes);
}

} // namespace

TEST_CASE("a session whose connection the server has ended has not failed, whatever it was doing")
{
    for (const decision by : decisions)
        for (const activity what : activities) {
            if (exclude_each_other(what, by)) continue;
            INFO("activity " << static_cast<int>(what) << ", decision " << static_cast<int>(by));
            scene s;
            s.server.async_serve([&](connection peer) { return s.session(std::move(peer), what); }, net::detached);
            tcp::socket client(s.io);
            client.connect(s.server.local_endpoint());
            s.end_by(by);
            CHECK(s.failure == "");
            CHECK(s.server.census().ended(close_reason::exception) == 0);
        }
}

TEST_CASE("over TLS a session whose connection the server has ended has not failed, whatever it was doing", "[tls]")
{
    tests::anonymous_context context;
    for (const decision by : decisions)
        for (const activity what : activities) {
            if (exclude_each_other(what, by)) continue;
            INFO("activity " << static_cast<int>(what) << ", decision " << static_cast<int>(by));
            scene s;
            s.server.async_serve(
                [&](connection peer) -> net::awaitable<void> {
                    auto secure = holdfast::upgrade<tests::tls_stream>(std::move(peer), context);
                    co_await secure.stream().async_handshake(net::ssl::stream_base::server, net::use_awaitable);
                    co_await s.session(std::move(secure), what);
                },
                net::detached);
            net::io_context client_io;
            tests::tls_stream client(client_io, context);
            client.next_layer().connect(s.server.local_endpoint());
            std::thread handshake([&] { client.handshake(net::ssl::stream_base::client); });
            tests::run_until(s.io, [&] { return s.end != nullptr; });
            handshake.join();
            s.end_by(by);
            CHECK(s.failure == "");
            CHECK(s.server.census().ended(close_reason::exception) == 0);
        }
}

TEST_CASE("a session that fails by itself is reported")
{
    scene s;
    s.server.async_serve(
        [](connection peer) -> net::awaitable<void> {
            co_await net::post(peer.get_executor(), net::use_awaitable);
            throw std::runtime_error("a fault of the session's own");
        },
        net::detached);
    tcp::socket client(s.io);
    client.connect(s.server.local_endpoint());
    tests::run_until(s.io, [&] { return s.server.census().ended() == 1; });
    s.server.close();
    tests::run(s.io);
    CHECK(s.failure == "a fault of the session's own");
}
