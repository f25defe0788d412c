// holdfast: how a bounded_acceptor accepts, admits, turns away and drains. Its header includes it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_BOUNDED_ACCEPTOR_CORE_HPP
#define HOLDFAST_DETAIL_BOUNDED_ACCEPTOR_CORE_HPP

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/detail/address_table.hpp>
#include <holdfast/detail/memory_gate.hpp>
#include <holdfast/detail/memory_meter.hpp>
#include <holdfast/detail/patience.hpp>
#include <holdfast/detail/registry.hpp>
#include <holdfast/detail/tcp_state.hpp>
#include <holdfast/detail/token_bucket.hpp>

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
          strand(ex),
          options(std::move(opts)),
          finalizer(std::move(f)),
          house(std::make_shared<admissions>(checked(options))),
          members(house, &house->members),
          room(options.room != nullptr ? *options.room : own_room.emplace(ex, options.max_connections)),
          rate(interval_of(options), options.accept_burst),
          gate(make_gate(options.memory)),
          patience(options.patience),
          turns(strand, 1),
          timer(strand),
          departure(*members, strand),
          impatience(strand),
          listener(strand),
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
        // Who is accepted inherits them: set only then, they would come too late for the window that was
        // promised to the peer, and for what it has sent while it was in the backlog.
        if (options.send_buffer_bytes > 0)
            listener.set_option(net::socket_base::send_buffer_size(options.send_buffer_bytes));
        if (options.receive_buffer_bytes > 0)
            listener.set_option(net::socket_base::receive_buffer_size(options.receive_buffer_bytes));
        listener.bind(where);
        listener.listen(options.backlog);
        begin();
    }

    void adopt(const Protocol& protocol,
               typename net::basic_socket_acceptor<Protocol>::native_handle_type descriptor)
    {
        listener.assign(protocol, descriptor);
        try {
            begin();
        } catch (...) {
            listener.release();
            throw;
        }
    }

    void begin()
    {
        endpoint = listener.local_endpoint();
        listener.non_blocking(true); // for start_at_once() and lose_patience()
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
        require(o.when_address_full != at_limit::wait,
                "acceptor_options.when_address_full cannot be wait: the address is known only once accepted");
        require(o.patience >= o.patience.zero(), "acceptor_options.patience must not be negative");
        require(o.patience == o.patience.zero() || std::is_same_v<Protocol, net::ip::tcp>,
                "acceptor_options.patience needs TCP: other backlogs do not tell how long they are");
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
        std::uint64_t high = limits.high_bytes;
        if (limits.of == memory_limits::gauge::cgroup) {
            std::error_code ec;
            const auto place = detail::find_cgroup(0, ec);
            if (ec) throw std::system_error(ec, "the memory limit of the cgroup");
            const auto group = place ? detail::tightest_group(*place) : std::nullopt;
            if (group) {
                meter.emplace(*group);
                if (high == 0) high = group->limit / 10 * 9;
            }
        } else if (limits.of == memory_limits::gauge::process && high != 0) {
            meter.emplace();
        }
        const std::uint64_t low = limits.low_bytes != 0 ? limits.low_bytes : high - high / 16;
        if (low > high) throw std::invalid_argument("memory_limits.low_bytes is above the high mark");
        return {meter ? high : 0, low, limits.trickle};
    }

    /// Starts a coroutine on the strand on behalf of an operation. What the user's slot emits is carried over
    /// to the strand, since signals are not thread-safe.
    template <class Work, class Handler, class Finish>
    void run_on_strand(Work make_work, Handler handler, Finish finish)
    {
        auto signal = std::make_shared<net::cancellation_signal>();
        auto work = make_work(signal);
        using Result = typename decltype(work)::value_type;
        if (auto slot = net::get_associated_cancellation_slot(handler); slot.is_connected())
            slot.assign([signal, s = strand](net::cancellation_type type) {
                net::dispatch(s, [signal, type] { signal->emit(type); });
            });
        auto handler_executor = net::get_associated_executor(handler, executor);
        auto completion = [signal, handler = std::move(handler),
                           finish = std::move(finish)](std::exception_ptr failure, Result result) mutable {
            finish(handler, failure, std::move(result));
        };
        net::co_spawn(strand, std::move(work),
                      net::bind_cancellation_slot(
                          signal->slot(), net::bind_executor(handler_executor, std::move(completion))));
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
                if (options.memory.trim) options.memory.trim();
                if (const auto after = meter->read()) gate.observe(*after, members->live(), now);
            }
        }
        if (!gate.open(members->live(), now)) return shut{admission_limit::memory, gate.look_again(now)};
        if (const auto ready = rate.ready_at(now); options.accepts_per_second != 0 && ready > now)
            return shut{admission_limit::rate, ready};
        return {};
    }

    [[nodiscard]] at_limit policy(admission_limit limit) const noexcept
    {
        switch (limit) {
        case admission_limit::connections:
            return options.when_full;
        case admission_limit::per_address:
            return options.when_address_full;
        case admission_limit::rate:
            return options.when_too_fast;
        case admission_limit::memory:
            return options.when_memory_high;
        case admission_limit::descriptors:
            break;
        }
        return options.when_out_of_descriptors;
    }

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete" // g++ 12 loses sight of Asio's operator new
#endif
    /// Accepts one. Operations take turns, so that one alone waits at each limit.
    static net::awaitable<accepted> accept(std::shared_ptr<core> self, cancellation stop)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        co_await net::this_coro::throw_if_cancelled(false);
        const acceptor_options& options = self->options;
        error_code ec;
        auto turn = self->turns.try_acquire();
        if (!turn) turn = co_await self->turns.async_acquire(1, net::redirect_error(net::use_awaitable, ec));
        if (ec) co_return accepted{ec};
        permit admitted = self->room.try_acquire();
        if (!admitted && options.when_full == at_limit::wait && !self->closed) {
            self->pause_at(admission_limit::connections);
            self->waits_for_room = stop.get(); // a shared semaphore cannot be closed with this acceptor
            admitted = co_await self->room.async_acquire(1, net::redirect_error(net::use_awaitable, ec));
            self->waits_for_room = nullptr;
            self->paused_at.reset();
        }
        std::optional<typename connection_type::stream_type> socket;
        endpoint_type remote;
        bool tried_again = false;         // for want of descriptors
        while (!self->closed || socket) { // who has been accepted is not dropped because of a close meanwhile
            if (ec) co_return accepted{ec};
            const auto state = co_await net::this_coro::cancellation_state;
            if (!socket && state.cancelled() != net::cancellation_type::none)
                co_return accepted{net::error::operation_aborted};
            const auto seen = self->members->departures();
            const auto closed_gate = self->look();
            if (closed_gate && self->policy(closed_gate->why) == at_limit::wait && !self->closed) {
                self->pause_at(closed_gate->why);
                error_code woken;
                if (closed_gate->why == admission_limit::memory) {
                    co_await self->departure.async_wait(seen, closed_gate->until,
                                                        net::redirect_error(net::use_awaitable, woken));
                } else {
                    self->timer.expires_at(closed_gate->until);
                    co_await self->timer.async_wait(net::redirect_error(net::use_awaitable, woken));
                }
                self->paused_at.reset();
                continue;
            }
            if (!socket) {
                const Executor next = self->next_executor();
                socket = co_await self->listener.async_accept(next, remote,
                                                              net::redirect_error(net::use_awaitable, ec));
                if (!ec) {
                    self->patience.left();
                    continue; // what was open before it came may not be any more
                }
            }
            if (!ec) {
                if (auto taken = self->judge(*socket, remote, closed_gate, admitted, ec))
                    co_return accepted{{}, self->admit(*socket, admitted, std::move(*taken))};
            }
            socket.reset();
            if (!ec) continue; // turned away
            if (self->closed) break;
            const error_code failure = std::exchange(ec, {});
            if (is_shortage(failure)) {
                self->tell({acceptor_event::kind::starved, failure, {}, admission_limit::descriptors});
                if (failure == error_code(EMFILE, net::error::get_system_category()) ||
                    failure == error_code(ENFILE, net::error::get_system_category()))
                    self->turn_one_away_without_descriptors();
                error_code woken;
                co_await self->departure.async_wait(seen, self->end_of_rest(),
                                                    net::redirect_error(net::use_awaitable, woken));
                self->regain_reserve();
                // Where others take each descriptor that comes back, departures alone must not hurry it.
                if (std::exchange(tried_again, true) &&
                    !self->attempts.take(std::chrono::steady_clock::now()) && !self->closed) {
                    self->timer.expires_at(self->attempts.ready_at(std::chrono::steady_clock::now()));
                    co_await self->timer.async_wait(net::redirect_error(net::use_awaitable, woken));
                }
            } else if (is_loss(failure)) {
                self->patience.left();
                self->tell({acceptor_event::kind::lost, failure});
            } else {
                co_return accepted{failure};
            }
        }
        co_return accepted{errc::acceptor_closed};
    }

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

    Executor next_executor() const
    {
        if constexpr (std::is_same_v<Executor, net::any_io_executor>)
            if (options.next_executor) return options.next_executor();
        return executor;
    }

    /// What a newcomer takes up until it has ended.
    struct seat {
        detail::registry::index member;
        detail::address_place address;
        Finalizer finalizer;
    };

    /// Makes room for a newcomer, or turns it away; `ec` where memory ran out.
    std::optional<seat> judge(typename connection_type::stream_type& socket, const endpoint_type& remote,
                              const std::optional<shut>& closed_gate, permit& admitted, error_code& ec)
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
            turn_away(std::move(socket), *refused);
            return {};
        }
        try {
            Finalizer its_own = finalizer; // before it has a place: it may fail
            return seat{members->enter(socket.native_handle()), std::move(address), std::move(its_own)};
        } catch (const std::bad_alloc&) {
            ec = net::error::no_memory;
            return {};
        }
    }

    connection_type admit(typename connection_type::stream_type& socket, permit& admitted,
                          seat taken) noexcept
    {
        if (draining) members->tell(taken.member, 1); // it came in as the drain began
        configure(socket);
        if (options.accepts_per_second != 0 || gate.enabled()) {
            const auto now = std::chrono::steady_clock::now();
            if (options.accepts_per_second != 0) rate.take(now);
            gate.admitted(now);
        }
        return connection_type(std::move(socket),
                               detail::admission<Finalizer>(std::move(taken.finalizer), members, taken.member,
                                                            std::move(admitted), std::move(taken.address)),
                               origin);
    }

    /// False where the address has as many connections as it may.
    bool enter_address(const endpoint_type& remote, detail::address_place& address, error_code& ec)
    {
        if constexpr (requires { remote.address(); }) {
            if (options.max_per_address == 0) return true;
            try {
                const auto place = house->addresses.enter(
                    detail::address_key::of(remote.address(), options.ipv4_prefix, options.ipv6_prefix));
                if (place == detail::address_table::nowhere) return false;
                address = detail::address_place(house->addresses, place);
            } catch (const std::bad_alloc&) {
                ec = net::error::no_memory;
            }
        }
        return true;
    }

    void turn_away(typename connection_type::stream_type socket, admission_limit limit)
    {
        ++turned_away;
        tell({acceptor_event::kind::turned_away, {}, {}, limit});
        connection_guard<typename connection_type::stream_type> guard(std::move(socket));
        if (policy(limit) == at_limit::reset || farewells >= options.max_farewells) {
            guard.abort(close_reason::refused);
            return;
        }
        // A fresh connection takes what fits into its send buffer; more than that is cut off, not waited for.
        if (!options.farewell.empty())
            (void)::send(guard.stream().native_handle(), options.farewell.data(), options.farewell.size(),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        ++farewells;
        guard.async_close({.deadline = options.farewell_deadline, .drain_bytes = 64 * 1024},
                          net::bind_executor(strand, [count = farewell_count(*this)](error_code) {}));
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
        if (patience.ends() && !std::exchange(watches_backlog, true)) lose_patience();
    }

    /// While accepting rests: turns those away who have waited for too long, and looks again.
    void lose_patience() noexcept
    try {
        const std::size_t overdue =
            patience.overdue(detail::backlog_of(listener.native_handle()), std::chrono::steady_clock::now());
        error_code ec; // closed meanwhile, or no descriptor: they wait on
        for (std::size_t i = 0; i != std::min(overdue, batch_size); ++i) {
            typename connection_type::stream_type socket = listener.accept(next_executor(), ec);
            if (ec) break;
            patience.left();
            turn_away(std::move(socket), *paused_at);
        }
        impatience.expires_after(overdue > batch_size && !ec ? std::chrono::steady_clock::duration::zero()
                                                             : patience.period());
        impatience.async_wait([weak = self](error_code ended) {
            const auto alive = weak.lock();
            if (!alive) return;
            alive->watches_backlog = !ended && alive->paused_at && !alive->closed;
            if (alive->watches_backlog) alive->lose_patience();
        });
    } catch (const std::bad_alloc&) {
        watches_backlog = false; // until the next pause
    }

    /// Accepts one by means of the descriptor in reserve, and resets it.
    void turn_one_away_without_descriptors() noexcept
    {
        if (options.when_out_of_descriptors == at_limit::wait) return;
        if (reserve < 0) return;
        ::close(std::exchange(reserve, -1));
        const int newcomer =
            ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (newcomer >= 0) {
            const ::linger reset{1, 0};
            ::setsockopt(newcomer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(newcomer);
            patience.left();
            ++turned_away;
        }
        reserve_one();
        if (newcomer >= 0) tell({acceptor_event::kind::turned_away, {}, {}, admission_limit::descriptors});
    }

    /// Another thread may have taken it while it was closed.
    void regain_reserve() noexcept
    {
        if (reserve < 0 && options.when_out_of_descriptors != at_limit::wait) reserve_one();
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

    /// Starts the session of a newcomer that waits already, and for which there is room: without a turn of
    /// the loop. False where there is none, or anything stands in its way.
    template <class Session>
    static bool start_at_once(const std::shared_ptr<core>& self, Session& session)
    {
        if (self->closed || self->draining) return false;
        const auto turn = self->turns.try_acquire();
        if (!turn) return false;
        permit admitted = self->room.try_acquire();
        if (!admitted || self->look()) return false;
        error_code ec;
        endpoint_type remote;
        typename connection_type::stream_type socket(self->next_executor());
        self->listener.accept(socket, remote, ec);
        if (!ec) {
            self->patience.left();
            if (auto taken = self->judge(socket, remote, {}, admitted, ec))
                start(self, session, self->admit(socket, admitted, std::move(*taken)));
            return !ec;
        }
        if (!is_loss(ec)) return false; // what else is wrong shows again
        self->patience.left();
        self->tell({acceptor_event::kind::lost, ec});
        return true;
    }

    template <class Session>
    static net::awaitable<error_code> serve(std::shared_ptr<core> self, Session session, cancellation stop)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        co_await net::this_coro::throw_if_cancelled(false);
        for (std::size_t at_once = 0;; ++at_once) {
            const auto state = co_await net::this_coro::cancellation_state;
            if (state.cancelled() != net::cancellation_type::none) co_return net::error::operation_aborted;
            if (at_once != most_at_once && start_at_once(self, session)) continue;
            at_once = 0;
            accepted next = co_await accept(self, stop);
            if (next.error) co_return next.error == errc::acceptor_closed ? error_code() : next.error;
            start(self, session, std::move(*next.peer));
        }
    }

    static net::awaitable<drained> drain(std::shared_ptr<core> self, drain_options options)
    {
        co_await net::this_coro::reset_cancellation_state(net::enable_total_cancellation());
        self->draining = true;
        self->close();
        const auto start = std::chrono::steady_clock::now();
        const std::size_t batches =
            std::max<std::size_t>(1, (self->members->live() + batch_size - 1) / batch_size);
        net::steady_timer pause(self->strand);
        detail::registry::departure_wait departure(*self->members, self->strand);
        std::optional<std::size_t> cursor = 0;
        for (std::size_t batch = 1; (cursor = self->members->tell(*cursor, batch_size)); ++batch) {
            error_code ec;
            pause.expires_at(start + options.spread * static_cast<long>(std::min(batch, batches)) /
                                         static_cast<long>(batches));
            co_await pause.async_wait(net::redirect_error(net::use_awaitable, ec));
            if (ec) co_return drained{ec};
        }
        for (;;) {
            const auto seen = self->members->departures();
            if (self->members->live() == 0) co_return drained{};
            if (std::chrono::steady_clock::now() >= start + options.deadline)
                co_return drained{{}, self->members->abort_all()};
            error_code ec;
            co_await departure.async_wait(seen, start + options.deadline,
                                          net::redirect_error(net::use_awaitable, ec));
            const auto cancellation = co_await net::this_coro::cancellation_state;
            if (cancellation.cancelled() != net::cancellation_type::none)
                co_return drained{net::error::operation_aborted};
        }
    }

    void close() noexcept
    {
        closed = true;
        error_code ignored;
        listener.close(ignored);
        turns.close(errc::acceptor_closed);
        if (waits_for_room != nullptr) waits_for_room->emit(net::cancellation_type::terminal);
        timer.cancel();
        impatience.cancel();
        members->wake();
    }

    void configure(typename connection_type::stream_type& socket) noexcept
    {
        error_code ignored; // a peer that is gone already shows at the first read
        if (options.send_buffer_bytes > 0)
            socket.set_option(net::socket_base::send_buffer_size(options.send_buffer_bytes), ignored);
        if (options.receive_buffer_bytes > 0)
            socket.set_option(net::socket_base::receive_buffer_size(options.receive_buffer_bytes), ignored);
        if constexpr (std::is_same_v<Protocol, net::ip::tcp>)
            socket.set_option(net::ip::tcp::no_delay(options.no_delay), ignored);
    }

    template <class Session>
    static void start(const std::shared_ptr<core>& self, Session& session, connection_type peer)
    {
        try {
            const auto ended = [self](const std::exception_ptr& failure, auto&&...) {
                if (failure) self->tell({acceptor_event::kind::session_failed, {}, failure});
            };
            const Executor where = peer.get_executor();
            if constexpr (!std::is_invocable_v<Session&, connection_type>)
                net::co_spawn(where, own(std::move(peer), session), ended);
            else if constexpr (std::is_void_v<std::invoke_result_t<Session&, connection_type>>)
                session(std::move(peer));
            else
                net::co_spawn(where, session(std::move(peer)), ended);
        } catch (...) {
            self->tell({acceptor_event::kind::session_failed, {}, std::current_exception()});
        }
    }

    /// Owns the connection of a session that has it by reference, and sees why it failed.
    template <class Session>
    static std::invoke_result_t<Session&, connection_type&> own(connection_type peer, Session session)
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

    /// What connections hold on to beyond the acceptor's end.
    struct admissions {
        explicit admissions(const acceptor_options& o)
            : members(o.max_connections), addresses(o.max_per_address, o.max_connections)
        {
        }
        detail::registry members;
        detail::address_table addresses;
    };

    // By number: Asio's category of system errors does not map them to std::errc in every version.
    static bool is_shortage(const error_code& ec) noexcept
    {
        switch (ec.value()) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case ENOSPC: // of epoll(7): as many descriptors are watched as the user may have
            return ec.category() == net::error::get_system_category();
        default:
            return false;
        }
    }

    /// What accept(2) on Linux passes on from a newcomer's own connection.
    static bool is_loss(const error_code& ec) noexcept
    {
        switch (ec.value()) {
        case ECONNABORTED:
        case EPROTO:
        case EINTR:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case ETIMEDOUT:
        case EPERM:
            return ec.category() == net::error::get_system_category();
        default:
            return false;
        }
    }

    static constexpr std::chrono::milliseconds shortest_rest{10};
    static constexpr std::chrono::milliseconds longest_rest{1000};
    static constexpr std::size_t batch_size = 64;   // sessions told in one turn of the strand
    static constexpr std::size_t most_at_once = 16; // newcomers, likewise

    const Executor executor;
    net::strand<Executor> strand;
    const acceptor_options options;
    const Finalizer finalizer;
    const std::shared_ptr<admissions> house;
    const std::shared_ptr<detail::registry> members; // the house's
    endpoint_type endpoint;
    std::atomic<bool> closed = false;
    std::atomic<std::uint64_t> turned_away = 0;

    std::optional<async_semaphore> own_room;
    async_semaphore& room;
    net::cancellation_signal* waits_for_room = nullptr; // of the operation that does
    detail::token_bucket rate;
    std::optional<detail::memory_meter> meter;
    detail::memory_gate gate;
    detail::patience patience;
    std::optional<admission_limit> paused_at;   // where newcomers are kept waiting
    bool watches_backlog = false;               // lose_patience() comes again
    unsynchronized_semaphore turns;             // one: who has it, accepts
    net::steady_timer timer;                    // of that one
    detail::registry::departure_wait departure; // of that one too
    net::steady_timer impatience;
    detail::token_bucket attempts{std::chrono::milliseconds(80), 6}; // at accepting, while starved
    std::chrono::milliseconds rest = shortest_rest;                  // the next one
    std::chrono::steady_clock::time_point rested_until{};
    std::minstd_rand random{std::random_device{}()};
    std::size_t farewells = 0;
    int reserve = -1; // a descriptor for the turning away without any
    std::weak_ptr<core> self;

    bool draining = false;

    std::mutex told_mutex;
    std::array<told_kind, 5> told;
    net::basic_socket_acceptor<Protocol, net::strand<Executor>> listener;
    const std::source_location origin; // what leak_check names for the connections
};

} // namespace holdfast

#endif
