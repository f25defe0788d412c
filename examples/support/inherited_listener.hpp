// holdfast: the listening socket that a service manager hands over, by systemd's protocol (sd_listen_fds(3)).
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_INHERITED_LISTENER_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_INHERITED_LISTENER_HPP

#include "command_line.hpp"

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

namespace examples {

/// The first descriptor that a service manager hands over.
inline constexpr int first_inherited = 3;

/// How many descriptors are meant for the process `self`, from the values of LISTEN_PID and LISTEN_FDS (null
/// where they are not set): none where the number is missing or they are another process's, as those that a
/// parent was handed are. Throws a `usage_error` where the values are no numbers.
inline std::uint32_t inherited_count(const char* listen_pid, const char* listen_fds, ::pid_t self)
{
    const auto number = [](std::string_view name, std::string_view text) {
        std::uint32_t value = 0;
        const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc{} || rest != text.data() + text.size())
            throw usage_error(std::string{name} + " is '" + std::string{text} +
                              "' where a number should be: mend it or unset it");
        return value;
    };
    if (listen_pid == nullptr || listen_fds == nullptr) return 0;
    if (number("LISTEN_PID", listen_pid) != static_cast<std::uint32_t>(self)) return 0;
    return number("LISTEN_FDS", listen_fds);
}

/// A listening socket that was handed over: what a `bounded_acceptor` adopts.
struct inherited_socket {
    holdfast::net::ip::tcp protocol;
    int descriptor;
};

/// The listening TCP socket that the service manager has opened for this process, and that programs started
/// by this one do not inherit; nothing where there is none. It is taken: a second call finds none. Throws a
/// `usage_error` where what was handed over is anything else.
inline std::optional<inherited_socket> take_inherited_listener()
{
    const auto count = inherited_count(std::getenv("LISTEN_PID"), std::getenv("LISTEN_FDS"), ::getpid());
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    if (count == 0) return std::nullopt;
    if (count != 1)
        throw usage_error("the service manager handed over " + std::to_string(count) +
                          " sockets, but one is served: leave a single ListenStream= in the socket unit");
    const auto option = [](int name) {
        int value = 0;
        ::socklen_t size = sizeof value;
        return ::getsockopt(first_inherited, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
    };
    const int family = option(SO_DOMAIN);
    if (option(SO_ACCEPTCONN) != 1 || option(SO_TYPE) != SOCK_STREAM || (family != AF_INET && family != AF_INET6))
        throw usage_error("descriptor 3, which the service manager handed over, is no listening TCP socket: "
                          "give the socket unit ListenStream=PORT and Accept=no");
    ::fcntl(first_inherited, F_SETFD, FD_CLOEXEC);
    using holdfast::net::ip::tcp;
    return inherited_socket{family == AF_INET ? tcp::v4() : tcp::v6(), first_inherited};
}

} // namespace examples

#endif
