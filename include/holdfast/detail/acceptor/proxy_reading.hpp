// holdfast: reads the PROXY header of a connection, of whatever type.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_PROXY_READING_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_PROXY_READING_HPP

#include <holdfast/acceptor_event.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/proxy_gate.hpp>
#include <holdfast/detail/acceptor/timed_steps.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/linkage.hpp>
#include <holdfast/proxy_protocol.hpp>

#include <cstddef>
#include <memory>

namespace holdfast::detail {

/// What the connections of one `async_serve` share while their headers are read. It outlives each of the execution
/// contexts that they have: it holds no executor and no wait.
class proxied_sessions {
public:
    HOLDFAST_DECL proxied_sessions(const std::shared_ptr<event_reporter>& reporter, std::shared_ptr<proxy_gate> gate);
    proxied_sessions(const proxied_sessions&) = delete;
    proxied_sessions& operator=(const proxied_sessions&) = delete;
    virtual ~proxied_sessions() = default;

private:
    friend class proxy_reading;

    const std::shared_ptr<proxy_gate> gate_;
    const counted_ptr<semaphore_core<synchronized>> turn_; // sessions start one at a time
    event_reporter of_sender_;                             // of its own connections
};

/// One connection, from its admission until its header was read or it has ended.
class proxy_reading : public timed_steps {
public:
    HOLDFAST_DECL ~proxy_reading() override;

    /// Reads the header, or rejects the connection where too many others do.
    HOLDFAST_DECL void start();

protected:
    HOLDFAST_DECL proxy_reading(std::shared_ptr<proxied_sessions> owner, const net::any_io_executor& executor,
                                std::shared_ptr<event_reporter> reporter, std::size_t shard,
                                const net::ip::tcp::endpoint& remote, int descriptor);

    /// Calls `wait_readable` with the connection's socket.
    virtual void await_input() = 0;
    virtual void close(close_reason reason, const error_code& error) noexcept = 0;
    virtual void abort() noexcept = 0;
    virtual address_verdict::what learn_peer(const net::ip::tcp::endpoint& peer) = 0;

    template <class Socket>
    void wait_readable(Socket& socket)
    {
        socket.async_wait(net::socket_base::wait_read, readable{self()});
    }
    HOLDFAST_DECL void wait_readable(net::ip::tcp::socket& socket); // compiled once

private:
    /// The handler of that wait.
    struct readable {
        std::shared_ptr<proxy_reading> reading;
        void operator()(const error_code& ec) const noexcept { reading->resume(ec); }
    };

    [[nodiscard]] HOLDFAST_DECL std::shared_ptr<proxy_reading> self();
    HOLDFAST_DECL void read() noexcept;
    HOLDFAST_DECL void wait();
    HOLDFAST_DECL void resume(const error_code& ec) noexcept;
    HOLDFAST_DECL void finish();
    HOLDFAST_DECL void reject(admission_limit limit) noexcept;
    HOLDFAST_DECL void lost(const error_code& error) noexcept;
    HOLDFAST_DECL void fail(close_reason reason, const error_code& error) noexcept override;
    HOLDFAST_DECL void end() noexcept;
    HOLDFAST_DECL void leave() noexcept;

    const std::shared_ptr<proxied_sessions> owner_;
    bool counted_ = false; // among those that are pending
    bool timed_ = false;
    proxy_header_parser parser_;
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/proxy_reading.ipp>
#endif

#endif
