// holdfast: the bodies of accept_loop.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_LOOP_IPP
#define HOLDFAST_DETAIL_ACCEPTOR_IMPL_ACCEPT_LOOP_IPP

#include <holdfast/connection_guard.hpp>
#include <holdfast/detail/acceptor/accept_failure.hpp>
#include <holdfast/detail/acceptor/accept_loop.hpp>
#include <holdfast/detail/acceptor/acceptor_settings.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/un.h>

namespace holdfast::detail {

inline counted_ptr<semaphore_core<synchronized>> semaphore_of(const acceptor_options& options)
{
    if (options.connection_semaphore != nullptr) return semaphore_access::core(*options.connection_semaphore);
    return counted_ptr(
        new semaphore_core<synchronized>(options.max_connections, std::numeric_limits<std::size_t>::max()));
}

HOLDFAST_DECL accept_loop::accept_loop(const net::any_io_executor& ex, acceptor_options options, bool is_tcp,
                                       bool is_type_erased)
    : accept_queue(ex, semaphore_of(check(options, is_tcp, is_type_erased)), options.max_connections,
                   address_limit(options)),
      reporter(std::make_shared<event_reporter>(options.on_event)),
      proxy(options.proxy.trusted_senders.empty()
                ? nullptr
                : std::make_shared<proxy_gate>(options.proxy, saturated(options.proxy.header_timeout))),
      options_(std::move(options)),
      is_tcp_(is_tcp)
{
    // Connections may outlive this object.
    members->check_address = [filter = options_.address_filter, limited = address_limit(options_) != 0,
                              ipv4_prefix = options_.ipv4_prefix, ipv6_prefix = options_.ipv6_prefix,
                              &addresses = members->addresses](const net::ip::address& address) {
        using verdict = address_verdict::what;
        const auto rule = filter ? filter(address) : address_rule::limit;
        if (rule == address_rule::refuse) return address_verdict{verdict::refused};
        if (rule == address_rule::exempt || !limited) return address_verdict{};
        const auto place = addresses.enter(address_key::of(address, ipv4_prefix, ipv6_prefix));
        return address_verdict{place == address_table::nowhere ? verdict::full : verdict::allowed, place};
    };
}

/// The file of a local socket's address; empty where it has none.
inline std::string socket_path(const ::sockaddr* at, ::socklen_t size)
{
    constexpr std::size_t header = offsetof(::sockaddr_un, sun_path);
    if (at->sa_family != AF_UNIX || size <= header) return {};
    const std::string path(reinterpret_cast<const char*>(at) + header, size - header);
    return path[0] == '\0' ? std::string() : path.substr(0, path.find('\0')); // else abstract
}

HOLDFAST_DECL void accept_loop::open(int family, int type, int protocol, const ::sockaddr* at, ::socklen_t size)
{
    auto socket = open_socket(family, type, protocol);
    apply_ip_versions(socket.get(), family, options_.versions, false);
    family_ = family;
    is_ip_ = family == AF_INET || family == AF_INET6;
    start(socket.get());
    const int listener = socket.release();
    reserve_descriptors();
    if (options_.reuse_address && !set_socket_option(listener, SOL_SOCKET, SO_REUSEADDR, 1))
        throw_last_error("SO_REUSEADDR cannot be set");
    if (options_.reuse_port && !set_socket_option(listener, SOL_SOCKET, SO_REUSEPORT, 1))
        throw_last_error("SO_REUSEPORT cannot be set");
    if (const error_code ec = configure(listener))
        throw system_error(ec, "the options of connections cannot be set on the listener");
    const std::string path = socket_path(at, size);
    if (options_.replace_stale_socket_file) socket_file::remove_stale(path);
    if (::bind(listener, at, size) != 0) throw_listen_error(at, size);
    if (options_.remove_socket_file) file_ = socket_file(path);
    if (::listen(listener, options_.backlog) != 0) throw_listen_error(at, size);
    io_->listener.non_blocking(true); // now, where a failure refuses the start: the first wait would do it else
    all_inherit_ = is_tcp_;
    start_machine(true);
}

HOLDFAST_DECL void accept_loop::take_over(int family, int descriptor)
{
    apply_ip_versions(descriptor, family, options_.versions, true);
    family_ = family;
    is_ip_ = family == AF_INET || family == AF_INET6;
    start(descriptor);
    try {
        reserve_descriptors();
        io_->listener.non_blocking(true); // a client may leave between readiness and accept
        (void)configure(descriptor);      // a failure shows at the connections
        start_machine(false);
    } catch (...) {
        io_->listener.release();
        throw;
    }
    ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

HOLDFAST_DECL void accept_loop::start(int descriptor)
{
    io_.emplace(executor, *members);
    hook(executor);
    for (const overload_policy each : {options_.on_connection_limit, options_.on_address_limit, options_.on_rate_limit,
                                       options_.on_memory_limit, options_.on_descriptor_limit})
        if (each == overload_policy::reject && !io_->rejects) io_->rejects.emplace(net::make_strand(executor));
    io_->listener.assign(descriptor); // owns it, unless this throws
}

/// Opens the memory meter's files, and computes the watermarks.
HOLDFAST_DECL void accept_loop::start_machine(bool own_listener)
{
    auto [high, low] = open_memory_meter(options_.memory, meter_);
    machine_.emplace(limits_of(options_, is_tcp_ && own_listener),
                     memory_gate(meter_ ? high : 0, low, saturated(options_.memory.probe_interval)));
}

HOLDFAST_DECL void accept_loop::reserve_descriptors()
{
    if (options_.reserve_descriptors) register_copies();
    restore_reserve();
}

/// Registers copies of the listener's descriptor, all at the same time, and closes them again.
HOLDFAST_DECL void accept_loop::register_copies()
{
    std::vector<net::posix::stream_descriptor> copies;
    while (copies.size() != options_.max_connections) {
        unique_descriptor copy(::fcntl(io_->listener.native_handle(), F_DUPFD_CLOEXEC, 0));
        if (!copy) return; // there can be no more connections either
        error_code ec;
        copies.emplace_back(executor).assign(copy.get(), ec);
        if (ec) return;
        copy.release();
    }
}

HOLDFAST_DECL error_code accept_loop::configure(int socket) const noexcept
{
    const bool set = (options_.send_buffer_bytes == 0 ||
                      set_socket_option(socket, SOL_SOCKET, SO_SNDBUF, options_.send_buffer_bytes)) &&
                     (options_.receive_buffer_bytes == 0 ||
                      set_socket_option(socket, SOL_SOCKET, SO_RCVBUF, options_.receive_buffer_bytes)) &&
                     (!is_tcp_ || set_socket_option(socket, IPPROTO_TCP, TCP_NODELAY, options_.no_delay ? 1 : 0));
    return set ? error_code() : last_error();
}

HOLDFAST_DECL void accept_loop::resume(accept_event event) noexcept
{
    const auto keep = shared_from_this(); // the user may destroy the acceptor in any call of ours
    begin_turn();
    outcome next = event;
    while (next) {
        accept_state state;
        std::uint64_t seen = 0;
        bool late = false;
        {
            const std::lock_guard lock(mutex_);
            state = {.pending = pending_, .closed = closed_, .until_empty = until_empty_};
            seen = changes_;
            late = late_ && pending_ != 0;
        }
        if (late) {
            start_late();
            continue; // it may have changed the state
        }
        if (machine_->needs_live()) state.live = members->live();
        const auto action = machine_->resume(*next, state, std::chrono::steady_clock::now());
        try {
            next = carry_out(action, seen);
        } catch (const std::bad_alloc&) {
            next = {accept_occurrence::no_memory};
        }
        if (next && next->what == accept_occurrence::no_memory) accepted_.reset();
    }
}

/// The outcome, or nothing when a wait has begun or there is nothing to do.
HOLDFAST_DECL auto accept_loop::carry_out(const accept_action& action, std::uint64_t seen) -> outcome
{
    using step = accept_step;
    using occurrence = accept_occurrence;
    if (action.report_pause) report({acceptor_event::kind::paused, {}, {}, action.limit});
    switch (action.what) {
    case step::idle:
        return stop(seen);
    case step::fail_all:
    case step::fail_first:
        fail_pending(action.error, action.what == step::fail_all);
        return accept_event{occurrence::woken};
    case step::take_permit:
        departures_ = members->changes();
        permit_ = claim_.try_acquire();
        return accept_event{permit_ ? occurrence::permit_taken : occurrence::no_permit};
    case step::await_permit:
        return wait_for_permit(action.until, seen);
    case step::measure:
    case step::relieve:
        departures_ = members->changes();
        if (action.what == step::relieve && options_.memory.on_memory_pressure) options_.memory.on_memory_pressure();
        return accept_event{occurrence::measured, {}, meter_->read()};
    case step::await_departure:
        if (action.error) report({acceptor_event::kind::starved, action.error, {}, admission_limit::descriptors});
        return wait_for_departure(departures_, action.until, seen);
    case step::await_time:
        return wait_for_time(action.until, seen);
    case step::await_connection:
        return wait_for_connection(seen);
    case step::accept:
        return accept();
    case step::peek_end:
        return accept_event{client_has_left(accepted_.get()) ? occurrence::client_left : occurrence::client_there};
    case step::discard:
        accepted_.reset();
        report({acceptor_event::kind::lost, net::error::connection_aborted, {}, {}, 1, remote_});
        return accept_event{occurrence::done};
    case step::check_address:
        return check_address();
    case step::admit:
        return admit();
    case step::reject:
        reject(action.limit, action.policy);
        return accept_event{occurrence::done};
    case step::measure_backlog: {
        const std::lock_guard lock(mutex_);
        const bool open = io_ && !closed_;
        return accept_event{occurrence::backlog, {}, open ? backlog_bound_of(io_->listener.native_handle()) : 0};
    }
    case step::reset_by_reserve:
        reset_by_reserve();
        return accept_event{occurrence::done};
    case step::restore_reserve:
        restore_reserve();
        return accept_event{occurrence::done};
    case step::close:
        close();
        return accept_event{occurrence::woken};
    }
    return {}; // not reached
}

HOLDFAST_DECL accept_event accept_loop::accept() noexcept
{
    error_code ec = net::error::operation_aborted;
    {
        const std::lock_guard lock(mutex_);
        departures_ = members->changes();
        if (closed_ || !io_) return {accept_occurrence::woken};
        do // an ended connection's last bytes are worth less than a connection
            accepted_ = accept_from(io_->listener.native_handle(), is_ip_, remote_, ec = {});
        while (classify_accept(ec) == accept_occurrence::shortage && members->drop_lingering());
        if (!ec && until_empty_ && --backlog_left_ == 0) close_locked();
    }
    const auto what = classify_accept(ec);
    if (what == accept_occurrence::lost) report({acceptor_event::kind::lost, ec});
    if (what == accept_occurrence::would_block) all_inherit_ = is_tcp_;
    return {what, ec};
}

/// Applies the filter and the limit per address.
HOLDFAST_DECL accept_event accept_loop::check_address()
{
    using occurrence = accept_occurrence;
    if (!is_ip_) return {occurrence::address_allowed};
    if (proxy) // its clients' addresses count, once they are known
        return {proxy->trusts(remote_.address()) ? occurrence::address_allowed : occurrence::sender_refused};
    const address_verdict checked = members->check_address(unmapped(remote_.address()));
    if (checked.verdict == address_verdict::what::refused) return {occurrence::address_refused};
    if (checked.verdict == address_verdict::what::full) return {occurrence::address_full};
    if (checked.place != address_table::nowhere) address_ = address_place(members->addresses, checked.place);
    return {occurrence::address_allowed};
}

HOLDFAST_DECL void accept_loop::reject(admission_limit limit, overload_policy policy)
{
    ++rejected;
    report({acceptor_event::kind::rejected, {}, {}, limit, 1, remote_});
    if (policy == overload_policy::reset || *pending_rejects_ >= options_.max_pending_rejects)
        reset_and_close(std::move(accepted_));
    else
        close_rejected();
}

/// Closes the accepted socket gracefully after the message. Rejected connections of all protocols are of one type, so
/// that their close is compiled once.
HOLDFAST_DECL void accept_loop::close_rejected()
{
    using stream_type = net::basic_stream_socket<net::generic::stream_protocol, net::any_io_executor>;
    std::optional<net::strand<net::any_io_executor>> strand;
    {
        const std::lock_guard lock(mutex_);
        if (io_ && !io_->rejects)
            io_->rejects.emplace(net::make_strand(executor)); // the first one that waited too long
        if (io_) strand = io_->rejects;
    }
    if (!strand) return reset_and_close(std::move(accepted_)); // the context is being destroyed
    stream_type socket(executor);
    error_code ec;
    socket.assign(net::generic::stream_protocol(family_, 0), accepted_.get(), ec);
    if (ec) return reset_and_close(std::move(accepted_));
    send_reject_message(accepted_.release());
    connection_guard<stream_type> guard(std::move(socket));
    guard.async_close({.deadline = saturated(options_.reject_deadline), .drain_bytes = 64 * 1024},
                      net::bind_executor(*strand, reject_count(pending_rejects_)));
}

/// The socket takes what fits into its send buffer; the rest is not waited for.
HOLDFAST_DECL void accept_loop::send_reject_message(int socket) const noexcept
{
    if (!options_.reject_message.empty())
        (void)::send(socket, options_.reject_message.data(), options_.reject_message.size(),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// Accepts one by means of the reserved descriptor, and resets it.
HOLDFAST_DECL void accept_loop::reset_by_reserve() noexcept
{
    if (!reserve_) return;
    {
        const std::lock_guard lock(mutex_);
        if (closed_ || !io_) return;
        error_code ec;
        reserve_.reset();
        accepted_ = accept_from(io_->listener.native_handle(), is_ip_, remote_, ec);
    }
    const bool was_there(accepted_);
    reset_and_close(std::move(accepted_));
    restore_reserve();
    if (!was_there) return;
    ++rejected;
    report({acceptor_event::kind::rejected, {}, {}, admission_limit::descriptors, 1, remote_});
}

/// Another thread may have taken the descriptor while it was free.
HOLDFAST_DECL void accept_loop::restore_reserve() noexcept
{
    if (!reserve_ && options_.on_descriptor_limit != overload_policy::wait)
        reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

} // namespace holdfast::detail

#endif
