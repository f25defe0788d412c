// holdfast: opens, inspects and accepts from listening sockets; every descriptor is close-on-exec from the start.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_LISTENING_SOCKET_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_LISTENING_SOCKET_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace holdfast::detail {

/// Owns a descriptor.
class unique_descriptor {
public:
    unique_descriptor() noexcept = default;
    explicit unique_descriptor(int descriptor) noexcept : descriptor_(descriptor) {}
    unique_descriptor(unique_descriptor&& other) noexcept : descriptor_(other.release()) {}
    unique_descriptor& operator=(unique_descriptor&& other) noexcept
    {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~unique_descriptor() { reset(); }

    [[nodiscard]] int get() const noexcept { return descriptor_; }
    int release() noexcept { return std::exchange(descriptor_, -1); }
    void reset(int descriptor = -1) noexcept
    {
        if (descriptor_ >= 0) ::close(descriptor_);
        descriptor_ = descriptor;
    }
    explicit operator bool() const noexcept { return descriptor_ >= 0; }

private:
    int descriptor_ = -1;
};

inline error_code last_error() noexcept { return {errno, net::error::get_system_category()}; }

[[noreturn]] inline void throw_last_error(const char* what) { throw system_error(last_error(), what); }

/// The address of a listener as text, for the message of an error.
inline std::string listener_text(const ::sockaddr* at, std::size_t size)
{
    if (at->sa_family == AF_UNIX) {
        const auto* const local = reinterpret_cast<const ::sockaddr_un*>(at);
        const std::size_t length = size - offsetof(::sockaddr_un, sun_path);
        const std::string path(local->sun_path, length);
        return path.empty() || path[0] == '\0' ? std::string("a local socket") : path.substr(0, path.find('\0'));
    }
    net::ip::tcp::endpoint endpoint;
    if ((at->sa_family != AF_INET && at->sa_family != AF_INET6) || size > endpoint.capacity()) return "the socket";
    std::memcpy(endpoint.data(), at, size);
    std::string text = endpoint.address().to_string();
    if (at->sa_family == AF_INET6) text.insert(0, 1, '[').append(1, ']');
    return text.append(1, ':').append(std::to_string(endpoint.port()));
}

/// Throws the error of bind(2) or listen(2), with what to do about it.
[[noreturn]] inline void throw_listen_error(const ::sockaddr* at, std::size_t size)
{
    const error_code error = last_error();
    std::string text("cannot listen on ");
    text.append(listener_text(at, size));
    const bool is_ip = at->sa_family != AF_UNIX;
    if (error.value() == EADDRINUSE)
        text.append(is_ip ? " (end the program that listens there, or choose another port)"
                          : " (a program listens there, or a file is in the way)");
    else if (error.value() == EACCES && is_ip)
        text.append(" (choose a port of 1024 or above, or give the program CAP_NET_BIND_SERVICE)");
    else if (error.value() == EADDRNOTAVAIL)
        text.append(" (this machine has no such address; 0.0.0.0 or :: stands for all that it has)");
    throw system_error(error, text);
}

inline unique_descriptor open_socket(int family, int type, int protocol)
{
    unique_descriptor socket(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
    if (!socket) throw_last_error("the listening socket cannot be opened");
    return socket;
}

/// Accepts without waiting; writes the client's address and port, which stay unspecified where `is_ip` is false.
inline unique_descriptor accept_from(int listener, bool is_ip, net::ip::tcp::endpoint& remote, error_code& ec) noexcept
{
    ::sockaddr_storage address{};
    auto size = static_cast<::socklen_t>(sizeof address);
    unique_descriptor accepted(
        ::accept4(listener, reinterpret_cast<::sockaddr*>(&address), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted) {
        ec = last_error();
    } else if (is_ip) {
        const std::size_t length = size < remote.capacity() ? size : remote.capacity();
        std::memcpy(remote.data(), &address, length);
        remote.resize(length);
    }
    return accepted;
}

/// Sets an integer option of a socket; false with errno where the system refuses it.
inline bool set_socket_option(int socket, int level, int name, int value) noexcept
{
    return ::setsockopt(socket, level, name, &value, sizeof value) == 0;
}

/// Closes with a reset.
inline void reset_and_close(unique_descriptor socket) noexcept
{
    const ::linger reset{1, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/// Whether a client has reset its connection, or has ended its side. That it has sent bytes before does not matter: a
/// client that sends its request, gives up and closes looks like one that ends its side and expects an answer.
inline bool client_has_left(int descriptor) noexcept
{
    char next = 0;
    const auto n = ::recv(descriptor, &next, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0) return true;
    if (n < 0) return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    return ::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
           (info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_CLOSE_WAIT);
}

/// Sets or checks how an IPv6 socket treats IPv4.
inline void apply_ip_versions(int socket, int family, ip_versions versions, bool adopted)
{
    if (versions == ip_versions::system_default || family != AF_INET6) return;
    int v6_only = versions == ip_versions::v6_only ? 1 : 0;
    if (!adopted) {
        if (::setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only) != 0)
            throw_last_error("IPV6_V6ONLY cannot be set");
        return;
    }
    const int requested = std::exchange(v6_only, 0);
    ::socklen_t size = sizeof v6_only;
    if (::getsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &size) != 0)
        throw_last_error("IPV6_V6ONLY cannot be read");
    if ((v6_only != 0) != (requested != 0))
        throw std::invalid_argument("acceptor_options::versions differs from the adopted listener's IPV6_V6ONLY");
}

/// The file of a listening local socket.
class socket_file {
public:
    socket_file() noexcept = default;

    /// After bind(2).
    explicit socket_file(std::string path) : path_(std::move(path))
    {
        if (path_.empty() || path_[0] == '\0' || ::lstat(path_.c_str(), &status_) != 0) path_.clear(); // abstract
    }

    /// Removes the file, unless another has taken its place.
    void remove() noexcept
    {
        struct ::stat now{};
        if (!path_.empty() && ::lstat(path_.c_str(), &now) == 0 && now.st_dev == status_.st_dev &&
            now.st_ino == status_.st_ino)
            ::unlink(path_.c_str());
        path_.clear();
    }

    /// Removes a socket file that no process listens on. Anything else stays.
    static void remove_stale(const std::string& path) noexcept
    {
        struct ::stat status{};
        if (path.empty() || path[0] == '\0' || ::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
        const unique_descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        ::sockaddr_un address{};
        if (!probe || path.size() >= sizeof address.sun_path) return;
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
        if (::connect(probe.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) != 0 &&
            errno == ECONNREFUSED)
            ::unlink(path.c_str());
    }

private:
    std::string path_;
    struct ::stat status_{};
};

} // namespace holdfast::detail

#endif
