// holdfast: push_gateway, a feed for browsers over server-sent events and WebSocket, in bounded memory.
// SPDX-License-Identifier: BSL-1.0
//
//     GET /         a page that shows the feed, by both
//     GET /events   server-sent events; a browser that reconnects names its last event, and misses nothing
//     GET /ws       a WebSocket; the client's first message is the id of the last message that it has received, or empty
//     GET /metrics  Prometheus' text format
//     GET /healthz  200, with the reason where the engine is away; 503 before the node has the state, and in a drain
//
// With --redis or --nats many nodes send the same messages with the same ids, and a client continues on any of them. A node
// whose engine is away serves what it has, and stays in the balancer: else the loss of one process would take out all nodes.
//
// What keeps the memory bounded: the number of connections; the size and the time of a request's head; the watermark of an
// outbox. A message is kept once, in the ring, and a client is a position in it: one that is slow, or reconnects,
// continues from there. If the ring no longer has its position, it is sent the state of the market, the event "snapshot".
//
// A client that names its device, /ws?device=NAME, takes the place of the device's last stream. With --threads each thread has
// connections and a ring of its own; the first one passes the messages on to the others.
//
// SIGTERM drains: clients are asked to reconnect, spread over --stagger. The ring is saved in --state FILE, from which the
// next process continues. SIGUSR2 asks --shed percent of the clients to reconnect, such as after a node was added.
#include "support/gateway.hpp"
#include "support/gateway_options.hpp"
#include "support/http_request.hpp"
#include "support/log.hpp"
#include "support/push_page.hpp"
#include "support/quote_messages.hpp"
#include "support/shed_at_signal.hpp"

#include <holdfast/holdfast.hpp>
#include <holdfast/server/admin_socket.hpp>
#include <holdfast/server/drain_at_signal.hpp>
#include <holdfast/server/saved_ring.hpp>

#include <csignal>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <unistd.h>

namespace net = holdfast::net;
namespace framing = holdfast::framing;
using net::ip::tcp;
using namespace std::chrono_literals;
using acceptor = holdfast::bounded_acceptor<tcp, holdfast::shard_finalizer<>>;
using examples::gateway, examples::gateway_client, examples::gateway_options, examples::http_request, examples::form;
using holdfast::formatted, holdfast::framed, holdfast::json, holdfast::payload, holdfast::replay_position;

namespace {

/// Sends events until the client goes, or is sent away.
net::awaitable<void> send_events(gateway& g, gateway_client& self, auto& outbox, auto& heads, std::string last)
{
    self.ping = holdfast::sse_comment();
    self.answers = false;
    const auto send_state = [&](const replay_position&) -> holdfast::error_code {
        if (!self.snapshot_id.empty() && outbox.queued() != 0) return holdfast::errc::outbox_full; // asks again
        self.snapshot_id = g.feed.last_id();
        const framed state{framing::sse{.event = "snapshot", .id = self.snapshot_id}, json{}};
        return outbox.push_streamed(
            formatted(g.feed.state().snapshot(), framed{framing::http_chunked{.ends = false}, state}));
    };
    const auto subscription = co_await g.feed.async_subscribe(outbox, form::event, std::move(last), send_state);
    while (subscription && co_await heads.async_read_some(256)) { // what it sends has no meaning
    }
    const std::chrono::milliseconds wait(500 + g.random() % 1500);
    outbox.push_final(payload(holdfast::sse_retry(wait).text(), holdfast::http_end().text()));
}

/// The same over a WebSocket.
net::awaitable<void> send_frames(gateway& g, gateway_client& self, auto& peer, auto& outbox, auto& heads,
                                 holdfast::websocket_compression* compression)
{
    self.ping = holdfast::websocket_ping();
    const auto send_state = [&](const replay_position&) -> holdfast::error_code {
        if (!self.snapshot_id.empty() && outbox.queued() != 0) return holdfast::errc::outbox_full; // asks again
        self.snapshot_id = g.feed.last_id();
        const examples::snapshot_message state{self.snapshot_id, "snapshot", g.feed.state().snapshot()};
        return outbox.push_streamed(formatted(state, framed{framing::websocket_fragments{}, json{}}),
                                    {.interleave_control = true});
    };
    holdfast::read_rate rate{g.client_rate};
    holdfast::websocket_reader messages{
        std::move(heads),
        outbox,
        {.max_message_bytes = 256, .progress = self, .compression = compression, .rate = &rate}};
    const auto kind = compression != nullptr ? form::compressed_frame : form::frame;
    examples::quote_feed::topic_type::subscription subscription;
    holdfast::error_code ec;
    while (const auto message = co_await messages.async_next(net::redirect_error(net::use_awaitable, ec))) {
        if (subscription) continue;
        subscription = co_await g.feed.async_subscribe(outbox, kind, std::string(message->data), send_state);
        if (!subscription) break;
    }
    subscription.end();
    using code = holdfast::websocket_close_code;
    const bool floods = ec == holdfast::errc::rate_exceeded, restarts = peer.draining() || g.node.draining;
    const auto why = floods ? code::policy_violation : restarts ? code::service_restart : code::normal;
    co_await holdfast::async_close_websocket(
        peer, outbox, {.code = why, .reason = floods ? "too many messages in a second" : ""},
        net::redirect_error(net::use_awaitable, ec)); // after 1012 a browser comes again
}

/// Responds to a request for what is no stream.
net::awaitable<void> respond(gateway& g, const http_request& request, holdfast::http_exchange& exchange, auto& outbox)
{
    const std::string_view path = request.path();
    if (request.method() != "GET" && !exchange.head_only()) {
        outbox.push(exchange.text_response(405, "GET and HEAD only.", "Allow: GET, HEAD\r\n"));
    } else if (path == "/") {
        outbox.push(exchange.response(200, "text/html; charset=utf-8", examples::push_page));
    } else if (path == "/healthz") {
        const bool draining = g.node.draining;
        outbox.push(exchange.text_response(draining || !g.feed.ready() ? 503 : 200,
                                           draining ? "draining" : g.feed.condition()));
    } else if (path == "/metrics") {
        co_await examples::send_metrics(g.node, exchange, outbox);
    } else if (!g.feed.ready() && (path == "/events" || path == "/ws")) {
        outbox.push(exchange.text_response(503, "starting"));
    } else if (path == "/events") {
        outbox.push(exchange.head_only() ? exchange.response_head(200, "text/event-stream")
                                         : exchange.text_response(505, "HTTP/1.1 only."));
    } else {
        outbox.push(exchange.text_response(404, "There are /, /events, /ws, /metrics and /healthz."));
    }
}

/// Serves one client: requests, or a stream.
net::awaitable<void> serve(auto peer, gateway& g)
{
    ++g.sessions;
    gateway_client self{[&peer](holdfast::close_reason why) { peer.abort(why); }};
    auto queue = g.options.queue();
    queue.progress = self;
    holdfast::outbox outbox{peer, queue};
    self.outbox = &outbox;
    self.heartbeat = g.clients.watch(self);
    (void)holdfast::keepalive(peer.stream());
    holdfast::frame_reader heads{peer,
                                 {.max_frame_bytes = gateway_options::max_head_bytes, .deadline = &g.head_deadline},
                                 framing::http_request_head{}};
    std::optional<http_request> request;
    holdfast::http_exchange exchange;
    holdfast::key_permit device;
    holdfast::error_code ended; // its connection says why
    for (std::size_t served = 1;; ++served) {
        outbox.push(co_await examples::read_request(heads, request, exchange,
                                                    {.last = served == gateway_options::max_requests}));
        if (!request) break;
        self.touch();
        const bool frames = request->path() == "/ws", events = request->path() == "/events";
        if (const auto name = request->parameter("device"); name && (frames || events)) {
            exchange.close_after();
            device = g.node.devices.acquire(*name, peer);
            if (!device) outbox.push(exchange.text_response(400, "A device's name has at most 64 bytes."));
            if (!device) break;
        }
        if (frames && g.feed.ready()) {
            const auto handshake =
                holdfast::accept_websocket(request->method(), *request, {.compression = g.compression()});
            outbox.push(handshake.response);
            request.reset();
            if (handshake) co_return co_await send_frames(g, self, peer, outbox, heads, handshake.compression);
            break;
        }
        if (events && request->method() == "GET" && exchange.chunked() && g.feed.ready()) {
            outbox.push(exchange.response_head(200, "text/event-stream", "Cache-Control: no-store\r\n"));
            std::string last((*request)("Last-Event-ID"));
            if (last.empty()) last = request->parameter("last").value_or("");
            request.reset();
            co_await send_events(g, self, outbox, heads, std::move(last));
            break;
        }
        co_await respond(g, *request, exchange, outbox);
        if (!exchange.keeps_alive()) break;
        // A client that does not read its responses sends no more requests.
        co_await outbox.async_flush(net::redirect_error(net::use_awaitable, ended));
        if (ended) break;
    }
    co_await outbox.async_close(net::redirect_error(net::use_awaitable, ended));
    co_await peer.async_close(net::redirect_error(net::use_awaitable, ended));
}

int run(int argc, char** argv)
{
    gateway_options options;
    if (!options.parse(argc, argv)) return 0;
    const auto capacity = options.plan();
    const examples::log_queue log;
    examples::gateway_node node(options);
    auto ring = holdfast::read_saved_ring(options.state, options.ring_options());
    std::string kept = ring.save();    // each thread has a copy
    std::vector<std::jthread> threads; // joined after the shards have ended
    std::optional<examples::feed_topic> topic;
    holdfast::shards<gateway> shards{options.threads, [&](net::io_context& io, std::size_t i) {
                                         return gateway(io, node, i == 0 ? std::move(ring) : options.load_ring(kept));
                                     }};
    node.shards = &shards;
    const examples::ends_feed end_of_feed{shards};
    std::string().swap(kept);
    net::io_context& io = shards.context(0);
    auto limits = options.limits();
    limits.next_executor = shards.least_connections();
    limits.on_event = [&node](const holdfast::acceptor_event& event) {
        node.events(event);
        examples::log_line("push_gateway: ", event);
    };
    acceptor clients{io.get_executor(), options.endpoint(), limits, shards.finalizer()};
    examples::add_metrics(node, clients.census(), capacity);
    examples::start_feed(shards, topic);
    std::optional<holdfast::admin_socket> admin;
    if (!options.admin.empty()) admin.emplace(io.get_executor(), options.admin, clients.census(), shards[0].heartbeats);
    holdfast::remove_saved_ring(options.state); // now that the start cannot fail any more
    const auto begin_drain = [&] {
        examples::log_line("push_gateway: draining ", clients.census().live(), " connections");
        node.begin_drain();
    };
    const auto end_drain = [&](std::size_t reset) {
        examples::log_line("push_gateway: drained, ", reset, " reset");
        shards.stop();
    };
    const auto report = [&] { examples::log_text([&](std::ostream& out) { clients.census().report(out); }); };
    const holdfast::drain_at_signal stop{
        clients,
        {.drain = {.deadline = options.drain, .stagger = options.stagger, .serve_backlog = true},
         .notice = options.notice,
         .on_signal = begin_drain,
         .on_drained = end_drain,
         .on_report = report,
         .on_reload = options.tls.reloader("push_gateway")}};
    options.tls.serve(clients, [&](auto peer, std::size_t shard) { return serve(std::move(peer), shards[shard]); });
    net::co_spawn(io, examples::shed_at_signal(clients, SIGUSR2, options.shed, options.stagger), net::detached);
    if (options.publishes()) net::co_spawn(io, shards[0].feed.publish(options.rate, options.interval), net::detached);
    std::cout << "push_gateway: listening on " << clients.local_endpoint() << ", pid " << ::getpid() << '\n';
    capacity.print("push_gateway");
    for (std::size_t i = 1; i != shards.size(); ++i)
        threads.emplace_back(shards.runner(i));
    shards.run(0);
    threads.clear(); // no thread has more messages than the first one
    if (!options.state.empty()) holdfast::save_ring(options.state, shards[0].feed.topic().ring());
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
