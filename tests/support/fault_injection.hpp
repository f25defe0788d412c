// holdfast: makes the n-th operation of a program on its sockets fail: a system call.
// Include it in one translation unit of a program only: the functions below take the place of the system's.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_FAULT_INJECTION_HPP
#define HOLDFAST_TESTS_SUPPORT_FAULT_INJECTION_HPP

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <initializer_list>

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace tests::faults {

/// Which operation is to fail, counted from the first connection on, and in which of the ways it can.
struct plan {
    std::uint64_t nth = 0;
    std::size_t way = 0;
};

/// What became of it, in memory that the process shares with the one that started it.
struct outcome {
    std::uint64_t connections = 0; ///< accept() has returned so many
    std::uint64_t operations = 0;  ///< counted from then on
    std::size_t ways = 0;          ///< in which the n-th can fail; zero: there was none
    bool failed = false;           ///< it did
    const char* name = "";         ///< the n-th operation's
};

inline plan planned;
inline outcome* observed = nullptr; // nothing is counted, and nothing fails, while it is null

/// How many times as fast as the world's this process's clock runs: a test need not wait for a server's
/// seconds.
inline std::int64_t clock_speed = 1;

/// The system's own function of that name.
template <class F>
F* system_function(const char* name)
{
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

inline constexpr int all_is_well = 0;
inline constexpr int in_part = -1; // a read or write of one byte only

/// What is to become of this operation: an error number of `ways`, or one of the two constants above.
inline int next(std::initializer_list<int> ways, const char* name = __builtin_FUNCTION()) noexcept
{
    if (observed == nullptr || observed->connections == 0) return all_is_well;
    if (++observed->operations != planned.nth) return all_is_well;
    observed->ways = ways.size();
    observed->name = name;
    if (planned.way >= ways.size()) return all_is_well;
    observed->failed = true;
    return ways.begin()[planned.way];
}

/// The same for a call that fails as a whole: whether it does, errno set.
inline bool fails(std::initializer_list<int> ways, const char* name = __builtin_FUNCTION()) noexcept
{
    const int error = next(ways, name);
    if (error != all_is_well) errno = error;
    return error != all_is_well;
}

inline bool is_socket(int descriptor) noexcept
{
    const int before = errno;
    struct ::stat what{};
    const bool socket = ::fstat(descriptor, &what) == 0 && S_ISSOCK(what.st_mode);
    errno = before;
    return socket;
}

} // namespace tests::faults

extern "C" {

int accept(int listener, sockaddr* address, socklen_t* size)
{
    using namespace tests::faults;
    static auto* const real = system_function<decltype(::accept)>("accept");
    const int error = next({ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, EINTR});
    const bool takes_it_away = error == ECONNABORTED || error == EPROTO; // the others leave it in the backlog
    if (error != all_is_well && !takes_it_away) return errno = error, -1;
    const int connection = real(listener, address, size);
    if (takes_it_away && connection >= 0) {
        ::syscall(SYS_close, connection);
        return errno = error, -1;
    }
    if (connection >= 0 && observed != nullptr) ++observed->connections;
    return connection;
}

ssize_t recv(int socket, void* bytes, size_t size, int flags)
{
    using namespace tests::faults;
    static auto* const real = system_function<decltype(::recv)>("recv");
    const int error = next({ECONNRESET, ETIMEDOUT, ENOMEM, EINTR, in_part});
    if (error > 0) return errno = error, -1;
    return real(socket, bytes, error == in_part && size > 1 ? 1 : size, flags);
}

ssize_t recvmsg(int socket, msghdr* message, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::recvmsg)>("recvmsg");
    return tests::faults::fails({ECONNRESET, ETIMEDOUT, ENOMEM, EINTR}) ? -1 : real(socket, message, flags);
}

ssize_t send(int socket, const void* bytes, size_t size, int flags)
{
    using namespace tests::faults;
    static auto* const real = system_function<decltype(::send)>("send");
    const int error = next({EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EINTR, in_part});
    if (error > 0) return errno = error, -1;
    return real(socket, bytes, error == in_part && size > 1 ? 1 : size, flags);
}

ssize_t sendmsg(int socket, const msghdr* message, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::sendmsg)>("sendmsg");
    return tests::faults::fails({EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EINTR}) ? -1
                                                                             : real(socket, message, flags);
}

int shutdown(int socket, int how) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::shutdown)>("shutdown");
    return tests::faults::fails({ENOTCONN, ENOBUFS}) ? -1 : real(socket, how);
}

int setsockopt(int socket, int level, int name, const void* value, socklen_t size) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::setsockopt)>("setsockopt");
    return tests::faults::fails({EINVAL, ENOMEM}) ? -1 : real(socket, level, name, value, size);
}

int getsockopt(int socket, int level, int name, void* value, socklen_t* size) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::getsockopt)>("getsockopt");
    return tests::faults::fails({ENOTCONN, ENOBUFS}) ? -1 : real(socket, level, name, value, size);
}

int getpeername(int socket, sockaddr* address, socklen_t* size) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::getpeername)>("getpeername");
    return tests::faults::fails({ENOTCONN, ENOBUFS}) ? -1 : real(socket, address, size);
}

int ioctl(int descriptor, unsigned long request, ...) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::ioctl)>("ioctl");
    va_list arguments;
    va_start(arguments, request);
    void* const argument = va_arg(arguments, void*);
    va_end(arguments);
    if (tests::faults::is_socket(descriptor) && tests::faults::fails({EINVAL, ENOMEM})) return -1;
    return real(descriptor, request, argument);
}

int epoll_ctl(int poll, int what, int descriptor, epoll_event* event) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::epoll_ctl)>("epoll_ctl");
    if (tests::faults::is_socket(descriptor) && tests::faults::fails({ENOMEM, ENOSPC})) return -1;
    return real(poll, what, descriptor, event);
}

/// Linux frees the number whatever close() returns, and so does this.
int close(int descriptor)
{
    static auto* const real = tests::faults::system_function<decltype(::close)>("close");
    const bool failing = tests::faults::is_socket(descriptor) && tests::faults::fails({EIO, EINTR});
    const int error = errno;
    const int result = real(descriptor);
    return failing ? (errno = error, -1) : result;
}

int clock_gettime(clockid_t clock, timespec* now) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::clock_gettime)>("clock_gettime");
    const int result = real(clock, now);
    if (clock != CLOCK_MONOTONIC || tests::faults::clock_speed == 1) return result;
    constexpr std::int64_t second = 1'000'000'000;
    const std::int64_t fast = (now->tv_sec * second + now->tv_nsec) * tests::faults::clock_speed;
    *now = {fast / second, fast % second};
    return result;
}

int timerfd_settime(int timer, int flags, const itimerspec* when, itimerspec* before) noexcept
{
    static auto* const real = tests::faults::system_function<decltype(::timerfd_settime)>("timerfd_settime");
    itimerspec sooner = *when;
    if (flags == 0 && tests::faults::clock_speed != 1) {
        constexpr std::int64_t second = 1'000'000'000;
        const std::int64_t wait = sooner.it_value.tv_sec * second + sooner.it_value.tv_nsec;
        const std::int64_t slept = (wait + tests::faults::clock_speed - 1) / tests::faults::clock_speed;
        sooner.it_value = {slept / second, slept % second};
    }
    return real(timer, flags, &sooner, before);
}

} // extern "C"

#endif
