// holdfast: the steps of tls_stream's asynchronous operations.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_TLS_OPERATION_HPP
#define HOLDFAST_ADAPTERS_DETAIL_TLS_OPERATION_HPP

#include <holdfast/adapters/detail/tls_engine.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/detail/async/at_once.hpp>
#include <holdfast/detail/async/counted_ptr.hpp>
#include <holdfast/detail/async/plain_allocator.hpp>

#include <array>
#include <cstddef>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

struct tls_handshake_work {
    static constexpr bool counts_bytes = false;
    bool as_server;
    error_code refusal{}; // set where it cannot begin

    template <class Core>
    tls_step operator()(Core& core) noexcept
    {
        return core.handshake();
    }
};

struct tls_shutdown_work {
    static constexpr bool counts_bytes = false;
    error_code refusal{};

    template <class Core>
    tls_step operator()(Core& core) noexcept
    {
        return core.engine.shutdown(core.descriptor());
    }
};

struct tls_read_work {
    static constexpr bool counts_bytes = true;
    std::span<char> to;
    error_code refusal{};

    template <class Core>
    tls_step operator()(Core& core) noexcept
    {
        if (to.empty()) return {};
        return core.engine.read(core.descriptor(), to);
    }
};

struct tls_write_work {
    static constexpr bool counts_bytes = true;
    static constexpr std::size_t most_parts = 16;
    std::array<std::span<const char>, most_parts> parts{};
    std::size_t count = 0;
    std::size_t sealed = 0;
    error_code refusal{};

    /// Seals and sends at the first call; what the socket has not taken then is sent by the later ones.
    template <class Core>
    tls_step operator()(Core& core) noexcept
    {
        tls_step step;
        if (sealed == 0 && count != 0) {
            step = core.engine.write(core.descriptor(), {parts.data(), count});
            sealed = step.bytes;
            if (sealed == 0) return step;
        } else {
            step = core.engine.flush(core.descriptor());
        }
        step.bytes = sealed;
        return step;
    }
};

/// What a stream and its pending operations share: the stream may be destroyed or moved while they are pending.
template <class Socket>
struct tls_core {
    tls_core(Socket s, ssl_ptr ssl, bool wants_compact) : socket(std::move(s)), engine(std::move(ssl), wants_compact) {}

    int descriptor() noexcept { return socket.lowest_layer().native_handle(); }

    /// Why the handshake cannot begin, if so: OpenSSL would begin anew, without the keys that it has.
    error_code begin_handshake(bool as_server)
    {
        if (engine.has_handshaken()) return net::error::already_connected;
        if (::SSL_in_before(engine.ssl()) == 0) return net::error::already_started;
        if (as_server)
            ::SSL_set_accept_state(engine.ssl());
        else
            ::SSL_set_connect_state(engine.ssl());
        if (engine.wants_compact()) engine.capture_secrets();
        return {};
    }

    tls_step handshake() noexcept
    {
        const tls_step step = engine.handshake(descriptor());
        if (engine.wants_compact() && !step.error && step.what == tls_step::next::done) (void)engine.make_compact();
        return step;
    }

    void destroy() noexcept { delete this; }

    synchronized::count owners;
    Socket socket;
    tls_engine engine;
};

/// The operation, and the handler of its waits. It does its work, waits for the socket where the engine says so,
/// and does it again.
template <class Core, class Work, class Handler>
class tls_operation {
    using io_executor = decltype(std::declval<Core&>().socket.get_executor());
    // A total cancellation promises that nothing has been done: while a write waits, its records are sealed.
    using heeded = std::conditional_t<requires(Work w) { w.sealed; }, net::enable_partial_cancellation,
                                      net::enable_total_cancellation>;

public:
    using executor_type = net::associated_executor_t<Handler, io_executor>;
    using allocator_type = net::associated_allocator_t<Handler, plain_allocator<void>>;
    using cancellation_slot_type = net::cancellation_slot;

    tls_operation(const counted_ptr<Core>& core, const Work& work, Handler&& handler)
        : core_(core),
          work_(work),
          handler_(std::move(handler)),
          cancellation_(net::get_associated_cancellation_slot(handler_), heeded())
    {
    }

    executor_type get_executor() const noexcept
    {
        return net::get_associated_executor(handler_, core_->socket.get_executor());
    }
    allocator_type get_allocator() const noexcept
    {
        return net::get_associated_allocator(handler_, plain_allocator<void>());
    }
    cancellation_slot_type get_cancellation_slot() const noexcept { return cancellation_.slot(); }

    /// The first step, inside the initiating function, where only a handler with an immediate executor may be called.
    void start()
    {
        const tls_step step = do_work();
        if (step.error || step.what == tls_step::next::done)
            complete_at_once(step.error, step.bytes);
        else if (!waits(step))
            complete_at_once(net::error::no_memory, sealed());
    }

    /// The socket is ready, or the wait was cancelled.
    void operator()(error_code ec)
    {
        if (!ec && cancellation_.cancelled() != net::cancellation_type::none) ec = net::error::operation_aborted;
        if (ec) return complete(ec, sealed());
        core_->engine.readable();
        const tls_step step = do_work();
        if (step.error || step.what == tls_step::next::done)
            complete(step.error, step.bytes);
        else if (!waits(step))
            complete(net::error::no_memory, sealed());
    }

private:
    /// A completion without a wait. It needs neither the stream nor the work, which is the larger part of an operation.
    struct settled {
        using executor_type = tls_operation::executor_type;
        using allocator_type = net::associated_allocator_t<Handler>;

        executor_type get_executor() const noexcept { return net::get_associated_executor(handler, io); }
        allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler); }
        void operator()() { call(handler, error, bytes); }

        Handler handler;
        io_executor io;
        error_code error;
        std::size_t bytes;
    };

    /// The socket may have been closed while a step was queued.
    tls_step do_work() noexcept
    {
        if (work_.refusal) return {.error = work_.refusal};
        if (!core_->socket.lowest_layer().is_open()) return {.error = net::error::operation_aborted};
        return work_(*core_);
    }

    /// How much of the user's data is in records, sent or not.
    std::size_t sealed() const noexcept
    {
        if constexpr (requires { work_.sealed; })
            return work_.sealed;
        else
            return 0;
    }

    /// Begins a wait, which moves this operation. Returns false, with the operation in its place, where there is no
    /// memory for that.
    bool waits(const tls_step& step)
    {
        auto& socket = core_->socket.lowest_layer();
        try {
            socket.async_wait(step.what == tls_step::next::wait_write ? net::socket_base::wait_write
                                                                      : net::socket_base::wait_read,
                              std::move(*this));
        } catch (const std::bad_alloc&) {
            if (!core_) throw; // it was moved, and is lost with its handler
            return false;
        }
        return true;
    }

    void complete_at_once(const error_code& ec, std::size_t bytes)
    {
        const io_executor executor = core_->socket.get_executor();
        core_ = {}; // before the handler is called
        const at_once how(handler_, executor);
        how.complete(settled{std::move(handler_), executor, ec, bytes});
    }

    void complete(error_code ec, std::size_t bytes)
    {
        core_ = {}; // before the handler is called
        auto handler = std::move(handler_);
        call(handler, ec, bytes);
    }

    static void call(Handler& handler, const error_code& ec, std::size_t bytes)
    {
        if constexpr (Work::counts_bytes)
            std::move(handler)(ec, bytes);
        else
            std::move(handler)(ec);
    }

    counted_ptr<Core> core_;
    [[no_unique_address]] Work work_;
    Handler handler_;
    net::cancellation_state cancellation_;
};

} // namespace holdfast::detail

#endif
