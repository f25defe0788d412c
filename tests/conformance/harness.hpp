// holdfast: the conformance matrix: what every asynchronous operation has to hold, written once.
// SPDX-License-Identifier: BSL-1.0
//
// Each operation is run with every completion token, on every executor, to every end. Checked are: it completes
// exactly once, never inside the initiating function, on the handler's executor; its memory comes from the
// handler's allocator and is returned before the handler is called; its initiation names an executor; nothing
// is left when it was destroyed uncalled.
//
// An operation joins by a small struct and one line:
//
//     struct acquire : conformance::operation {
//         template <class Executor>
//         struct object {                                    // in a state in which the operation stays pending
//             explicit object(const Executor& executor);
//             template <class Token>
//             auto start(Token&& token);                     // initiates it, once or several times
//             void complete();                               // has all pending ones complete without an error
//             bool ready();                                  // optional: whether that state is reached
//             void step();                                   // optional: has a pending one take a step of several
//         };
//     };
//     HOLDFAST_CONFORMANCE(acquire);
//
// What an operation does not promise it says by redefining a constant of `conformance::operation`. One of a
// stream takes a layer of `layers.hpp` as the struct's template argument, and is run over each:
//
//     HOLDFAST_CONFORMANCE_OF_STREAMS(next);
//
// In CMakeLists.txt, `holdfast_conformance(NAME [LIBRARY...])` makes the program of NAME.cpp. How much of the matrix
// it has says CMake's HOLDFAST_CONFORMANCE, since a compiler takes long for each type of handler, executor and layer:
//
//     few      three types of handlers, one executor, TCP
//     sample   every token; over TCP with both types of executors, over other layers what `few` has
//     whole    everything, and many rounds of each race; of a stream's operations, a program for each and each layer
//
// `tests/run matrix` runs the whole of it. HOLDFAST_CONFORMANCE_ONLY in the environment, such as
// "use_future/strand/is cancelled", runs what has it in its name; HOLDFAST_CONFORMANCE_ROUNDS is the number of rounds of
// each race (2, of the whole matrix 200).
#ifndef HOLDFAST_TESTS_CONFORMANCE_HARNESS_HPP
#define HOLDFAST_TESTS_CONFORMANCE_HARNESS_HPP

#include "support/catch.hpp"

#include <holdfast/asio.hpp>

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/experimental/awaitable_operators.hpp>
#define HOLDFAST_CONFORMANCE_ASIO_VERSION BOOST_ASIO_VERSION
#else
#include <asio/experimental/awaitable_operators.hpp>
#define HOLDFAST_CONFORMANCE_ASIO_VERSION ASIO_VERSION
#endif
#if HOLDFAST_CONFORMANCE_ASIO_VERSION < 102400 // later they are no experiment
#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/experimental/deferred.hpp>
#else
#include <asio/experimental/as_tuple.hpp>
#include <asio/experimental/deferred.hpp>
#endif
#endif

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace conformance {

namespace net = holdfast::net;
using holdfast::error_code;

/// What an operation promises; redefine what it does not.
struct operation {
    /// Whether the object may be used by several threads at once; else it belongs to a thread or strand.
    static constexpr bool any_thread = false;
    /// Whether a step of the operation's own uses what belongs to the object's thread: use_future's handler, and with it
    /// that step, runs on a thread of the system context's, or on whichever completes the operation.
    static constexpr bool unsynchronized = false;
    /// Whether the object takes every executor type; else only `any_io_executor`.
    static constexpr bool any_executor = false;
    /// Whether a pending operation ends with an error when it is cancelled.
    static constexpr bool cancellable = true;
    /// Whether the object may be destroyed with an operation pending, which then completes with an error.
    static constexpr bool object_may_go = true;
    /// Whether that error is one, not the operation's ordinary end.
    static constexpr bool fails_without_object = true;
    /// Whether the object may be destroyed after its execution context.
    static constexpr bool outlives_context = true;
    /// The same where its executor is a strand, which must not outlive its context.
    static constexpr bool outlives_strand = false;
    /// Whether `complete()` may come before the operation is started, which then completes at once.
    static constexpr bool completes_at_once = true;
    /// Whether several may be pending at a time, and end together when their object goes.
    static constexpr bool several = true;
    /// Whether the memory of a pending operation comes from the handler's allocator.
    static constexpr bool uses_handler_allocator = true;
    /// Whether handlers may be callable as rvalues only.
    static constexpr bool rvalue_handlers = true;
    /// Whether its initiation names the object's executor.
    static constexpr bool names_executor = true;
    /// Whether it runs on the handler's executor alone, which the handler must have then.
    static constexpr bool on_handler_executor = false;
    /// Whether its result can be an alternative of `||`: the operation ends without an exception.
    static constexpr bool in_alternatives = true;
};

/// How an operation is waited for.
enum class token {
    callback,    // a function object without an executor of its own
    move_only,   // with an executor
    rvalue_only, // callable once, with an executor and an allocator
    future,
    awaitable,
    deferred,
    as_tuple,
    alternative, // co_await (operation || another)
    adaptor,     // a user's, which reads the initiation's executor
    cancel_after,
};
inline constexpr token all_tokens[]{token::callback,  token::move_only,   token::rvalue_only, token::future,
                                    token::awaitable, token::deferred,    token::as_tuple,    token::alternative,
                                    token::adaptor,   token::cancel_after};

/// How much of the matrix is compiled: HOLDFAST_CONFORMANCE of CMake.
enum class extent { none, few, sample, whole };
#if !defined(CONFORMANCE_EXTENT)
#define CONFORMANCE_EXTENT sample
#endif
inline constexpr extent compiled_extent = extent::CONFORMANCE_EXTENT;

/// Whether a program of this extent has the token, with any_io_executor or with the executor's `concrete` type. Those of
/// `few` have three types of handlers between them.
constexpr bool has_token(extent of_program, token t, bool concrete) noexcept
{
    switch (of_program) {
    case extent::none:
        return false;
    case extent::few:
        return !concrete && (t == token::callback || t == token::move_only || t == token::awaitable ||
                             t == token::deferred || t == token::alternative || t == token::adaptor);
    case extent::sample:
        return !concrete || t == token::rvalue_only || t == token::awaitable || t == token::alternative;
    case extent::whole:
        return true;
    }
    return false;
}

#define HOLDFAST_CONFORMANCE_TEXT_OF(...) #__VA_ARGS__
#define HOLDFAST_CONFORMANCE_TEXT(...) HOLDFAST_CONFORMANCE_TEXT_OF(__VA_ARGS__)

/// Whether this program has the operation over the layer; "none" is that of what is no stream's.
consteval bool is_chosen([[maybe_unused]] std::string_view operation, [[maybe_unused]] std::string_view layer)
{
#if defined(CONFORMANCE_LAYER)
    if (layer != HOLDFAST_CONFORMANCE_TEXT(CONFORMANCE_LAYER)) return false;
#endif
#if defined(CONFORMANCE_OPERATION)
    if (operation != HOLDFAST_CONFORMANCE_TEXT(CONFORMANCE_OPERATION)) return false;
#endif
    return true;
}

/// What has become of an operation.
struct record {
    std::atomic<int> completed = 0;
    std::atomic<bool> inside_initiation = false;
    std::atomic<bool> elsewhere = false;      // not on the handler's executor
    std::atomic<bool> kept_memory = false;    // while the handler was called
    std::atomic<bool> wrong_executor = false; // named by the initiation
    std::atomic<std::size_t> allocated = 0;   // from the handler's allocator
    std::atomic<std::ptrdiff_t> outstanding = 0;
    error_code result;
    std::function<bool()> at_home;                          // on the handler's executor?
    std::function<void()> on_completion = [] {};            // inside the handler
    std::function<std::optional<error_code>()> poll_future; // where it is one

    void complete(const error_code& ec)
    {
        if (!at_home()) elsewhere = true;
        on_completion();
        result = ec;
        ++completed;
    }
};

/// How an operation is to be started.
struct launch {
    std::shared_ptr<record> notes;
    net::any_io_executor own;     // the object's
    net::any_io_executor handler; // the handler's, where it has one; coroutines run there
    net::cancellation_slot slot{};
};

/// Set while this thread is inside an initiating function that calls no coroutine.
inline thread_local bool initiating = false;

inline error_code code_of(const std::exception_ptr& failure)
{
    if (!failure) return {};
    try {
        std::rethrow_exception(failure);
    } catch (const holdfast::system_error& e) {
        return e.code();
    } catch (...) {
        return holdfast::errc::source_failed; // any will do
    }
}

inline error_code result_of() { return {}; }
template <class... Rest>
error_code result_of(const error_code& ec, const Rest&...)
{
    return ec;
}
template <class... Rest>
error_code result_of(const std::exception_ptr& failure, const Rest&...)
{
    return code_of(failure);
}

/// A handler without an executor.
class callback {
public:
    using cancellation_slot_type = net::cancellation_slot;

    explicit callback(const launch& how) : notes_(how.notes), slot_(how.slot) {}

    cancellation_slot_type get_cancellation_slot() const noexcept { return slot_; }

    template <class... Results>
    void operator()(Results&&... results)
    {
        if (initiating) notes_->inside_initiation = true;
        notes_->complete(result_of(results...));
    }

protected:
    std::shared_ptr<record> notes_;

private:
    net::cancellation_slot slot_;
};

/// A handler with an executor, which cannot be copied.
class move_only_callback : public callback {
public:
    using executor_type = net::any_io_executor;

    explicit move_only_callback(const launch& how) : callback(how), executor_(how.handler) {}
    move_only_callback(move_only_callback&&) = default;

    executor_type get_executor() const noexcept { return executor_; }

private:
    executor_type executor_;
};

/// Counts in a record.
template <class T>
struct noting_allocator {
    using value_type = T;

    explicit noting_allocator(record& to) noexcept : notes(&to) {}
    template <class U>
    noting_allocator(const noting_allocator<U>& other) noexcept : notes(other.notes)
    {
    }

    T* allocate(std::size_t n)
    {
        ++notes->allocated;
        ++notes->outstanding;
        return static_cast<T*>(::operator new(n * sizeof(T)));
    }
    void deallocate(T* memory, std::size_t) noexcept
    {
        --notes->outstanding;
        ::operator delete(memory);
    }

    template <class U>
    bool operator==(const noting_allocator<U>& other) const noexcept
    {
        return notes == other.notes;
    }

    record* notes;
};

/// A handler that can only be called as an rvalue, with an executor and an allocator.
class rvalue_callback : private move_only_callback {
public:
    using executor_type = net::any_io_executor;
    using allocator_type = noting_allocator<std::byte>;
    using cancellation_slot_type = net::cancellation_slot;

    using move_only_callback::get_cancellation_slot;
    using move_only_callback::get_executor;
    using move_only_callback::move_only_callback;

    allocator_type get_allocator() const noexcept { return allocator_type(*notes_); }

    template <class... Results>
    void operator()(Results&&... results) &&
    {
        if (notes_->outstanding != 0) notes_->kept_memory = true;
        move_only_callback::operator()(std::forward<Results>(results)...);
    }
};

/// A user's adaptor: it reads the executor that the initiation names, as `cancel_after` does, to keep its
/// context busy for as long as the operation is pending.
template <class Token>
struct reads_executor {
    const launch* how;
    Token token;
};

template <class Initiation>
class reading_initiation {
public:
    reading_initiation(Initiation initiation, const launch& how)
        : initiation_(std::move(initiation)), own_(how.own), notes_(how.notes)
    {
    }

    template <class Handler, class... Args>
    void operator()(Handler&& handler, Args&&... args) &&
    {
        if constexpr (requires { typename Initiation::executor_type; }) {
            if (net::any_io_executor(initiation_.get_executor()) != own_) notes_->wrong_executor = true;
        } else { // Asio's constraints come here with an initiation of their own, but never call it
            notes_->wrong_executor = true;
        }
        std::move(initiation_)(std::forward<Handler>(handler), std::forward<Args>(args)...);
    }

private:
    Initiation initiation_;
    net::any_io_executor own_;
    std::shared_ptr<record> notes_;
};

} // namespace conformance

template <class Token, class Signature>
struct holdfast::net::async_result<conformance::reads_executor<Token>, Signature> {
    template <class Initiation, class RawToken, class... Args>
    static auto initiate(Initiation&& initiation, RawToken&& token, Args&&... args)
    {
        return holdfast::net::async_initiate<Token, Signature>(
            conformance::reading_initiation<std::decay_t<Initiation>>(std::forward<Initiation>(initiation), *token.how),
            token.token, std::forward<Args>(args)...);
    }
};

namespace conformance {

#if HOLDFAST_CONFORMANCE_ASIO_VERSION >= 102400
inline constexpr auto deferred = net::deferred;
inline constexpr auto tuple_of_use_awaitable = net::as_tuple(net::use_awaitable);
#else
inline constexpr auto deferred = net::experimental::deferred;
inline constexpr auto tuple_of_use_awaitable =
    net::experimental::as_tuple_t<net::use_awaitable_t<>>(net::use_awaitable);
#endif

/// Run coroutines on the handler's executor, cancelled through its slot.
void spawn(const launch& how, net::awaitable<void> coroutine);
net::awaitable<void> note_end(net::awaitable<void> operation, std::shared_ptr<record> notes);
net::awaitable<void> note_end_of_alternative(net::awaitable<void> operation, launch how);

/// An object of a test, whatever its type.
class subject {
public:
    virtual ~subject() = default;
    virtual void start(token how_waited_for, const launch& how) = 0;
    virtual void complete() = 0;
    virtual void step() = 0;
    virtual bool ready() = 0;
};

template <class Operation, class Executor, extent Extent>
class typed_subject final : public subject {
    using object_type = typename Operation::template object<Executor>;

    static constexpr bool compiles(token t)
    {
        if (Operation::on_handler_executor && (t == token::callback || t == token::future)) return false;
        return has_token(Extent, t, !std::is_same_v<Executor, net::any_io_executor>);
    }

public:
    explicit typed_subject(const Executor& executor) : object_(executor) {}

    void complete() override { object_.complete(); }

    void step() override
    {
        if constexpr (requires { object_.step(); }) object_.step();
    }

    bool ready() override
    {
        if constexpr (requires { object_.ready(); }) return object_.ready();
        return true;
    }

    void start(token how_waited_for, const launch& how) override
    {
        switch (how_waited_for) {
        case token::callback:
            if constexpr (compiles(token::callback)) now([&] { object_.start(callback(how)); });
            break;
        case token::move_only:
            now([&] { object_.start(move_only_callback(how)); });
            break;
        case token::rvalue_only:
            if constexpr (compiles(token::rvalue_only) && Operation::rvalue_handlers)
                now([&] { object_.start(rvalue_callback(how)); });
            break;
        case token::future:
            if constexpr (compiles(token::future)) start_future(how);
            break;
        case token::awaitable:
            spawn(how, note_end(await(object_), how.notes));
            break;
        case token::deferred:
            now([&] { object_.start(deferred)(move_only_callback(how)); });
            break;
        case token::as_tuple:
            if constexpr (compiles(token::as_tuple)) spawn(how, await_tuple(object_, how.notes));
            break;
        case token::alternative:
            if constexpr (Operation::in_alternatives) {
                if constexpr (Extent == extent::whole)
                    spawn(how, await_alternative(object_, how));
                else
                    spawn(how, note_end_of_alternative(await(object_), how));
            }
            break;
        case token::adaptor:
            if constexpr (Operation::names_executor)
                now([&] { object_.start(reads_executor<move_only_callback>{&how, move_only_callback(how)}); });
            break;
        case token::cancel_after:
#if HOLDFAST_CONFORMANCE_ASIO_VERSION >= 103100
            if constexpr (compiles(token::cancel_after) && Operation::names_executor)
                now([&] { object_.start(net::cancel_after(std::chrono::hours(1), move_only_callback(how))); });
#endif
            break;
        }
    }

private:
    template <class Start>
    void now(Start start)
    {
        initiating = true;
        start();
        initiating = false;
    }

    void start_future(const launch& how)
    {
        auto result = std::make_shared<decltype(object_.start(net::use_future))>();
        now([&] { *result = object_.start(net::use_future); });
        how.notes->poll_future = [result]() -> std::optional<error_code> {
            if (result->wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {};
            try {
                (void)result->get();
            } catch (const std::future_error&) {
                return {}; // destroyed uncalled
            } catch (...) {
                return code_of(std::current_exception());
            }
            return error_code();
        };
    }

    static net::awaitable<void> await(object_type& object) { (void)co_await object.start(net::use_awaitable); }

    static net::awaitable<void> await_tuple(object_type& object, std::shared_ptr<record> notes)
    {
        const auto results = co_await object.start(tuple_of_use_awaitable);
        notes->complete(std::apply([](const auto&... each) { return result_of(each...); }, results));
    }

    /// Of the operation's own type of result.
    static net::awaitable<void> await_alternative(object_type& object, launch how)
    {
        using namespace net::experimental::awaitable_operators;
        error_code result;
        net::steady_timer never(how.handler, std::chrono::steady_clock::time_point::max());
        try {
            const auto first = co_await (object.start(net::use_awaitable) || never.async_wait(net::use_awaitable));
            if (first.index() != 0) result = net::error::timed_out;
        } catch (...) {
            result = code_of(std::current_exception());
        }
        how.notes->complete(result);
    }

    object_type object_;
};

/// An operation as the runner of the matrix sees it.
struct described {
    std::string_view name;
    bool any_thread, unsynchronized, cancellable, object_may_go, fails_without_object, outlives_context,
        outlives_strand, completes_at_once, several, uses_handler_allocator;
    extent compiled;
    bool (*has)(token) noexcept;
    std::unique_ptr<subject> (*make)(const net::any_io_executor&);
    std::unique_ptr<subject> (*make_concrete)(const net::io_context::executor_type&); // or nullptr
};

template <class Operation, extent Extent, class Executor>
std::unique_ptr<subject> make_subject(const Executor& executor)
{
    return std::make_unique<typed_subject<Operation, Executor, Extent>>(executor);
}

/// Whether the operation is waited for in this way; `cancel_after` came with Asio 1.31.
template <class Operation>
bool has(token t) noexcept
{
    switch (t) {
    case token::callback:
    case token::future:
        return !Operation::on_handler_executor;
    case token::rvalue_only:
        return Operation::rvalue_handlers;
    case token::alternative:
        return Operation::in_alternatives;
    case token::adaptor:
        return Operation::names_executor;
    case token::cancel_after:
        return Operation::names_executor && HOLDFAST_CONFORMANCE_ASIO_VERSION >= 103100;
    default:
        return true;
    }
}

template <class Operation, extent Extent>
described describe(std::string_view name)
{
    described d{name,
                Operation::any_thread,
                Operation::unsynchronized,
                Operation::cancellable,
                Operation::object_may_go,
                Operation::fails_without_object,
                Operation::outlives_context,
                Operation::outlives_strand,
                Operation::completes_at_once,
                Operation::several,
                Operation::uses_handler_allocator,
                Extent,
                &has<Operation>,
                &make_subject<Operation, Extent, net::any_io_executor>,
                nullptr};
    if constexpr (Operation::any_executor && Extent != extent::few)
        d.make_concrete = &make_subject<Operation, Extent, net::io_context::executor_type>;
    return d;
}

/// Runs every combination once, and where the whole matrix is compiled many rounds of those that race.
void run_matrix(const described& operation);

/// A test case, in a program that has the operation.
template <class Operation, extent Extent>
class joined {
public:
    template <class... Parts>
    explicit joined([[maybe_unused]] Parts... name)
    {
        if constexpr (Extent != extent::none) {
            std::string of_case = "conformance: ";
            (name_.append(name), ...);
            REGISTER_TEST_CASE(&run, of_case.append(name_));
        }
    }

private:
    static void run() { run_matrix(describe<Operation, Extent>(name_)); }

    static inline std::string name_;
};

} // namespace conformance

#define HOLDFAST_CONFORMANCE_NAME_OF(line) joins_in_##line
#define HOLDFAST_CONFORMANCE_NAME(line) HOLDFAST_CONFORMANCE_NAME_OF(line)

/// Joins the matrix; the arguments are the name of one of the structs above.
#define HOLDFAST_CONFORMANCE(...)                                                                                      \
    static const conformance::joined<__VA_ARGS__, conformance::is_chosen(#__VA_ARGS__, "none")                         \
                                                      ? conformance::compiled_extent                                   \
                                                      : conformance::extent::none>                                     \
    HOLDFAST_CONFORMANCE_NAME(__LINE__)(#__VA_ARGS__)

#endif
