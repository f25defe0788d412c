// holdfast: how a bounded_acceptor accepts, admits, turns away and drains. Its header includes it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/detail/acceptor/accept_failure.hpp>
#include <holdfast/detail/connection/address_table.hpp>
#include <holdfast/detail/acceptor/drain_operation.hpp>
#include <holdfast/detail/async/inline_strand.hpp>
#include <holdfast/detail/acceptor/memory_gate.hpp>
#include <holdfast/detail/acceptor/memory_meter.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/acceptor/backlog_timeout.hpp>
#include <holdfast/detail/connection/registry.hpp>
#include <holdfast/detail/async/strand_operation.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/detail/acceptor/token_bucket.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace holdfast {

/// What the acceptor and its operations share. All members but the first group are touched on the strand
/// only.
template <class Protocol, connection_finalizer Finalizer, class Executor>
struct bounded_acceptor<Protocol, Finalizer, Executor>::core {
    core(const Executor& ex, acceptor_options opts, Finalizer f, std::source_location where)
        : executor(ex),
          options(std::move(opts)),
          finalizer(std::move(f)),
          members(
              std::make_shared<detail::registry>(checked(options).max_connections, options.max_per_address)),
          room(options.room != nullptr ? *options.room : own_room.emplace(ex, options.max_connections)),
          rate(interval_of(options), options.accept_burst),
          gate(make_gate(options.memory)),
          backlog_timeout(options.backlog_timeout),
          timer(ex),
          departure(*members, ex),
          impatience(ex),
          listener(ex),
          resume_task(*this),
          impatience_task(*this),
          close_task(*this),
          origin(where)
    {
        regain_reserve();
    }

    void listen(const endpoint_type& where)
    {
        listener.open(where.protocol());
        if (options.reuse_address) listener.set_option(net::socket_base::reuse_address(true));
        if (const int on = 1; options.reuse_port && ::setsockopt(listener.native_handle(), SOL_SOCKET,
                                                                 SO_REUSEPORT, &on, sizeof on) != 0)
            throw system_error(error_code(errno, net::error::get_system_category()), "SO_REUSEPORT");
        if (const error_code ec = configure(listener)) throw system_error(ec, "options of the connections");
        listener.bind(where);
        listener.listen(options.backlog);
        begin();
        all_inherit = inherits;
    }

    void adopt(const Protocol& protocol,
               typename net::basic_socket_acceptor<Protocol>::native_handle_type descriptor)
    {
        listener.assign(protocol, descriptor);
        try {
            begin();
            (void)configure(listener); // who comes has them, or shows the error
        } catch (...) {
            listener.release();
            throw;
        }
    }

    void begin()
    {
        endpoint = listener.local_endpoint();
        listener.non_blocking(true); // newcomers are accepted when they are there, never waited for in accept
        // Else Asio keeps such a loss to itself and waits for the next newcomer, although others may be there
        // already.
        listener.set_option(net::socket_base::enable_connection_aborted(true));
        if (options.reserve_descriptors) reserve_descriptors();
    }

    /// Registers copies of the listener's descriptor, all at the same time, and closes them again.
    void reserve_descriptors()
    {
        std::vector<net::posix::basic_stream_descriptor<Executor>> copies;
        copies.reserve(options.max_connections);
        while (copies.size() != options.max_connections) {
            const int copy = ::dup(listener.native_handle());
            if (copy < 0) return; // there can't be more connections either
            copies.emplace_back(executor);
            error_code ec;
            copies.back().assign(copy, ec);
            if (ec) {
                ::close(copy);
                return;
            }
        }
    }

    ~core()
    {
        if (reserve >= 0) ::close(reserve);
    }

    static const acceptor_options& checked(const acceptor_options& o)
    {
        const auto require = [](bool holds, const char* what) {
            if (!holds) throw std::invalid_argument(what);
        };
        require(o.max_connections != 0, "acceptor_options.max_connections must be at least 1");
        require(o.ipv4_prefix >= 1 && o.ipv4_prefix <= 32, "acceptor_options.ipv4_prefix must be 1 to 32");
        require(o.ipv6_prefix >= 1 && o.ipv6_prefix <= 128, "acceptor_options.ipv6_prefix must be 1 to 128");
        require(o.accepts_per_second >= 0 && o.accepts_per_second <= 1e9,
                "acceptor_options.accepts_per_second must be 0 to 10^9");
        require(o.accept_burst != 0, "acceptor_options.accept_burst must be at least 1");
        require(o.on_address_limit != overload_policy::wait,
                "acceptor_options.on_address_limit cannot be wait: the address is known only once accepted");
        require(o.backlog_timeout >= o.backlog_timeout.zero(), "acceptor_options.backlog_timeout must not be negative");
        require(o.backlog_timeout == o.backlog_timeout.zero() || std::is_same_v<Protocol, net::ip::tcp>,
                "acceptor_options.backlog_timeout needs TCP: other backlogs do not tell how long they are");
        require(!o.next_executor || std::is_same_v<Executor, net::any_io_executor>,
                "acceptor_options.next_executor needs an acceptor of any_io_executor");
        return o;
    }

    static std::chrono::steady_clock::duration interval_of(const acceptor_options& o)
    {
        if (o.accepts_per_second == 0) return {};
        return std::max(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                            std::chrono::duration<double>(1 / o.accepts_per_second)),
                        std::chrono::steady_clock::duration(1));
    }

    /// Opens the files, and computes the marks.
    detail::memory_gate make_gate(const memory_limits& limits)
    {
        std::uint64_t high = limits.high_watermark;
        if (limits.of == memory_limits::memory_source::cgroup) {
            std::error_code ec;
            const auto place = detail::find_cgroup(0, ec);
            if (ec) throw std::system_error(ec, "the memory limit of the cgroup");
            const auto group = place ? detail::tightest_group(*place) : std::nullopt;
            if (group) {
                meter.emplace(*group);
                if (high == 0) high = group->limit / 10 * 9;
            }
        } else if (limits.of == memory_limits::memory_source::process && high != 0) {
            meter.emplace();
        }
        const std::uint64_t low = limits.low_watermark != 0 ? limits.low_watermark : high - high / 16;
        if (low > high) throw std::invalid_argument("memory_limits.low_watermark is above the high mark");
        return {meter ? high : 0, low, limits.probe_interval};
    }

    /// Whether it is the time to let somebody in; else which limit forbids it, and when to look again.
    struct shut {
        admission_limit why;
        std::chrono::steady_clock::time_point until;
    };

    std::optional<shut> look()
    {
        if (options.accepts_per_second == 0 && !gate.enabled()) return {};
        const auto now = std::chrono::steady_clock::now();
        if (gate.due(now)) {
            if (const auto used = meter->read(); used && gate.observe(*used, members->live(), now)) {
                if (options.memory.on_memory_pressure) options.memory.on_memory_pressure();
                if (const auto after = meter->read()) gate.observe(*after, members->live(), now);
            }
        }
        if (!gate.open(members->live(), now)) return shut{admission_limit::memory, gate.look_again(now)};
        if (const auto ready = rate.ready_at(now); options.accepts_per_second != 0 && ready > now)
            return shut{admission_limit::rate, ready};
        return {};
    }

    [[nodiscard]] overload_policy policy(admission_limit limit) const noexcept
    {
        switch (limit) {
        case admission_limit::connections:
            return options.on_connection_limit;
        case admission_limit::per_address:
            return options.on_address_limit;
        case admission_limit::rate:
            return options.on_rate_limit;
        case admission_limit::memory:
            return options.on_memory_limit;
        case admission_limit::descriptors:
            break;
        }
        return options.on_descriptor_limit;
    }

    /// One who wants newcomers: an async_accept, or an async_serve.
    class wish : public detail::strand_operation<core> {
    public:
        using detail::strand_operation<core>::strand_operation;

        ~wish() override
        {
            if (queued) this->owner().wishes.remove(*this); // the execution context has ended
        }

        void begin() noexcept override
        {
            core& c = this->owner();
            c.wishes.push(*this);
            if (c.wait == waits_for::nothing) c.proceed();
        }

        void cancel() noexcept override
        {
            core& c = this->owner();
            c.wishes.remove(*this);
            this->finish(net::error::operation_aborted);
            if (c.wishes.first() == nullptr) c.interrupt();
        }

        /// Takes a newcomer; true where it wants no more.
        virtual bool take(connection_type&& newcomer) noexcept = 0;

        wish* next = nullptr; // in the queue
        bool queued = false;
    };

    class wish_queue {
    public:
        [[nodiscard]] wish* first() const noexcept { return first_; }

        void push(wish& w) noexcept
        {
            w.next = nullptr;
            w.queued = true;
            (last_ != nullptr ? last_->next : first_) = &w;
            last_ = &w;
        }

        void remove(wish& w) noexcept
        {
            wish* before = nullptr;
            for (wish* each = first_; each != nullptr; before = std::exchange(each, each->next)) {
                if (each != &w) continue;
                (before != nullptr ? before->next : first_) = w.next;
                if (last_ == &w) last_ = before;
                w.queued = false;
                return;
            }
        }

    private:
        wish* first_ = nullptr;
        wish* last_ = nullptr;
    };

    /// What accepting waits for: one thing at a time.
    enum class waits_for : unsigned char { nothing, room, gate, newcomer, rest, attempt };

    /// The handler of that wait. Its memory is the core's own, so that a wait needs none when there is none.
    struct resumption {
        using allocator_type = detail::op_allocator<std::byte>;
        using cancellation_slot_type = net::cancellation_slot;

        explicit resumption(std::shared_ptr<core> c) noexcept : self(std::move(c)), storage(&self->storage) {}

        allocator_type get_allocator() const noexcept { return allocator_type(*storage); }
        cancellation_slot_type get_cancellation_slot() const noexcept { return stop; }

        void operator()(const error_code& ec, permit granted = {})
        {
            core& c = *self;
            c.wait_ended_by = ec;
            if (granted) c.admitted = std::move(granted);
            c.strand.run(c.resume_task, std::move(self));
        }

        std::shared_ptr<core> self;
        detail::op_storage* storage; // apart, since Asio asks for the allocator when it has moved it, too
        net::cancellation_slot stop{};
    };

    /// Begins a wait; where there is no memory for it, nothing has begun.
    template <class Begin>
    void await(waits_for what, Begin begin)
    {
        wait = what;
        try {
            begin(resumption{self.lock()});
        } catch (...) {
            wait = waits_for::nothing;
            throw;
        }
    }

    void await_newcomer()
    {
        await(waits_for::newcomer,
              [&](resumption r) { listener.async_wait(net::socket_base::wait_read, std::move(r)); });
    }

    /// Ends the wait under way: there is another reason to look.
    void interrupt() noexcept
    {
        if (wait == waits_for::nothing) return;
        error_code ignored; // a closed listener has no waits left
        if (wait == waits_for::room) stop_wait.emit(net::cancellation_type::terminal);
        listener.cancel(ignored);
        timer.cancel();
        departure.cancel();
    }

    void resume() noexcept
    {
        const waits_for ended = std::exchange(wait, waits_for::nothing);
        paused_at.reset();
        if (ended == waits_for::rest) {
            regain_reserve();
            // Where others take each descriptor that comes back, departures alone must not hurry it.
            const auto now = std::chrono::steady_clock::now();
            if (std::exchange(tried_again, true) && !attempts.take(now) && !closed) {
                try {
                    rest_until(attempts.ready_at(now), waits_for::attempt);
                    return;
                } catch (const std::bad_alloc&) { // then it is tried now
                }
            }
        }
        const bool failed = wait_ended_by && wait_ended_by != error_code(net::error::operation_aborted);
        if (failed && (ended == waits_for::room || ended == waits_for::newcomer)) end_first(wait_ended_by);
        proceed();
    }

    /// Admits newcomers for as long as there are any, they are wanted, and nothing stands in the way; then
    /// waits for what is missing. A few in one turn: others are waiting for this thread.
    void proceed() noexcept
    {
        for (std::size_t at_once = 0; wait == waits_for::nothing && wishes.first() != nullptr; ++at_once) {
            if (closed) {
                end_first(errc::acceptor_closed);
                continue;
            }
            const auto seen = members->departures();
            try {
                if (at_once == most_at_once)
                    await_newcomer();
                else
                    admit_one(seen);
            } catch (const std::bad_alloc&) {
                starve(net::error::no_memory, seen);
            }
        }
        if (wishes.first() == nullptr) admitted.release();
    }

    void end_first(const error_code& why) noexcept
    {
        if (wish* const first = wishes.first()) {
            wishes.remove(*first);
            first->finish(why);
        }
    }

    /// Lets the next one in, or begins to wait for what keeps it out.
    void admit_one(std::uint64_t seen)
    {
        if (!admitted) admitted = room.try_acquire();
        if (!admitted && options.on_connection_limit == overload_policy::wait) {
            pause_at(admission_limit::connections);
            await(waits_for::room, [&](resumption r) {
                r.stop = stop_wait.slot();
                room.async_acquire(1, std::move(r));
            });
            return;
        }
        const auto closed_gate = look();
        if (closed_gate && policy(closed_gate->why) == overload_policy::wait) {
            pause_at(closed_gate->why);
            if (closed_gate->why == admission_limit::memory)
                await(waits_for::gate,
                      [&](resumption r) { departure.async_wait(seen, closed_gate->until, std::move(r)); });
            else
                rest_until(closed_gate->until, waits_for::gate);
            return;
        }
        error_code ec;
        endpoint_type remote;
        typename connection_type::stream_type socket(next_executor());
        listener.accept(socket, remote, ec);
        if (!ec) {
            backlog_timeout.left();
            if (auto taken = judge(socket, remote, closed_gate, ec)) {
                tried_again = false;
                hand_over(admit(socket, std::move(*taken)));
            }
        }
        switch (detail::classify_accept(ec)) {
        case detail::accept_failure::none:
            break; // or turned away
        case detail::accept_failure::nobody:
            all_inherit = inherits;
            await_newcomer();
            break;
        case detail::accept_failure::shortage:
            starve(ec, seen);
            break;
        case detail::accept_failure::loss:
            backlog_timeout.left();
            tell({acceptor_event::kind::lost, ec});
            break;
        case detail::accept_failure::final:
            end_first(closed ? error_code(errc::acceptor_closed) : ec);
            break;
        }
    }

    /// To who has waited for the longest time.
    void hand_over(connection_type&& newcomer) noexcept
    {
        wish& first = *wishes.first();
        wishes.remove(first);
        if (first.take(std::move(newcomer)))
            first.finish({});
        else
            wishes.push(first);
    }

    /// Rests until a connection ends or for a while.
    void starve(const error_code& shortage, std::uint64_t seen) noexcept
    {
        tell({acceptor_event::kind::starved, shortage, {}, admission_limit::descriptors});
        if (shortage == error_code(EMFILE, net::error::get_system_category()) ||
            shortage == error_code(ENFILE, net::error::get_system_category()))
            turn_one_away_without_descriptors();
        try {
            await(waits_for::rest,
                  [&](resumption r) { departure.async_wait(seen, end_of_rest(), std::move(r)); });
        } catch (const std::bad_alloc&) {
            await_newcomer(); // no memory is needed for that
        }
    }

    void rest_until(std::chrono::steady_clock::time_point when, waits_for what)
    {
        await(what, [&](resumption r) {
            timer.expires_at(when);
            timer.async_wait(std::move(r));
        });
    }

    Executor next_executor() const
    {
        if constexpr (std::is_same_v<Executor, net::any_io_executor>)
            if (options.next_executor) return options.next_executor();
        return executor;
    }

    /// What a newcomer takes up until it has ended.
    struct seat {
        detail::registry::index member;
        detail::address_table::index address;
        Finalizer finalizer;
    };

    /// Makes room for a newcomer, or turns it away; `ec` where memory ran out.
    std::optional<seat> judge(typename connection_type::stream_type& socket, const endpoint_type& remote,
                              const std::optional<shut>& closed_gate, error_code& ec)
    {
        std::optional<admission_limit> refused;
        detail::address_place address;
        if (!admitted) admitted = room.try_acquire();
        if (closed_gate)
            refused = closed_gate->why;
        else if (!admitted)
            refused = admission_limit::connections;
        else if (!enter_address(remote, address, ec))
            refused = admission_limit::per_address;
        if (ec) return {};
        if (refused) {
            reject(std::move(socket), *refused);
            return {};
        }
        try {
            Finalizer its_own = finalizer; // before it has a place: it may fail
            return seat{members->enter(socket.native_handle(), admitted, peer_of(socket, remote)), address.take_over(),
                        std::move(its_own)};
        } catch (const std::bad_alloc&) {
            ec = net::error::no_memory;
            return {};
        }
    }

    connection_type admit(typename connection_type::stream_type& socket, seat taken) noexcept
    {
        if (draining) members->notify(taken.member, 1); // it came in as the drain began
        if (!all_inherit) (void)configure(socket);    // a peer that is gone already shows at the first read
        if (options.accepts_per_second != 0 || gate.enabled()) {
            const auto now = std::chrono::steady_clock::now();
            if (options.accepts_per_second != 0) rate.take(now);
            gate.admitted(now);
        }
        return connection_type(
            std::move(socket),
            detail::admission<Finalizer>(std::move(taken.finalizer), *members, taken.member, taken.address),
            origin);
    }

    static peer_address peer_of(typename connection_type::stream_type& socket, const endpoint_type& remote) noexcept
    {
        if constexpr (requires { remote.address(); })
            return peer_address(remote);
        else
            return peer_address::of_socket(socket.native_handle());
    }

    /// False where the address has as many connections as it may.
    bool enter_address(const endpoint_type& remote, detail::address_place& address, error_code& ec)
    {
        if constexpr (requires { remote.address(); }) {
            if (options.max_per_address == 0) return true;
            try {
                const auto place = members->addresses.enter(
                    detail::address_key::of(remote.address(), options.ipv4_prefix, options.ipv6_prefix));
                if (place == detail::address_table::nowhere) return false;
                address = detail::address_place(members->addresses, place);
            } catch (const std::bad_alloc&) {
                ec = net::error::no_memory;
            }
        }
        return true;
    }

    void reject(typename connection_type::stream_type socket, admission_limit limit)
    {
        ++rejected;
        tell({acceptor_event::kind::rejected, {}, {}, limit});
        connection_guard<typename connection_type::stream_type> guard(std::move(socket));
        if (policy(limit) == overload_policy::reset || farewells >= options.max_pending_rejects) {
            guard.abort(close_reason::refused);
            return;
        }
        // A fresh connection takes what fits into its send buffer; more than that is cut off, not waited for.
        if (!options.reject_message.empty())
            (void)::send(guard.stream().native_handle(), options.reject_message.data(), options.reject_message.size(),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        ++farewells;
        guard.async_close({.deadline = options.reject_deadline, .drain_bytes = 64 * 1024},
                          [count = farewell_count(*this)](error_code) {});
    }

    /// One of the farewells under way, for as long as its close takes.
    class farewell_count {
    public:
        explicit farewell_count(core& c) : core_(c.self) {}
        farewell_count(farewell_count&& other) noexcept : core_(std::move(other.core_)) {}
        ~farewell_count()
        {
            if (const auto alive = core_.lock()) --alive->farewells;
        }

    private:
        std::weak_ptr<core> core_;
    };

    /// Accepting rests at the limit; newcomers wait.
    void pause_at(admission_limit limit)
    {
        tell({acceptor_event::kind::paused, {}, {}, limit});
        paused_at = limit;
        if (backlog_timeout.ends() && !std::exchange(watches_backlog, true)) lose_patience();
    }

    /// While accepting rests: turns those away who have waited for too long, and looks again.
    void lose_patience() noexcept
    try {
        const std::size_t overdue =
            backlog_timeout.overdue(detail::backlog_of(listener.native_handle()), std::chrono::steady_clock::now());
        error_code ec; // closed meanwhile, or no descriptor: they wait on
        for (std::size_t i = 0; i != std::min(overdue, most_turned_away); ++i) {
            typename connection_type::stream_type socket = listener.accept(next_executor(), ec);
            if (ec) break;
            backlog_timeout.left();
            reject(std::move(socket), *paused_at);
        }
        impatience.expires_after(overdue > most_turned_away && !ec
                                     ? std::chrono::steady_clock::duration::zero()
                                     : backlog_timeout.period());
        impatience.async_wait([weak = self](error_code) {
            if (const auto alive = weak.lock()) alive->strand.run(alive->impatience_task, alive);
        });
    } catch (const std::bad_alloc&) {
        watches_backlog = false; // until the next pause
    }

    void look_at_backlog() noexcept
    {
        watches_backlog = paused_at && !closed;
        if (watches_backlog) lose_patience();
    }

    /// Accepts one by means of the descriptor in reserve, and resets it.
    void turn_one_away_without_descriptors() noexcept
    {
        if (options.on_descriptor_limit == overload_policy::wait) return;
        if (reserve < 0) return;
        ::close(std::exchange(reserve, -1));
        const int newcomer =
            ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (newcomer >= 0) {
            detail::reset_at_close(newcomer);
            ::close(newcomer);
            backlog_timeout.left();
            ++rejected;
        }
        reserve_one();
        if (newcomer >= 0) tell({acceptor_event::kind::rejected, {}, {}, admission_limit::descriptors});
    }

    /// Another thread may have taken it while it was closed.
    void regain_reserve() noexcept
    {
        if (reserve < 0 && options.on_descriptor_limit != overload_policy::wait) reserve_one();
    }

    void reserve_one() noexcept { reserve = ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

    /// How long to rest for want of descriptors if no connection ends: twice as long each time, and not
    /// anew for each newcomer that a departure made room for. A quarter less at random: servers that starve
    /// together need not try together.
    std::chrono::steady_clock::time_point end_of_rest()
    {
        const auto now = std::chrono::steady_clock::now();
        if (now > rested_until + longest_rest) rest = shortest_rest;
        const std::chrono::microseconds whole = rest;
        rest = std::min(2 * rest, longest_rest);
        return rested_until = now + whole - whole / 4 * static_cast<long>(random() % 256) / 256;
    }

    class accept_wish final : public wish {
    public:
        using wish::wish;

        bool take(connection_type&& newcomer) noexcept override
        {
            newcomer_.emplace(std::move(newcomer));
            return true;
        }

        template <class Handler>
        void deliver(Handler& handler)
        {
            const core& c = this->owner();
            handler(this->error(),
                    newcomer_ ? std::move(*newcomer_) : connection_type(c.executor, c.finalizer));
        }

    private:
        std::optional<connection_type> newcomer_;
    };

    template <class Session>
    class serve_wish final : public wish {
    public:
        serve_wish(std::shared_ptr<core> c, Session session)
            : wish(std::move(c)), session_(std::move(session))
        {
        }

        bool take(connection_type&& newcomer) noexcept override
        {
            try {
                const auto ended = [self = this->shared_owner()](const std::exception_ptr& failure,
                                                                 auto&&...) {
                    if (failure) self->tell({acceptor_event::kind::session_failed, {}, failure});
                };
                const Executor where = newcomer.get_executor();
                if constexpr (!std::is_invocable_v<Session&, connection_type>)
                    net::co_spawn(where, own(std::move(newcomer), session_), ended);
                else if constexpr (std::is_void_v<std::invoke_result_t<Session&, connection_type>>)
                    session_(std::move(newcomer));
                else
                    net::co_spawn(where, session_(std::move(newcomer)), ended);
            } catch (...) {
                this->owner().tell({acceptor_event::kind::session_failed, {}, std::current_exception()});
            }
            return false;
        }

        template <class Handler>
        void deliver(Handler& handler)
        {
            handler(this->error() == errc::acceptor_closed ? error_code() : this->error());
        }

    private:
        /// Owns the connection of a session that has it by reference, and sees why it failed.
        template <class S>
        static std::invoke_result_t<S&, connection_type&> own(connection_type peer, S session)
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

        Session session_;
    };

    void close() noexcept
    {
        closed = true;
        error_code ignored;
        listener.close(ignored);
        impatience.cancel();
        interrupt();
    }

    /// Sets the options of the connections: on the listener, from which newcomers inherit them at their birth
    /// in the kernel. Later would be too late for the window that was promised to the peer, and a system call
    /// more for each; it is done for those alone who were in the backlog of a listener that was adopted, and
    /// for local sockets, which inherit nothing.
    template <class Socket>
    error_code configure(Socket& socket) noexcept
    {
        error_code ec;
        if (options.send_buffer_bytes > 0)
            socket.set_option(net::socket_base::send_buffer_size(options.send_buffer_bytes), ec);
        if (options.receive_buffer_bytes > 0 && !ec)
            socket.set_option(net::socket_base::receive_buffer_size(options.receive_buffer_bytes), ec);
        if constexpr (std::is_same_v<Protocol, net::ip::tcp>)
            if (!ec) socket.set_option(net::ip::tcp::no_delay(options.no_delay), ec);
        return ec;
    }
    static constexpr bool inherits = std::is_same_v<Protocol, net::ip::tcp>;

    /// Hands an event to the user's hook, or only counts it: an event may come with each newcomer of an
    /// attack.
    void tell(acceptor_event event)
    {
        if (!options.on_event) return;
        {
            told_kind& kind = told[static_cast<std::size_t>(event.what)];
            const std::lock_guard lock(told_mutex);
            ++kind.since_told;
            if (!kind.allowance.take(std::chrono::steady_clock::now())) return;
            event.count = std::exchange(kind.since_told, 0);
        }
        options.on_event(event);
    }

    struct told_kind {
        detail::token_bucket allowance{std::chrono::seconds(1), 16};
        std::uint64_t since_told = 0;
    };

    static constexpr std::chrono::milliseconds shortest_rest{10};
    static constexpr std::chrono::milliseconds longest_rest{1000};
    static constexpr std::size_t most_at_once = 7;      // newcomers let in in one turn of the strand
    static constexpr std::size_t most_turned_away = 64; // and those whose backlog_timeout has ended

    const Executor executor;
    detail::inline_strand strand;
    const acceptor_options options;
    const Finalizer finalizer;
    const std::shared_ptr<detail::registry> members;
    endpoint_type endpoint;
    std::atomic<bool> closed = false;
    std::atomic<std::uint64_t> rejected = 0;

    std::optional<async_semaphore> own_room;
    async_semaphore& room;
    permit admitted; // for the next newcomer
    detail::token_bucket rate;
    std::optional<detail::memory_meter> meter;
    detail::memory_gate gate;
    detail::backlog_timeout backlog_timeout;
    std::optional<admission_limit> paused_at; // where newcomers are kept waiting
    bool watches_backlog = false;             // lose_patience() comes again
    wish_queue wishes;
    waits_for wait = waits_for::nothing;
    detail::op_storage storage;         // of the wait
    net::cancellation_signal stop_wait; // for room
    error_code wait_ended_by;
    net::steady_timer timer;
    detail::registry::departure_wait departure;
    bool tried_again = false; // for want of descriptors
    net::steady_timer impatience;
    detail::token_bucket attempts{std::chrono::milliseconds(80), 6}; // at accepting, while starved
    std::chrono::milliseconds rest = shortest_rest;                  // the next one
    std::chrono::steady_clock::time_point rested_until{};
    std::minstd_rand random{std::random_device{}()};
    std::atomic<std::size_t> farewells = 0;
    int reserve = -1; // a descriptor for the turning away without any
    std::weak_ptr<core> self;

    bool draining = false;
    bool all_inherit = false; // nobody is left who was in the backlog before the listener was configured

    std::mutex told_mutex;
    std::array<told_kind, 5> told;
    net::basic_socket_acceptor<Protocol, Executor> listener;
    detail::inline_strand::member_task<core, &core::resume> resume_task;
    detail::inline_strand::member_task<core, &core::look_at_backlog> impatience_task;
    detail::inline_strand::member_task<core, &core::close> close_task;
    const std::source_location origin; // what leak_check names for the connections
};

} // namespace holdfast

#endif
