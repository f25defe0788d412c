// holdfast: log_collector, Protobuf batches in, filtered JSON out over HTTP, in bounded memory.
// SPDX-License-Identifier: BSL-1.0
//
// Programs send their records to --port, as batches with a varint in front (Protobuf's delimited messages):
//
//     enum Level { DEBUG = 0; INFO = 1; WARN = 2; ERROR = 3; }
//     message Record { uint64 time_ms = 1; Level level = 2; string service = 3; string message = 4; }
//     message Batch { repeated Record records = 1; }
//
// Readers receive them as they arrive, until they disconnect, as lines or (EventSource) as events:
//
//     curl -N --compressed 'http://127.0.0.1:7778/logs?level=warn&service=billing&last=100'
//     curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7778/logs
//     curl http://127.0.0.1:7778/status
//
// What keeps the memory bounded: both acceptors have a limit; a batch has a limit; the log keeps --window bytes,
// however slow its readers are, and a reader is a position in it; there are --compressors compressors, and a reader that
// connects while all of them are in use gets plain text.
#include "support/command_line.hpp"
#include "support/http_request.hpp"
#include "support/listening.hpp"
#include "support/log.hpp"
#include "support/log_window.hpp"
#include "support/protobuf_fields.hpp"
#include "support/tls_option.hpp"

#include <holdfast/adapters/deflate.hpp>
#include <holdfast/holdfast.hpp>
#include <holdfast/server/census_report.hpp>
#include <holdfast/server/drain_at_signal.hpp>

#include <array>
#include <charconv>
#include <csignal>
#include <iostream>
#include <optional>
#include <ostream>

#include <unistd.h>

namespace net = holdfast::net;
namespace framing = holdfast::framing;
using net::ip::tcp;
using namespace std::chrono_literals;
using acceptor = holdfast::bounded_acceptor<tcp>;
using holdfast::async_write_streamed, holdfast::deflated, holdfast::framed, holdfast::json, holdfast::ndjson;

namespace {

struct missed_records {
    std::uint64_t missed;
};

struct status {
    std::uint64_t records;
    holdfast::census_report programs, readers;
};

constexpr std::size_t max_batch = 64 * 1024;
constexpr std::size_t chunk = 4096;

/// What all sessions share. Everything runs on one thread.
struct collector {
    collector(net::io_context& io, std::size_t window_bytes, std::size_t compressors, std::chrono::milliseconds timeout)
        : window(window_bytes),
          gzip(io.get_executor(), {.compressors = compressors, .level = 1}),
          heartbeats(io.get_executor(), {.tick = 1s, .timeout = timeout}),
          news(io)
    {
    }

    examples::log_window window;
    holdfast::deflate_pool gzip;
    holdfast::heartbeat_timer<> heartbeats;
    holdfast::unsynchronized_event news; // for all readers at once
};

examples::log_record record_of(std::string_view message)
{
    examples::log_record record;
    examples::protobuf_fields fields{message};
    while (const auto field = fields.next()) {
        if (field->number == 1) record.time_ms = field->integer;
        if (field->number == 2)
            record.level = static_cast<examples::log_level>(std::min<std::uint64_t>(field->integer, 3));
        if (field->number == 3) record.service = field->bytes;
        if (field->number == 4) record.message = field->bytes;
    }
    return record;
}

/// One program. A batch that is none ends its connection: where the next one begins is unknown.
template <class Connection>
net::awaitable<void> collect(Connection peer, collector& c)
{
    auto heartbeat = c.heartbeats.watch(peer);
    holdfast::frame_reader batches{peer, {.max_frame_bytes = max_batch}, framing::varint_length{}};
    while (const auto batch = co_await batches.async_next()) {
        heartbeat.touch();
        examples::protobuf_fields fields{*batch};
        while (const auto field = fields.next())
            if (field->number == 1) c.window.add(record_of(field->bytes));
        c.news.notify_all();
    }
    co_await peer.async_close();
}

/// False where the reader has gone, or is to go: its side of the stream has ended.
template <class Connection>
bool still_there(Connection& peer)
{
    for (int reads = 0; reads != 16; ++reads) { // one that keeps sending must not keep the others waiting
        std::array<char, 256> waste;
        holdfast::error_code ec;
        examples::try_read_some(peer.stream(), net::buffer(waste), ec);
        if (ec) return ec == net::error::would_block;
    }
    return true;
}

template <class Connection>
net::awaitable<void> send(Connection& peer, const holdfast::payload& message)
{
    const std::string_view text = message.text();
    co_await net::async_write(peer.stream(), net::buffer(text.data(), text.size()), net::use_awaitable);
}

/// Sends records for as long as the reader stays: all that there are as one message of many lines, or each as
/// an event of its own, which the reader names when it comes again.
template <class Connection>
net::awaitable<void> follow(Connection& peer, collector& c, const examples::http_request& request,
                            holdfast::http_exchange& exchange, examples::unseen_records unseen,
                            holdfast::heartbeat& heartbeat)
{
    const holdfast::write_streamed_options options{.chunk_bytes = chunk, .progress = heartbeat};
    const bool events = request.accepts("Accept", "text/event-stream");
    const holdfast::compressor gzip =
        request.accepts("Accept-Encoding", "gzip") ? c.gzip.try_borrow() : holdfast::compressor();
    std::string fields = "Cache-Control: no-store\r\nVary: Accept, Accept-Encoding\r\n";
    if (gzip) fields += "Content-Encoding: gzip\r\n";
    co_await send(peer, exchange.response_head(200, events ? "text/event-stream" : "application/x-ndjson", fields));
    if (exchange.head_only()) co_return;

    // Each message can be read at once, and the body goes on with the next.
    const framing::http_chunked more{.ends = false};
    const framed lines{more, deflated{gzip, ndjson{}, holdfast::deflate_end::flush}};
    const auto event = [&](framing::sse around) {
        return framed{more, deflated{gzip, framed{around, json{}}, holdfast::deflate_end::flush}};
    };
    peer.stream().lowest_layer().non_blocking(true);
    (void)holdfast::keepalive(peer.stream());            // one that is gone without a word, while nothing is to be sent
    for (bool stays = true; stays || peer.draining();) { // in a drain it still gets what there is
        stays = still_there(peer);
        if (const missed_records gone{unseen.take_missed()}; gone.missed != 0) {
            if (events)
                co_await async_write_streamed(peer, holdfast::formatted(gone, event({.event = "missed"})), options);
            else
                co_await async_write_streamed(peer, holdfast::formatted(gone, lines), options);
        } else if (unseen.empty()) {
            if (!stays) break;
            heartbeat.touch(); // it has all that there is
            co_await c.news.async_wait();
        } else if (events) {
            const std::string number = std::to_string(unseen.seek());
            const auto record = unseen.begin();
            co_await async_write_streamed(peer, holdfast::formatted(*record, event({.id = number})), options);
        } else {
            co_await async_write_streamed(peer, holdfast::formatted(std::ref(unseen), lines), options);
        }
    }
    const std::array<missed_records, 0> nothing{};
    co_await async_write_streamed(
        peer, holdfast::formatted(nothing, framed{framing::http_chunked{}, deflated{gzip, ndjson{}}}), options);
}

/// An answer that is known as a whole, sent in chunks.
template <class Connection, class Source>
net::awaitable<void> answer(Connection& peer, holdfast::http_exchange& exchange, const Source& body)
{
    co_await send(peer, exchange.response_head(200, "application/json"));
    if (exchange.head_only()) co_return;
    const framed chunked{framing::http_chunked{}, json{}};
    co_await async_write_streamed(peer, holdfast::formatted(std::cref(body), chunked), {.chunk_bytes = chunk});
}

/// The number that a parameter or a header holds.
std::optional<std::uint64_t> number_in(const std::optional<std::string>& text)
{
    std::uint64_t number = 0;
    if (!text || text->empty()) return {};
    const auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), number);
    if (ec != std::errc() || end != text->data() + text->size()) return {};
    return number;
}

std::optional<examples::log_level> level_of(const std::string& name)
{
    for (const auto& each : describe(holdfast::type_tag<examples::log_level>{}).list)
        if (each.name == name) return each.value;
    return {};
}

/// What a request asks of the log, and from where on: after the last event that the reader knows, the last
/// so many records, or from now on.
template <class Connection>
net::awaitable<void> answer_logs(Connection& peer, collector& c, const examples::http_request& request,
                                 holdfast::http_exchange& exchange, holdfast::heartbeat& heartbeat)
{
    const auto level = level_of(request.parameter("level").value_or("debug"));
    if (!level) {
        co_await send(peer, exchange.text_response(400, "level: debug, info, warn or error"));
        co_return;
    }
    const std::uint64_t end = c.window.end();
    std::uint64_t from = end - std::min(end - c.window.first(), number_in(request.parameter("last")).value_or(0));
    if (const auto known = number_in(std::string(request("Last-Event-ID"))))
        from = std::min(*known, end - std::min<std::uint64_t>(end, 1)) + 1;
    const examples::log_filter filter{*level, request.parameter("service").value_or("")};
    co_await follow(peer, c, request, exchange, {c.window, filter, std::min(from, end)}, heartbeat);
}

template <class Connection>
net::awaitable<void> answer_status(Connection& peer, collector& c, holdfast::http_exchange& exchange,
                                   const acceptor& programs, const acceptor& readers)
{
    const status now{c.window.end(), holdfast::make_census_report(programs.census()),
                     holdfast::make_census_report(readers.census())};
    co_await answer(peer, exchange, now);
}

/// One reader: a request, an answer.
template <class Connection>
net::awaitable<void> serve(Connection peer, collector& c, const acceptor& programs, const acceptor& readers)
{
    auto heartbeat = c.heartbeats.watch(peer);
    holdfast::frame_reader heads{peer, {.max_frame_bytes = 4096}, framing::http_request_head{}};
    std::optional<examples::http_request> request;
    holdfast::http_exchange exchange;
    const holdfast::payload refusal = co_await examples::read_request(heads, request, exchange, {.last = true});
    if (!request)
        co_await send(peer, refusal);
    else if (!exchange.chunked())
        co_await send(peer, exchange.text_response(505, "Streams need HTTP/1.1."));
    else if (request->method() != "GET" && !exchange.head_only())
        co_await send(peer, exchange.text_response(405, "GET and HEAD only.", "Allow: GET, HEAD\r\n"));
    else if (request->path() == "/status")
        co_await answer_status(peer, c, exchange, programs, readers);
    else if (request->path() == "/logs")
        co_await answer_logs(peer, c, *request, exchange, heartbeat);
    else
        co_await send(peer, exchange.text_response(404, "There are /logs and /status."));
    co_await peer.async_close();
}

/// Wakes the readers once a second, to check whether they are still wanted.
net::awaitable<void> run_clock(collector& c, const bool& over)
{
    net::steady_timer clock(c.news.get_executor());
    while (!over) {
        clock.expires_after(1s);
        co_await clock.async_wait(net::use_awaitable);
        c.news.notify_all();
    }
}

int run(int argc, char** argv)
{
    std::string address = "127.0.0.1";
    std::uint16_t port = 7777;
    std::uint16_t http_port = 7778;
    std::size_t max_programs = 1000;
    std::size_t max_readers = 1000;
    std::size_t compressors = 16;
    examples::byte_count window{64 * 1024 * 1024};
    std::chrono::milliseconds timeout = 60s;
    std::chrono::milliseconds deadline = 10s;
    examples::command_line cli{"log_collector", "Protobuf batches of log records in, filtered JSON out over HTTP."};
    cli.add("address", address, "IP", "the address to listen on");
    cli.add("port", port, "N", "the port to which programs send batches; 0: one that the kernel chooses");
    cli.add("http-port", http_port, "N", "the port of the readers; 0: one that the kernel chooses");
    cli.add("max-programs", max_programs, "N", "programs connected at once");
    cli.add("max-readers", max_readers, "N", "readers connected at once");
    cli.add("compressors", compressors, "N", "readers that get gzip at once; the others get plain text");
    cli.add("window", window, "BYTES", "how much of the log is kept for readers that are slow or come later");
    cli.add("timeout", timeout, "TIME",
            "a program that sends nothing, or a reader that reads nothing, for this time is disconnected");
    cli.add("drain", deadline, "TIME", "after SIGTERM, the time that connections have to end before they are reset");
    examples::tls_option tls;
    tls.add_to(cli);
    if (!cli.parse(argc, argv)) return 0;
    tls.load();
    const std::array endpoints{examples::listen_endpoint(address, port), examples::listen_endpoint(address, http_port)};
    examples::require_descriptors(max_programs + max_readers + examples::spare_descriptors);

    const examples::log_queue log;
    net::io_context io(1);
    collector c(io, window.value, compressors, timeout);
    const holdfast::acceptor_options of_programs{.max_connections = max_programs, .receive_buffer_bytes = 64 * 1024};
    const holdfast::acceptor_options of_readers{.max_connections = max_readers, .send_buffer_bytes = 32 * 1024};
    acceptor programs{io.get_executor(), endpoints[0], of_programs};
    acceptor readers{io.get_executor(), endpoints[1], of_readers};
    bool over = false;
    const auto report = [&] { examples::log_text([&](std::ostream& out) { readers.census().report(out); }); };
    const auto drain_readers = [&](std::size_t reset) {                  // which then have the last batches
        if (tls.enabled()) std::signal(SIGHUP, SIG_IGN);                 // a late one must not end the drain
        net::post(c.news.get_executor(), [&c] { c.news.notify_all(); }); // once they have been notified
        readers.async_drain({.deadline = deadline / 2}, [&over, reset](holdfast::error_code, std::size_t more) {
            examples::log_line("log_collector: drained, ", reset + more, " reset");
            over = true;
        });
    };
    const holdfast::drain_at_signal stop{programs,
                                         {.drain = {.deadline = deadline / 2},
                                          .on_signal = [] { examples::log_line("log_collector: draining"); },
                                          .on_drained = drain_readers,
                                          .on_report = report,
                                          .on_reload = tls.reloader("log_collector")}};
    net::co_spawn(io, run_clock(c, over), net::detached);
    tls.serve(programs, [&](auto peer) { return collect(std::move(peer), c); });
    tls.serve(readers, [&](auto peer) { return serve(std::move(peer), c, programs, readers); });
    std::cout << "log_collector: listening on " << programs.local_endpoint() << ", pid " << ::getpid() << '\n'
              << "log_collector: readers at " << (tls.enabled() ? "https://" : "http://") << readers.local_endpoint()
              << "/logs" << std::endl;
    io.run(); // returns when the drain is over and the last session has ended
    report();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }
