// holdfast: the steps of frame_reader's operations.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_FRAME_NEXT_FRAME_HPP
#define HOLDFAST_DETAIL_FRAME_NEXT_FRAME_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/async/as_terminal.hpp>
#include <holdfast/detail/async/at_once.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/async/plain_allocator.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/tcp_state.hpp>
#include <holdfast/detail/frame/frame_buffer.hpp>
#include <holdfast/error.hpp>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast::detail {

/// The stream that a reader reads from: that of a guard, or the object itself.
template <class Peer>
auto& readable_stream(Peer& peer) noexcept
{
    if constexpr (requires { peer.stream(); })
        return peer.stream();
    else
        return peer;
}

/// A stream whose descriptor can be waited for and read.
template <class Stream>
concept waitable = requires(Stream& s) {
    { s.native_handle() } -> std::convertible_to<int>;
    s.async_wait(net::socket_base::wait_read, net::detached);
};

/// A stream with a socket at its bottom.
template <class Stream>
concept has_socket = requires(Stream& s) {
    { detail::lowest_layer(s).native_handle() } -> std::convertible_to<int>;
};

/// A stream that reports how many bytes can be read although its socket has none.
template <class Stream>
concept reports_pending = requires(Stream& s) {
    { s.pending() } -> std::convertible_to<std::size_t>;
};

/// OpenSSL's, whose functions are found through the type of its handle: this header does not include OpenSSL.
template <class Stream>
concept openssl_stream = requires(Stream& s) {
    SSL_pending(s.native_handle());
    BIO_ctrl_pending(SSL_get_rbio(s.native_handle()));
};

/// A layer that reads what has come when its socket was found readable, without an operation.
template <class Stream>
concept reads_at_hand = reports_pending<Stream> && requires(Stream& s, const net::mutable_buffer& to, error_code& ec) {
    { s.try_read_some(to, ec) } -> std::same_as<std::size_t>;
};

/// Whether reading may succeed, or find the layer's end, before the socket is readable.
template <class Stream>
bool has_pending(Stream& stream)
{
    if constexpr (reports_pending<Stream>)
        return stream.pending() != 0;
    else // decrypted, or received and not yet decrypted; or the peer's close_notify has come together with the last data
        return SSL_pending(stream.native_handle()) != 0 ||
               BIO_ctrl_pending(SSL_get_rbio(stream.native_handle())) != 0 ||
               (SSL_get_shutdown(stream.native_handle()) & 2) != 0; // SSL_RECEIVED_SHUTDOWN
}

/// Whether the socket's stream has ended without the end of the layer above it: net::ssl::error::stream_truncated. By
/// name, since this header does not include OpenSSL.
inline bool ended_below_layer(const error_code& error) noexcept
{
    return error.value() == 1 && std::string_view(error.category().name()) == "asio.ssl.stream";
}

/// Stands in for raw_bytes: the reader's framing.
struct by_framing {};

/// Marks a handler that has no cancellation slot.
struct no_slot {};
struct never_cancelled {
    template <class... Args>
    explicit never_cancelled(const Args&...) noexcept
    {
    }
    static net::cancellation_type cancelled() noexcept { return net::cancellation_type::none; }
    static net::cancellation_slot slot() noexcept { return {}; }
};

/// A read in a block of its own, which it leaves with the next step: for `self`, the last owner of the block.
template <class Executor, class Allocator, class Loan>
class parked_read {
public:
    parked_read() noexcept = default;
    parked_read(const parked_read&) = delete;

    virtual Executor get_executor() const noexcept = 0;
    virtual Allocator get_allocator() const noexcept = 0;
    virtual net::cancellation_slot get_cancellation_slot() const noexcept = 0;

    /// A pause for the rate limit has ended.
    virtual void pause_ended(std::shared_ptr<parked_read>& self, error_code ec) = 0;
    /// The pool has lent a buffer.
    virtual void buffer_lent(std::shared_ptr<parked_read>& self, error_code ec, Loan loan) = 0;
    /// A later turn of the executor.
    virtual void turn_came(std::shared_ptr<parked_read>& self) = 0;

protected:
    ~parked_read() = default;
};

/// The handler of a step of a read that is parked. A step that cannot begin gives the read back. It depends on neither
/// the reader nor the user's handler: the waits are compiled once for all readers.
template <class Executor, class Allocator, class Loan>
class resumed_read {
    using parked = parked_read<Executor, Allocator, Loan>;

public:
    using executor_type = Executor;
    using allocator_type = Allocator;
    using cancellation_slot_type = net::cancellation_slot;

    explicit resumed_read(std::shared_ptr<parked> op) noexcept : op_(std::move(op)), allocator_(op_->get_allocator()) {}
    resumed_read(resumed_read&&) noexcept = default; // not copied: see resumed

    executor_type get_executor() const noexcept { return op_->get_executor(); }
    allocator_type get_allocator() const noexcept { return allocator_; }
    cancellation_slot_type get_cancellation_slot() const noexcept { return op_->get_cancellation_slot(); }

    void operator()(error_code ec) { resumed().pause_ended(op_, ec); }
    void operator()(error_code ec, Loan loan) { resumed().buffer_lent(op_, ec, std::move(loan)); }
    void operator()() { resumed().turn_came(op_); }

private:
    /// The block is the handler's memory, and is returned before the handler is called. On another thread the function
    /// that has begun the step may be about to return.
    parked& resumed()
    {
        while (op_.use_count() != 1)
            std::this_thread::yield();
        return *op_;
    }

    std::shared_ptr<parked> op_;
    [[no_unique_address]] allocator_type allocator_; // Asio asks for it also after a move
};

/// The operation, and the handler of each of its steps: a pointer, the user's handler, and two words if that has a
/// cancellation slot. The signature of a step's completion says which step it was. `What` is by_framing or raw_bytes.
template <class Reader, class What, class Handler>
class next_frame {
    using stream_type = typename Reader::stream_type;
    using loan_type = typename Reader::loan_type;
    using frame = std::optional<typename Reader::frame_type>;

    static constexpr bool raw = std::is_same_v<What, raw_bytes>;
    static constexpr bool reads_descriptor = waitable<stream_type>;
    static constexpr bool reads_layers =
        !reads_descriptor && (reports_pending<stream_type> || openssl_stream<stream_type>) &&
        waitable<std::remove_reference_t<decltype(lowest_layer(std::declval<stream_type&>()))>>;
    static constexpr bool reads_now = reads_descriptor || (reads_layers && reads_at_hand<stream_type>);
    static constexpr bool cancellable = !std::is_same_v<net::associated_cancellation_slot_t<Handler, no_slot>, no_slot>;

public:
    using executor_type = net::associated_executor_t<Handler, typename Reader::executor_type>;
    using allocator_type = net::associated_allocator_t<Handler, plain_allocator<void>>;
    using cancellation_slot_type = net::cancellation_slot;

    next_frame(Reader& reader, const What& what, Handler&& handler)
        : reader_(reader),
          what_(what),
          handler_(std::move(handler)),
          cancellation_(net::get_associated_cancellation_slot(handler_), net::enable_total_cancellation(),
                        as_terminal())
    {
    }

    executor_type get_executor() const noexcept
    {
        return net::get_associated_executor(handler_, reader_->get_executor());
    }
    allocator_type get_allocator() const noexcept
    {
        return net::get_associated_allocator(handler_, plain_allocator<void>());
    }
    cancellation_slot_type get_cancellation_slot() const noexcept { return cancellation_.slot(); }

    /// The first step, inside the initiating function, where only a handler with an immediate executor may be called.
    void start() { begin<true>(); }

    /// The socket is readable.
    void operator()(error_code ec)
    {
        if (!ec && !reader_->is_open()) ec = net::error::bad_descriptor; // the bytes may be another owner's
        if (ec) return finish(ec);
        if constexpr (reads_now) {
            bool more = false;
            const frame found = receive(ec, more);
            if (ec && ec == errc::pool_exhausted) return borrow_unless_cancelled();
            if (found || ec) return finish(ec, found);
            go_on(more);
        } else if (cancelled()) {
            finish(net::error::operation_aborted);
        } else {
            read<false>();
        }
    }

    /// Bytes were read through the layers.
    void operator()(error_code ec, std::size_t n)
    {
        received(n);
        if (ec && n != 0) { // a layer may report its end with its last bytes, and will again at the next read
            error_code ignored;
            if (const frame found = take(ignored)) return finish({}, found);
        }
        if (ec) return finish(ec);
        const frame found = take(ec);
        if (ec && ec == errc::pool_exhausted) return borrow_unless_cancelled();
        if (found || ec)
            finish(ec, found);
        else
            go_on(false);
    }

    /// The pool has lent a buffer.
    void operator()(error_code ec, loan_type loan)
    {
        if (ec) return finish(ec);
        reader_->buffer_.adopt(std::move(loan));
        (*this)(error_code());
    }

private:
    /// Takes what has come, or waits for more. `Initiating`: inside the initiating function.
    template <bool Initiating>
    void begin()
    {
        if constexpr (raw)
            if (what_.most == 0) return finish<Initiating>({}, std::string_view(""));
        if (reader_->must_pause()) return pause<Initiating>();
        error_code ec;
        frame found = take(ec);
        bool more = false;
        if constexpr (reads_now) // cheaper than a wait, where the bytes have arrived already
            if (!found && !ec && may_have_arrived() && reader_->is_open()) found = receive(ec, more);
        if (ec && ec == errc::pool_exhausted) {
            // It fails where a buffer is held; and no readiness announces the bytes that a layer holds.
            if (reader_->buffer_.holds() || !reads_descriptor) return borrow<Initiating>();
            ec = {}; // it may not need one
        }
        if (!found && !ec) ec = reader_->time_frame();
        if (found || ec)
            finish<Initiating>(ec, found);
        else if (reader_->must_pause())
            pause<Initiating>();
        else if (more)
            read_later<Initiating>();
        else if (!reader_->is_open()) // its stream may have moved elsewhere, where it must not be waited on
            finish<Initiating>(net::error::bad_descriptor);
        else
            wait<Initiating>();
    }

    /// A completion without a wait.
    struct settled {
        using executor_type = next_frame::executor_type;
        using allocator_type = net::associated_allocator_t<Handler>;

        executor_type get_executor() const noexcept { return op.get_executor(); }
        allocator_type get_allocator() const noexcept { return net::get_associated_allocator(op.handler_); }
        void operator()() { op.complete(result, found); }

        next_frame op;
        error_code result;
        frame found;
    };

    /// The block that it is set aside in.
    class block final : public parked_read<executor_type, allocator_type, loan_type> {
        using base = parked_read<executor_type, allocator_type, loan_type>;

    public:
        explicit block(next_frame&& op) : op_(std::move(op)) {}

        executor_type get_executor() const noexcept override { return op_.get_executor(); }
        allocator_type get_allocator() const noexcept override { return op_.get_allocator(); }
        net::cancellation_slot get_cancellation_slot() const noexcept override { return op_.get_cancellation_slot(); }

        void pause_ended(std::shared_ptr<base>& self, error_code ec) override
        {
            next_frame resumed = leave(self);
            if (!ec && resumed.cancelled()) ec = net::error::operation_aborted;
            if (ec)
                resumed.finish(ec);
            else
                resumed.template begin<false>();
        }
        void buffer_lent(std::shared_ptr<base>& self, error_code ec, loan_type loan) override
        {
            leave(self)(ec, std::move(loan));
        }
        void turn_came(std::shared_ptr<base>& self) override { leave(self)(error_code()); }

        /// Destroys the block.
        template <class Self>
        next_frame leave(std::shared_ptr<Self>& self)
        {
            next_frame left = std::move(op_);
            self.reset();
            return left;
        }

    private:
        next_frame op_;
    };
    using set_aside = resumed_read<executor_type, allocator_type, loan_type>;

    /// How many full buffers one turn takes that contain no frame to be handed out.
    static constexpr int buffers_per_turn = 16;

    frame take(error_code& why)
    {
        std::error_code ec;
        frame found;
        if constexpr (raw)
            found = reader_->buffer_.take(what_, ec);
        else
            found = reader_->buffer_.take(reader_->framing_, ec);
        if (ec) why = ec;
        if (reader_->rate_ != nullptr) count(found, why);
        return found;
    }

    /// Counts a frame for the rate limit.
    void count(frame& found, error_code& why) noexcept
    {
        if (!raw && found) reader_->rate_->message();
        if (!reader_->rate_->disconnects() || !reader_->rate_->exceeded()) return;
        found.reset();
        why = errc::rate_exceeded;
    }

    void received(std::size_t n) noexcept
    {
        if (n == 0) return;
        reader_->buffer_.received(n);
        reader_->progress_(n);
        if (reader_->rate_ != nullptr) reader_->rate_->received(n);
    }

    /// Whether it was cancelled. A step that was queued meanwhile completes without an error: to be checked before each
    /// further step.
    [[nodiscard]] bool cancelled() const noexcept { return cancellation_.cancelled() != net::cancellation_type::none; }

    /// Waits for more bytes, which may be there already, unless that must end here.
    void go_on(bool more)
    {
        if (cancelled()) return finish(net::error::operation_aborted);
        if (!reader_->is_open()) return finish(net::error::bad_descriptor);
        if (const error_code ec = reader_->time_frame()) return finish(ec);
        if (reader_->must_pause())
            pause<false>();
        else if (more)
            read_later<false>();
        else
            wait<false>();
    }

    /// Begins a wait, which moves this operation. Without memory for it the operation fails, not the loop that runs it.
    template <bool Initiating, class Wait>
    void proceed(Wait begin_wait)
    {
        try {
            return begin_wait();
        } catch (const std::bad_alloc&) {
            if (!reader_) throw; // it was moved, and is lost with its handler
        }
        finish<Initiating>(net::error::no_memory);
    }

    /// The same for what loses its handler where it finds no memory.
    template <bool Initiating, class Wait>
    void proceed_aside(Wait begin_wait)
    {
        std::shared_ptr<block> op;
        try {
            op = std::allocate_shared<block>(get_allocator(), std::move(*this));
            return begin_wait(set_aside(op));
        } catch (const std::bad_alloc&) {
        }
        if (!op) return finish<Initiating>(net::error::no_memory);
        op->leave(op).template finish<Initiating>(net::error::no_memory);
    }

    /// Waits until the rate may allow more. The peer is not to blame for the time.
    template <bool Initiating>
    void pause()
    {
        Reader& reader = *reader_;
        reader.buffer_.shrink();
        reader.progress_(0);
        proceed_aside<Initiating>([&reader](set_aside&& op) {
            reader.rate_->wait_for_tick(net::any_io_executor(reader.get_executor()), std::move(op));
        });
    }

    template <bool Initiating>
    void read_later()
    {
        const auto executor = reader_->get_executor();
        proceed_aside<Initiating>([&executor](set_aside&& op) { detail::execute_later(executor, std::move(op)); });
    }

    template <bool Initiating>
    void wait()
    {
        Reader& reader = *reader_;
        reader.buffer_.shrink();
        if constexpr (!reads_now && !reads_layers)
            return read<Initiating>();
        else if constexpr (!reads_now)
            if (reader.buffer_.holds() || detail::has_pending(reader.stream())) return read<Initiating>();
        if constexpr (reads_descriptor)
            proceed<Initiating>(
                [this, &reader] { reader.stream().async_wait(net::socket_base::wait_read, std::move(*this)); });
        else if constexpr (reads_layers)
            proceed<Initiating>([this, &reader] {
                detail::lowest_layer(reader.stream()).async_wait(net::socket_base::wait_read, std::move(*this));
            });
    }

    /// Whether trying to read is worth its cost. After a read that has left nothing in the socket, it costs as much as the
    /// wait that follows it. A layer knows whether it has left bytes in the socket.
    bool may_have_arrived()
    {
        if constexpr (reads_descriptor)
            return !reader_->buffer_.drained();
        else
            return detail::has_pending(reader_->stream());
    }

    /// Whether a read that was shorter than it could be may be followed by another: a layer returns what it has decrypted
    /// before it decrypts more, and data before the end that came with them. No readiness announces the rest.
    bool announces_more()
    {
        if constexpr (reads_descriptor)
            return false;
        else
            return detail::has_pending(reader_->stream());
    }

    /// Reads some of what has come; 0 and no error where that is nothing.
    std::size_t read_now_into(std::span<char> room, error_code& why)
    {
        if constexpr (reads_descriptor) {
            const ::ssize_t got = ::recv(reader_->stream().native_handle(), room.data(), room.size(), MSG_DONTWAIT);
            if (got > 0) return static_cast<std::size_t>(got);
            if (got == 0)
                why = net::error::eof;
            else if (errno != EAGAIN && errno != EWOULDBLOCK)
                why = error_code(errno, net::error::get_system_category());
            return 0;
        } else {
            const std::size_t got = reader_->stream().try_read_some(net::buffer(room.data(), room.size()), why);
            if (why == net::error::would_block) why = {};
            return got;
        }
    }

    /// Reads what has come, without waiting. Sets `more` where it stops although more may be there.
    frame receive(error_code& why, bool& more)
    {
        auto& buffer = reader_->buffer_;
        for (int buffers = 0;; ++buffers) {
            if (buffers == buffers_per_turn) {
                more = true;
                return std::nullopt;
            }
            const auto room = buffer.room();
            if (room.empty()) {
                why = errc::pool_exhausted;
                return std::nullopt;
            }
            const std::size_t got = read_now_into(room, why);
            if (got == 0) return std::nullopt;
            buffer.note_drained(got != room.size());
            received(got);
            const frame found = take(why);
            if (found || why || (got != room.size() && !announces_more())) return found;
            if (reader_->must_pause()) return found;
        }
    }

    template <bool Initiating>
    void read()
    {
        Reader& reader = *reader_;
        const auto room = reader.buffer_.room();
        if (room.empty()) return borrow<Initiating>();
        proceed<Initiating>([this, &reader, room] {
            reader.stream().async_read_some(net::buffer(room.data(), room.size()), std::move(*this));
        });
    }

    /// There is no buffer at once. A reader that has one does not wait for a larger one: all of them might.
    template <bool Initiating>
    void borrow()
    {
        auto& buffer = reader_->buffer_;
        if (!buffer.pool().limited()) return finish<Initiating>(net::error::no_memory);
        if (buffer.holds()) return finish<Initiating>(errc::pool_exhausted);
        proceed_aside<Initiating>(
            [&buffer](set_aside&& op) { buffer.pool().wait_for_buffer(buffer.first_bytes(), std::move(op)); });
    }

    void borrow_unless_cancelled()
    {
        if (cancelled()) return finish(net::error::operation_aborted);
        borrow<false>();
    }

    template <bool Initiating = false>
    void finish(const error_code& result, const frame& found = {})
    {
        if constexpr (Initiating)
            finish_at_once(result, found);
        else
            complete(result, found);
    }

    void finish_at_once(const error_code& result, const frame& found)
    {
        const auto executor = reader_->get_executor();
        const at_once how(handler_, executor);
        how.complete(settled{std::move(*this), result, found});
    }

    void complete(error_code result, frame found)
    {
        if (result) result = outcome(result);
        if (result) reader_->note(result);
        if (reader_->buffer_.empty()) reader_->note_frame(false);
        reader_->note_buffered();
        auto handler = std::move(handler_);
        std::move(handler)(result, found);
    }

    /// What an error of the stream means for the frame.
    error_code outcome(const error_code& error) const
    {
        auto& buffer = reader_->buffer_;
        if (error == net::error::operation_aborted) return error;
        if constexpr (requires { buffer.ended(); }) // by the protocol
            if (buffer.ended()) return {};
        if (buffer.late()) return errc::frame_timeout; // the deadline has ended the reading
        const bool truncated = ended_below_layer(error);
        if (error != net::error::eof && !truncated) return error;
        if (!buffer.empty()) return errc::truncated_frame;
        if constexpr (has_socket<stream_type>)
            if (truncated && detail::peer_has_ended(detail::lowest_layer(reader_->stream()).native_handle()))
                return error; // else a drain has ended the reading
        return {};
    }

    /// Null once it is moved from.
    class reader_ptr {
    public:
        explicit reader_ptr(Reader& reader) noexcept : reader_(&reader) {}
        reader_ptr(reader_ptr&& other) noexcept : reader_(std::exchange(other.reader_, nullptr)) {}

        Reader* operator->() const noexcept { return reader_; }
        Reader& operator*() const noexcept { return *reader_; }
        explicit operator bool() const noexcept { return reader_ != nullptr; }

    private:
        Reader* reader_;
    };

    reader_ptr reader_;
    [[no_unique_address]] What what_;
    Handler handler_;
    [[no_unique_address]] std::conditional_t<cancellable, net::cancellation_state, never_cancelled> cancellation_;
};

/// The initiation of a reader's operation.
template <class Reader, class What>
class initiate_next {
public:
    using executor_type = typename Reader::executor_type;

    initiate_next(Reader& reader, const What& what) noexcept : reader_(&reader), what_(what) {}

    [[nodiscard]] executor_type get_executor() const noexcept { return reader_->get_executor(); }

    template <class Handler>
    void operator()(Handler&& handler) const
    {
        using decayed = std::decay_t<Handler>;
        next_frame<Reader, What, decayed>(*reader_, what_, decayed(std::forward<Handler>(handler))).start();
    }

private:
    Reader* reader_;
    [[no_unique_address]] What what_;
};

} // namespace holdfast::detail

#endif
