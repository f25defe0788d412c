// holdfast: the ladder's clients: their behaviour, and one process with many of them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_CLIENTS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_CLIENTS_HPP

#include "ladder_http.hpp"
#include "ladder_plan.hpp"
#include "ladder_tls.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ladder {

using steady = std::chrono::steady_clock;

/// Owns a descriptor.
class descriptor {
public:
    descriptor() = default;
    explicit descriptor(int fd) : fd_{fd} {}
    descriptor(descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
    descriptor& operator=(descriptor&& other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~descriptor() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset()
    {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

/// A socket address of any family.
struct socket_address {
    sockaddr_storage storage{};
    socklen_t size = 0;

    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    int family() const { return storage.ss_family; }
};

/// Resolves a host to its first address. Throws `usage_error`.
inline socket_address resolve(const std::string& host, std::uint16_t port)
{
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (error != 0) throw examples::usage_error("cannot find the host '" + host + "': " + ::gai_strerror(error));
    socket_address address;
    address.size = found->ai_addrlen;
    std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
    ::freeaddrinfo(found);
    return address;
}

/// The figures of the clients of one process, or of all. Totals only grow; the others are current.
struct load_statistics {
    std::uint32_t command = 0; ///< the number of the last command that was begun
    std::uint32_t target = 0;  ///< how many clients there should be
    std::uint32_t pending = 0; ///< connecting, waiting to try again, or with resets still to do
    std::uint32_t up = 0;      ///< connected
    std::uint32_t gave_up = 0; ///< could not connect in as many tries as are made
    std::uint32_t closed_by_server = 0;
    std::uint64_t returned = 0;        ///< total, closed by a server that is restarted, and came back to the next
    std::uint64_t refused = 0;         ///< total, connections that were
    std::uint64_t broken = 0;          ///< total, connections that the server's side reset
    std::uint32_t with_first_byte = 0; ///< clients that have received something
    std::uint64_t connects = 0;        ///< total
    std::uint64_t resets = 0;          ///< total, by the clients of kind `aborting`
    std::uint64_t answers = 0;         ///< total
    std::uint64_t bytes = 0;           ///< total, received by clients that read at once
    std::uint64_t slow_bytes = 0;      ///< total, received by clients that read slowly
    std::int32_t last_error = 0;       ///< why the last connection failed
    std::uint64_t not_opened = 0;      ///< total, WebSockets or streams of events that the server did not open
    std::array<char, 120> refusal{};   ///< why the first of them was not

    load_statistics& operator+=(const load_statistics& other)
    {
        target += other.target;
        pending += other.pending;
        up += other.up;
        gave_up += other.gave_up;
        closed_by_server += other.closed_by_server;
        returned += other.returned;
        refused += other.refused;
        broken += other.broken;
        with_first_byte += other.with_first_byte;
        connects += other.connects;
        resets += other.resets;
        answers += other.answers;
        bytes += other.bytes;
        slow_bytes += other.slow_bytes;
        if (other.last_error != 0) last_error = other.last_error;
        not_opened += other.not_opened;
        if (refusal[0] == 0) refusal = other.refusal;
        return *this;
    }
};

/// A message from the ladder to a load process: how many clients to have; 0 closes all.
struct load_command {
    std::uint32_t number = 0;
    std::uint32_t target = 0;
};

/// The clients of one process, with one thread and one epoll. Runs until the channel to the ladder ends.
class client_process {
public:
    /// Makes the clients with the numbers `index`, `index + plan.processes`, …, so that every rung has the mix.
    client_process(const settings& wanted, const climb_plan& plan, std::uint32_t index, const socket_address& server,
                   descriptor channel)
        : wanted_{wanted},
          processes_{plan.processes},
          index_{index},
          server_{server},
          channel_{std::move(channel)},
          epoll_{::epoll_create1(EPOLL_CLOEXEC)},
          matcher_{wanted.answer.pattern},
          buffer_(256 * 1024)
    {
        if (!epoll_) throw std::system_error(errno, std::system_category(), "epoll_create1");
        // Several processes have a source address each: an address has 28,000 ports at most.
        if (!wanted.source_addresses.empty()) {
            source_ = resolve(wanted.source_addresses[index % wanted.source_addresses.size()], 0);
        } else if (plan.processes > 1 && wanted.host.starts_with("127.")) {
            source_ = resolve("127.0.0." + std::to_string(1 + index), 0);
        }
        if (wanted.tls) tls_.emplace(wanted.authorities);
        if (!wanted.websocket_path.empty() || !wanted.events_path.empty()) opening_.emplace(wanted);
        watch(channel_.get(), EPOLLIN, channel_key);
    }

    void run()
    {
        std::array<epoll_event, 512> events;
        auto next_tick = steady::now();
        for (;;) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick - steady::now()).count();
            const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                           static_cast<int>(std::max<std::int64_t>(left, 0)));
            if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "epoll_wait");
            bool commanded = false;
            for (int i = 0; i < count; ++i) {
                const epoll_event& event = events[static_cast<std::size_t>(i)];
                if (event.data.u32 == channel_key) {
                    commanded = true;
                } else {
                    on_event(clients_[event.data.u32], event.events);
                }
            }
            // After the clients' events: a command may close the clients of these events.
            if (commanded && !take_commands()) return;
            if (steady::now() >= next_tick) {
                next_tick = steady::now() + tick;
                on_tick();
                report();
            }
        }
    }

private:
    enum class client_state : std::uint8_t { unborn, waiting, connecting, handshaking, opening, up, ended };

    struct client {
        int fd = -1;
        tls_session tls;
        client_kind kind = client_kind::idle;
        client_state state = client_state::unborn;
        std::uint8_t tries = 0;
        bool heard = false;      ///< has received something, in any of its connections
        bool shut = false;       ///< has ended its own direction
        std::uint16_t match = 0; ///< the state of the pattern matcher
        std::string head;        ///< of the response, as far as it has come
        websocket_frames frames; ///< what has come of the server's frames
        std::uint32_t aborts_left = 0;
        steady::time_point since{};        ///< when this state began, or something was read last
        steady::time_point connected_at{}; ///< when this connection was up
    };

    static constexpr std::uint32_t channel_key = UINT32_MAX;
    static constexpr std::chrono::milliseconds tick{50};
    static constexpr std::uint8_t most_tries = 10;
    static constexpr std::chrono::milliseconds retry_after{300};
    static constexpr std::size_t connecting_at_once = 256;
    static constexpr std::chrono::milliseconds slow_period{250};

    void watch(int fd, std::uint32_t events, std::uint32_t key) const
    {
        epoll_event event{};
        event.events = events;
        event.data.u32 = key;
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
            throw std::system_error(errno, std::system_category(), "epoll_ctl");
    }

    void rewatch(const client& each, std::uint32_t events) const
    {
        epoll_event event{};
        event.events = events;
        event.data.u32 = static_cast<std::uint32_t>(&each - clients_.data());
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, each.fd, &event);
    }

    /// Returns false at the end of the channel: the ladder is done, or has ended.
    bool take_commands()
    {
        for (;;) {
            load_command command;
            const ssize_t got = ::recv(channel_.get(), &command, sizeof command, MSG_DONTWAIT);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0 && errno == EAGAIN) return true;
            if (got != sizeof command) return false;
            statistics_.command = command.number;
            statistics_.target = command.target;
            if (command.target == 0) {
                close_all();
            } else {
                add_clients(command.target);
            }
        }
    }

    void close_all()
    {
        for (client& each : clients_)
            if (each.fd >= 0) ::close(each.fd);
        clients_.clear();
        connecting_ = 0;
        statistics_.up = statistics_.pending = 0;
        statistics_.gave_up = statistics_.closed_by_server = statistics_.with_first_byte = 0;
        statistics_.last_error = 0;
        statistics_.refusal = {};
        report();
    }

    void add_clients(std::uint32_t target)
    {
        for (auto number = static_cast<std::uint32_t>(clients_.size()); number < target; ++number) {
            client& added = clients_.emplace_back();
            added.kind = wanted_.mix(number * processes_ + index_);
            if (added.kind == client_kind::aborting) added.aborts_left = wanted_.aborts;
        }
        statistics_.pending = count_pending();
    }

    std::uint32_t count_pending() const
    {
        const auto pending = [](const client& each) {
            return each.state != client_state::ended && (each.state != client_state::up || each.aborts_left > 0);
        };
        return static_cast<std::uint32_t>(std::count_if(clients_.begin(), clients_.end(), pending));
    }

    void report()
    {
        statistics_.pending = count_pending();
        // A report that the channel does not take is superseded by the next one.
        ::send(channel_.get(), &statistics_, sizeof statistics_, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    void on_tick()
    {
        const auto now = steady::now();
        // The allowance of this tick. An unused rest does not add up to a burst.
        const double share = std::chrono::duration<double>{tick}.count() * wanted_.connect_rate / processes_;
        allowance_ = std::min(allowance_ + share, std::max(share, 1.0));
        for (client& each : clients_) {
            switch (each.state) {
            case client_state::waiting:
                if (now - each.since < retry_after) break;
                [[fallthrough]];
            case client_state::unborn:
                if (allowance_ < 1 || connecting_ >= connecting_at_once) break;
                allowance_ -= 1;
                connect(each);
                break;
            case client_state::up:
                on_tick_up(each, now);
                break;
            case client_state::connecting:
            case client_state::handshaking:
            case client_state::opening:
            case client_state::ended:
                break;
            }
        }
    }

    void on_tick_up(client& each, steady::time_point now)
    {
        switch (each.kind) {
        case client_kind::slow:
            // The bytes of a quarter of a second at a time. After a pause of the server it does not read faster.
            if (now - each.since < slow_period) break;
            each.since = std::max(each.since + slow_period, now - slow_period);
            read(each, std::clamp<std::size_t>(wanted_.slow_rate / 4, 1, buffer_.size()));
            break;
        case client_kind::half_closed:
            // It has read all when nothing has come for a while; a server that never stops sending gets five seconds.
            if (!each.shut && (now - each.since > std::chrono::milliseconds{300} ||
                               now - each.connected_at > std::chrono::seconds{5})) {
                if (each.tls) each.tls.shutdown();
                ::shutdown(each.fd, SHUT_WR);
                each.shut = true;
            }
            break;
        case client_kind::aborting:
            if (each.aborts_left > 0 && now - each.connected_at > std::chrono::milliseconds{250}) {
                --each.aborts_left;
                ++statistics_.resets;
                reset(each);
                end(each, client_state::unborn);
            }
            break;
        case client_kind::idle:
        case client_kind::silent:
            break;
        }
    }

    /// Makes the next close send an RST.
    static void reset(const client& each)
    {
        const linger at_once{1, 0};
        ::setsockopt(each.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }

    void end(client& each, client_state next)
    {
        if (each.state == client_state::connecting || each.state == client_state::handshaking ||
            each.state == client_state::opening)
            --connecting_;
        if (each.state == client_state::up) --statistics_.up;
        each.tls = {};
        if (each.fd >= 0) ::close(std::exchange(each.fd, -1));
        each.state = next;
        each.since = steady::now();
        each.shut = false;
        each.match = 0;
        each.head.clear();
        each.frames = {};
    }

    void connect(client& each)
    {
        each.fd = ::socket(server_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (each.fd < 0) return failed(each, errno);
        const int one = 1;
        if (source_.size != 0) {
            // Chooses the port at connect, so that it must be unique for the pair of addresses only.
            ::setsockopt(each.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
            if (::bind(each.fd, source_.get(), source_.size) != 0) return failed(each, errno);
        }
        if (each.kind == client_kind::slow || each.kind == client_kind::silent) {
            // Small, so that a write of the server soon blocks.
            const int size = static_cast<int>(std::min<std::uint64_t>(wanted_.receive_buffer, INT32_MAX));
            ::setsockopt(each.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        }
        ::setsockopt(each.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (::connect(each.fd, server_.get(), server_.size) != 0 && errno != EINPROGRESS) return failed(each, errno);
        each.state = client_state::connecting;
        ++connecting_;
        watch(each.fd, EPOLLOUT, static_cast<std::uint32_t>(&each - clients_.data()));
    }

    void failed(client& each, int error)
    {
        statistics_.last_error = error;
        if (error == ECONNREFUSED || error == ECONNRESET) ++statistics_.refused;
        const bool again = ++each.tries < most_tries;
        end(each, again ? client_state::waiting : client_state::ended);
        if (!again) ++statistics_.gave_up;
    }

    void on_event(client& each, std::uint32_t events)
    {
        if (each.state == client_state::connecting) {
            int error = 0;
            socklen_t size = sizeof error;
            ::getsockopt(each.fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error != 0) return failed(each, error);
            if (!tls_) return open(each);
            each.tls = tls_->connect(each.fd, wanted_.host);
            if (!each.tls) return failed(each, ENOMEM);
            each.state = client_state::handshaking;
            continue_handshake(each);
        } else if (each.state == client_state::handshaking) {
            continue_handshake(each);
        } else if (each.state == client_state::opening) {
            continue_opening(each);
        } else if (each.state == client_state::up) {
            if (each.kind == client_kind::silent) {
                if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
                    closed_by_server(each, (events & EPOLLERR) != 0);
            } else {
                read(each, buffer_.size());
            }
        }
    }

    void continue_handshake(client& each)
    {
        switch (each.tls.handshake()) {
        case tls_result::done:
            return open(each);
        case tls_result::wait_read:
            return rewatch(each, EPOLLIN);
        case tls_result::wait_write:
            return rewatch(each, EPOLLOUT);
        case tls_result::ended:
        case tls_result::failed:
            return failed(each, EPROTO);
        }
    }

    /// The connection is there; sends the request for what comes upon it, if anything does.
    void open(client& each)
    {
        if (!opening_) return connected(each);
        each.state = client_state::opening;
        rewatch(each, EPOLLIN);
        send(each, opening_->request());
    }

    /// Reads the response's head, and what has come after it.
    void continue_opening(client& each)
    {
        std::copy(each.head.begin(), each.head.end(), buffer_.begin());
        std::size_t total = each.head.size();
        const std::size_t most = each.kind == client_kind::silent ? http_opening::max_head : buffer_.size();
        auto result = tls_result::done;
        do {
            std::size_t got = 0;
            result = read_some(each, buffer_.data() + total, most - total, got);
            total += got;
        } while (tls_ && result == tls_result::done && total != most); // no readiness announces what OpenSSL holds
        const std::string_view text{buffer_.data(), total};
        const std::size_t end = text.find("\r\n\r\n");
        if (end == text.npos) {
            if (result == tls_result::ended || result == tls_result::failed)
                return refused(each, "the server has closed before its response");
            if (total >= http_opening::max_head) return refused(each, "the head of the server's response is too long");
            each.head = text;
            return;
        }
        if (const std::string why = opening_->refusal(text.substr(0, end + 4)); !why.empty()) return refused(each, why);
        each.head = {};
        connected(each);
        const std::size_t rest = total - end - 4;
        if (rest == 0 || each.kind == client_kind::silent) return;
        std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(end + 4), rest, buffer_.begin());
        received(each, rest);
    }

    void refused(client& each, std::string_view why)
    {
        ++statistics_.not_opened;
        if (statistics_.refusal[0] == 0) why.copy(statistics_.refusal.data(), statistics_.refusal.size() - 1);
        failed(each, EPROTO);
    }

    /// One read without waiting.
    static tls_result read_some(client& each, char* to, std::size_t most, std::size_t& got)
    {
        if (each.tls) return each.tls.read(to, most, got);
        const ssize_t result = ::recv(each.fd, to, most, MSG_DONTWAIT);
        if (result < 0 && (errno == EAGAIN || errno == EINTR)) return tls_result::wait_read;
        if (result <= 0) return result == 0 ? tls_result::ended : tls_result::failed;
        got = static_cast<std::size_t>(result);
        return tls_result::done;
    }

    void connected(client& each)
    {
        --connecting_;
        each.state = client_state::up;
        each.tries = 0;
        each.since = each.connected_at = steady::now();
        ++statistics_.up;
        ++statistics_.connects;
        switch (each.kind) {
        case client_kind::silent:
            return rewatch(each, EPOLLRDHUP | EPOLLET);
        case client_kind::slow: // reads on ticks
            rewatch(each, 0);
            ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, each.fd, nullptr);
            break;
        case client_kind::idle:
        case client_kind::half_closed:
        case client_kind::aborting:
            rewatch(each, EPOLLIN);
            break;
        }
        if (!wanted_.hello.empty()) send_message(each, wanted_.hello);
    }

    /// Sends a text, in a frame where the connection is a WebSocket.
    void send_message(client& each, std::string_view text) const
    {
        constexpr unsigned of_text = 1;
        send(each, wanted_.websocket_path.empty() ? std::string(text) : websocket_frame(of_text, text));
    }

    /// Sends a few bytes. What does not fit into the send buffer is dropped.
    static void send(client& each, std::string_view text)
    {
        if (each.tls) return each.tls.write(text);
        ::send(each.fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    void read(client& each, std::size_t most)
    {
        if (each.tls) return read_tls(each, most);
        // Without frames and a pattern to match, the kernel need not copy the bytes.
        const int flags = MSG_DONTWAIT | (matcher_.empty() && wanted_.websocket_path.empty() ? MSG_TRUNC : 0);
        const ssize_t got = ::recv(each.fd, buffer_.data(), most, flags);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) return closed_by_server(each, got < 0);
        received(each, static_cast<std::size_t>(got));
        // A client that will abort leaves the rest unread.
        if (each.aborts_left > 0) rewatch(each, 0);
    }

    /// All that has come, up to `most` bytes: no readiness announces what is left in OpenSSL's buffer.
    void read_tls(client& each, std::size_t most)
    {
        std::size_t total = 0;
        auto result = tls_result::done;
        while (total != most) {
            std::size_t got = 0;
            result = each.tls.read(buffer_.data() + total, most - total, got);
            if (result != tls_result::done) break;
            total += got;
        }
        if (total != 0) received(each, total);
        if (result == tls_result::ended || result == tls_result::failed)
            return closed_by_server(each, result == tls_result::failed);
        if (each.aborts_left > 0 && total != 0) rewatch(each, 0);
    }

    /// The first `bytes` of the buffer.
    void received(client& each, std::size_t bytes)
    {
        if (each.kind == client_kind::slow) {
            statistics_.slow_bytes += bytes;
        } else {
            statistics_.bytes += bytes;
            each.since = steady::now();
        }
        if (!each.heard) {
            each.heard = true;
            ++statistics_.with_first_byte;
        }
        if (!wanted_.websocket_path.empty()) {
            each.frames.take({buffer_.data(), bytes}, [&](unsigned opcode, std::string_view payload) {
                if (!each.shut) send(each, websocket_frame(opcode, payload));
            });
        }
        if (!matcher_.empty()) {
            std::size_t due = matcher_.count({buffer_.data(), bytes}, each.match);
            if (each.shut) due = 0;
            for (statistics_.answers += due; due > 0; --due)
                send_message(each, wanted_.answer.reply);
        }
    }

    void closed_by_server(client& each, bool broken)
    {
        statistics_.broken += broken ? 1 : 0;
        if (!wanted_.pid_file.empty() && !each.shut) { // a server that is restarted
            ++statistics_.returned;
            return end(each, client_state::unborn);
        }
        ++statistics_.closed_by_server;
        end(each, client_state::ended);
    }

    const settings& wanted_;
    std::uint32_t processes_, index_;
    const socket_address server_;
    socket_address source_;
    descriptor channel_, epoll_;
    pattern_matcher matcher_;
    std::optional<tls_client_context> tls_;
    std::optional<http_opening> opening_;
    std::vector<char> buffer_;
    std::vector<client> clients_;
    std::size_t connecting_ = 0;
    double allowance_ = 0;
    load_statistics statistics_;
};

} // namespace ladder

#endif
