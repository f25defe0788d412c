// holdfast: carries out what an accept_machine decides. The header of bounded_acceptor includes it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/detail/acceptor/accept_failure.hpp>
#include <holdfast/detail/acceptor/accept_machine.hpp>
#include <holdfast/detail/acceptor/acceptor_settings.hpp>
#include <holdfast/detail/acceptor/event_reporter.hpp>
#include <holdfast/detail/acceptor/listening_socket.hpp>
#include <holdfast/detail/acceptor/memory_meter.hpp>
#include <holdfast/detail/async/intrusive_list.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/async/semaphore_core.hpp>
#include <holdfast/detail/async/shutdown_hook.hpp>
#include <holdfast/detail/async/waiter.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast {

/// What the acceptor and its operations share.
///
/// Its work is a loop around the machine, which runs on the executor only: in the completion of the one wait that is
/// pending while the loop does not run. Other threads change what is under the mutex, and end that wait. No call of
/// the user's is made with the mutex locked.
template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core final : public std::enable_shared_from_this<core>,
                                                                    detail::shutdown_hook {
public:
    using listener_type = net::basic_socket_acceptor<Protocol, Executor>;
    using native_handle_type = typename listener_type::native_handle_type;
    using stream_type = typename connection_type::stream_type;

    core(const Executor& ex, acceptor_options opts, Finalizer f, std::source_location where)
        : executor(ex),
          options_(std::move(opts)),
          finalizer(std::move(f)),
          members(std::make_shared<detail::registry>(detail::check(options_, is_tcp, is_type_erased).max_connections,
                                                     detail::address_limit(options_))),
          reporter(std::make_shared<detail::event_reporter>(options_.on_event)),
          own_semaphore_(ex, options_.max_connections),
          claim_(detail::semaphore_access::core(
              options_.connection_semaphore != nullptr ? *options_.connection_semaphore : own_semaphore_)),
          origin_(where)
    {
    }

    core(const core&) = delete;

    ~core() { this->unhook(); }

    void listen(const endpoint_type& at)
    {
        auto socket = detail::open_socket(at.protocol());
        detail::apply_ip_versions(socket.get(), at.protocol().family(), options_.versions, false);
        start(at.protocol(), socket.get());
        socket.release();
        listener_type& listener = io_->listener;
        if (options_.reuse_address) listener.set_option(net::socket_base::reuse_address(true));
        if (const int on = 1; options_.reuse_port &&
                              ::setsockopt(listener.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
            detail::throw_last_error("SO_REUSEPORT cannot be set");
        if (const error_code ec = configure(listener)) throw system_error(ec, "options of the connections");
        if constexpr (requires { at.path(); })
            if (options_.replace_stale_socket_file) detail::socket_file::remove_stale(at.path());
        listener.bind(at);
        if constexpr (requires { at.path(); })
            if (options_.remove_socket_file) file_ = detail::socket_file(at.path());
        listener.listen(options_.backlog);
        listener.non_blocking(true); // now, where a failure refuses the start: the first wait would do it else
        endpoint = listener.local_endpoint();
        all_inherit_ = is_tcp;
        machine_.emplace(limits(true), make_gate());
    }

    void adopt(const Protocol& protocol, native_handle_type descriptor)
    {
        detail::apply_ip_versions(descriptor, protocol.family(), options_.versions, true);
        start(protocol, descriptor);
        try {
            endpoint = io_->listener.local_endpoint();
            io_->listener.non_blocking(true); // a client may leave between readiness and accept
            (void)configure(io_->listener);   // a failure shows at the connections
            machine_.emplace(limits(false), make_gate());
        } catch (...) {
            io_->listener.release();
            throw;
        }
        ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    }

    class pending_accept;
    class accept_operation;
    class serve_operation;

    /// A session handler, and how it is called. Shared with the loop: the operation may be cancelled meanwhile.
    class session_starter {
    public:
        virtual ~session_starter() = default;
        virtual void start(core& c, connection_type&& peer, std::size_t shard,
                           const net::ip::tcp::endpoint& remote) = 0;
    };

    template <class Handler>
    class handler_starter;

    void enqueue(pending_accept& operation) noexcept
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(operation);
        ++pending_;
        ++changes_;
        if (undelivered_ && !operation.starter) {
            deliver(operation, std::move(*undelivered_));
            undelivered_.reset();
            return;
        }
        if (running_ || wait_ != wait_kind::none) return;
        try {
            wait_ = wait_kind::turn;
            net::post(executor,
                      [self = this->shared_from_this()] { self->resume({detail::accept_occurrence::woken}); });
        } catch (const std::exception&) {
            wait_ = wait_kind::none;
            fail(operation, net::error::no_memory);
        }
    }

    /// Takes a cancelled operation out of the queue.
    void leave(pending_accept& operation) noexcept
    {
        const std::lock_guard lock(mutex_);
        if (!operation.linked()) return;
        remove(operation);
        if (pending_ == 0) interrupt();
    }

    void close() noexcept
    {
        std::optional<connection_type> dropped;
        const std::lock_guard lock(mutex_);
        close_locked();
        std::swap(dropped, undelivered_);
    }

    /// Whether no connection is accepted any more; else the backlog is being served.
    bool closed() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return closed_;
    }

    /// From now on each connection is notified when it is admitted.
    void begin_drain(bool serve_backlog) noexcept
    {
        std::optional<connection_type> dropped;
        const std::lock_guard lock(mutex_);
        draining_ = true;
        if (!closed_ && io_) backlog_left_ = detail::backlog_of(io_->listener.native_handle());
        if (!serve_backlog || backlog_left_ == 0 || pending_ == 0) {
            close_locked();
            std::swap(dropped, undelivered_);
        } else {
            until_empty_ = true;
        }
    }

    const Executor executor;

private:
    const acceptor_options options_; // before those that are made of it

public:
    const Finalizer finalizer;
    const std::shared_ptr<detail::registry> members;
    const std::shared_ptr<detail::event_reporter> reporter;
    endpoint_type endpoint;
    std::atomic<std::uint64_t> rejected = 0;

private:
    static constexpr bool is_tcp = std::is_same_v<Protocol, net::ip::tcp>;
    static constexpr bool is_type_erased = std::is_same_v<Executor, net::any_io_executor>;

    /// What the loop waits for: one thing at a time.
    enum class wait_kind : unsigned char { none, turn, unit, departure, time, pending_connection };

    /// What belongs to the execution context. It is destroyed with that, although this object may live on.
    struct io_objects {
        io_objects(const Executor& ex, detail::registry& registry)
            : listener(ex), timer(ex), tick(ex), departure(registry, ex)
        {
        }

        listener_type listener;
        net::steady_timer timer;
        net::steady_timer tick; // ends a wait for a permit
        detail::registry::departure_wait departure;
    };

    /// The handler of the wait. Its memory is the core's own, so that a wait needs none when there is none.
    struct resumption {
        using allocator_type = detail::op_allocator<std::byte>;

        explicit resumption(std::shared_ptr<core> c) noexcept : self(std::move(c)), storage(&self->storage_) {}

        allocator_type get_allocator() const noexcept { return allocator_type(*storage); }

        void operator()(const error_code& ec) { std::move(self)->resume(outcome(ec)); }

        void operator()(const error_code& ec, permit granted)
        {
            if (!granted) return (*this)(ec);
            self->permit_ = std::move(granted);
            std::move(self)->resume({detail::accept_occurrence::permit_taken});
        }

        static detail::accept_event outcome(const error_code& ec) noexcept
        {
            if (!ec || ec == net::error::operation_aborted) return {detail::accept_occurrence::woken};
            return {detail::accept_occurrence::wait_failed, ec};
        }

        std::shared_ptr<core> self;
        detail::op_storage* storage; // apart, since Asio asks for the allocator when it has moved it, too
    };

    struct tick_handler {
        using allocator_type = detail::op_allocator<std::byte>;

        allocator_type get_allocator() const noexcept { return allocator_type(*storage); }
        void operator()(const error_code& ec)
        {
            if (ec) return;
            const std::lock_guard lock(self->mutex_);
            if (self->wait_ == wait_kind::unit) self->interrupt();
        }

        std::shared_ptr<core> self;
        detail::op_storage* storage;
    };

    void start(const Protocol& protocol, int descriptor)
    {
        io_.emplace(executor, *members);
        this->hook(executor);
        io_->listener.assign(protocol, descriptor);
        if (options_.reserve_descriptors) reserve_descriptors(descriptor);
        restore_reserve();
    }

    /// Registers copies of the listener's descriptor, all at the same time, and closes them again.
    void reserve_descriptors(int descriptor)
    {
        std::vector<net::posix::basic_stream_descriptor<Executor>> copies;
        while (copies.size() != options_.max_connections) {
            detail::unique_descriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
            if (!copy) return; // there can be no more connections either
            error_code ec;
            copies.emplace_back(executor).assign(copy.get(), ec);
            if (ec) return;
            copy.release();
        }
    }

    detail::accept_limits limits(bool own_listener) const
    {
        return detail::limits_of(options_, is_tcp && own_listener);
    }

    /// Opens the files, and computes the watermarks.
    detail::memory_gate make_gate()
    {
        const memory_limits& limits = options_.memory;
        auto [high, low] = detail::open_memory_meter(limits, meter_);
        return {meter_ ? high : 0, low, detail::saturated(limits.probe_interval)};
    }

    void context_ends() noexcept override
    {
        const std::lock_guard lock(mutex_);
        io_.reset();
    }

    // Under the mutex:

    void close_locked() noexcept
    {
        if (std::exchange(closed_, true)) return;
        ++changes_;
        until_empty_ = false;
        file_.remove();
        error_code ignored;
        if (io_) io_->listener.close(ignored);
        interrupt();
        members->wake();
    }

    /// Ends the wait under way: there is another reason to look.
    void interrupt() noexcept
    {
        ++changes_;
        if (!io_) return;
        error_code ignored;
        switch (wait_) {
        case wait_kind::none:
        case wait_kind::turn:
            break;
        case wait_kind::unit:
            claim_.cancel();
            io_->tick.cancel();
            break;
        case wait_kind::departure:
            io_->departure.cancel();
            break;
        case wait_kind::time:
            io_->timer.cancel();
            break;
        case wait_kind::pending_connection:
            io_->listener.cancel(ignored); // closed already: then it has no waits
            break;
        }
    }

    void remove(pending_accept& operation) noexcept
    {
        operation.unlink();
        --pending_;
    }

    void fail(pending_accept& operation, const error_code& why) noexcept
    {
        remove(operation);
        operation.error = why;
        operation.wake();
    }

    void deliver(pending_accept& operation, connection_type&& peer) noexcept
    {
        remove(operation);
        operation.accepted.emplace(std::move(peer));
        operation.wake();
    }

    // On the executor, by the loop alone:

    void resume(detail::accept_event event) noexcept
    {
        const auto keep = this->shared_from_this(); // the user may destroy the acceptor in any call of ours
        {
            const std::lock_guard lock(mutex_);
            if (wait_ == wait_kind::unit && io_) io_->tick.cancel();
            wait_ = wait_kind::none;
            running_ = true;
        }
        std::optional<detail::accept_event> next = event;
        while (next) {
            detail::accept_state state;
            std::uint64_t seen = 0;
            if (auto late = take_undelivered()) start_session(std::move(*late));
            {
                const std::lock_guard lock(mutex_);
                state = {.pending = pending_, .closed = closed_, .until_empty = until_empty_};
                seen = changes_;
            }
            if (machine_->needs_live()) state.live = members->live();
            const auto action = machine_->resume(*next, state, std::chrono::steady_clock::now());
            try {
                next = carry_out(action, seen);
            } catch (const std::bad_alloc&) {
                next = {detail::accept_occurrence::no_memory};
            }
            if (next && next->what == detail::accept_occurrence::no_memory) accepted_.reset();
        }
    }

    /// The outcome, or nothing when a wait has begun or there is nothing to do.
    std::optional<detail::accept_event> carry_out(const detail::accept_action& action, std::uint64_t seen)
    {
        using step = detail::accept_step;
        using occurrence = detail::accept_occurrence;
        if (action.report_pause) report({acceptor_event::kind::paused, {}, {}, action.limit});
        switch (action.what) {
        case step::idle: {
            permit released;
            const std::lock_guard lock(mutex_);
            if (seen != changes_) return detail::accept_event{occurrence::woken};
            std::swap(released, permit_);
            running_ = false;
            return {};
        }
        case step::fail_all:
        case step::fail_first: {
            const std::lock_guard lock(mutex_);
            while (!queue_.empty()) {
                fail(queue_.front(), action.error);
                if (action.what == step::fail_first) break;
            }
            return detail::accept_event{occurrence::woken};
        }
        case step::take_permit:
            departures_ = members->changes();
            permit_ = claim_.try_acquire();
            return detail::accept_event{permit_ ? occurrence::permit_taken : occurrence::no_permit};
        case step::await_permit:
            return wait(wait_kind::unit, seen, [&](io_objects& io) {
                if (action.until != std::chrono::steady_clock::time_point::max()) {
                    io.tick.expires_at(action.until);
                    io.tick.async_wait(tick_handler{this->shared_from_this(), &tick_storage_});
                }
                claim_.async_acquire(executor, 1, resumption(this->shared_from_this()));
            });
        case step::measure:
        case step::relieve:
            departures_ = members->changes();
            if (action.what == step::relieve && options_.memory.on_memory_pressure)
                options_.memory.on_memory_pressure();
            return detail::accept_event{occurrence::measured, {}, meter_->read()};
        case step::await_departure:
            if (action.error) report({acceptor_event::kind::starved, action.error, {}, admission_limit::descriptors});
            return wait(wait_kind::departure, seen, [&](io_objects& io) {
                io.departure.async_wait(departures_, action.until, resumption(this->shared_from_this()));
            });
        case step::await_time:
            return wait(wait_kind::time, seen, [&](io_objects& io) {
                io.timer.expires_at(action.until);
                io.timer.async_wait(resumption(this->shared_from_this()));
            });
        case step::await_connection:
            return wait(wait_kind::pending_connection, seen, [&](io_objects& io) {
                io.listener.async_wait(net::socket_base::wait_read, resumption(this->shared_from_this()));
            });
        case step::accept:
            return accept();
        case step::look_for_end:
            return detail::accept_event{detail::client_has_left(accepted_.get()) ? occurrence::client_left
                                                                                 : occurrence::client_there};
        case step::discard:
            accepted_.reset();
            report({acceptor_event::kind::lost, net::error::connection_aborted, {}, {}, 1, ip_endpoint(remote_)});
            return detail::accept_event{occurrence::done};
        case step::check_address:
            return check_address();
        case step::admit:
            return admit();
        case step::reject:
            reject(action.limit, action.policy);
            return detail::accept_event{occurrence::done};
        case step::measure_backlog: {
            const std::lock_guard lock(mutex_);
            const bool open = io_ && !closed_;
            return detail::accept_event{
                occurrence::backlog, {}, open ? detail::backlog_of(io_->listener.native_handle()) : 0};
        }
        case step::reset_by_reserve:
            reset_by_reserve();
            return detail::accept_event{occurrence::done};
        case step::restore_reserve:
            restore_reserve();
            return detail::accept_event{occurrence::done};
        case step::close:
            close();
            return detail::accept_event{occurrence::woken};
        }
        return {}; // not reached
    }

    /// Begins a wait, unless something has changed since the machine decided on it.
    template <class Begin>
    std::optional<detail::accept_event> wait(wait_kind what, std::uint64_t seen, Begin begin)
    {
        const std::lock_guard lock(mutex_);
        if (!io_) return {}; // the execution context is being destroyed
        if (seen != changes_) return detail::accept_event{detail::accept_occurrence::woken};
        wait_ = what;
        running_ = false;
        try {
            begin(*io_);
            return {};
        } catch (...) {
            wait_ = wait_kind::none;
            running_ = true;
            throw;
        }
    }

    detail::accept_event accept() noexcept
    {
        error_code ec = net::error::operation_aborted;
        {
            const std::lock_guard lock(mutex_);
            departures_ = members->changes();
            if (closed_ || !io_) return {detail::accept_occurrence::woken};
            do // an ended connection's last bytes are worth less than a connection
                accepted_ = detail::accept_from(io_->listener.native_handle(), remote_, ec = {});
            while (detail::classify_accept(ec) == detail::accept_occurrence::shortage && members->drop_lingering());
            if (!ec && until_empty_ && --backlog_left_ == 0) close_locked();
        }
        const auto what = detail::classify_accept(ec);
        if (what == detail::accept_occurrence::lost) report({acceptor_event::kind::lost, ec});
        if (what == detail::accept_occurrence::would_block) all_inherit_ = is_tcp;
        return {what, ec};
    }

    /// Applies the filter and the limit per address.
    detail::accept_event check_address()
    {
        using occurrence = detail::accept_occurrence;
        if constexpr (requires { remote_.address(); }) {
            const net::ip::address address = detail::unmapped(remote_.address());
            const auto rule = options_.address_filter ? options_.address_filter(address) : address_rule::limit;
            if (rule == address_rule::refuse) return {occurrence::address_refused};
            if (rule == address_rule::limit && detail::address_limit(options_) != 0) {
                const auto place = members->addresses.enter(
                    detail::address_key::of(address, options_.ipv4_prefix, options_.ipv6_prefix));
                if (place == detail::address_table::nowhere) return {occurrence::address_full};
                address_ = detail::address_place(members->addresses, place);
            }
        }
        return {occurrence::address_allowed};
    }

    detail::accept_event admit()
    {
        const connection_placement where = placement();
        detail::address_place address = std::move(address_);
        detail::unique_descriptor descriptor = std::move(accepted_);
        stream_type socket(executor_of(where));
        error_code ec;
        socket.assign(endpoint.protocol(), descriptor.get(), ec);
        if (ec) return {detail::accept_occurrence::shortage, ec};
        descriptor.release();
        if (!all_inherit_) (void)configure(socket); // a peer that has left shows at the first read
        Finalizer its_own = finalizer;              // before it has a place: it may fail
        const auto place = members->enter(socket.native_handle(), permit_, peer_of(socket));
        connection_type peer(std::move(socket),
                             detail::admission<Finalizer>(std::move(its_own), *members, place, address.take_over()),
                             origin_);
        hand_over(std::move(peer), place, where.shard);
        return {detail::accept_occurrence::admitted};
    }

    peer_address peer_of(stream_type& socket) const noexcept
    {
        if constexpr (requires { remote_.address(); })
            return peer_address(remote_);
        else
            return peer_address::of_socket(socket.native_handle());
    }

    /// To the operation that has waited longest. One that was cancelled meanwhile leaves the connection to the next.
    void hand_over(connection_type&& peer, detail::registry::index place, std::size_t shard) noexcept
    {
        std::shared_ptr<session_starter> starter;
        {
            std::optional<connection_type> dropped;
            const std::lock_guard lock(mutex_);
            if (draining_) members->notify(place, 1);
            if (queue_.empty()) {
                (closed_ ? dropped : undelivered_).emplace(std::move(peer));
                shard_ = shard;
                return;
            }
            pending_accept& first = queue_.front();
            if (!first.starter) return deliver(first, std::move(peer));
            starter = first.starter;
            first.unlink();
            queue_.push_back(first);
        }
        start_session(late_session{std::move(peer), std::move(starter), shard});
    }

    struct late_session {
        connection_type peer;
        std::shared_ptr<session_starter> starter;
        std::size_t shard;
    };

    std::optional<late_session> take_undelivered() noexcept
    {
        const std::lock_guard lock(mutex_);
        if (!undelivered_ || queue_.empty()) return {};
        std::optional<late_session> late = late_session{std::move(*undelivered_), queue_.front().starter, shard_};
        undelivered_.reset();
        return late;
    }

    void start_session(late_session&& session) noexcept
    {
        const auto remote = ip_endpoint(remote_);
        try {
            session.starter->start(*this, std::move(session.peer), session.shard, remote);
        } catch (...) {
            report({acceptor_event::kind::session_failed, {}, std::current_exception(), {}, 1, remote});
        }
    }

    void reject(admission_limit limit, overload_policy policy)
    {
        ++rejected;
        report({acceptor_event::kind::rejected, {}, {}, limit, 1, ip_endpoint(remote_)});
        if (policy == overload_policy::reset || *pending_rejects_ >= options_.max_pending_rejects)
            return detail::reset_and_close(std::move(accepted_));
        stream_type socket(executor);
        error_code ec;
        socket.assign(endpoint.protocol(), accepted_.get(), ec);
        if (ec) return detail::reset_and_close(std::move(accepted_));
        accepted_.release();
        // The socket takes what fits into its send buffer; the rest is not waited for.
        if (!options_.reject_message.empty())
            (void)::send(socket.native_handle(), options_.reject_message.data(), options_.reject_message.size(),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        connection_guard<stream_type> guard(std::move(socket));
        // Several threads may run the context: the steps of closing need a strand.
        guard.async_close({.deadline = detail::saturated(options_.reject_deadline), .drain_bytes = 64 * 1024},
                          net::bind_executor(net::make_strand(executor), reject_count(pending_rejects_)));
    }

    /// One of the rejected connections that are being closed.
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

    /// Accepts one by means of the reserved descriptor, and resets it.
    void reset_by_reserve() noexcept
    {
        if (!reserve_) return;
        {
            const std::lock_guard lock(mutex_);
            if (closed_ || !io_) return;
            error_code ec;
            reserve_.reset();
            accepted_ = detail::accept_from(io_->listener.native_handle(), remote_, ec);
        }
        const bool was_there(accepted_);
        detail::reset_and_close(std::move(accepted_));
        restore_reserve();
        if (!was_there) return;
        ++rejected;
        report({acceptor_event::kind::rejected, {}, {}, admission_limit::descriptors, 1, ip_endpoint(remote_)});
    }

    /// Another thread may have taken the descriptor while it was free.
    void restore_reserve() noexcept
    {
        if (!reserve_ && options_.on_descriptor_limit != overload_policy::wait)
            reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }

    /// Sets the options of the connections: on the listener, from which TCP's connections inherit them at their birth
    /// in the kernel. Later would be too late for the window that the client was offered, and a system call more for
    /// each; it is done for those alone that were in the backlog of a listener that was adopted, and for local
    /// sockets, which inherit nothing.
    template <class Socket>
    error_code configure(Socket& socket) noexcept
    {
        error_code ec;
        if (options_.send_buffer_bytes > 0)
            socket.set_option(net::socket_base::send_buffer_size(options_.send_buffer_bytes), ec);
        if (options_.receive_buffer_bytes > 0 && !ec)
            socket.set_option(net::socket_base::receive_buffer_size(options_.receive_buffer_bytes), ec);
        if constexpr (is_tcp)
            if (!ec) socket.set_option(net::ip::tcp::no_delay(options_.no_delay), ec);
        return ec;
    }

    connection_placement placement() const
    {
        if constexpr (is_type_erased)
            if (options_.next_executor) return options_.next_executor();
        return {net::any_io_executor(), 0};
    }

    Executor executor_of(const connection_placement& where) const
    {
        if constexpr (is_type_erased)
            if (options_.next_executor) return where.executor;
        return executor;
    }

    static net::ip::tcp::endpoint ip_endpoint(const endpoint_type& remote)
    {
        if constexpr (requires { remote.address(); })
            return {remote.address(), remote.port()};
        else
            return {};
    }

    void report(const acceptor_event& event) noexcept { reporter->report(event); }

    mutable std::mutex mutex_;
    std::optional<io_objects> io_;
    detail::intrusive_list<pending_accept> queue_;
    std::size_t pending_ = 0;   // in the queue
    std::uint64_t changes_ = 0; // reasons to look again
    wait_kind wait_ = wait_kind::none;
    bool running_ = false; // the loop
    bool closed_ = false;
    bool draining_ = false;
    bool until_empty_ = false;
    std::size_t backlog_left_ = 0;
    std::optional<connection_type> undelivered_; // all operations were cancelled while it was admitted
    std::size_t shard_ = 0;                      // its
    detail::socket_file file_;

    std::optional<detail::accept_machine> machine_; // from here on for the loop alone
    std::optional<detail::memory_meter> meter_;
    async_semaphore own_semaphore_;
    detail::semaphore_claim<detail::synchronized> claim_;
    permit permit_; // of the next connection
    detail::unique_descriptor accepted_;
    endpoint_type remote_;
    detail::address_place address_;
    detail::unique_descriptor reserve_;
    std::uint64_t departures_ = 0; // seen
    bool all_inherit_ = false;     // no connection is left from before the listener was configured
    detail::op_storage storage_;   // of the wait
    detail::op_storage tick_storage_;
    const std::shared_ptr<std::atomic<std::size_t>> pending_rejects_ = std::make_shared<std::atomic<std::size_t>>(0);
    const std::source_location origin_; // what leak_check names for the connections
};

/// A pending async_accept or async_serve.
template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::pending_accept
    : public detail::waiter<detail::synchronized> {
public:
    pending_accept(const net::any_io_executor& executor, std::shared_ptr<core> owner,
                   std::shared_ptr<session_starter> s = {})
        : detail::waiter<detail::synchronized>(executor), starter(std::move(s)), core_(std::move(owner))
    {
    }

    void leave() noexcept { core_->leave(*this); }

    const std::shared_ptr<session_starter> starter; // none: it takes one connection
    std::optional<connection_type> accepted;
    error_code error = net::error::operation_aborted;

protected:
    ~pending_accept() { leave(); }

    const std::shared_ptr<core> core_;
};

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::accept_operation : public pending_accept {
public:
    using pending_accept::pending_accept;

    std::tuple<error_code, connection_type> results()
    {
        if (this->accepted) return {error_code(), std::move(*this->accepted)};
        return {this->error, connection_type(this->core_->executor, this->core_->finalizer)};
    }
};

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::serve_operation : public pending_accept {
public:
    using pending_accept::pending_accept;

    std::tuple<error_code> results() const noexcept
    {
        return {this->error == errc::acceptor_closed ? error_code() : this->error};
    }
};

template <class Protocol, connection_finalizer Finalizer, class Executor>
template <class Handler>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::handler_starter final : public session_starter {
public:
    explicit handler_starter(Handler handler) : handler_(std::move(handler)) {}

    void start(core& c, connection_type&& peer, std::size_t shard, const net::ip::tcp::endpoint& remote) override
    {
        const Executor where = peer.get_executor();
        if constexpr (!session_handler<Handler, connection_type>)
            net::co_spawn(where, own(std::move(peer), handler_),
                          [reporter = c.reporter, remote](const std::exception_ptr& failure, auto&&...) {
                              if (failure)
                                  reporter->report({acceptor_event::kind::session_failed, {}, failure, {}, 1, remote});
                          });
        else if constexpr (std::is_void_v<decltype(call(std::move(peer), shard))>)
            call(std::move(peer), shard);
        else
            net::co_spawn(where, call(std::move(peer), shard),
                          [reporter = c.reporter, remote](const std::exception_ptr& failure, auto&&...) {
                              if (failure)
                                  reporter->report({acceptor_event::kind::session_failed, {}, failure, {}, 1, remote});
                          });
    }

private:
    decltype(auto) call(connection_type&& peer, std::size_t shard)
    {
        if constexpr (std::is_invocable_v<Handler&, connection_type, std::size_t>)
            return handler_(std::move(peer), shard);
        else
            return handler_(std::move(peer));
    }

    template <class H>
    static std::invoke_result_t<H&, connection_type&> own(connection_type peer, H session)
    {
        try {
            co_await session(peer);
            peer.close();
        } catch (...) {
            const connection_end end = end_by(std::current_exception());
            peer.close(end.reason, end.error);
            throw;
        }
    }

    Handler handler_;
};

} // namespace holdfast

#endif
