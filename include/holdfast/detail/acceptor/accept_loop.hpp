// holdfast: carries out what an accept_machine decides, for connections of any type.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_LOOP_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPT_LOOP_HPP

#include <holdfast/acceptor_options.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/acceptor/accept_machine.hpp>
#include <holdfast/detail/acceptor/accept_queue.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/listening_socket.hpp>
#include <holdfast/detail/acceptor/memory_meter.hpp>
#include <holdfast/detail/acceptor/proxy_gate.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/linkage.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <sys/socket.h>

namespace holdfast::detail {

/// A loop around the machine. It runs on the executor only: in the completion of the one wait that is pending while it
/// does not run. What depends on the type of the connections is virtual.
class accept_loop : public accept_queue {
public:
    const std::shared_ptr<event_reporter> reporter;
    std::atomic<std::uint64_t> rejected = 0;
    const std::shared_ptr<proxy_gate> proxy; // null: off

protected:
    HOLDFAST_DECL accept_loop(const net::any_io_executor& ex, acceptor_options options, bool is_tcp,
                              bool is_type_erased);

    /// Opens a socket, binds it and listens. Throws system_error.
    HOLDFAST_DECL void open(int family, int type, int protocol, const ::sockaddr* at, ::socklen_t size);

    /// Takes over a socket that listens; on an exception it still is the caller's.
    HOLDFAST_DECL void take_over(int family, int descriptor);

    /// Makes the accepted socket a connection, and hands it to a pending operation. The outcome is `admitted` or
    /// `shortage`.
    virtual accept_event admit() = 0;

    /// Starts a session with the connection that was admitted late.
    virtual void start_late() noexcept = 0;

    /// Sets the options of the connections: on the listener, from which TCP's connections inherit them when they begin
    /// in the kernel. Later would be too late for the window that the client was offered, and a system call more for
    /// each; it is done for those alone that were in the backlog of a listener that was adopted, and for local
    /// sockets, which inherit nothing.
    HOLDFAST_DECL error_code configure(int socket) const noexcept;

    void report(const acceptor_event& event) noexcept { reporter->report(event); }

    /// The client's address and port, where they are known.
    [[nodiscard]] net::ip::tcp::endpoint remote() const noexcept { return remote_; }

    /// One of the rejected connections that are being closed: the handler of their closing.
    class reject_count {
    public:
        explicit reject_count(std::shared_ptr<std::atomic<std::size_t>> count) noexcept : count_(std::move(count))
        {
            ++*count_;
        }
        reject_count(reject_count&&) noexcept = default;
        ~reject_count()
        {
            if (count_) --*count_;
        }
        void operator()(const error_code&) const noexcept {}

    private:
        std::shared_ptr<std::atomic<std::size_t>> count_;
    };

    const acceptor_options options_;
    const bool is_tcp_;
    int family_ = 0;
    bool is_ip_ = false;
    unique_descriptor accepted_;
    net::ip::tcp::endpoint remote_;
    address_place address_;
    bool all_inherit_ = false; // no connection is left from before the listener was configured
    const std::shared_ptr<std::atomic<std::size_t>> pending_rejects_ = std::make_shared<std::atomic<std::size_t>>(0);

private:
    HOLDFAST_DECL void start(int descriptor);
    HOLDFAST_DECL void start_machine(bool own_listener);
    HOLDFAST_DECL void reserve_descriptors();
    HOLDFAST_DECL void register_copies();

    HOLDFAST_DECL void resume(accept_event event) noexcept override;
    HOLDFAST_DECL outcome carry_out(const accept_action& action, std::uint64_t seen);
    HOLDFAST_DECL accept_event accept() noexcept;
    HOLDFAST_DECL accept_event check_address();
    HOLDFAST_DECL void reject(admission_limit limit, overload_policy policy);
    HOLDFAST_DECL void close_rejected();
    HOLDFAST_DECL void send_reject_message(int socket) const noexcept;
    HOLDFAST_DECL void reset_by_reserve() noexcept;
    HOLDFAST_DECL void restore_reserve() noexcept;

    std::optional<accept_machine> machine_;
    std::optional<memory_meter> meter_;
    unique_descriptor reserve_;
    std::uint64_t departures_ = 0; // seen
};

} // namespace holdfast::detail

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/detail/acceptor/impl/accept_loop.ipp>
#endif

#endif
