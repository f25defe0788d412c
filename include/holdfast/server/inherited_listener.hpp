// holdfast: inherited_listener, the listening socket that a service manager hands over, by systemd's protocol (sd_listen_fds(3)).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_INHERITED_LISTENER_HPP
#define HOLDFAST_SERVER_INHERITED_LISTENER_HPP

#include <holdfast/asio.hpp>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast {

namespace detail {

/// The first descriptor that a service manager hands over.
inline constexpr int first_inherited = 3;

[[noreturn]] inline void refuse_inherited(const std::string& why)
{
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), why);
}

/// How many descriptors are meant for the process `self`, from the values of LISTEN_PID and LISTEN_FDS (null where they
/// are not set): none where the number is missing or they are another process's, as those that a parent was handed are.
inline std::uint32_t inherited_count(const char* listen_pid, const char* listen_fds, ::pid_t self)
{
    const auto number = [](std::string_view name, std::string_view text) {
        std::uint32_t value = 0;
        const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc() || rest != text.data() + text.size())
            refuse_inherited(std::string(name).append(" is '").append(text).append(
                "' where a number should be: correct it or unset it"));
        return value;
    };
    if (listen_pid == nullptr || listen_fds == nullptr) return 0;
    if (number("LISTEN_PID", listen_pid) != static_cast<std::uint32_t>(self)) return 0;
    return number("LISTEN_FDS", listen_fds);
}

} // namespace detail

/// A listening TCP socket that a service manager handed over: what a `bounded_acceptor` adopts.
struct inherited_listener {
    net::ip::tcp protocol;
    int descriptor;
};

/// Returns the listening TCP socket that the service manager has opened for this process by systemd's protocol
/// (LISTEN_PID and LISTEN_FDS), or nothing where there is none. Clients wait in its backlog while the program is
/// replaced. The call takes it: both variables are unset, a second call finds none, and programs started by this one do
/// not inherit it.
///
/// Exceptions: std::system_error, whose text says what to do, where a variable is not a number or what was handed over
/// is not one listening TCP socket; std::bad_alloc.
/// Thread safety: none; it changes the environment.
///
///     if (const auto inherited = holdfast::take_inherited_listener())
///         acceptor.emplace(io, inherited->protocol, inherited->descriptor, options);
inline std::optional<inherited_listener> take_inherited_listener()
{
    const auto count = detail::inherited_count(std::getenv("LISTEN_PID"), std::getenv("LISTEN_FDS"), ::getpid());
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    if (count == 0) return std::nullopt;
    if (count != 1)
        detail::refuse_inherited("the service manager handed over " + std::to_string(count) +
                                 " sockets, but one is served: leave a single ListenStream= in the socket unit");
    const auto option = [](int name) {
        int value = 0;
        ::socklen_t size = sizeof value;
        return ::getsockopt(detail::first_inherited, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
    };
    const int family = option(SO_DOMAIN);
    if (option(SO_ACCEPTCONN) != 1 || option(SO_TYPE) != SOCK_STREAM || (family != AF_INET && family != AF_INET6))
        detail::refuse_inherited(
            "descriptor 3, which the service manager handed over, is no listening TCP socket: give "
            "the socket unit ListenStream=PORT and Accept=no");
    ::fcntl(detail::first_inherited, F_SETFD, FD_CLOEXEC);
    return inherited_listener{family == AF_INET ? net::ip::tcp::v4() : net::ip::tcp::v6(), detail::first_inherited};
}

} // namespace holdfast

#endif
