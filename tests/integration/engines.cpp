// holdfast: the engines between nodes: real servers, which go away, come back, and trim what they keep.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/process.hpp"
#include "support/sockets.hpp"

#include "../examples/support/redis_stream.hpp"
#if defined(NATS_SERVER)
#include "../examples/support/nats_stream.hpp"
#endif

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

namespace {

namespace net = holdfast::net;
using tests::tcp;
using namespace std::chrono_literals;

std::uint16_t free_port()
{
    net::io_context io;
    const tcp::acceptor some(io, {net::ip::address_v4::loopback(), 0});
    return some.local_endpoint().port();
}

/// A folder that goes with this object.
struct folder {
    folder() : path((std::filesystem::temp_directory_path() / "holdfast_engine_XXXXXX").string())
    {
        if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("no folder for the engine's files");
    }
    folder(const folder&) = delete;
    ~folder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string path;
};

/// A server on a port of its own, which can be ended and started again with what it kept.
class server {
public:
    void start()
    {
        const std::string port_text = std::to_string(port);
        child_.emplace(command(port_text, files_.path));
        net::io_context io;
        tcp::socket probe(io);
        tests::connect_when_ready(probe, {net::ip::address_v4::loopback(), port}, *child_);
    }
    void stop()
    {
        child_->signal(SIGTERM);
        child_->wait();
        child_.reset();
    }
    void signal(int number) { child_->signal(number); }

    const std::uint16_t port = free_port();

protected:
    using command_of = std::vector<std::string> (*)(const std::string& port, const std::string& folder);
    explicit server(command_of c) : command(c) { start(); }

private:
    const command_of command;
    folder files_;
    std::optional<tests::process> child_;
};

struct redis_server : server {
    redis_server()
        : server([](const std::string& at, const std::string& in) {
              return std::vector<std::string>{
                  REDIS_SERVER, "--port",        at,       "--bind", "127.0.0.1", "--dir", in, "--appendonly",
                  "yes",        "--appendfsync", "always", "--save", ""};
          })
    {
    }
};

/// What a node has received.
struct node {
    node(std::unique_ptr<examples::message_engine> from_engine, const std::string& from)
        : engine(std::move(from_engine))
    {
        engine->subscribe(from, {.on_message =
                                     [this](std::string_view id, std::string_view text) {
                                         in_order = in_order && (ids.empty() || later(ids.back(), std::string(id)));
                                         ids.emplace_back(id);
                                         texts.emplace_back(text);
                                     },
                                 .on_gap = [this](std::string_view last) { gaps.emplace_back(last); },
                                 .on_connected = [this](bool on) { states.push_back(on); },
                                 .on_caught_up = [this] { caught_up_at.push_back(ids.size()); }});
    }

    node(net::io_context& io, std::uint16_t port, const std::string& from, std::size_t kept = 10'000)
        : node(std::make_unique<examples::redis_stream>(
                   io.get_executor(),
                   examples::redis_stream::settings{
                       .port = port, .key = "feed", .kept = kept, .batch = 8, .read_timeout = 200ms}),
               from)
    {
    }

    /// Ids of Redis: time and number; of NATS: a number.
    static bool later(const std::string& a, const std::string& b)
    {
        const auto split = [](const std::string& id) {
            const auto dash = id.find('-');
            return std::pair(std::stoull(id.substr(0, dash)), dash == id.npos ? 0 : std::stoull(id.substr(dash + 1)));
        };
        return split(a) < split(b);
    }

    std::unique_ptr<examples::message_engine> engine;
    std::vector<std::string> ids, texts, gaps;
    std::vector<bool> states;
    std::vector<std::size_t> caught_up_at; // messages
    bool in_order = true;
};

/// Publishes, and waits for the ids.
std::vector<std::string> publish(net::io_context& io, examples::message_engine& engine, int first, int count)
{
    std::vector<std::string> ids;
    for (int i = first; i != first + count; ++i)
        engine.publish("message " + std::to_string(i), [&](std::string_view id) { ids.emplace_back(id); });
    tests::run_until(io, [&] { return ids.size() == static_cast<std::size_t>(count); });
    return ids;
}

} // namespace

TEST_CASE("ids are compared as numbers, and what is no id is not later than any")
{
    using examples::is_later_id;
    CHECK(is_later_id("10", "9"));
    CHECK(is_later_id("1700000000000-10", "1700000000000-9"));
    CHECK(is_later_id("1700000000001-0", "1700000000000-9"));
    CHECK_FALSE(is_later_id("9", "9"));
    CHECK_FALSE(is_later_id("1-1", "1-2"));
    for (const char* wrong : {"", "-", "1-", "-1", "x", "1-2-3", "1-2x", " 1", "99999999999999999999"}) {
        CHECK_FALSE(is_later_id(wrong, "0"));
        CHECK_FALSE(is_later_id("2", wrong));
    }
}

TEST_CASE("redis: two nodes get the same messages with the same ids, and one that comes later continues from an id")
{
    redis_server redis;
    net::io_context io;
    node a(io, redis.port, "0"), b(io, redis.port, "0");
    tests::run_until(io, [&] { return a.caught_up_at.size() == 1 && b.engine->connected(); });
    CHECK(a.engine->connected());
    CHECK(a.engine->problem().empty());
    const auto ids = publish(io, *a.engine, 0, 50); // some batches
    tests::run_until(io, [&] { return a.ids.size() == 50 && b.ids.size() == 50; });
    CHECK(a.ids == ids);
    CHECK(b.ids == ids);
    CHECK(b.texts.back() == "message 49");
    CHECK(b.in_order);

    node third(io, redis.port, ids[9]);
    node only_new(io, redis.port, "");
    CHECK(third.engine->expects(ids[10])); // a client may come from another node
    tests::run_until(io, [&] { return third.caught_up_at.size() == 1 && only_new.engine->connected(); });
    CHECK(third.caught_up_at[0] == 40);
    CHECK(a.caught_up_at == std::vector<std::size_t>{0}); // of an empty stream
    CHECK_FALSE(third.engine->expects(ids[49]));
    CHECK(third.engine->expects(ids[49] + "0"));
    CHECK(third.texts.front() == "message 10");
    for (int at = 50; only_new.ids.empty(); ++at) // until its subscription has begun
        publish(io, *b.engine, at, 1);
    CHECK(only_new.texts.front() != "message 49");
    for (const node* each : {&a, &b, &third, &only_new})
        CHECK(each->gaps.empty());
}

TEST_CASE("redis: a server that is away is reported, and what was published meanwhile comes when it is back, once")
{
    redis_server redis;
    net::io_context io;
    node a(io, redis.port, "0");
    tests::run_until(io, [&] { return a.caught_up_at.size() == 1; });
    publish(io, *a.engine, 0, 20);
    const bool killed = GENERATE(false, true);
    CAPTURE(killed);
    tests::run_until(io, [&] { return a.ids.size() == 20; });
    if (killed) redis.signal(SIGKILL);
    redis.stop();
    tests::run_until(io, [&] { return !a.engine->connected(); });
    CHECK(a.engine->problem().starts_with("redis: "));
    CHECK(publish(io, *a.engine, 20, 1) == std::vector<std::string>{""}); // fails at once
    redis.start();
    {
        net::io_context other; // published by another node while this one does not run
        examples::redis_stream publisher(other.get_executor(), {.port = redis.port, .key = "feed"});
        tests::run_until(other, [&] { return publisher.connected(); });
        CHECK(publish(other, publisher, 20, 20).front() != "");
    }
    tests::run_until(io, [&] { return a.ids.size() == 40 && a.caught_up_at.size() == 2; });
    CHECK(a.caught_up_at == std::vector<std::size_t>{0, 40});
    CHECK(a.states == std::vector<bool>{true, false, true});
    CHECK(a.engine->problem().empty());
    CHECK(a.in_order);
    CHECK(a.texts[20] == "message 20");
    CHECK(a.gaps.empty());
}

TEST_CASE("redis: a server that does not answer counts as away")
{
    redis_server redis;
    net::io_context io;
    node a(io, redis.port, "0");
    tests::run_until(io, [&] { return a.engine->connected(); });
    std::optional<std::string> id;
    redis.signal(SIGSTOP);
    a.engine->publish("lost?", [&](std::string_view got) { id = got; });
    tests::run_until(io, [&] { return !a.engine->connected(); });
    CHECK(id == "");
    redis.signal(SIGCONT);
    tests::run_until(io, [&] { return a.engine->connected(); });
    publish(io, *a.engine, 1, 1);
    tests::run_until(io, [&] { return !a.texts.empty() && a.texts.back() == "message 1"; });
    CHECK(a.gaps.empty());
}

TEST_CASE("redis: a stream that was trimmed beyond the last id is a gap, and what is left follows")
{
    redis_server redis;
    net::io_context io;
    std::vector<std::string> ids;
    {
        node before(io, redis.port, "0", 10);
        tests::run_until(io, [&] { return before.engine->connected(); });
        ids = publish(io, *before.engine, 0, 10);
    }
    node a(io, redis.port, ids[4], 10); // a node that comes again; meanwhile others publish
    tests::run_until(io, [&] { return a.ids.size() == 5; });
    CHECK(a.gaps.empty());
    a.engine.reset();
    const auto resumed = a.ids.back();
    node publisher(io, redis.port, "", 10);
    tests::run_until(io, [&] { return publisher.engine->connected(); });
    publish(io, *publisher.engine, 10, 300); // the stream is trimmed by whole blocks
    node again(io, redis.port, resumed, 10);
    tests::run_until(io, [&] { return !again.texts.empty() && again.texts.back() == "message 309"; });
    CHECK(again.gaps == std::vector<std::string>{resumed});
    CHECK(again.in_order);
    CHECK(again.texts.front() != "message 10");
}

TEST_CASE("redis: no server at first, and none when everything ends")
{
    net::io_context io;
    const std::uint16_t port = free_port();
    node a(io, port, "0");
    CHECK_FALSE(a.engine->connected());
    CHECK_FALSE(a.engine->problem().empty());
    CHECK(publish(io, *a.engine, 0, 1) == std::vector<std::string>{""});
    tests::run_until(io, [&] { return a.engine->problem().find("onnection refused") != std::string::npos; });
    CHECK(a.states.empty());
}

#if defined(NATS_SERVER)
namespace {

struct nats_server : server {
    nats_server()
        : server([](const std::string& at, const std::string& in) {
              return std::vector<std::string>{NATS_SERVER, "-a", "127.0.0.1", "-p", at, "-js", "-sd", in};
          })
    {
    }

    std::unique_ptr<examples::message_engine> engine(net::io_context& io, std::int64_t kept = 10'000) const
    {
        return std::make_unique<examples::nats_stream>(
            io.get_executor(),
            examples::nats_stream::settings{.url = "127.0.0.1:" + std::to_string(port), .name = "feed", .kept = kept});
    }
};

} // namespace

TEST_CASE(
    "nats: the same ids on every node, in order, a node continues from an id, and reports where the stream was trimmed")
{
    nats_server nats;
    net::io_context io;
    node a(nats.engine(io, 30), "0");
    CHECK(publish(io, *a.engine, 0, 1) == std::vector<std::string>{""}); // it is not connected yet
    tests::run_until(io, [&] { return a.caught_up_at.size() == 1; });
    CHECK(a.engine->problem().empty());
    const auto ids = publish(io, *a.engine, 0, 20);
    tests::run_until(io, [&] { return a.ids.size() == 20; });
    CHECK(a.ids == ids);
    CHECK(a.texts[19] == "message 19");
    node b(nats.engine(io, 10), ids[9]); // another limit than that of the stream
    tests::run_until(io, [&] { return b.caught_up_at.size() == 1; });
    CHECK(b.caught_up_at[0] == 10);
    CHECK(b.texts[0] == "message 10");
    CHECK(b.engine->expects(ids[19] + "0"));
    CHECK_FALSE(b.engine->expects(ids[19]));

    b.engine.reset(); // meanwhile others publish
    publish(io, *a.engine, 20, 600);
    tests::run_until(io, [&] { return a.texts.back() == "message 619"; });
    node again(nats.engine(io), b.ids.back());
    tests::run_until(io, [&] { return !again.texts.empty() && again.texts.back() == "message 619"; });
    CHECK(again.gaps == std::vector<std::string>{b.ids.back()});
    CHECK(again.texts.front() == "message 590");
    CHECK(a.gaps.empty());
    for (const node* each : {&a, &b, &again})
        CHECK(each->in_order);
}

TEST_CASE("nats: a server that is away is reported, and what was published meanwhile comes when it is back, once")
{
    nats_server nats;
    net::io_context io;
    node a(nats.engine(io), "0"), only_new(nats.engine(io), "");
    tests::run_until(io, [&] { return a.engine->connected() && only_new.caught_up_at.size() == 1; });
    const bool killed = GENERATE(false, true);
    CAPTURE(killed);
    if (killed) nats.signal(SIGKILL);
    nats.stop();
    tests::run_until(io, [&] { return !a.engine->connected() && !only_new.engine->connected(); });
    CHECK(a.engine->problem().starts_with("nats: "));
    CHECK(publish(io, *a.engine, 0, 1) == std::vector<std::string>{""});
    nats.start();
    tests::run_until(io, [&] { return a.engine->connected(); });
    std::vector<std::string> ids = publish(io, *a.engine, 0, 40);
    for (int i = 0; i != 40; ++i) // the publisher's connection may be the one of before
        if (ids[static_cast<std::size_t>(i)].empty()) ids.push_back(publish(io, *a.engine, i, 1)[0]);
    std::erase(ids, "");
    CHECK(ids.size() == 40);
    tests::run_until(io, [&] { return a.ids.size() == 40 && only_new.ids.size() == 40; });
    CHECK(a.ids == ids);
    CHECK(only_new.ids == ids);
    CHECK(a.states == std::vector<bool>{true, false, true});
    CHECK(a.gaps.empty());
    CHECK(only_new.gaps.empty());
    CHECK(a.engine->problem().empty());
}

TEST_CASE("nats: a server that does not answer counts as away, a stream that was deleted is a gap")
{
    nats_server nats;
    net::io_context io;
    node a(nats.engine(io), "0");
    tests::run_until(io, [&] { return a.engine->connected(); });
    publish(io, *a.engine, 0, 3);
    nats.signal(SIGSTOP);
    std::optional<std::string> id;
    a.engine->publish("lost?", [&](std::string_view got) { id = got; });
    tests::run_until(io, [&] { return !a.engine->connected() && id; });
    const bool arrived = !id->empty(); // before the server stood still
    nats.signal(SIGCONT);
    tests::run_until(io, [&] { return a.engine->connected(); });
    std::string last;
    while (last.empty()) // the publisher's connection may be the one of before
        last = publish(io, *a.engine, 3, 1)[0];
    tests::run_until(io, [&] { return a.texts.back() == "message 3"; });
    CHECK((!arrived || a.texts[3] == "lost?"));
    CHECK(a.gaps.empty());

    natsConnection* connection = nullptr;
    jsCtx* stream = nullptr;
    REQUIRE(natsConnection_ConnectTo(&connection, ("127.0.0.1:" + std::to_string(nats.port)).c_str()) == NATS_OK);
    CHECK(natsConnection_JetStream(&stream, connection, nullptr) == NATS_OK);
    CHECK(js_DeleteStream(stream, "feed", nullptr, nullptr) == NATS_OK);
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
    tests::run_until(io, [&] { return !a.engine->connected(); });
    tests::run_until(io, [&] { return a.engine->connected(); });
    while (publish(io, *a.engine, 4, 1)[0].empty()) {
    }
    tests::run_until(io, [&] { return a.texts.back() == "message 4"; });
    CHECK(a.gaps == std::vector<std::string>{last});
    CHECK(a.in_order);
}

TEST_CASE("nats: no server at first, and a node that ends with messages on the way")
{
    net::io_context io;
    {
        const examples::nats_stream::settings nowhere{.url = "nats://127.0.0.1:" + std::to_string(free_port())};
        node a(std::make_unique<examples::nats_stream>(io.get_executor(), nowhere), "0");
        CHECK_FALSE(a.engine->connected());
        tests::run_until(io, [&] { return a.engine->problem() == "nats: No server available for connection"; });
        CHECK(a.states.empty());
    }
    nats_server nats;
    {
        node a(nats.engine(io), "0");
        tests::run_until(io, [&] { return a.engine->connected(); });
        publish(io, *a.engine, 0, 1000);
    }
    node b(nats.engine(io), "0"); // reads more than may be on the way
    tests::run_until(io, [&] { return b.ids.size() == 1; });
    b.engine->publish("on the way", [](std::string_view) { FAIL("the engine has gone"); });
    const std::size_t delivered = b.ids.size();
    b.engine.reset();
    io.poll();
    CHECK(b.ids.size() == delivered);
}
#endif
