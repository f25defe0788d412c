// holdfast: tests of server_metrics: each figure is that of its object, and the labels are a closed set.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/outbox_totals.hpp>
#include <holdfast/replay_topic.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>
#include <holdfast/server/server_metrics.hpp>

#include <charconv>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::admission_limit;
using holdfast::error_code;
using holdfast::metric_set;
using holdfast::payload;
using tests::tcp;
namespace net = holdfast::net;

namespace {

std::string text_of(const metric_set& metrics)
{
    return holdfast::serialize_to_string<holdfast::prometheus_text>(std::cref(metrics));
}

/// The value after the name and its label.
double value_of(const metric_set& metrics, std::string_view name)
{
    const std::string text = text_of(metrics);
    const auto line = text.find(std::string("\n").append(name).append(" "));
    REQUIRE(line != text.npos);
    double value = -1;
    std::from_chars(text.data() + line + name.size() + 2, text.data() + text.size(), value);
    return value;
}

} // namespace

TEST_CASE("events of an acceptor are counted by kind and limit, whichever thread reports them")
{
    holdfast::acceptor_event_counters events;
    metric_set metrics;
    holdfast::add_acceptor_events(metrics, events);
    using kind = acceptor_event::kind;
    const auto report = [&] {
        for (int i = 0; i != 1000; ++i) {
            events(acceptor_event{.what = kind::rejected, .limit = admission_limit::per_address, .count = 3});
            events(acceptor_event{.what = kind::paused, .limit = admission_limit::memory});
            events(acceptor_event{.what = kind::handshake_failed});
        }
    };
    std::thread other(report);
    report();
    other.join();
    CHECK(value_of(metrics, "holdfast_accept_rejected_total{limit=\"connections of one address\"}") == 6000);
    CHECK(value_of(metrics, "holdfast_accept_rejected_total{limit=\"memory\"}") == 0);
    CHECK(value_of(metrics, "holdfast_accept_paused_total{limit=\"memory\"}") == 2000);
    CHECK(value_of(metrics, "holdfast_accept_events_total{event=\"handshake failed\"}") == 2000);
    CHECK(value_of(metrics, "holdfast_accept_events_total{event=\"lost\"}") == 0);
}

namespace {

/// Its handshake takes one byte.
struct one_byte_handshake {
    net::ip::tcp::socket make(tcp::socket socket) const { return socket; }
    template <class Token>
    auto async_handshake(tcp::socket& socket, Token&& token) const
    {
        return net::async_initiate<Token, void(error_code)>(
            [&socket](auto handler) {
                auto byte = std::make_shared<char>();
                const auto to = net::buffer(byte.get(), 1);
                socket.async_read_some(
                    to, [byte, done = std::move(handler)](error_code ec, std::size_t) mutable { std::move(done)(ec); });
            },
            token);
    }
    holdfast::handshake_options options() const { return {.max_handshakes = 2}; }
};

} // namespace

TEST_CASE("handshakes are counted: those under way, those that wait, and how they have ended")
{
    net::io_context io, clients;
    metric_set metrics;
    std::vector<holdfast::bounded_acceptor<tcp>::connection_type> kept;
    std::optional<holdfast::bounded_acceptor<tcp>> acceptor(std::in_place, io.get_executor(),
                                                            tcp::endpoint(net::ip::address_v4::loopback(), 0));
    holdfast::add_census(metrics, acceptor->census());
    acceptor->async_serve(one_byte_handshake{}, [&](auto peer) { kept.push_back(std::move(peer)); }, net::detached);
    const auto await = [&](double pending, double completed, double failed) {
        tests::run_until(io, [&] {
            return value_of(metrics, "holdfast_handshakes_pending") == pending &&
                   value_of(metrics, "holdfast_handshakes_total{result=\"completed\"}") == completed &&
                   value_of(metrics, "holdfast_handshakes_total{result=\"failed\"}") == failed;
        });
    };
    await(0, 0, 0);
    auto sockets = tests::connect(clients, acceptor->local_endpoint(), 5); // of which two have a slot
    await(5, 0, 0);
    net::write(sockets[0], net::buffer("x", 1));
    await(4, 1, 0);
    sockets[1].close();
    await(3, 1, 1);
    sockets[2].close();
    sockets[4].close(); // it waits
    await(1, 1, 3);
    net::write(sockets[3], net::buffer("x", 1));
    await(0, 2, 3);
    CHECK(kept.size() == 2);
    auto last = tests::connect(clients, acceptor->local_endpoint(), 1);
    await(1, 2, 3);
    acceptor->close();
    kept.clear();
    acceptor.reset();
    last.clear();
    await(0, 2, 4);
}

TEST_CASE("messages and bytes count once they are sent, and those that were dropped or replaced by themselves")
{
    metric_set metrics;
    holdfast::add_outboxes(metrics);
    const auto figures = [&] {
        std::vector<double> all;
        for (const std::string_view each : {"writes", "messages", "bytes", "dropped", "replaced"})
            all.push_back(value_of(metrics, std::string("holdfast_outbox_").append(each).append("_total")));
        return all;
    };
    const auto before = figures();
    const auto send = [] { // on a thread
        net::io_context io;
        auto [server, client] = tests::socket_pair(io);
        holdfast::outbox outbox{server, {.high_watermark = 100, .on_overflow = holdfast::overflow_policy::drop_oldest}};
        const payload message("0123456789");
        for (int i = 0; i != 5; ++i) // of 26 bytes each: three fit
            outbox.push(message);
        outbox.push_control(payload("ping"));
        io.run();
        outbox.push(message, holdfast::conflate{1});
        outbox.push(message, holdfast::conflate{1});
        io.restart();
        io.run();
    };
    std::thread other(send);
    other.join();
    send();
    auto after = figures();
    for (std::size_t i = 0; i != after.size(); ++i)
        after[i] -= before[i];
    CHECK(after[0] >= 4);
    CHECK(after[0] < 10); // several messages in one
    after.erase(after.begin());
    CHECK(after == std::vector<double>{10, 88, 4, 2});
}

TEST_CASE("the figures of connections, heartbeats, pools and topics are those of their objects")
{
    net::io_context io, clients;
    holdfast::bounded_acceptor<tcp> acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    std::vector<holdfast::bounded_acceptor<tcp>::connection_type> kept;
    acceptor.async_serve([&](auto peer) { kept.push_back(std::move(peer)); }, net::detached);
    auto sockets = tests::connect(clients, acceptor.local_endpoint(), 3);
    tests::run_until(io, [&] { return kept.size() == 3; });
    kept.back().abort(holdfast::close_reason::superseded);
    kept.pop_back();

    holdfast::heartbeat_timer<> heartbeats{io.get_executor(), {.timeout = 30s}};
    holdfast::shared_buffer_pool& pool = holdfast::shared_buffer_pool::of(io.get_executor());
    const auto loan = pool.try_borrow(1000);
    holdfast::replay_topic<1> topic{holdfast::replay_ring_options{.max_bytes = 1000},
                                    {[](const auto&, std::string_view text) { return payload(text); }}};
    topic.push("one");
    topic.push("two");
    const holdfast::capacity_plan plan{{.session_bytes = 1000}, {.memory_bytes = 1'000'000'000, .fixed_bytes = 5000}};

    metric_set metrics;
    holdfast::add_census(metrics, acceptor.census());
    const holdfast::acceptor_event_counters events;
    holdfast::add_acceptor_events(metrics, events);
    holdfast::add_heartbeats(metrics, heartbeats);
    holdfast::add_outboxes(metrics);
    holdfast::add_pool(metrics, pool);
    holdfast::add_topic(metrics, topic);
    holdfast::add_process(metrics, plan, 10);
    const std::size_t size = metrics.size();
    CHECK_THROWS_AS(holdfast::add_census(metrics, acceptor.census()), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_acceptor_events(metrics, events), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_heartbeats(metrics, heartbeats), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_outboxes(metrics), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_pool(metrics, pool), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_topic(metrics, topic), std::invalid_argument);
    CHECK_THROWS_AS(holdfast::add_process(metrics, plan, 10), std::invalid_argument);
    CHECK(metrics.size() == size); // nothing of the second ones
    CHECK(value_of(metrics, "holdfast_connections") == 2);
    CHECK(value_of(metrics, "holdfast_connections_peak") == 3);
    CHECK(value_of(metrics, "holdfast_connections_ended_total{reason=\"superseded\"}") == 1);
    CHECK(value_of(metrics, "holdfast_connections_ended_total{reason=\"drained\"}") == 0);
    CHECK(value_of(metrics, "holdfast_heartbeat_watched") == 0);
    CHECK(value_of(metrics, "holdfast_pool_lent_bytes") == static_cast<double>(pool.counters().lent_bytes));
    CHECK(pool.counters().lent_bytes >= 1000);
    CHECK(value_of(metrics, "holdfast_topic_published_total") == 2);
    CHECK(value_of(metrics, "holdfast_ring_messages") == 2);
    CHECK(value_of(metrics, "holdfast_plan_process_bytes") == static_cast<double>(plan.user_bytes_at(10)));
    CHECK(value_of(metrics, "holdfast_plan_connections") == 10);
    CHECK(value_of(metrics, "holdfast_process_rss_anon_bytes") > 0);

    // What a server sends is what was added: a metric is described once, and no label comes with the clients.
    const std::string text = text_of(metrics);
    std::set<std::string> described, labels;
    std::size_t values = 0;
    for (std::size_t at = 0; at != text.size();) {
        const auto end = text.find('\n', at);
        const std::string line = text.substr(at, end - at);
        at = end + 1;
        if (line.starts_with("# TYPE ")) CHECK(described.insert(line).second);
        if (line.starts_with("#")) continue;
        ++values;
        const auto label = line.find('{');
        if (label != line.npos) labels.insert(line.substr(label + 1, line.find('=') - label - 1));
    }
    CHECK(values == metrics.size());
    CHECK(labels == std::set<std::string>{"event", "limit", "reason", "result"});
    kept.clear();
    acceptor.close();
    io.restart();
    io.run();
}
