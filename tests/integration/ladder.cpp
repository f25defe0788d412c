// holdfast: tests of the ladder: its plan, verdict and files; runs against small servers of known vices.
// SPDX-License-Identifier: BSL-1.0
#include "../examples/support/command_line.hpp"
#include "../examples/support/ladder_chart.hpp"
#include "../examples/support/ladder_climb.hpp"
#include "../examples/support/ladder_http.hpp"
#include "../examples/support/ladder_json.hpp"
#include "../examples/support/ladder_plan.hpp"
#include "../examples/support/ladder_report.hpp"
#include "../examples/support/ladder_verdict.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using examples::usage_error;

/// What a test's server does with its connections.
struct server_habits {
    std::size_t greeting = 0;       ///< bytes that each new client gets
    std::size_t leak = 0;           ///< bytes that each connection takes and that never come back
    bool accepts = true;            ///< false: new clients stay in a backlog of a few
    bool keeps_descriptors = false; ///< forgets to close those that the peer has ended
    std::uint32_t dies_at = 0;      ///< ends at so many connections; 0: never
    std::string asks{};             ///< sent after the greeting; a client that answers pong is closed
};

/// A server in a process of its own, on a port that the kernel chose; it ends with this object.
class test_server {
public:
    explicit test_server(const server_habits& habits)
    {
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener, habits.accepts ? 1024 : 4) == 0);
        socklen_t size = sizeof address;
        REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port_ = ntohs(address.sin_port);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(listener, habits);
            ::_exit(0);
        }
        ::close(listener);
    }
    ~test_server()
    {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    test_server(const test_server&) = delete;
    test_server& operator=(const test_server&) = delete;

    std::uint16_t port() const { return port_; }
    pid_t pid() const { return pid_; }

private:
    static void serve(int listener, const server_habits& habits)
    {
        const int epoll = ::epoll_create1(0);
        const auto watch = [&](int fd) {
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.fd = fd;
            ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        };
        if (habits.accepts) watch(listener);
        const std::string greeting(habits.greeting, 'x');
        std::uint32_t accepted = 0;
        std::vector<std::string> leaked;
        char buffer[4096];
        for (epoll_event event{}; ::epoll_wait(epoll, &event, 1, -1) == 1 || errno == EINTR;) {
            const int fd = event.data.fd;
            if (fd == listener) {
                const int peer = ::accept(listener, nullptr, nullptr);
                if (peer < 0) continue;
                if (++accepted == habits.dies_at) return;
                if (habits.leak != 0) leaked.emplace_back(habits.leak, 'x');
                ::send(peer, greeting.data(), greeting.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
                ::send(peer, habits.asks.data(), habits.asks.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
                watch(peer);
                continue;
            }
            const ssize_t got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            const bool answered = got > 0 && std::string_view{buffer, std::size_t(got)} == "pong\n";
            if (got > 0 && !answered) continue;
            if (habits.keeps_descriptors) {
                ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
            } else {
                ::close(fd);
            }
        }
    }

    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
};

/// A server of WebSockets or of events, in Python: the listener is its standard input, the option its first argument.
constexpr const char* python_server = R"(
import asyncio, logging, socket, sys, websockets
logging.disable(logging.CRITICAL) # silent clients fail its handlers
mode = sys.argv[1]
listener = socket.socket(fileno=0)
listener.setblocking(False)
async def websocket(ws, path=None):
    await ws.send('x' * 70000 + '{"ping":1}')
    path = ws.path if hasattr(ws, 'path') else ws.request.path # of websockets 13 and older, or newer
    good = path == '/chat' and await ws.recv() == 'hello' and await ws.recv() == 'pong'
    for size in (0, 5, 125):
        await (await ws.ping(b'p' * size)) # until the pong
    if good: await ws.close(4000)
    await ws.wait_closed()
async def http(reader, writer):
    request = await reader.readuntil(b'\r\n\r\n')
    good = request.startswith(b'GET /events HTTP/1.1\r\n') and b'\r\nAccept: text/event-stream\r\n' in request
    status = b'101 Switching Protocols' if mode == 'wrong key' else b'200 OK' if good else b'404 Not Found'
    kind = b'text/html' if mode == 'page' else b'Text/event-stream; charset=utf-8'
    writer.write(b'HTTP/1.1 ' + status + b'\r\nSec-WebSocket-Accept: x\r\nContent-Type: ')
    await writer.drain()
    await asyncio.sleep(0)
    writer.write(kind + b'\r\n\r\ndata: 1\n\n')
    try:
        await reader.read() # until the client ends
    except ConnectionError:
        pass
async def main():
    if mode == 'websocket':
        await websockets.serve(websocket, sock=listener, backlog=1024)
    else:
        await asyncio.start_server(http, sock=listener, backlog=1024)
    await asyncio.Future()
asyncio.run(main())
)";

/// Runs it in a process of its own, on a port that the kernel chose; it ends with this object.
class peer_server {
public:
    explicit peer_server(const char* mode)
    {
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener, 1024) == 0);
        socklen_t size = sizeof address;
        REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port_ = ntohs(address.sin_port);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::dup2(listener, 0);
            ::execl("/usr/bin/python3", "python3", "-c", python_server, mode, nullptr);
            ::_exit(127);
        }
        ::close(listener);
    }
    ~peer_server()
    {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    peer_server(const peer_server&) = delete;
    peer_server& operator=(const peer_server&) = delete;

    std::uint16_t port() const { return port_; }
    pid_t pid() const { return pid_; }

private:
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
};

bool has_websockets()
{
    if (std::system("/usr/bin/python3 -c 'import websockets' 2>/dev/null") == 0) return true;
    WARN("left out: Python has no websockets (Debian: python3-websockets)");
    return false;
}

/// Settings for runs that are as short as they can be: 20 and 60 connections, one climb.
ladder::settings short_run()
{
    ladder::settings wanted;
    wanted.title = "test";
    wanted.rungs = {20, 60};
    wanted.settle = std::chrono::milliseconds{200};
    wanted.hold = std::chrono::milliseconds{0};
    wanted.aborts = 1;
    wanted.climbs = 1;
    return wanted;
}

template <class Server>
ladder::run_record climb(const Server& server, ladder::settings wanted)
{
    wanted.port = server.port();
    wanted.pid = server.pid();
    const auto address = ladder::resolve(wanted.host, wanted.port);
    ladder::probe(wanted, address);
    const auto plan = ladder::make_plan(wanted.rungs, wanted.processes, {1024, UINT64_MAX, UINT64_MAX});
    ladder::run_record run;
    run.title = wanted.title;
    run.budget_bytes = wanted.budget_bytes;
    run.points = ladder::climb{wanted, plan, address}.run();
    REQUIRE(!run.points.empty());
    // Tighter than the ladder's own: at 60 connections a small leak must show.
    const ladder::verdict_limits limits{.budget_bytes = wanted.budget_bytes, .may_keep_bytes = 128 * 1024};
    run.judgement = ladder::judge(run.points, limits);
    return run;
}

std::string failures(const ladder::run_record& run)
{
    std::string text;
    for (const ladder::finding& each : run.judgement.findings)
        if (!each.good) text += each.text + "; ";
    return text;
}

bool says(const ladder::run_record& run, std::string_view words)
{
    return failures(run).find(words) != std::string::npos;
}

ladder::measured_point point(std::string phase, std::uint64_t connections, std::uint64_t rss_anon,
                             std::uint64_t descriptors = 10)
{
    ladder::measured_point made;
    made.phase = std::move(phase);
    made.rung = made.connected = made.up = connections;
    made.rss_anon = made.rss_anon_peak = rss_anon;
    made.descriptors = descriptors;
    made.threads = 1;
    return made;
}

constexpr std::uint64_t MiB = 1024 * 1024;

/// A run in which all is well: 1000 bytes a connection.
std::vector<ladder::measured_point> good_points()
{
    return {point("baseline", 0, 5 * MiB),
            point("climb 1", 1000, 5 * MiB + 1'000'000, 1010),
            point("climb 1", 10'000, 5 * MiB + 10'000'000, 10'010),
            point("descent 1", 0, 6 * MiB),
            point("climb 2", 10'000, 5 * MiB + 10'100'000, 10'010),
            point("descent 2", 0, 6 * MiB)};
}

} // namespace

TEST_CASE("The mix gives every kind its share, spread over any run of clients")
{
    const auto mix = ladder::client_mix::parse("idle=70,slow=10,silent=10,half-closed=5,aborting=5");
    for (const std::uint32_t begin : {0u, 100u, 7u, 533u}) {
        std::array<int, ladder::client_kinds> counts{};
        for (std::uint32_t i = begin; i < begin + 100; ++i)
            ++counts[static_cast<std::size_t>(mix(i))];
        CHECK(counts == std::array<int, ladder::client_kinds>{70, 10, 10, 5, 5});
    }
    int slow_in_first_20 = 0;
    for (std::uint32_t i = 0; i < 20; ++i)
        slow_in_first_20 += mix(i) == ladder::client_kind::slow;
    CHECK(slow_in_first_20 == 2);
    CHECK(ladder::client_mix::parse("silent=1")(4711) == ladder::client_kind::silent);
}

TEST_CASE("A mix that cannot be read is refused with the name of its option")
{
    for (const char* wrong : {"", "idle", "idle=", "idle=x", "lazy=5", "idle=0", "idle=5,", "idle=99999", "idle=-1"}) {
        INFO(wrong);
        CHECK_THROWS_AS(ladder::client_mix::parse(wrong), usage_error);
    }
}

TEST_CASE("Rungs grow, and anything else is refused")
{
    CHECK(ladder::parse_rungs("100") == std::vector<std::uint32_t>{100});
    CHECK(ladder::parse_rungs("1,2,1000000") == std::vector<std::uint32_t>{1, 2, 1'000'000});
    for (const char* wrong : {"", "0", "5,5", "5,4", "5,", "x", "1000001", "99999999999"}) {
        INFO(wrong);
        CHECK_THROWS_AS(ladder::parse_rungs(wrong), usage_error);
    }
}

TEST_CASE("Answers and texts know their escapes, and refuse others")
{
    const auto rule = ladder::answer_rule::parse(R"({"ping"=pong\n)");
    CHECK(rule.pattern == R"({"ping")");
    CHECK(rule.reply == "pong\n");
    CHECK(ladder::answer_rule::parse("a=b=c").reply == "b=c");
    CHECK(ladder::unescape(R"(\r\n\t\\\0)", "hello") == std::string("\r\n\t\\\0", 5));
    CHECK(ladder::answer_rule::parse("").pattern.empty());
    CHECK_THROWS_AS(ladder::answer_rule::parse("no reply"), usage_error);
    CHECK_THROWS_AS(ladder::answer_rule::parse("=x"), usage_error);
    CHECK_THROWS_AS(ladder::unescape(R"(\x41)", "hello"), usage_error);
    CHECK_THROWS_AS(ladder::unescape("end\\", "hello"), usage_error);
}

TEST_CASE("A pattern is counted wherever the stream is cut")
{
    std::mt19937 random{20230604}; // a fixed seed: a failure can be repeated
    for (const std::string pattern : {"a", "ab", "aa", "aba", "abab", R"({"ping")", "aabaaab"}) {
        for (int round = 0; round < 200; ++round) {
            std::string text;
            while (text.size() < 60)
                text += random() % 3 != 0 ? std::string(1, "ab"[random() % 2]) : pattern;
            std::size_t expected = 0;
            for (std::size_t at = text.find(pattern); at != text.npos; at = text.find(pattern, at + 1))
                ++expected;
            const ladder::pattern_matcher matcher{pattern};
            for (std::size_t piece = 1; piece <= text.size(); ++piece) {
                std::size_t found = 0;
                std::uint16_t state = 0;
                for (std::size_t at = 0; at < text.size(); at += piece)
                    found += matcher.count(std::string_view{text}.substr(at, piece), state);
                if (found != expected) FAIL("pattern " << pattern << ", pieces of " << piece << " of " << text);
            }
            CHECK(expected > 0);
        }
    }
}

TEST_CASE("The plan keeps rungs that are possible, and says why it cuts others")
{
    const std::vector<std::uint32_t> rungs{500, 1000, 2000, 5000, 10'000};
    constexpr std::uint64_t plenty = UINT64_MAX;

    const auto all = ladder::make_plan(rungs, 0, {20'000, plenty, plenty});
    CHECK(all.rungs == rungs);
    CHECK(all.processes == 1);
    CHECK(all.shrunk_because.empty());

    const auto many = ladder::make_plan({40'000}, 0, {20'000, plenty, plenty});
    CHECK(many.rungs == std::vector<std::uint32_t>{40'000});
    CHECK(many.processes == 3);
    CHECK(ladder::make_plan(rungs, 4, {20'000, plenty, plenty}).processes == 4);

    const auto by_server = ladder::make_plan(rungs, 0, {20'000, 2555, plenty});
    CHECK(by_server.rungs == std::vector<std::uint32_t>{500, 1000, 2000, 2500});
    CHECK(by_server.shrunk_because.find("server") != std::string::npos);

    const auto by_memory = ladder::make_plan(rungs, 0, {20'000, plenty, 16 * MiB});
    CHECK(by_memory.rungs == std::vector<std::uint32_t>{500, 1000, 1200});
    CHECK(by_memory.shrunk_because.find("memory") != std::string::npos);

    const auto by_own = ladder::make_plan(rungs, 1, {132, plenty, plenty});
    CHECK(by_own.rungs == std::vector<std::uint32_t>{100});
    CHECK(!by_own.shrunk_because.empty());

    CHECK_THROWS_AS(ladder::make_plan(rungs, 0, {20'000, 0, plenty}), usage_error);
    CHECK_THROWS_AS(ladder::make_plan(rungs, 0, {10, plenty, plenty}), usage_error);
}

TEST_CASE("A rung settles when its burst is over, also under traffic that never ends, and not before")
{
    using std::chrono::milliseconds;
    ladder::settle_detector detector{milliseconds{1000}};
    const auto start = std::chrono::steady_clock::time_point{};
    std::uint64_t bytes = 0, events = 0;
    const auto run_until_settled = [&](int from, int to, auto&& per_sample) {
        for (int ms = from; ms <= to; ms += 100) {
            const bool pending = per_sample(ms);
            if (detector.settled(start + milliseconds{ms}, bytes, events, pending)) return ms;
        }
        return -1;
    };
    detector.begin_rung();
    // A burst of two seconds, then ticks of a thousandth of it for ever.
    const int settled = run_until_settled(0, 9000, [&](int ms) {
        bytes += ms <= 2000 ? 1'000'000 : 1000;
        events += ms <= 500;
        return ms <= 300;
    });
    CHECK(settled >= 2900);
    CHECK(settled <= 3100);
    // The next rung: nothing new but the ticks; somebody is not connected yet, and then somebody's first byte
    // comes.
    detector.begin_rung();
    CHECK(run_until_settled(10'000, 15'000, [&](int) { return bytes += 1000, true; }) == -1);
    detector.begin_rung();
    CHECK(run_until_settled(20'000, 25'000, [&](int ms) { return events += ms == 21'000, false; }) == 22'000);
    // A server that says nothing settles after the window.
    ladder::settle_detector silent{milliseconds{500}};
    CHECK(!silent.settled(start, 0, 7, false));
    CHECK(!silent.settled(start + milliseconds{400}, 0, 7, false));
    CHECK(silent.settled(start + milliseconds{500}, 0, 7, false));
}

TEST_CASE("The fit is the line of least squares, and nothing without two different places")
{
    const auto exact = ladder::fit({{0, 5}, {10, 25}, {20, 45}});
    REQUIRE(exact);
    CHECK(std::abs(exact->slope - 2) < 1e-9);
    CHECK(std::abs(exact->intercept - 5) < 1e-9);
    const auto noisy = ladder::fit({{1, 1}, {2, 3}, {3, 2}});
    REQUIRE(noisy);
    CHECK(std::abs(noisy->slope - 0.5) < 1e-9);
    CHECK(!ladder::fit({}));
    CHECK(!ladder::fit({{1, 1}}));
    CHECK(!ladder::fit({{3, 1}, {3, 2}}));
}

TEST_CASE("A run in which all is well passes, with its bytes per connection")
{
    const auto verdict = ladder::judge(good_points(), {.budget_bytes = 1024});
    CHECK(verdict.pass());
    REQUIRE(verdict.bytes_per_connection);
    CHECK(std::abs(*verdict.bytes_per_connection - 1000) < 1);
}

TEST_CASE("A server's stated line is above every rung, and the verdict says how near they come")
{
    auto points = good_points();
    points[1].server_kernel_bytes = 4'000'000;
    ladder::run_record run;
    run.judgement = ladder::judge(points, {.line = ladder::stated_line::parse("10485760+1100+5000")});
    INFO(failures(run));
    CHECK(run.judgement.pass());
    std::string found;
    for (const ladder::finding& each : run.judgement.findings)
        found += each.text + '\n';
    INFO(found);
    const auto finds = [&](std::string_view words) { return found.find(words) != std::string::npos; };
    CHECK(finds("RssAnon stays below the stated line: at most 71.4 % of it, 14.6 MiB at 10,000"));
    CHECK(finds("the kernel's part stays below the stated line: at most 80.0 % of it, 3.8 MiB at 1,000"));
    CHECK(!ladder::stated_line::parse(""));
    for (const char* wrong : {"1", "1+2", "1+2+", "+2+3", "1+2+3+4", "1+x+3", "1+2+-3", "9999999999999+1+1"}) {
        INFO(wrong);
        CHECK_THROWS_AS(ladder::stated_line::parse(wrong), usage_error);
    }
}

TEST_CASE("Each vice fails the verdict with its own reason")
{
    auto points = good_points();
    ladder::verdict_limits limits{.budget_bytes = 1024};
    std::string reason;

    SECTION("growth above the budget")
    {
        limits.budget_bytes = 999;
        reason = "above the budget";
    }
    SECTION("memory above the line that the server states")
    {
        limits.line = {5 * MiB, 1005, 0};
        reason = "RssAnon is above the stated line: 100.3 % of it, 14.6 MiB at 10,000 connections";
    }
    SECTION("a rise that is steeper than the stated line, though still below it")
    {
        limits.line = {100 * MiB, 999, 0};
        reason = "grows by 1000 B per connection, where 999 B are stated";
    }
    SECTION("buffers in the kernel above the stated line")
    {
        limits.line = {100 * MiB, 1100, 5000};
        points[2].server_kernel_bytes = 50'100'000;
        reason = "the kernel's part is above the stated line: 100.2 % of it";
    }
    SECTION("memory kept after the descent")
    {
        points[3].rss_anon = 14 * MiB;
        reason = "memory stays after descent";
    }
    SECTION("memory kept after the second descent")
    {
        points[5].rss_anon = 14 * MiB;
        reason = "after descent 2";
    }
    SECTION("descriptors left open")
    {
        points[3].descriptors = 11;
        reason = "descriptors still open after descent 1: 1";
    }
    SECTION("threads that did not end")
    {
        points[5].threads = 3;
        reason = "threads grew from 1 to 3";
    }
    SECTION("a second climb that is higher, and no third")
    {
        points[4].rss_anon = points[2].rss_anon + 1100 * 1024;
        reason = "grows by 1.1 MiB a climb at 10,000 over 2 climbs: 14.5 MiB, 15.6 MiB";
    }
    SECTION("connections that could not be made")
    {
        points[2].connected = 9000;
        points[2].shortage = "the server refused them";
        reason = "only 9,000 of 10,000 connections could be made: the server refused them";
    }
    SECTION("a server that ended")
    {
        points[2].server_ended = true;
        points[2].up = 3120;
        points.resize(3);
        reason = "the server ended at 3,120 connections (climb 1, rung 10,000)";
    }
    SECTION("no client up when measured, where a budget is to be judged")
    {
        points[1].up = points[2].up = 0;
        reason = "no connection was up";
    }
    ladder::run_record run;
    run.judgement = ladder::judge(points, limits);
    INFO(failures(run));
    CHECK(!run.judgement.pass());
    CHECK(says(run, reason));
    CHECK(failures(run).find("; ") == failures(run).size() - 2); // this reason and no other
}

TEST_CASE("A heap that reaches a plateau passes, and one that grows from climb to climb does not")
{
    const auto run_of = [](const std::vector<double>& tops) {
        std::vector<ladder::measured_point> points{point("baseline", 0, 5 * MiB)};
        for (std::size_t i = 0; i != tops.size(); ++i) {
            const std::string number = std::to_string(i + 1);
            points.push_back(point("climb " + number, 10'000, static_cast<std::uint64_t>(tops[i] * MiB), 10'010));
            points.push_back(point("descent " + number, 0, 6 * MiB));
        }
        ladder::run_record run;
        run.judgement = ladder::judge(points, {});
        return run;
    };
    const auto text = [](const ladder::run_record& run) { return run.judgement.findings.back().text; };
    SECTION("plateaus")
    {
        CHECK(text(run_of({40, 40.5})) == "plateau at 10,000: climbs 1 and 2 are 512 KiB apart");
        // An interpreter whose second climb is higher, and the third is not.
        CHECK(text(run_of({40, 42.4, 42.5})) == "plateau at 10,000: climbs 2 and 3 are 102 KiB apart");
        CHECK(text(run_of({40, 38.5, 38})) == "plateau at 10,000: climbs 2 and 3 are 512 KiB apart");
        // Five that never agree, and have no trend.
        const auto noisy = run_of({40, 43, 40, 43, 40});
        CHECK(noisy.judgement.pass());
        CHECK(text(noisy) == "plateau at 10,000: no trend (0 B a climb) over 5 climbs: 40.0 MiB, 43.0 MiB, 40.0 MiB, "
                             "43.0 MiB, 40.0 MiB");
    }
    SECTION("growth")
    {
        const auto leak = run_of({40, 42, 44, 46, 48});
        CHECK_FALSE(leak.judgement.pass());
        CHECK(text(leak).starts_with("grows by 2.0 MiB a climb at 10,000 over 5 climbs: 40.0 MiB, 42.0 MiB,"));
        CHECK_FALSE(run_of({40, 42, 39, 46, 48}).judgement.pass()); // one that stands out hides no leak
        CHECK_FALSE(run_of({40, 41.5}).judgement.pass());           // no more climbs were allowed
    }
}

TEST_CASE("Arenas of malloc are named where memory stays, and only there")
{
    auto points = good_points();
    for (auto& each : points)
        each.arenas = 7, each.threads = 4;
    const auto last = [&] { return ladder::judge(points, {}).findings.back(); };
    CHECK(last().text.find("arena") == std::string::npos);
    points[3].rss_anon = 15 * MiB;
    CHECK(last().good);
    CHECK(last().text.starts_with("7 mappings of 64 MiB are arenas of glibc's malloc (4 threads)"));
    CHECK(last().text.find("MALLOC_ARENA_MAX=2") != std::string::npos);
}

TEST_CASE("One rung alone is judged by its quotient, several without new clients by the last one's")
{
    std::vector<ladder::measured_point> points{point("baseline", 0, MiB), point("climb 1", 100, 3 * MiB)};
    CHECK(*ladder::judge(points, {}).bytes_per_connection == 2.0 * MiB / 100);
    points.push_back(point("climb 1", 100, 5 * MiB));
    points.back().rung = 200;
    CHECK(*ladder::judge(points, {}).bytes_per_connection == 4.0 * MiB / 100);
}

TEST_CASE("A run that is written as JSON is read back the same")
{
    ladder::run_record run;
    run.title = "a \"quoted\" \\ name\n";
    run.server = "127.0.0.1:1, process 2";
    run.mix = "idle=1";
    run.budget_bytes = 77;
    run.points = good_points();
    run.points[1].shortage = "reason, {with} \"signs\"";
    run.points[2].server_ended = true;
    run.points[2].settled = false;
    run.points[2].kernel_bytes = 123'456'789'012;
    run.judgement = ladder::judge(run.points, {.budget_bytes = 77});
    std::stringstream file;
    ladder::write_json(file, run);
    const std::string written = file.str();
    const auto read = ladder::read_json(file, "file");
    REQUIRE(read.size() == 1);
    CHECK(read[0].title == run.title);
    CHECK(read[0].points.size() == run.points.size());
    CHECK(read[0].points[2].kernel_bytes == 123'456'789'012);
    CHECK(read[0].judgement.pass() == run.judgement.pass());
    std::ostringstream again;
    ladder::write_json(again, read[0]);
    CHECK(again.str() == written);
}

TEST_CASE("A file that is not the ladder's is refused, with the line that is wrong")
{
    for (const char* wrong : {"", "{}", "nonsense", "{\"type\":\"point\"}", "{\"type\":\"run\"}\n{\"type\":\"poin",
                              "{\"type\":\"run\",\"title\":\"x\"}", "{\"type\":\"run\"}\n[]"}) {
        INFO(wrong);
        std::istringstream file{wrong};
        CHECK_THROWS_AS(ladder::read_json(file, "file"), std::runtime_error);
    }
}

TEST_CASE("The charts hold every run, escaped, and the share compares the last run with the first")
{
    ladder::run_record naive, careful;
    naive.title = "<naive> & co";
    careful.title = "careful";
    careful.points = naive.points = good_points();
    for (auto& each : naive.points)
        each.rss_anon += each.up * 9000;
    naive.judgement = ladder::judge(naive.points, {});
    careful.judgement = ladder::judge(careful.points, {});
    std::ostringstream svg, html, joint;
    ladder::write_svg(svg, {naive, careful});
    ladder::write_html(html, {naive, careful});
    ladder::print_joint(joint, {naive, careful});
    CHECK(svg.str().find("&lt;naive&gt; &amp; co: 95.4 MiB") != std::string::npos);
    CHECK(html.str().find(svg.str()) != std::string::npos);
    CHECK(html.str().find("<script") == std::string::npos);
    CHECK(html.str().find("<naive>") == std::string::npos);
    CHECK(joint.str().find("careful") != std::string::npos);
    const auto share = ladder::share_of_first({naive, careful});
    REQUIRE(share);
    CHECK(share->first == 10'000);
    CHECK(std::abs(share->second - 0.1) < 1e-6);
}

TEST_CASE("The listening socket and the limit of open files are found in the kernel's tables")
{
    const std::string table =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n"
        "broken\n";
    CHECK(ladder::find_listening_inode(table, 8080) == 222);
    CHECK(ladder::find_listening_inode(table, 8081) == 0);
    CHECK(ladder::parse_open_files_limit("Limit  Soft\nMax open files            1024       20000    files\n") ==
          1024u);
    CHECK(!ladder::parse_open_files_limit("Max open files            unlimited  unlimited files\n"));
    CHECK(!ladder::parse_open_files_limit("nothing"));
}

TEST_CASE("A server that keeps nothing passes, and every kind of client is moved up and down twice")
{
    const test_server server{{.greeting = 10'000}};
    CHECK(ladder::find_listener(server.port()) == server.pid());
    ladder::settings wanted = short_run();
    wanted.climbs = 5;
    wanted.budget_bytes = 2048;
    wanted.processes = 2;
    const auto run = climb(server, wanted);
    INFO(failures(run));
    CHECK(run.judgement.pass());
    REQUIRE(run.points.size() == 7);
    const char* phases[] = {"baseline", "climb 1", "climb 1", "descent 1", "climb 2", "climb 2", "descent 2"};
    const std::uint64_t connected[] = {0, 20, 60, 0, 20, 60, 0};
    for (std::size_t i = 0; i < 7; ++i) {
        CHECK(run.points[i].phase == phases[i]);
        CHECK(run.points[i].connected == connected[i]);
        CHECK(run.points[i].settled);
    }
    // The half-closed ones (1 and 3 of them) have been closed by the server in answer.
    CHECK(run.points[1].up == 19);
    CHECK(run.points[2].up == 57);
    CHECK(run.points[2].descriptors == run.points[0].descriptors + 57);
    CHECK(run.points[3].descriptors == run.points[0].descriptors);
}

TEST_CASE("A server that leaks 64 KiB a connection is above its budget and memory stays after descent")
{
    const test_server server{{.leak = 64 * 1024}};
    ladder::settings wanted = short_run();
    wanted.climbs = 3;
    wanted.later_climbs = ladder::later_rungs::top;
    wanted.budget_bytes = 16 * 1024;
    const auto run = climb(server, wanted);
    INFO(failures(run));
    CHECK(says(run, "above the budget"));
    CHECK(says(run, "memory stays after descent"));
    CHECK(says(run, "a climb at 60 over 3 climbs: "));
    CHECK(run.points.back().phase == "descent 3");
    REQUIRE(run.judgement.bytes_per_connection);
    CHECK(*run.judgement.bytes_per_connection > 60 * 1024);
}

TEST_CASE("A server that forgets to close half-closed connections is shown with the descriptors that it holds")
{
    const test_server server{{.keeps_descriptors = true}};
    ladder::settings wanted = short_run();
    wanted.rung_deadline = std::chrono::milliseconds{1500};
    const auto run = climb(server, wanted);
    CHECK(says(run, "descriptors still open after descent 1"));
}

TEST_CASE("A server that ends under the climb is a result: the connections it reached, and its last figures")
{
    const test_server server{{.dies_at = 41}};
    const auto run = climb(server, short_run());
    CHECK(says(run, "the server ended at "));
    CHECK(run.points.back().server_ended);
    CHECK(run.points.back().rung == 60);
    CHECK(run.points.back().rss_anon > 0);
}

TEST_CASE("A server that admits only some ends the climb at the deadline, and the verdict says which part was short "
          "of what")
{
    const test_server server{{.accepts = false}};
    ladder::settings wanted = short_run();
    wanted.rung_deadline = std::chrono::milliseconds{600};
    const auto run = climb(server, wanted);
    REQUIRE(run.points.size() == 3); // baseline, the first rung, descent: no use in climbing higher
    CHECK(!run.points[1].settled);
    CHECK(run.points[1].connected < 20);
    CHECK(says(run, "of 20 connections could be made"));
    CHECK(says(run, "still waiting at the deadline"));
}

TEST_CASE("Clients send the hello and answer requests, slow ones too, but silent ones never")
{
    const test_server server{{.greeting = 1000, .asks = "{\"ping\":1}\n"}}; // a client that answers pong is closed
    ladder::settings wanted = short_run();
    wanted.mix = ladder::client_mix::parse("idle=6,slow=2,silent=2");
    SECTION("a wrong hello, no answers")
    {
        wanted.hello = "hello\n";
        const auto run = climb(server, wanted);
        CHECK(run.points[2].up == 60);
        CHECK(run.points[2].closed_by_server == 0);
    }
    SECTION("answers")
    {
        wanted.answer = ladder::answer_rule::parse(R"({"ping"=pong\n)");
        wanted.settle = std::chrono::milliseconds{800}; // slow clients see the end at their own pace
        const auto run = climb(server, wanted);
        CHECK(run.points[2].connected == 60);
        CHECK(run.points[2].up == 12);
        CHECK(run.points[2].closed_by_server == 48);
    }
    SECTION("a hello that is the answer")
    {
        wanted.hello = "pong\n";
        wanted.settle = std::chrono::milliseconds{800};
        const auto run = climb(server, wanted);
        CHECK(run.points[2].up == 12);
    }
}

TEST_CASE("Clients open WebSockets: hello and answers are messages, pings are answered, all of it cut anywhere")
{
    if (!has_websockets()) return;
    const peer_server server("websocket");
    ladder::settings wanted = short_run();
    wanted.mix = ladder::client_mix::parse("idle=8,slow=2");
    wanted.websocket_path = "/chat";
    wanted.hello = "hello";
    wanted.slow_rate = 400'000;
    wanted.settle = std::chrono::milliseconds{1500};
    SECTION("the server closes those that have said the right things")
    {
        wanted.answer = ladder::answer_rule::parse(R"({"ping"=pong)");
        const auto run = climb(server, wanted);
        CHECK(run.points[2].shortage.empty());
        CHECK(run.points[2].closed_by_server == 60);
    }
    SECTION("and keeps the others")
    {
        wanted.mix = ladder::client_mix::parse("idle=6,slow=2,silent=2");
        wanted.answer = ladder::answer_rule::parse(R"({"ping"=wrong)");
        const auto run = climb(server, wanted);
        CHECK(run.points[2].shortage.empty());
        CHECK(run.points[2].up == 60);
    }
}

TEST_CASE("Clients read server-sent events, and say why a server opens nothing")
{
    if (!has_websockets()) return;
    ladder::settings wanted = short_run();
    wanted.mix = ladder::client_mix::parse("idle=6,slow=2,silent=2");
    wanted.rungs = {20};
    wanted.rung_deadline = std::chrono::seconds{2};
    const auto shortage = [&](const char* mode) {
        const peer_server server(mode);
        return climb(server, wanted).points[1].shortage;
    };
    wanted.events_path = "/events";
    CHECK(shortage("events").empty());
    CHECK(shortage("page").find("'HTTP/1.1 200 OK' without the Content-Type text/event-stream") != std::string::npos);
    wanted.events_path = "/elsewhere";
    CHECK(shortage("events").find("answers opened nothing: the server has answered 'HTTP/1.1 404 Not Found'") !=
          std::string::npos);
    wanted.events_path.clear();
    wanted.websocket_path = "/chat";
    CHECK(shortage("wrong key").find("with a wrong Sec-WebSocket-Accept") != std::string::npos);
}

TEST_CASE("The key of RFC 6455 has the accept that it says")
{
    CHECK(ladder::accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    ladder::settings wanted;
    wanted.websocket_path = "/";
    const ladder::http_opening opening(wanted);
    CHECK(opening.key().size() == 24);
    CHECK(opening.refusal("HTTP/1.1 101 x\r\nSEC-WEBSOCKET-ACCEPT:" + ladder::accept_of(opening.key()) + "\r\n\r\n")
              .empty());
    CHECK_FALSE(opening.refusal("HTTP/1.1 101 x\r\n\r\n").empty());
    CHECK_FALSE(opening.refusal("SSH-2.0\r\n\r\n").empty());
}

TEST_CASE("Pings and Close frames are found among a server's frames, wherever these are cut")
{
    const std::string bytes = std::string("\x81\x7e\x01\x00", 4) + std::string(256, 'a') + "\x89\x01p" +
                              std::string("\x89\x00", 2) + std::string("\x82\x7f\0\0\0\0\0\1\0\0", 10) +
                              std::string(65536, 'b') + std::string("\x80\x00", 2) +
                              "\x89\x02pp\x8a\x01q\x88\x05\x03\xe8"
                              "bye";
    for (const std::size_t size : {1U, 2U, 3U, 255U, 100'000U}) {
        ladder::websocket_frames frames;
        std::vector<std::string> pings;
        for (std::size_t at = 0; at < bytes.size(); at += size)
            frames.take(std::string_view(bytes).substr(at, size), [&](unsigned opcode, std::string_view p) {
                pings.push_back(std::to_string(opcode) + std::string(p));
            });
        CHECK(pings == std::vector<std::string>{"10p", "10", "10pp", "8\x03\xe8"});
    }
}

TEST_CASE("No listener is a usage error that says so")
{
    std::uint16_t port = 0;
    {
        const test_server server{{}};
        port = server.port();
    }
    ladder::settings wanted;
    wanted.port = port;
    CHECK_THROWS_AS(ladder::probe(wanted, ladder::resolve(wanted.host, port)), usage_error);
    CHECK_THROWS_AS(ladder::resolve("no.such.host.invalid", port), usage_error);
}

TEST_CASE("The command line reads every type, and says in one line what is wrong")
{
    std::uint16_t port = 7777;
    double ratio = 1.5;
    std::string name = "none";
    examples::byte_count size{65536};
    std::chrono::seconds time{30};
    std::chrono::milliseconds pause{1500};
    bool flag = false;
    std::vector<std::string> rest;
    examples::command_line cli{"program", "Does something."};
    cli.add("port", port, "N", "a port");
    cli.add("ratio", ratio, "X", "a number");
    cli.add("name", name, "TEXT", "a text");
    cli.add("size", size, "BYTES", "a size");
    cli.add("time", time, "SECONDS", "a time");
    cli.add("pause", pause, "SECONDS", "a pause");
    cli.add("flag", flag, "a flag");

    const auto parse = [&](std::vector<const char*> words) {
        words.insert(words.begin(), "program");
        return cli.parse(static_cast<int>(words.size()), words.data());
    };
    const auto complaint = [&](const std::vector<const char*>& words) -> std::string {
        try {
            parse(words);
        } catch (const usage_error& error) {
            return error.what();
        }
        return "";
    };
    SECTION("values in both forms")
    {
        CHECK(parse(
            {"--port", "80", "--ratio=0.25", "--name=", "--size", "16M", "--time", "2m", "--pause=20ms", "--flag"}));
        CHECK(port == 80);
        CHECK(ratio == 0.25);
        CHECK(name.empty());
        CHECK(size.value == 16 * MiB);
        CHECK(time == std::chrono::seconds{120});
        CHECK(pause == std::chrono::milliseconds{20});
        CHECK(flag);
        CHECK(parse({"--pause", "2"}));
        CHECK(pause == std::chrono::seconds{2});
    }
    SECTION("words without an option, where they are welcome")
    {
        CHECK(complaint({"word"}).find("'word'") != std::string::npos);
        cli.add_rest(rest, "WORD...", "words");
        CHECK(parse({"a", "--flag", "b"}));
        CHECK(rest == std::vector<std::string>{"a", "b"});
    }
    SECTION("errors name the option and point to the help")
    {
        const std::vector<std::vector<const char*>> wrong{{"--port", "70000"},
                                                          {"--port", "-1"},
                                                          {"--port", "80x"},
                                                          {"--port", ""},
                                                          {"--port"},
                                                          {"--ratio", "nan"},
                                                          {"--size", "3q"},
                                                          {"--size", "k"},
                                                          {"--time", "1ms"},
                                                          {"--time", "1.5"},
                                                          {"--time", "-1"},
                                                          {"--time", "2h"},
                                                          {"--flag=yes"},
                                                          {"--unknown"},
                                                          {"-x"},
                                                          {"--size", "99999999999999999G"}};
        for (const auto& words : wrong) {
            const std::string text = complaint(words);
            INFO(words.front() << ": " << text);
            CHECK(text.find(std::string{words.front()}.substr(0, 6).substr(0, std::strcspn(words.front(), "="))) !=
                  std::string::npos);
            CHECK(text.find("(see --help)") != std::string::npos);
            CHECK(text.find('\n') == std::string::npos);
        }
    }
    SECTION("the help shows what there is, with the defaults")
    {
        std::ostringstream help;
        cli.print_help(help);
        for (const char* piece : {"--port N", "[7777]", "[1.5]", "[64k]", "[30s]", "[1500ms]", "--flag  "})
            CHECK(help.str().find(piece) != std::string::npos);
    }
}
