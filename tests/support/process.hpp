// holdfast: what the tests of whole programs need: a child process that ends with its owner, and a
// private network.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_PROCESS_HPP
#define HOLDFAST_TESTS_SUPPORT_PROCESS_HPP

#include <holdfast/asio.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tests {

namespace net = holdfast::net;

/// A child process whose standard output and error are read here. It is killed and reaped at the end of its
/// scope.
class process {
public:
    /// The child gets `third` as its descriptor 3, where it is not negative.
    explicit process(std::vector<std::string> arguments, int third = -1)
        : process([&arguments, third] {
              std::vector<char*> argv;
              for (std::string& argument : arguments)
                  argv.push_back(argument.data());
              argv.push_back(nullptr);
              if (third >= 0) ::dup2(third, 3);
              ::execv(argv[0], argv.data());
              return 127;
          })
    {
    }

    /// A copy of this process that calls `f()` and exits at once with its result.
    template <class F>
        requires std::is_invocable_r_v<int, F&>
    explicit process(F f)
    {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
        std::fflush(nullptr); // else the copy prints this process's output again
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::dup2(ends[1], 1);
            ::dup2(ends[1], 2);
            const int status = f();
            std::fflush(nullptr);
            ::_exit(status);
        }
        ::close(ends[1]);
        output_ = ends[0];
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    }
    process(const process&) = delete;

    ~process()
    {
        if (running()) ::kill(pid_, SIGKILL);
        if (!reaped_) ::waitpid(pid_, nullptr, 0);
        ::close(output_);
    }

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

    [[nodiscard]] bool running()
    {
        if (!reaped_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
        return !reaped_;
    }

    void signal(int number) const noexcept { ::kill(pid_, number); }

    /// The next line that it prints, without its end; empty at the end of its output. Throws after
    /// `timeout`.
    std::string line(std::chrono::milliseconds timeout = std::chrono::seconds(30))
    {
        const auto deadline = std::chrono::steady_clock::now() + timeout;
        for (;;) {
            if (const auto end = text_.find('\n'); end != std::string::npos) {
                std::string first = text_.substr(0, end);
                text_.erase(0, end + 1);
                return first;
            }
            if (!read_until(deadline)) return std::exchange(text_, {});
        }
    }

    /// Its exit status once its output has ended; 128 plus the signal where one killed it. Throws after
    /// `timeout`. What it printed is left in `rest`.
    int wait(std::string* rest = nullptr, std::chrono::milliseconds timeout = std::chrono::seconds(60))
    {
        const auto deadline = std::chrono::steady_clock::now() + timeout;
        while (read_until(deadline)) {
        }
        if (rest != nullptr) *rest = text_;
        if (!reaped_) ::waitpid(pid_, &status_, 0);
        reaped_ = true;
        return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    }

private:
    /// Reads some output; false at its end.
    bool read_until(std::chrono::steady_clock::time_point deadline)
    {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{output_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0)
            throw std::runtime_error("a child process took too long; it printed: " + text_);
        std::array<char, 4096> bytes;
        const ::ssize_t n = ::read(output_, bytes.data(), bytes.size());
        if (n > 0) text_.append(bytes.data(), static_cast<std::size_t>(n));
        return n > 0;
    }

    pid_t pid_ = -1;
    int output_ = -1;
    int status_ = 0;
    bool reaped_ = false;
    std::string text_;
};

/// Moves this process into a network namespace of its own with a working loopback, so that a fixed port can't
/// be in use. Where the system forbids that, it stays in the network where it is.
inline void enter_private_network()
{
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return;
    const int control = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP | IFF_RUNNING;
    const int result = ::ioctl(control, SIOCSIFFLAGS, &loopback);
    ::close(control);
    if (result != 0) throw std::system_error(errno, std::generic_category(), "the loopback of a private network");
}

/// Connects to a server that a child process is about to open; throws when that has ended, or after 30
/// seconds.
inline void connect_when_ready(net::ip::tcp::socket& client, const net::ip::tcp::endpoint& where, process& server)
{
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
        holdfast::error_code ec;
        client.connect(where, ec);
        if (!ec) return;
        client.close();
        std::string output;
        if (!server.running()) throw std::runtime_error("the server has ended: " + (server.wait(&output), output));
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("the server did not open its port within 30 seconds");
        ::poll(nullptr, 0, 10); // its port is the only sign: the README's server prints nothing
    }
}

} // namespace tests

#endif
