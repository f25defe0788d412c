// holdfast: what a heartbeat costs, beside a bare store and beside a timer in each connection.
// SPDX-License-Identifier: BSL-1.0
//
// Subjects, all visiting sessions of the same size in the same random order:
//   holdfast       heartbeat::touch()
//   relaxed_store  a relaxed store of zero through a pointer in the session: what holdfast's touch is, without its timer.
//                  list_sweep and wheel store into the session itself, which is cheaper
//   asio_rearm     a steady_timer in each session, re-armed for each message
//   asio_lazy      a message stores steady_clock::now(); a timer in each session looks at it when it expires
//   list_sweep     a message stores the number of the second; each second all sessions are looked at
//   wheel          the same; a session is looked at when its slot of a wheel of seconds comes up
//   libuv          a uv_timer_t in each session, uv_timer_again() for each message (where libuv is installed)
//
// Metrics:
// All times are processor time of the thread: other programs on the machine lengthen none of them.
//   touch_ns              one visit of a session and the touch, the handlers that it leads to included
//   second_ns             what a second costs in which nobody is touched. On a clock that leaps ahead.
//                         holdfast: a tick, after other traffic has passed through the caches. asio_lazy:
//                         the timers that expire in it, a thirtieth of them. list_sweep and wheel: the look
//                         at the sessions alone, without the timer that asks for it
//   longest_turn_ns       all expire together: the longest time for which the loop was kept from all else.
//   Each
//                         repeat makes the same turns, and a turn counts as its shortest repeat: what the
//                         machine does meanwhile only lengthens it, and falls on another turn each time
//   bytes_per_connection  what the heartbeat adds to a session: in the session itself, and on the heap
#include "support/pinning.hpp"
#include "support/results.hpp"

#include <holdfast/heartbeat_timer.hpp>

#include <malloc.h>
#include <time.h>
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
#include <uv.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace net = holdfast::net;
using holdfast::error_code;
using namespace std::chrono_literals;

namespace {

constexpr auto timeout = 30s;

/// Costs what the steady clock costs, but stands still until it is made to leap: however slow the machine,
/// nothing expires before it should. Asio asks it at every poll, since the waits are zero.
struct leaping_clock {
    using duration = std::chrono::steady_clock::duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<leaping_clock>;
    [[maybe_unused]] static constexpr bool is_steady = true;

    static time_point now()
    {
        const auto asked = std::chrono::steady_clock::now();
        return time_point(ahead + (asked - asked));
    }

    static inline duration ahead{};
};

} // namespace

template <>
struct holdfast::net::wait_traits<leaping_clock> {
    static leaping_clock::duration to_wait_duration(const leaping_clock::duration&) { return {}; }
    static leaping_clock::duration to_wait_duration(const leaping_clock::time_point&) { return {}; }
};

namespace {

/// The heap that is in use, whoever allocated it.
std::size_t heap_bytes()
{
    const auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
}

/// The time for which this thread has really run: what else the machine does is in no turn of ours.
double thread_ns()
{
    ::timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <class F>
double thread_ns_of(F work)
{
    const double start = thread_ns();
    work();
    return thread_ns() - start;
}

/// The times between two turns of a handler that wants all of them, until `done()`.
template <class Done>
std::vector<double> turns_of(net::io_context& io, Done done)
{
    std::vector<double> turns;
    turns.reserve(100'000);
    double last = thread_ns();
    std::function<void()> other = [&] {
        const double now = thread_ns();
        turns.push_back(now - std::exchange(last, now));
        if (!done()) net::post(io, std::ref(other));
    };
    net::post(io, std::ref(other));
    io.restart();
    while (!done() && io.poll_one() != 0) {
    }
    if (!done()) throw std::logic_error("not all of them expired");
    turns.push_back(thread_ns() - last);
    io.poll(); // the handler's last turn, while it exists
    return turns;
}

/// A connection, as far as this matters: something that a message reads and writes anyhow, and its heartbeat.
template <class Heart>
struct session {
    template <class... Args>
    explicit session(Args&... args) : heartbeats{args...}
    {
    }

    std::uint64_t messages = 0;
    [[no_unique_address]] Heart heartbeats;
    std::array<std::byte, 248> state{};
};

struct no_heart {};
static_assert(sizeof(session<no_heart>) == 256);

/// Sessions, each allocated by itself, and a random order in which to visit them.
template <class Heart>
class population {
public:
    template <class... Args>
    explicit population(std::size_t size, Args&... args)
    {
        sessions_.reserve(size);
        for (std::size_t i = 0; i != size; ++i)
            sessions_.push_back(std::make_unique<session<Heart>>(args...));
    }

    /// Makes the order random, the same for each population of one size: to be called after the sessions have
    /// got, in the order of their making, what belongs to them.
    void shuffle() { std::shuffle(sessions_.begin(), sessions_.end(), std::minstd_rand{42}); }

    std::size_t size() const { return sessions_.size(); }

    /// A message has come for the i-th session: what belongs to its heartbeat.
    Heart& visit(std::size_t i)
    {
        ++sessions_[i]->messages;
        return sessions_[i]->heartbeats;
    }

    Heart& operator[](std::size_t i) { return sessions_[i]->heartbeats; }

private:
    std::vector<std::unique_ptr<session<Heart>>> sessions_;
};

class holdfast_subject {
public:
    static constexpr const char* name = "holdfast";
    static constexpr std::size_t touches_a_round = 4'000'000;

    explicit holdfast_subject(std::size_t size) : sessions_(size)
    {
        watch_all();
        sessions_.shuffle();
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).touch();
    }

    double second_ns()
    {
        touch_all();
        io_.poll();                         // what the leaps of others have made due
        constexpr int seconds_a_round = 10; // fewer than the time-out: none times out
        double total = 0;
        for (int i = 0; i != seconds_a_round; ++i) {
            // The messages of a second, as far as they cost caches: but nobody's heartbeat is touched.
            for (std::size_t k = 0; k != sessions_.size(); ++k)
                sessions_.visit(k);
            leaping_clock::ahead += 1s;
            total += thread_ns_of([this] { io_.poll(); });
        }
        if (deaths_ != 0 || sessions_[0].age() < seconds_a_round)
            throw std::logic_error("holdfast: a tick missed somebody");
        return total / seconds_a_round;
    }

    std::vector<double> turns()
    {
        if (std::exchange(deaths_, 0) != 0) watch_all();
        touch_all();
        io_.poll();
        for (auto age = sessions_[0].age(); age != timeout / 1s; ++age) {
            leaping_clock::ahead += 1s;
            io_.poll();
        }
        leaping_clock::ahead += 1s;
        return turns_of(io_, [this] { return deaths_ == sessions_.size(); });
    }

private:
    void watch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_[i] = timer_.watch([this]() noexcept { ++deaths_; });
    }

    net::io_context io_{1};
    std::size_t deaths_ = 0;
    holdfast::heartbeat_timer<net::any_io_executor, leaping_clock> timer_{io_.get_executor(),
                                                                          {.tick = 1s, .timeout = timeout}};
    population<holdfast::heartbeat> sessions_;
};

class relaxed_store_subject {
public:
    static constexpr const char* name = "relaxed_store";
    static constexpr std::size_t touches_a_round = 4'000'000;

    explicit relaxed_store_subject(std::size_t size) : ages_(size), sessions_(size)
    {
        for (std::size_t i = 0; i != size; ++i)
            sessions_[i] = &ages_[i];
        sessions_.shuffle();
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            std::atomic_ref(*sessions_.visit(i)).store(0, std::memory_order_relaxed);
    }

private:
    std::vector<std::uint16_t> ages_;
    population<std::uint16_t*> sessions_;
};

class asio_rearm_subject {
public:
    static constexpr const char* name = "asio_rearm";
    static constexpr std::size_t touches_a_round = 200'000;

    explicit asio_rearm_subject(std::size_t size) : sessions_(size, io_)
    {
        for (std::size_t i = 0; i != size; ++i)
            arm(sessions_[i]);
        sessions_.shuffle();
    }

    /// As a server does it: within handlers, some messages in each turn of the loop, and the aborted waits
    /// after them.
    void touch_all()
    {
        std::size_t next = 0;
        std::function<void()> turn = [&] {
            for (const std::size_t end = std::min(next + 64, sessions_.size()); next != end; ++next)
                arm(sessions_.visit(next));
            if (next != sessions_.size())
                net::post(io_, std::ref(turn));
            else
                net::post(io_, [this] { io_.stop(); }); // after the last of the aborted waits
        };
        net::post(io_, std::ref(turn));
        io_.restart();
        io_.run();
        if (deaths_ != 0) throw std::logic_error("asio_rearm: a timer expired, and none should");
    }

    /// Of as many timers, on a clock that leaps to the hour at which they expire.
    std::vector<double> turns()
    {
        net::io_context io{1};
        std::size_t expired = 0;
        population<net::basic_waitable_timer<leaping_clock>> timers{sessions_.size(), io};
        for (std::size_t i = 0; i != timers.size(); ++i) {
            timers[i].expires_after(1h);
            timers[i].async_wait([&](error_code) { ++expired; });
        }
        timers.shuffle();
        leaping_clock::ahead += 1h;
        auto turns = turns_of(io, [&] { return expired == timers.size(); });
        leaping_clock::ahead -= 1h; // the clock of the others
        return turns;
    }

private:
    void arm(net::steady_timer& timer)
    {
        timer.expires_after(1h); // as cheap as any other time, and out of reach of the slowest machine
        timer.async_wait([this](error_code error) {
            if (!error) ++deaths_;
        });
    }

    net::io_context io_{1};
    std::size_t deaths_ = 0;
    population<net::steady_timer> sessions_;
};

class asio_lazy_subject {
public:
    static constexpr const char* name = "asio_lazy";
    static constexpr std::size_t touches_a_round = 4'000'000;

    explicit asio_lazy_subject(std::size_t size) : sessions_(size, io_)
    {
        // The timers expire evenly over the time-out, as if the connections had come one after the other.
        const auto now = leaping_clock::now();
        for (std::size_t i = 0; i != size; ++i) {
            sessions_[i].last = now - timeout + std::chrono::nanoseconds(timeout) * i / size;
            arm(sessions_[i]);
        }
        sessions_.shuffle();
        touch_all();
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).last = leaping_clock::now();
    }

    double second_ns()
    {
        // The last messages lie up to half a time-out back, so that the timers go on expiring at different
        // times.
        const auto now = leaping_clock::now();
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).last = now - std::chrono::nanoseconds(timeout) / 2 * i / sessions_.size();
        io_.poll(); // what others' leaps have made due
        touch_all();
        expired_ = 0;
        leaping_clock::ahead += timeout * 2 / 3;
        const double total = thread_ns_of([this] { io_.poll(); });
        if (deaths_ != 0 || expired_ == 0)
            throw std::logic_error("asio_lazy: the timers did not expire as they should");
        const double expiries_a_second = static_cast<double>(sessions_.size()) / (timeout / 1s);
        return total / static_cast<double>(expired_) * expiries_a_second;
    }

    std::vector<double> turns()
    {
        if (std::exchange(deaths_, 0) != 0)
            for (std::size_t i = 0; i != sessions_.size(); ++i) {
                sessions_.visit(i).last = leaping_clock::now();
                arm(sessions_[i]);
            }
        leaping_clock::ahead += 4 * timeout;
        return turns_of(io_, [this] { return deaths_ == sessions_.size(); });
    }

private:
    struct heartbeats {
        explicit heartbeats(net::io_context& io) : timer(io) {}

        net::basic_waitable_timer<leaping_clock> timer;
        leaping_clock::time_point last;
    };

    void arm(heartbeats& of)
    {
        of.timer.expires_at(of.last + timeout);
        of.timer.async_wait([this, &of](error_code error) {
            if (error) return;
            ++expired_;
            if (of.last + timeout <= of.timer.expiry())
                ++deaths_;
            else
                arm(of);
        });
    }

    net::io_context io_{1};
    std::size_t deaths_ = 0;
    std::size_t expired_ = 0;
    population<heartbeats> sessions_;
};

/// Sessions that are linked, with the second of their last message.
struct linked_heart {
    std::uint32_t last = 0;
    linked_heart* next = nullptr;
};

class list_sweep_subject {
public:
    static constexpr const char* name = "list_sweep";
    static constexpr std::size_t touches_a_round = 4'000'000;

    explicit list_sweep_subject(std::size_t size) : sessions_(size)
    {
        for (std::size_t i = 0; i != size; ++i)
            sessions_[i].next = std::exchange(first_, &sessions_[i]);
        sessions_.shuffle();
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).last = now_;
    }

    double second_ns()
    {
        touch_all();
        return thread_ns_of([this] { sweep(); });
    }

    std::vector<double> turns()
    {
        deaths_ = 0;
        touch_all();
        now_ += static_cast<std::uint32_t>(timeout / 1s);
        const double turn = thread_ns_of([this] { sweep(); });
        if (deaths_ != sessions_.size()) throw std::logic_error("list_sweep: not all of them expired");
        return {turn};
    }

private:
    void sweep()
    {
        ++now_;
        for (linked_heart* each = first_; each != nullptr; each = each->next)
            if (now_ - each->last > timeout / 1s) ++deaths_;
    }

    std::uint32_t now_ = 0;
    std::size_t deaths_ = 0;
    linked_heart* first_ = nullptr;
    population<linked_heart> sessions_;
};

class wheel_subject {
public:
    static constexpr const char* name = "wheel";
    static constexpr std::size_t touches_a_round = 4'000'000;

    explicit wheel_subject(std::size_t size) : sessions_(size)
    {
        for (std::size_t i = 0; i != size; ++i) // as if they had come one after the other
            link(sessions_[i], static_cast<std::uint32_t>(i * seconds / size) + 1);
        sessions_.shuffle();
        touch_all();
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).last = now_;
    }

    double second_ns()
    {
        // The last messages lie up to half a time-out back, so that they go on being looked at at different
        // times.
        now_ += seconds / 2;
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            sessions_.visit(i).last = now_ - static_cast<std::uint32_t>(seconds / 2 * i / sessions_.size());
        now_ -= seconds / 2;
        looked_at_ = 0;
        const double total = thread_ns_of([this] {
            for (std::uint32_t i = 0; i != seconds / 2; ++i)
                turn();
        });
        if (deaths_ != 0 || looked_at_ == 0) throw std::logic_error("wheel: somebody died, or nobody was looked at");
        return total / static_cast<double>(looked_at_) * static_cast<double>(sessions_.size()) / seconds;
    }

    std::vector<double> turns()
    {
        if (std::exchange(deaths_, 0) != 0)
            for (std::size_t i = 0; i != sessions_.size(); ++i)
                link(sessions_[i], now_ + 1);
        touch_all();
        for (std::uint32_t i = 0; i != 2 * seconds && deaths_ == 0; ++i) {
            const double last = thread_ns_of([this] { turn(); });
            if (deaths_ != 0) return {last};
        }
        throw std::logic_error("wheel: nobody expired");
    }

private:
    static constexpr std::uint32_t seconds = timeout / 1s;

    void link(linked_heart& heartbeats, std::uint32_t due)
    {
        heartbeats.next = std::exchange(slots_[due % slots_.size()], &heartbeats);
    }

    void turn()
    {
        ++now_;
        linked_heart* each = std::exchange(slots_[now_ % slots_.size()], nullptr);
        while (each != nullptr) {
            linked_heart& heartbeats = *std::exchange(each, each->next);
            ++looked_at_;
            if (heartbeats.last + seconds < now_)
                ++deaths_;
            else
                link(heartbeats, std::max(heartbeats.last + seconds + 1, now_ + 1));
        }
    }

    std::uint32_t now_ = 0;
    std::size_t deaths_ = 0, looked_at_ = 0;
    std::array<linked_heart*, 64> slots_{};
    population<linked_heart> sessions_;
};

#if defined(HOLDFAST_BENCHMARKS_LIBUV)
class libuv_subject {
public:
    static constexpr const char* name = "libuv";
    static constexpr std::size_t touches_a_round = 200'000;

    explicit libuv_subject(std::size_t size) : sessions_(size)
    {
        ::uv_loop_init(&loop_);
        loop_.data = this;
        for (std::size_t i = 0; i != size; ++i) {
            ::uv_timer_init(&loop_, &sessions_[i]);
            start(sessions_[i], 3'600'000);
        }
        sessions_.shuffle();
    }

    ~libuv_subject()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            ::uv_close(reinterpret_cast<::uv_handle_t*>(&sessions_[i]), nullptr);
        ::uv_run(&loop_, UV_RUN_DEFAULT);
        ::uv_loop_close(&loop_);
    }

    void touch_all()
    {
        for (std::size_t i = 0; i != sessions_.size(); ++i) {
            if (i % 64 == 0) ::uv_run(&loop_, UV_RUN_NOWAIT); // a turn of the loop, as for asio_rearm
            ::uv_timer_again(&sessions_.visit(i));
        }
    }

    std::vector<double> turns()
    {
        deaths_ = 0;
        for (std::size_t i = 0; i != sessions_.size(); ++i)
            start(sessions_[i], 0);
        const double turn = thread_ns_of([this] { ::uv_run(&loop_, UV_RUN_NOWAIT); });
        if (deaths_ != sessions_.size()) throw std::logic_error("libuv: not all of them expired");
        return {turn};
    }

private:
    static void start(::uv_timer_t& timer, std::uint64_t milliseconds)
    {
        ::uv_timer_start(
            &timer,
            [](::uv_timer_t* expired) {
                ++static_cast<libuv_subject*>(expired->loop->data)->deaths_;
                ::uv_timer_stop(expired);
            },
            milliseconds, 3'600'000);
    }

    ::uv_loop_t loop_{};
    std::size_t deaths_ = 0;
    population<::uv_timer_t> sessions_;
};
#endif

/// A subject and what was measured of it.
template <class Subject>
struct measurement {
    void make(std::size_t size, double plain_bytes)
    {
        const std::size_t before = heap_bytes();
        subject.emplace(size);
        bytes = static_cast<double>(heap_bytes() - before) / static_cast<double>(size) - plain_bytes;
    }

    void round(std::size_t size)
    {
        subject->touch_all(); // brings it into the caches, as far as it fits
        const std::size_t passes = std::max<std::size_t>(Subject::touches_a_round / size, 1);
        const double total = thread_ns_of([&] {
            for (std::size_t i = 0; i != passes; ++i)
                subject->touch_all();
        });
        touch.push_back(total / static_cast<double>(passes * size));
        if constexpr (requires { subject->second_ns(); }) second.push_back(subject->second_ns());
    }

    std::optional<Subject> subject;
    double bytes = 0;
    std::vector<double> touch, second;
};

void run_case(benchmarks::results& results, const std::string& name, std::size_t size, int rounds)
{
    std::fprintf(stderr, "heartbeat: case %s, %d rounds\n", name.c_str(), rounds);
    double plain_bytes = 0;
    {
        const std::size_t before = heap_bytes();
        const population<no_heart> plain{size};
        plain_bytes = static_cast<double>(heap_bytes() - before) / static_cast<double>(size);
    }
    std::tuple<measurement<holdfast_subject>, measurement<relaxed_store_subject>, measurement<asio_rearm_subject>,
               measurement<asio_lazy_subject>, measurement<list_sweep_subject>, measurement<wheel_subject>
#if defined(HOLDFAST_BENCHMARKS_LIBUV)
               ,
               measurement<libuv_subject>
#endif
               >
        subjects;
    const auto for_each_subject = [&](auto f) { std::apply([&](auto&... each) { (f(each), ...); }, subjects); };
    for_each_subject([&](auto& each) { each.make(size, plain_bytes); });

    for (int i = 0; i != rounds; ++i)
        for_each_subject([&](auto& each) { each.round(size); });

    for_each_subject([&](const auto& each) {
        results.add(each.subject->name, name, "touch_ns", benchmarks::median(each.touch), "ns");
    });
    for_each_subject([&](const auto& each) {
        if (!each.second.empty())
            results.add(each.subject->name, name, "second_ns", benchmarks::median(each.second), "ns");
    });
    for_each_subject([&](auto& each) { // last, since it is the end of all
        if constexpr (requires { each.subject->turns(); }) {
            std::vector<double> shortest;
            for (int i = 0; i != std::min(rounds, 3); ++i) {
                auto turns = each.subject->turns();
                turns.resize(std::max(turns.size(), shortest.size()), std::numeric_limits<double>::max());
                for (std::size_t turn = 0; turn != shortest.size(); ++turn)
                    turns[turn] = std::min(turns[turn], shortest[turn]);
                shortest = std::move(turns);
            }
            results.add(each.subject->name, name, "longest_turn_ns",
                        *std::max_element(shortest.begin(), shortest.end()), "ns");
        }
    });
    for_each_subject([&](auto& each) {
        if constexpr (requires { each.subject->turns(); }) // not the bare store
            results.add(each.subject->name, name, "bytes_per_connection", each.bytes, "B");
    });
}

int run(int argc, char** argv)
{
    constexpr std::array<std::pair<const char*, std::size_t>, 3> cases{
        {{"10k", 10'000}, {"100k", 100'000}, {"1m", 1'000'000}}};
    benchmarks::results results{"heartbeat"};
    std::string only = "all";
    int rounds = 5;
    benchmarks::command_line cli{"heartbeat",
                                 "What a heartbeat costs, beside a bare store and a timer in each connection."};
    cli.add("case", only, "NAME", "10k, 100k, 1m (needs 2 GB of memory), or all");
    cli.add("rounds", rounds, "N", "rounds, of which the median counts");
    results.add_options(cli);
    if (!cli.parse(argc, argv)) return 0;
    if (rounds < 1) cli.fail("rounds", "must be at least 1");
    const auto is_chosen = [&](const auto& each) { return only == "all" || only == each.first; };
    if (std::none_of(cases.begin(), cases.end(), is_chosen))
        cli.fail("case", "takes 10k, 100k, 1m or all, not '" + only + "'");
    results.open();
    benchmarks::pin_measured();
#if !defined(HOLDFAST_BENCHMARKS_LIBUV)
    std::fprintf(stderr, "heartbeat: libuv is left out, since it was not installed when this was built\n");
#endif
    for (const auto& each : cases)
        if (is_chosen(each)) run_case(results, each.first, each.second, rounds);
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
