// holdfast: runs the conformance matrix of one operation: every token, executor and end.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "support/listener.hpp"

#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
// ThreadSanitizer does not see libstdc++.so count the owners of an exception, and takes its release for a race.
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libstdc++.so.6"; }
#endif
#endif

namespace {

/// use_future runs the steps of an operation on threads of Asio's own, which must not outlive what they have used: OpenSSL
/// frees what it keeps for a thread where that ends, unless OpenSSL itself has been cleaned up before.
class system_threads : public tests::listener_base {
public:
    using tests::listener_base::listener_base;

    void testRunEnded(const Catch::TestRunStats&) override
    {
        conformance::net::system_context& threads =
            conformance::net::query(conformance::net::system_executor(), conformance::net::execution::context);
        threads.stop();
        threads.join();
    }
};

} // namespace

CATCH_REGISTER_LISTENER(system_threads)

namespace conformance {
namespace {

/// Which executors the object and the handler have.
enum class place {
    io_context,
    concrete,       // the same, with the executor's own type
    strand,         // of a pool of three threads
    pool,           // the object on the pool itself, the handler on a strand
    second_context, // the handler's
};
constexpr place all_places[]{place::io_context, place::concrete, place::strand, place::pool, place::second_context};

/// How the operation ends.
enum class end {
    completes,
    completes_at_once,
    cancelled_before,
    cancelled,
    cancelled_in_a_race,
    cancelled_between_steps,          // and nothing else would end it
    cancelled_between_its_last_steps, // after `complete()`
    object_destroyed,
    context_destroyed,
    context_destroyed_after_object,
    object_destroyed_by_handler,
};
constexpr end all_ends[]{end::completes,
                         end::completes_at_once,
                         end::cancelled_before,
                         end::cancelled,
                         end::cancelled_in_a_race,
                         end::cancelled_between_steps,
                         end::cancelled_between_its_last_steps,
                         end::object_destroyed,
                         end::context_destroyed,
                         end::context_destroyed_after_object,
                         end::object_destroyed_by_handler};

const char* text(token t)
{
    constexpr const char* names[]{
        "callback", "move-only callback", "rvalue-only callback", "use_future", "use_awaitable", "deferred", "as_tuple",
        "||",       "a user's adaptor",   "cancel_after"};
    return names[static_cast<int>(t)];
}

const char* text(place p)
{
    constexpr const char* names[]{"io_context", "io_context::executor_type", "strand", "thread pool", "second context"};
    return names[static_cast<int>(p)];
}

const char* text(end e)
{
    constexpr const char* names[]{"completes",
                                  "completes at once",
                                  "is cancelled before it is started",
                                  "is cancelled",
                                  "is cancelled while it completes",
                                  "is cancelled between two steps",
                                  "is cancelled between its last steps",
                                  "its object is destroyed",
                                  "its context is destroyed",
                                  "its object is destroyed, then its context",
                                  "its handler destroys the object"};
    return names[static_cast<int>(e)];
}

constexpr bool is_coroutine(token t)
{
    return t == token::awaitable || t == token::as_tuple || t == token::alternative;
}

/// The execution contexts of one run.
class world {
public:
    explicit world(place p) : place_(p)
    {
        if (threaded()) {
            pool_.emplace(3);
            strand_.emplace(net::make_strand(pool_->get_executor()));
            handler = *strand_;
            own = p == place::pool ? net::any_io_executor(pool_->get_executor()) : handler;
        } else {
            io_.emplace();
            other_.emplace();
            own = io_->get_executor();
            handler = p == place::second_context ? other_->get_executor() : io_->get_executor();
        }
    }
    world(const world&) = delete;
    ~world() { destroy(); }

    [[nodiscard]] bool threaded() const noexcept { return place_ == place::strand || place_ == place::pool; }

    [[nodiscard]] const net::io_context::executor_type concrete() { return io_->get_executor(); }

    /// Whether the calling function runs on the object's executor, and on the handler's.
    std::function<bool()> at_home(bool of_handler)
    {
        if (place_ == place::pool && !of_handler)
            return [this] { return pool_->get_executor().running_in_this_thread(); };
        if (threaded()) return [this] { return strand_->running_in_this_thread(); };
        auto& context = place_ == place::second_context && of_handler ? *other_ : *io_;
        return [&context] { return context.get_executor().running_in_this_thread(); };
    }

    /// Lets the contexts run until `done()`; false after 20 seconds.
    bool wait(const std::function<bool()>& done)
    {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!done()) {
            turn();
            if (done()) return true; // mostly: without a yield, which on a busy machine costs milliseconds
            if (std::chrono::steady_clock::now() > deadline) return false;
            std::this_thread::yield();
        }
        return true;
    }

    /// Calls a function on an executor, and returns when it has returned.
    void run_on(const net::any_io_executor& executor, const std::function<void()>& function)
    {
        const auto done = std::make_shared<std::promise<void>>();
        const auto returned = done->get_future();
        net::post(executor, [&function, done] {
            function();
            done->set_value();
        });
        const auto within = [&](std::chrono::seconds time) {
            return returned.wait_for(time) == std::future_status::ready;
        };
        if (threaded() ? !within(std::chrono::seconds(20)) : !wait([&] { return within(std::chrono::seconds(0)); }))
            throw std::runtime_error("an executor does not run");
    }

    /// Calls a function on the object's context, and runs nothing that becomes ready by it, nor the handler's context.
    void run_alone(const std::function<void()>& function)
    {
        bool done = false;
        net::post(own, [&] {
            function();
            done = true;
        });
        while (!done)
            run_one();
    }

    /// Runs one function of the object's context; false if none is ready.
    bool run_one()
    {
        io_->restart();
        return io_->poll_one() != 0;
    }

    /// Lets all run that is ready.
    void settle()
    {
        for (int i = 0; i != 3; ++i) {
            run_on(own, [] {});
            run_on(handler, [] {});
        }
    }

    void destroy()
    {
        if (pool_) {
            pool_->stop();
            pool_->join();
        }
        handler = {};
        own = {};
        strand_.reset();
        pool_.reset();
        io_.reset();
        other_.reset();
    }

    net::any_io_executor own;
    net::any_io_executor handler;

private:
    void turn()
    {
        if (threaded()) return;
        for (auto* context : {&*io_, &*other_}) {
            context->poll();
            context->restart();
        }
    }

    const place place_;
    std::optional<net::io_context> io_, other_;
    std::optional<net::thread_pool> pool_;
    std::optional<net::strand<net::thread_pool::executor_type>> strand_;
};

/// One operation from its start to its end.
class scene {
public:
    scene(const described& operation, token t, place p) : operation_(operation), token_(t), place_(p), world_(p)
    {
        world_.run_on(world_.own, [&] {
            subject_ = p == place::concrete ? operation.make_concrete(world_.concrete()) : operation.make(world_.own);
        });
        world_.settle(); // it may have begun something
        REQUIRE(world_.wait([&] {
            bool ready = false;
            world_.run_on(world_.own, [&] { ready = subject_->ready(); });
            return ready;
        }));
    }

    void start() { start(notes_); }

    void run(end e, bool other_way)
    {
        switch (e) {
        case end::completes:
            start();
            world_.settle();
            CHECK(count() == 0);
            check_allocator();
            complete();
            expect_end(true);
            break;
        case end::completes_at_once:
            complete();
            start();
            expect_end(true);
            break;
        case end::cancelled_before:
            cancel();
            start();
            complete();
            expect_end(true);
            break;
        case end::cancelled:
            start();
            world_.settle();
            cancel();
            expect_end(false);
            break;
        case end::cancelled_in_a_race:
            start();
            race(other_way);
            REQUIRE(world_.wait([&] { return count() != 0; }));
            break;
        case end::cancelled_between_steps:
        case end::cancelled_between_its_last_steps:
            break; // cancel_after()
        case end::object_destroyed:
            start();
            if (operation_.several) start(second_);
            world_.settle();
            world_.run_on(world_.own, [&] { subject_.reset(); });
            expect_end(!operation_.fails_without_object);
            if (operation_.several) REQUIRE(world_.wait([&] { return count(*second_) != 0; }));
            break;
        case end::context_destroyed:
            start();
            world_.settle();
            world_.destroy();
            subject_.reset();
            CHECK(count() == 0);
            break;
        case end::context_destroyed_after_object:
            start();
            world_.settle();
            if (world_.threaded())
                world_.run_on(world_.own, [&] { subject_.reset(); });
            else
                subject_.reset();
            world_.destroy();
            if (!world_threaded()) CHECK(count() == 0);
            break;
        case end::object_destroyed_by_handler:
            notes_->on_completion = [this] {
                const std::lock_guard lock(use_); // no thread is inside its members
                subject_.reset();
            };
            start();
            if (operation_.several) start(second_);
            complete();
            expect_end(true);
            if (operation_.several) REQUIRE(world_.wait([&] { return count(*second_) != 0; }));
            break;
        }
        finish();
    }

    /// Cancels it when the object's context has run this many functions, and the handler's, where it is another, none. An
    /// operation whose next step is queued then must not lose the cancellation. False if no more were ready.
    bool cancel_after(int steps, end e)
    {
        const bool last = e == end::cancelled_between_its_last_steps;
        if (is_coroutine(token_)) { // it initiates the operation on the handler's context
            start();
        } else {
            notes_->at_home = world_.at_home(token_ != token::callback);
            world_.run_alone([&] { subject_->start(token_, launched(notes_)); });
        }
        world_.run_alone([&] { last ? subject_->complete() : subject_->step(); });
        bool more = true;
        for (int i = 0; i != steps && more; ++i)
            more = world_.run_one();
        if (!last) CHECK(count() == 0);
        stop_.emit(net::cancellation_type::terminal);
        REQUIRE(world_.wait([&] { return count() != 0; }));
        if (!last) CHECK(notes_->result);
        finish();
        return more;
    }

private:
    std::recursive_mutex use_; // of the subject, where another thread may destroy it

    bool world_threaded() const { return place_ == place::strand || place_ == place::pool; }

    void start(const std::shared_ptr<record>& notes)
    {
        notes->at_home = world_.at_home(token_ != token::callback);
        world_.run_on(world_.own, [&] { subject_->start(token_, launched(notes)); });
        world_.run_on(world_.handler, [] {}); // a coroutine has initiated it now
    }

    launch launched(const std::shared_ptr<record>& notes)
    {
        return {notes, world_.own, world_.handler, notes == notes_ ? stop_.slot() : net::cancellation_slot()};
    }

    void complete()
    {
        world_.run_on(world_.own, [&] {
            const std::lock_guard lock(use_);
            if (subject_) subject_->complete();
        });
    }

    void cancel()
    {
        world_.run_on(world_.handler, [&] { stop_.emit(net::cancellation_type::terminal); });
    }

    void race(bool other_way)
    {
        if (place_ == place::pool) { // two threads
            net::post(world_.handler, [&] { stop_.emit(net::cancellation_type::terminal); });
            subject_->complete();
            world_.run_on(world_.handler, [] {});
        } else {
            world_.run_on(world_.own, [&] {
                if (other_way) stop_.emit(net::cancellation_type::terminal);
                subject_->complete();
                if (!other_way) stop_.emit(net::cancellation_type::terminal);
            });
        }
    }

    static int count(record& notes)
    {
        if (notes.completed == 0 && notes.poll_future)
            if (const auto result = notes.poll_future()) {
                notes.result = *result;
                ++notes.completed;
            }
        return notes.completed;
    }
    int count() { return count(*notes_); }

    void check_allocator()
    {
        if (token_ == token::rvalue_only && operation_.uses_handler_allocator) CHECK(notes_->allocated != 0);
    }

    void expect_end(bool success)
    {
        REQUIRE(world_.wait([&] { return count() != 0; }));
        INFO("result: " << notes_->result.message());
        CHECK(!notes_->result == success);
    }

    void finish()
    {
        if (world_.own) {
            world_.settle();
            if (subject_) world_.run_on(world_.own, [&] { subject_.reset(); });
            world_.settle();
            world_.destroy();
        }
        for (record* notes : {notes_.get(), second_.get()}) {
            CHECK(notes->completed <= 1);
            CHECK_FALSE(notes->inside_initiation);
            CHECK_FALSE(notes->elsewhere);
            CHECK_FALSE(notes->kept_memory);
            CHECK_FALSE(notes->wrong_executor);
            CHECK(notes->outstanding == 0);
        }
        CHECK(notes_.use_count() == 1); // the handler was destroyed
        CHECK(second_.use_count() == 1);
    }

    const described& operation_;
    const token token_;
    const place place_;
    std::shared_ptr<record> notes_ = std::make_shared<record>();
    std::shared_ptr<record> second_ = std::make_shared<record>();
    net::cancellation_signal stop_;
    world world_;
    std::unique_ptr<subject> subject_;
};

bool applies(const described& operation, token t, place p, end e)
{
    if (!operation.has(t) || !has_token(operation.compiled, t, p == place::concrete)) return false;
    if (p == place::concrete && operation.make_concrete == nullptr) return false;
    if (p == place::pool && !operation.any_thread) return false;
    if (p == place::second_context && t == token::callback) return false; // it has no executor
    if (t == token::future && operation.unsynchronized) return false;
    if (t == token::future && p == place::strand && !operation.any_thread) return false; // it leaves the strand
    switch (e) {
    case end::completes:
        return true;
    case end::completes_at_once:
        return operation.completes_at_once;
    case end::cancelled_before: // a coroutine that was cancelled does not start it
        return operation.completes_at_once && !is_coroutine(t) && t != token::future;
    case end::cancelled:
    case end::cancelled_in_a_race:
        // Without an executor of its own, a handler's slot has no thread that it belongs to on a pool.
        return operation.cancellable && t != token::future && !(p == place::pool && t == token::callback);
    case end::cancelled_between_steps:
    case end::cancelled_between_its_last_steps: // the other tokens have the handlers of these
        return operation.cancellable && p != place::strand && p != place::pool &&
               (t == token::callback || t == token::move_only || t == token::awaitable ||
                (compiled_extent == extent::whole && t != token::future));
    case end::object_destroyed:
        return operation.object_may_go && t != token::alternative; // which waits on after a failure
    case end::object_destroyed_by_handler:
        return operation.object_may_go && t != token::alternative && t != token::future;
    case end::context_destroyed:
        return operation.outlives_context && (p != place::strand || operation.outlives_strand);
    case end::context_destroyed_after_object:
        return operation.object_may_go;
    }
    return false;
}

} // namespace

void spawn(const launch& how, net::awaitable<void> coroutine)
{
    net::co_spawn(how.handler, std::move(coroutine), net::bind_cancellation_slot(how.slot, net::detached));
}

net::awaitable<void> note_end(net::awaitable<void> operation, std::shared_ptr<record> notes)
{
    error_code result;
    try {
        co_await std::move(operation);
    } catch (...) {
        result = code_of(std::current_exception());
    }
    notes->complete(result);
}

net::awaitable<void> note_end_of_alternative(net::awaitable<void> operation, launch how)
{
    using namespace net::experimental::awaitable_operators;
    error_code result;
    net::steady_timer never(how.handler, std::chrono::steady_clock::time_point::max());
    try {
        const auto first = co_await (std::move(operation) || never.async_wait(net::use_awaitable));
        if (first.index() != 0) result = net::error::timed_out;
    } catch (...) {
        result = code_of(std::current_exception());
    }
    how.notes->complete(result);
}

void run_matrix(const described& operation)
{
    const char* const only = std::getenv("HOLDFAST_CONFORMANCE_ONLY"); // "token/place/end", to look at one
    const char* const rounds_of_races = std::getenv("HOLDFAST_CONFORMANCE_ROUNDS");
    const int races = rounds_of_races != nullptr         ? std::atoi(rounds_of_races)
                      : compiled_extent == extent::whole ? 200
                                                         : 2;
    for (const token t : all_tokens) {
        for (const place p : all_places) {
            for (const end e : all_ends) {
                if (!applies(operation, t, p, e)) continue;
                const std::string name = std::string(text(t)) + "/" + text(p) + "/" + text(e);
                if (only != nullptr && name.find(only) == std::string::npos) continue;
                INFO(operation.name << ": " << name);
                if (e == end::cancelled_between_steps || e == end::cancelled_between_its_last_steps) {
                    bool more = true;
                    for (int steps = 0; more && steps != 100; ++steps) {
                        INFO("after " << steps);
                        more = scene(operation, t, p).cancel_after(steps, e);
                    }
                    continue;
                }
                const int rounds = e == end::cancelled_in_a_race ? races : 1;
                for (int round = 0; round != rounds; ++round)
                    if (scene s(operation, t, p); true) s.run(e, round % 2 != 0);
            }
        }
    }
}

} // namespace conformance
