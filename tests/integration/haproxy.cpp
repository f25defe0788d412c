// holdfast: does an acceptor behind a real HAProxy see the clients' addresses, by either version of the PROXY protocol,
// over TCP and over TLS, and are HAProxy's health checks no failures?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/note_end.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/frame_reader.hpp>

#include <chrono>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

using namespace std::chrono_literals;
using holdfast::acceptor_event;
using holdfast::admission_limit;
using holdfast::close_reason;
using holdfast::connection_end;
using holdfast::error_code;
using tests::note_end;
using tests::tcp;
namespace net = holdfast::net;

namespace {

using acceptor_type = holdfast::bounded_acceptor<tcp, note_end>;

/// HAProxy in front of a server, on a port that the kernel chose. It ends with this object.
class load_balancer {
public:
    load_balancer(net::io_context& io, const tcp::endpoint& server, const std::string& options)
        : listener_(io, {net::ip::address_v4::loopback(), 0}),
          file_(std::filesystem::temp_directory_path() / ("holdfast-haproxy-" + std::to_string(::getpid()))),
          child_(command(server, options), listener_.native_handle())
    {
    }
    load_balancer(const load_balancer&) = delete;
    ~load_balancer()
    {
        std::error_code ignored;
        std::filesystem::remove(file_, ignored);
    }

    [[nodiscard]] tcp::endpoint endpoint() const { return listener_.local_endpoint(); }

private:
    [[nodiscard]] std::vector<std::string> command(const tcp::endpoint& server, const std::string& options) const
    {
        std::ofstream(file_)
            << "defaults\n  mode tcp\n  timeout connect 20s\n  timeout client 60s\n  timeout server 60s\n  retries 0\n"
            << "frontend clients\n  bind fd@3\n  default_backend servers\n"
            << "backend servers\n  server one 127.0.0.1:" << server.port() << ' ' << options << '\n';
        return {HAPROXY, "-db", "-f", file_};
    }

    tcp::acceptor listener_; // never accepts: HAProxy has inherited it
    const std::string file_;
    tests::process child_;
};

/// A server of echoed lines behind HAProxy.
struct fixture {
    fixture()
        : acceptor(io.get_executor(), {net::ip::address_v4::loopback(), 0},
                   {.max_per_address = 2,
                    .proxy = {.trusted_senders = {"127.0.0.1"}, .header_timeout = 20s},
                    .on_event = [this](const acceptor_event& event) { events.push_back(event); }},
                   note_end{&ends})
    {
    }

    template <class... Factory>
    void serve(Factory... factory)
    {
        acceptor.async_serve(
            std::move(factory)...,
            [this](auto peer) -> net::awaitable<void> {
                ++sessions;
                holdfast::frame_reader lines(peer);
                while (auto line = co_await lines.async_next(net::use_awaitable)) {
                    const std::string echo(*line);
                    co_await net::async_write(peer.stream(), net::buffer(echo + "\n"), net::use_awaitable);
                }
                co_await peer.async_close(net::use_awaitable);
            },
            net::detached);
    }

    /// A client of an address of its own.
    tcp::socket& connect(const load_balancer& to, const char* from = "127.0.0.2")
    {
        tcp::socket& client = clients.emplace_back(io);
        client.open(tcp::v4());
        client.bind({net::ip::make_address(from), 0});
        client.connect(to.endpoint());
        return client;
    }

    /// Whether the line came back over the stream; false where the stream has ended.
    template <class Stream>
    bool echoes(Stream& stream)
    {
        bool done = false;
        error_code result;
        std::string got;
        net::async_write(stream, net::buffer("line\n", 5), [&](error_code, std::size_t) {
            net::async_read_until(stream, net::dynamic_buffer(got), '\n', [&](error_code ec, std::size_t) {
                result = ec;
                done = true;
            });
        });
        tests::run_until(io, [&] { return done; });
        return !result && got == "line\n";
    }

    [[nodiscard]] std::string census() const
    {
        std::string shown;
        acceptor.census().for_each([&](const auto& each) { shown += each.remote; });
        return shown;
    }

    std::vector<connection_end> ends;
    std::vector<acceptor_event> events;
    int sessions = 0;
    net::io_context io;
    std::deque<tcp::socket> clients;
    acceptor_type acceptor;
};

std::string text_of(const tcp::socket& socket)
{
    const auto local = socket.local_endpoint();
    return local.address().to_string() + ":" + std::to_string(local.port());
}

} // namespace

TEST_CASE("behind HAProxy the client's address is known, and counted, by version 1 and 2")
{
    fixture f;
    f.serve();
    const load_balancer balancer(f.io, f.acceptor.local_endpoint(), GENERATE("send-proxy", "send-proxy-v2"));
    auto& first = f.connect(balancer);
    REQUIRE(f.echoes(first));
    const std::string address = text_of(first);
    CHECK(f.census() == address);
    CHECK(f.echoes(f.connect(balancer)));
    CHECK_FALSE(f.echoes(f.connect(balancer))); // the third of one client's address
    CHECK(f.acceptor.rejected() == 1);
    REQUIRE(f.events.size() == 1);
    CHECK(f.events[0].limit == admission_limit::per_address);
    CHECK(f.events[0].remote == f.clients.back().local_endpoint());
    CHECK(f.echoes(f.connect(balancer, "127.0.0.3")));
    f.ends.clear();
    first.close();
    tests::run_until(f.io, [&] { return !f.ends.empty(); });
    CHECK(f.ends[0].peer.text().view() == address);
    CHECK(f.ends[0].reason == close_reason::peer_closed);
}

TEST_CASE("behind HAProxy the header comes before the handshake of TLS", "[tls]")
{
    const tests::certificate files;
    fixture f;
    f.serve(holdfast::tls(holdfast::tls_context::server(
        {.certificate_chain_file = files.chain_file(), .private_key_file = files.key_file()})));
    const load_balancer balancer(f.io, f.acceptor.local_endpoint(), "send-proxy-v2");
    net::ssl::context context(net::ssl::context::tls_client);
    auto& socket = f.connect(balancer);
    const std::string address = text_of(socket);
    net::ssl::stream<tcp::socket&> client(socket, context);
    bool shaken = false;
    client.async_handshake(net::ssl::stream_base::client, [&](error_code ec) {
        CHECK_FALSE(ec);
        shaken = true;
    });
    tests::run_until(f.io, [&] { return shaken; });
    CHECK(f.echoes(client));
    CHECK(f.census() == address);
    CHECK(f.events.empty());
}

// Without a header HAProxy resets before its connection is established: an acceptor sees nothing of it.
TEST_CASE("HAProxy's health checks with a header are no failures, over TLS neither", "[tls]")
{
    const tests::certificate files;
    const bool over_tls = GENERATE(false, true);
    fixture f;
    if (over_tls)
        f.serve(holdfast::tls(holdfast::tls_context::server(
            {.certificate_chain_file = files.chain_file(), .private_key_file = files.key_file()})));
    else
        f.serve();
    const char* const checks =
        GENERATE("send-proxy check inter 20ms", "send-proxy-v2 check inter 20ms", "check check-send-proxy inter 20ms");
    INFO(checks);
    const load_balancer balancer(f.io, f.acceptor.local_endpoint(), checks);
    tests::run_until(f.io, [&] { return f.ends.size() >= 5; });
    for (const connection_end& end : f.ends) {
        INFO(end);
        CHECK((end.reason == close_reason::peer_closed || end.reason == close_reason::peer_reset ||
               end.reason == close_reason::handshake_failed));
    }
    for (const acceptor_event& event : f.events) { // it may have left before it was accepted
        INFO(event);
        CHECK(event.what == acceptor_event::kind::lost);
    }
}
