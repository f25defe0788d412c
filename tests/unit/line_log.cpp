// holdfast: does a log that is not read drop lines, count them, and say so, without blocking?
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <holdfast/server/line_log.hpp>

#include <algorithm>
#include <array>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace {

struct pipe_ends {
    pipe_ends() { REQUIRE(::pipe(fds.data()) == 0); }
    pipe_ends(const pipe_ends&) = delete;
    ~pipe_ends()
    {
        close_reader();
        ::close(fds[1]);
    }
    void close_reader()
    {
        if (fds[0] >= 0) ::close(fds[0]);
        fds[0] = -1;
    }
    std::string read()
    {
        std::string got(1U << 17U, '\0');
        const auto n = ::read(fds[0], got.data(), got.size());
        got.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return got;
    }
    std::array<int, 2> fds{};
};

} // namespace

TEST_CASE("line_log: parts are one line, line ends within them make several, a long line is cut")
{
    pipe_ends pipe;
    holdfast::line_log log{pipe.fds[1]};
    log("port ", 80, '\n');
    log("a\nb");
    CHECK(pipe.read() == "port 80\na\nb\n");
    log(std::string(9000, 'x'));
    std::string cut(4001, 'x');
    cut.back() = '\n';
    CHECK(pipe.read() == cut);
    CHECK(log.dropped() == 0);
}

TEST_CASE("line_log: a full pipe drops lines, and the next line that is written says how many")
{
    pipe_ends pipe;
    holdfast::line_log log{pipe.fds[1]};
    while (log.dropped() < 3)
        log(std::string(4000, 'x'));
    pipe.read();
    log("again");
    CHECK(pipe.read() == "log: 3 lines were dropped\nagain\n");
    log("more");
    CHECK(pipe.read() == "more\n");
    CHECK(log.dropped() == 3);
}

TEST_CASE("line_log: where the reader has left lines are dropped, without a signal")
{
    pipe_ends pipe;
    holdfast::line_log log{pipe.fds[1]};
    pipe.close_reader();
    log("lost");
    CHECK(log.dropped() == 1);
}

TEST_CASE("line_log: whichever allocation fails, a line is written whole, or dropped and counted")
{
    if (!tests::counts_bytes) return; // no allocation can be made to fail here
    const std::string text(600, 'x');
    bool failed = true;
    for (long n = 0; failed; ++n) {
        INFO("allocation " << n);
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
        holdfast::line_log log(ends[1]);
        tests::until_failure = n;
        log("a line: ", text);
        failed = tests::until_failure < 0;
        tests::until_failure = -1;
        std::string got(1000, '\0');
        got.resize(static_cast<std::size_t>(std::max<ssize_t>(::read(ends[0], got.data(), got.size()), 0)));
        CHECK(got == (log.dropped() == 0 ? "a line: " + text + "\n" : ""));
        CHECK(log.dropped() == (failed ? 1 : 0));
        ::close(ends[0]);
        ::close(ends[1]);
    }
}
