// holdfast: starts a session, or a handshake, with a connection once its PROXY header was read.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_PROXIED_STARTER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_PROXIED_STARTER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/proxy_gate.hpp>
#include <holdfast/detail/acceptor/proxy_reading.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>

#include <cstddef>
#include <memory>
#include <utility>

namespace holdfast::detail {

/// Starts another starter's sessions, those of the acceptor's `async_serve`.
template <class Connection>
class proxied_starter final : public session_starter<Connection>,
                              public proxied_sessions,
                              public std::enable_shared_from_this<proxied_starter<Connection>> {
    using base = session_starter<Connection>;

public:
    proxied_starter(const std::shared_ptr<event_reporter>& reporter, std::shared_ptr<proxy_gate> gate,
                    std::shared_ptr<base> sessions)
        : proxied_sessions(reporter, std::move(gate)), sessions_(std::move(sessions))
    {
    }

    void start(const std::shared_ptr<event_reporter>& reporter, Connection&& peer, std::size_t shard,
               const net::ip::tcp::endpoint& remote) override
    {
        std::make_shared<reading>(this->shared_from_this(), reporter, std::move(peer), shard, remote)->start();
    }

private:
    class reading;

    const std::shared_ptr<base> sessions_;
};

/// The reading of a connection of this type.
template <class Connection>
class proxied_starter<Connection>::reading final : public proxy_reading {
public:
    reading(const std::shared_ptr<proxied_starter>& owner, std::shared_ptr<event_reporter> reporter, Connection&& peer,
            std::size_t shard, const net::ip::tcp::endpoint& remote)
        : proxy_reading(owner, peer.get_executor(), std::move(reporter), shard, remote, peer.stream().native_handle()),
          sessions_(owner->sessions_.get()),
          peer_(std::move(peer))
    {
    }

private:
    void await_input() override { this->wait_readable(peer_.stream()); }
    void close(close_reason reason, const error_code& error) noexcept override { peer_.close(reason, error); }
    void abort() noexcept override { peer_.abort(close_reason::refused); }

    address_verdict::what learn_peer(const net::ip::tcp::endpoint& peer) override { return peer_.learn_peer(peer); }

    void start_session() override
    {
        Connection peer = std::move(peer_); // an exception closes it
        sessions_->start(this->reporter_, std::move(peer), this->shard_, this->remote_);
    }

    base* const sessions_; // its owner's
    Connection peer_;
};

} // namespace holdfast::detail

#endif
