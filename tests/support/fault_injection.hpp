// holdfast: makes the n-th operation of a program on its sockets fail: a system call.
// Include it in one translation unit of a program only: the functions below take the place of the system's.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_FAULT_INJECTION_HPP
#define HOLDFAST_TESTS_SUPPORT_FAULT_INJECTION_HPP

#include <array>
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
#include <sys/uio.h>
#include <unistd.h>

namespace tests::faults {

/// Which operation is to fail, counted from the first connection on, and in which of the ways it can.
struct plan {
    std::uint64_t nth = 0;
    std::size_t way = 0;
};

/// What became of it, in memory that the process shares with the one that started it.
struct outcome {
    std::uint64_t connections = 0; ///< accept4() has returned so many
    std::uint64_t operations = 0;  ///< counted from then on
    std::size_t ways = 0;          ///< in which the n-th can fail; zero: there was none
    bool failed = false;           ///< it did
    const char* name = "";         ///< the n-th operation's
    std::uint64_t writes = 0;      ///< counted while the sockets are `narrow`
};

inline plan planned;
inline outcome* observed = nullptr; // nothing is counted, and nothing fails, while it is null

/// Whether the sockets have little room for writes: of three in a row the first is cut off, the second finds
/// none.
inline bool narrow = false;

/// SO_SNDBUF of the connections, which the kernel doubles: small, and a peer that does not read soon stops a
/// write. 0 leaves it to the kernel.
inline int send_buffer = 0;

/// How many times as fast as the world's this process's clock runs: a test need not wait for a server's
/// seconds.
inline std::int64_t clock_speed = 1;

/// The system's own function of that name.
template <class F>
F* system_function(const char* name)
{
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

/// What may become of an operation beside an error number. A read or write may be one of a part, of a byte
/// or of all but one, after which the connection may be reset.
enum : int {
    all_is_well = 0,
    not_ready = -1, // EAGAIN, although it is
    half = -2,
    a_byte = -3,
    all_but_a_byte = -4,
    a_byte_then_reset = -5,
    all_but_a_byte_then_reset = -6,
};

/// How many of `size` bytes are to be transferred.
inline std::size_t part_of(std::size_t size, int way) noexcept
{
    if (size < 2) return size;
    switch (way) {
    case half:
        return size / 2;
    case a_byte:
    case a_byte_then_reset:
        return 1;
    case all_but_a_byte:
    case all_but_a_byte_then_reset:
        return size - 1;
    default:
        return size;
    }
}

inline int reset_socket = -1; // each read and write on it finds it reset

/// What is to become of this operation: one of `ways`.
inline int next(std::initializer_list<int> ways, const char* name) noexcept
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

/// How epoll was last asked to watch each descriptor, so that it can be made to look again: it tells of a
/// change only, and after an untrue EAGAIN, or a part, there is none.
struct watch {
    int poll = -1;
    epoll_event event{};
};
inline std::array<watch, 1024> watches;

inline watch* watch_of(int descriptor) noexcept
{
    const auto number = static_cast<std::size_t>(descriptor);
    return number < watches.size() ? &watches[number] : nullptr;
}

inline void look_again(int descriptor) noexcept
{
    if (watch* const known = watch_of(descriptor); known != nullptr && known->poll >= 0)
        ::syscall(SYS_epoll_ctl, known->poll, EPOLL_CTL_MOD, descriptor, &known->event);
}

/// The same for a read or a write: false where it fails, errno set; else `way` says how much of it is done.
inline bool transfers(int socket, std::initializer_list<int> ways, int& way, const char* name) noexcept
{
    way = next(ways, name);
    if (socket == reset_socket) return errno = ECONNRESET, false;
    if (way == a_byte_then_reset || way == all_but_a_byte_then_reset) reset_socket = socket;
    if (way < all_is_well) look_again(socket); // Asio takes a part for a sign that there is no more
    if (way == not_ready || way > 0) return errno = way > 0 ? way : EAGAIN, false;
    return true;
}

inline bool reads(int socket, int& way, const char* name = __builtin_FUNCTION()) noexcept
{
    return transfers(socket,
                     {ECONNRESET, ETIMEDOUT, ENOMEM, EINTR, not_ready, a_byte, all_but_a_byte, a_byte_then_reset,
                      all_but_a_byte_then_reset},
                     way, name);
}

inline bool writes(int socket, int& way, const char* name = __builtin_FUNCTION()) noexcept
{
    if (!transfers(socket,
                   {EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EINTR, not_ready, a_byte, all_but_a_byte, a_byte_then_reset,
                    all_but_a_byte_then_reset},
                   way, name))
        return false;
    if (!narrow || observed == nullptr || way != all_is_well) return true;
    const auto turn = observed->writes++ % 3;
    if (turn != 2) look_again(socket);
    if (turn == 0) way = half;
    return turn != 1 || (errno = EAGAIN, false);
}

/// A message of the first buffer that is not empty, a part of it.
class partial_message {
public:
    partial_message(const msghdr& whole, int way) noexcept : header_(whole)
    {
        std::size_t at = 0;
        while (at + 1 < whole.msg_iovlen && whole.msg_iov[at].iov_len == 0)
            ++at;
        if (way >= not_ready || whole.msg_iovlen == 0) return;
        first_ = whole.msg_iov[at];
        first_.iov_len = part_of(first_.iov_len, way);
        header_.msg_iov = &first_;
        header_.msg_iovlen = 1;
    }
    partial_message(const partial_message&) = delete;

    msghdr* get() noexcept { return &header_; }

private:
    msghdr header_;
    iovec first_{};
};

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

int accept4(int listener, sockaddr* address, socklen_t* size, int flags)
{
    using namespace tests::faults;
    static auto* const real = system_function<decltype(::accept4)>("accept4");
    const int error = next({ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, EINTR}, "accept4");
    const bool takes_it_away = error == ECONNABORTED || error == EPROTO; // the others leave it in the backlog
    if (error != all_is_well && !takes_it_away) return errno = error, -1;
    const int connection = real(listener, address, size, flags);
    if (takes_it_away && connection >= 0) {
        ::syscall(SYS_close, connection);
        return errno = error, -1;
    }
    if (connection >= 0 && observed != nullptr) {
        ++observed->connections;
        if (send_buffer != 0)
            ::syscall(SYS_setsockopt, connection, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    }
    return connection;
}

ssize_t recv(int socket, void* bytes, size_t size, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::recv)>("recv");
    int way = 0;
    if (!tests::faults::reads(socket, way)) return -1;
    return real(socket, bytes, tests::faults::part_of(size, way), flags);
}

ssize_t recvmsg(int socket, msghdr* message, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::recvmsg)>("recvmsg");
    int way = 0;
    if (!tests::faults::reads(socket, way)) return -1;
    tests::faults::partial_message part(*message, way);
    const ssize_t done = real(socket, part.get(), flags);
    message->msg_flags = part.get()->msg_flags;
    return done;
}

ssize_t send(int socket, const void* bytes, size_t size, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::send)>("send");
    int way = 0;
    if (!tests::faults::writes(socket, way)) return -1;
    return real(socket, bytes, tests::faults::part_of(size, way), flags);
}

ssize_t sendmsg(int socket, const msghdr* message, int flags)
{
    static auto* const real = tests::faults::system_function<decltype(::sendmsg)>("sendmsg");
    int way = 0;
    if (!tests::faults::writes(socket, way)) return -1;
    tests::faults::partial_message part(*message, way);
    return real(socket, part.get(), flags);
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
    if (tests::faults::watch* const known = tests::faults::watch_of(descriptor))
        *known = what == EPOLL_CTL_DEL ? tests::faults::watch{} : tests::faults::watch{poll, *event};
    return real(poll, what, descriptor, event);
}

/// Linux frees the number whatever close() returns, and so does this.
int close(int descriptor)
{
    static auto* const real = tests::faults::system_function<decltype(::close)>("close");
    const bool failing = tests::faults::is_socket(descriptor) && tests::faults::fails({EIO, EINTR});
    const int error = errno;
    if (tests::faults::watch* const known = tests::faults::watch_of(descriptor)) *known = {};
    if (descriptor == tests::faults::reset_socket) tests::faults::reset_socket = -1;
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
