// holdfast: tls_stream, TLS by OpenSSL on the socket itself: no buffer while a connection is idle.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_TLS_STREAM_HPP
#define HOLDFAST_ADAPTERS_TLS_STREAM_HPP

#include <holdfast/adapters/detail/tls_engine.hpp>
#include <holdfast/adapters/detail/tls_operation.hpp>
#include <holdfast/adapters/tls_context.hpp>
#include <holdfast/asio.hpp>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

/// The side that a `tls_stream` takes in the handshake.
enum class tls_role : unsigned char { client, server };

/// Encrypts a socket by TLS 1.2 or 1.3. It is an AsyncReadStream and an AsyncWriteStream, so that
/// `net::async_read`, Beast and the rest of holdfast work on it, and a layer that a `connection_guard` can
/// own.
///
/// OpenSSL works on the descriptor, and Asio says when that is ready: there is no second pair of buffers as
/// in `ssl::stream`. While no record is being read or written the stream holds no buffer. An idle TLS 1.3
/// connection with a coroutine that reads lines takes about 15.6 KB, most of it OpenSSL's own objects; with
/// `tls_context_options::compact_records` it takes about 1.5 KB (RssAnon, OpenSSL 3.0).
///
/// Records are small for the first 32 KiB after each read, so that a peer can open each segment as it comes,
/// and of 16 KiB afterwards.
///
/// Errors: those of the socket; OpenSSL's in Asio's category for them; `net::error::eof` after the peer's
/// close_notify, and `net::ssl::error::stream_truncated` where its TCP stream ended without one, but
/// `net::error::eof` where this side has ended the reading, as a drain does; those of
/// `certificate_category()` where a handshake refuses the peer's certificate.
/// Renegotiation is refused. A KeyUpdate that requests one of this side is answered before the next data that is written,
/// which may be later (RFC 8446, 4.6.3).
///
/// Lifetime: the stream may be moved and destroyed while operations are pending; they then complete with
/// `operation_aborted`. Their buffers must stay until they have completed.
/// Thread safety: distinct objects are safe. One read and one write may be pending at once; where several
/// threads run the context they must run on one strand.
///
///     holdfast::tls_stream<> stream{std::move(socket), context};
///     co_await stream.async_handshake(holdfast::tls_role::server);
///     co_await net::async_write(stream, net::buffer("hello\n", 6), net::use_awaitable);
///     co_await stream.async_shutdown();
template <class Socket = net::ip::tcp::socket>
class tls_stream {
public:
    using next_layer_type = Socket;
    using lowest_layer_type = typename Socket::lowest_layer_type;
    using executor_type = typename Socket::executor_type;

    /// A `connection_guard` holds it without an allocation: pending operations keep what they need.
    static constexpr bool operations_may_outlive = true;

    /// The type of this stream over a socket of another executor.
    template <class OtherExecutor>
    struct rebind_executor {
        using other = tls_stream<typename Socket::template rebind_executor<OtherExecutor>::other>;
    };

    /// Takes over a connected socket. Throws `std::bad_alloc`.
    tls_stream(Socket socket, const tls_context& context)
        : core_(new core(std::move(socket), detail::ssl_ptr(context.make_session()), context.compact_records()))
    {
    }

    /// The same with a session of the user's own, whose ownership it takes; a handshake may have been done on it
    /// already. Its records are never compact.
    tls_stream(Socket socket, SSL* session) : core_(new core(std::move(socket), detail::ssl_ptr(session), false)) {}

    /// Takes over another stream's connection. That one keeps its executor; its operations complete with
    /// `net::error::bad_descriptor` from then on. It shares the connection's memory until it is destroyed or assigned to,
    /// and its `lowest_layer()` is the new owner's.
    tls_stream(tls_stream&& other) noexcept : core_(other.core_), moved_from_(std::exchange(other.moved_from_, true)) {}

    /// The same; closes the socket that it had before.
    tls_stream& operator=(tls_stream&& other) noexcept
    {
        if (this != &other) {
            close();
            core_ = other.core_;
            moved_from_ = std::exchange(other.moved_from_, true);
        }
        return *this;
    }

    /// Closes the socket. Pending operations complete with `operation_aborted`.
    ~tls_stream() { close(); }

    /// Returns whether the socket is open and this stream's.
    [[nodiscard]] bool is_open() const noexcept { return !moved_from_ && lowest_layer().is_open(); }

    executor_type get_executor() { return core_->socket.get_executor(); }
    next_layer_type& next_layer() noexcept { return core_->socket; }
    const next_layer_type& next_layer() const noexcept { return core_->socket; }
    lowest_layer_type& lowest_layer() noexcept { return core_->socket.lowest_layer(); }
    const lowest_layer_type& lowest_layer() const noexcept { return core_->socket.lowest_layer(); }

    /// OpenSSL's object, to set what the handshake is to do (the server's name, a verification of the peer's) and to
    /// read what it found; null once the records are compact. Not for I/O: outside of this stream's operations
    /// OpenSSL's calls find nothing to read and can write nothing (`SSL_ERROR_WANT_READ`, `SSL_ERROR_WANT_WRITE`).
    [[nodiscard]] SSL* native_session() const noexcept { return core_->engine.ssl(); }

    /// Before a client's handshake: requests the server `host` (SNI), and accepts a certificate for that name only, or
    /// for that address where `host` is the text of one. The last call counts; one that throws may have removed the
    /// earlier name. Without a name a client's handshake fails with `net::error::invalid_argument`, unless the
    /// verification was switched off on `native_session()`. (OpenSSL 1.1.1 cannot say whether a name was set there, by
    /// SSL_set1_host: with it this function has to be called.)
    ///
    /// Exceptions: std::invalid_argument for a name that OpenSSL does not take; std::logic_error after the handshake;
    /// std::bad_alloc.
    void set_server_name(const std::string& host)
    {
        if (core_->engine.has_handshaken())
            throw std::logic_error("tls_stream::set_server_name: call it before the handshake");
        if (host.empty() || host.find('\0') != std::string::npos)
            throw std::invalid_argument(
                "tls_stream::set_server_name: the name must not be empty or contain a zero byte");
        SSL* const ssl = native_session();
        X509_VERIFY_PARAM* const expected = ::SSL_get0_param(ssl);
        core_->engine.note_server_name(false); // of an earlier call, until this one has succeeded
        ::SSL_set1_host(ssl, nullptr);
        ::SSL_set_tlsext_host_name(ssl, nullptr);
        ::X509_VERIFY_PARAM_set1_ip(expected, nullptr, 0);
        if (::X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) == 1) return core_->engine.note_server_name(true);
        ::ERR_clear_error();
        ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (::SSL_set1_host(ssl, host.c_str()) != 1 || ::SSL_set_tlsext_host_name(ssl, host.c_str()) != 1) {
            ::ERR_clear_error();
            ::SSL_set1_host(ssl, nullptr);
            throw std::invalid_argument("tls_stream::set_server_name: the name must be a host name or an IP address");
        }
        core_->engine.note_server_name(true);
    }

    /// The protocol that ALPN has negotiated; empty where none was. After the handshake.
    [[nodiscard]] std::string_view application_protocol() const noexcept { return core_->engine.protocol(); }

    /// The common name in the peer's certificate, whose characters beyond printable ones are escaped; empty where the
    /// peer has shown no certificate. (One that is shown and not trusted fails the handshake.) After the handshake.
    /// May throw std::bad_alloc.
    [[nodiscard]] std::string peer_name() const { return core_->engine.peer_name(); }

    /// How many bytes are held that no readiness of the socket announces: decrypted ones, and ones received but not yet
    /// decrypted. An end or a failure that came together with the last data counts as one, also after it was read.
    [[nodiscard]] std::size_t pending() const noexcept { return moved_from_ ? 0 : core_->engine.pending(); }

    /// Whether OpenSSL's object has been freed and the records are protected by two keys alone.
    [[nodiscard]] bool compact() const noexcept { return core_->engine.compact(); }

    /// Reads what has arrived, without waiting: `net::error::would_block` if that is less than a record. For use when
    /// the socket was found readable. Fewer bytes than the buffer takes do not mean that no more have arrived:
    /// `pending()` and the socket's readiness show that. No other read may be pending.
    std::size_t try_read_some(const net::mutable_buffer& buffer, error_code& ec) noexcept
    {
        ec = {};
        if (buffer.size() == 0) return 0;
        if (!is_open()) {
            ec = net::error::bad_descriptor;
            return 0;
        }
        core_->engine.readable();
        const detail::tls_step step =
            core_->engine.read(core_->descriptor(), {static_cast<char*>(buffer.data()), buffer.size()});
        ec = step.error || step.what == detail::tls_step::next::done ? step.error : error_code(net::error::would_block);
        return step.bytes;
    }

    /// Performs the handshake, once. A second one fails with `net::error::already_connected`, and with
    /// `net::error::already_started` where the first is pending or has failed, unless that was refused before OpenSSL
    /// had begun, as without a server's name.
    ///
    /// Completion: void(error_code), on the handler's executor, never inside this call. Success once both
    /// sides have finished. Cancellation: terminal, partial and total; the stream is then of no more use than
    /// to be closed. Cost: about 1 ms of CPU time, most of it the server's signature; nothing is kept
    /// for it afterwards.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_handshake(tls_role role, CompletionToken&& token = default_token_t<executor_type>())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(
            initiate<detail::tls_handshake_work>(*this), token, detail::tls_handshake_work{role == tls_role::server});
    }

    /// Reads at least one byte, at most one socket's read full of records.
    ///
    /// Completion: void(error_code, std::size_t), on the handler's executor, never inside this call. The
    /// errors are those of the class. Cancellation: terminal, partial and total: `operation_aborted`, and no
    /// byte is lost. Cost: no allocation, except for the operation's wait and for records of which the
    /// buffers take a part only.
    template <class MutableBufferSequence,
              net::completion_token_for<void(error_code, std::size_t)> CompletionToken = default_token_t<executor_type>>
    auto async_read_some(const MutableBufferSequence& buffers,
                         CompletionToken&& token = default_token_t<executor_type>())
    {
        std::span<char> to;
        const auto end = net::buffer_sequence_end(buffers);
        for (auto each = net::buffer_sequence_begin(buffers); each != end && to.empty(); ++each) {
            const net::mutable_buffer buffer(*each);
            to = {static_cast<char*>(buffer.data()), buffer.size()};
        }
        return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
            initiate<detail::tls_read_work>(*this), token, detail::tls_read_work{to});
    }

    /// Writes up to 16 KiB of up to 16 buffers, as one system call where the socket takes it.
    ///
    /// Completion: void(error_code, std::size_t), on the handler's executor, never inside this call: the
    /// bytes that were sealed; all of them have been handed to the kernel where there is no error.
    /// Cancellation: terminal and partial: `operation_aborted` with the number of bytes sealed; the rest of
    /// the last record is kept and goes out with the next operation, so that the stream stays usable. Cost:
    /// no allocation, except for the operation's wait and for what the socket's full buffer refused.
    template <class ConstBufferSequence,
              net::completion_token_for<void(error_code, std::size_t)> CompletionToken = default_token_t<executor_type>>
    auto async_write_some(const ConstBufferSequence& buffers,
                          CompletionToken&& token = default_token_t<executor_type>())
    {
        detail::tls_write_work work;
        const auto end = net::buffer_sequence_end(buffers);
        for (auto each = net::buffer_sequence_begin(buffers); each != end && work.count != work.parts.size(); ++each) {
            const net::const_buffer buffer(*each);
            if (buffer.size() != 0) work.parts[work.count++] = {static_cast<const char*>(buffer.data()), buffer.size()};
        }
        return net::async_initiate<CompletionToken, void(error_code, std::size_t)>(
            initiate<detail::tls_write_work>(*this), token, work);
    }

    /// Sends close_notify. Afterwards nothing can be written any more; what the peer still sends can be read,
    /// up to its own close_notify. (OpenSSL's, and with it `ssl::stream`'s, shutdown waits for that as well.)
    ///
    /// Completion: void(error_code), on the handler's executor, never inside this call, when close_notify has
    /// been handed to the kernel. Cancellation: terminal, partial and total.
    template <net::completion_token_for<void(error_code)> CompletionToken = default_token_t<executor_type>>
    auto async_shutdown(CompletionToken&& token = default_token_t<executor_type>())
    {
        return net::async_initiate<CompletionToken, void(error_code)>(initiate<detail::tls_shutdown_work>(*this), token,
                                                                      detail::tls_shutdown_work{});
    }

private:
    using core = detail::tls_core<Socket>;

    template <class Work>
    class initiate {
    public:
        using executor_type = typename tls_stream::executor_type;

        explicit initiate(tls_stream& stream) noexcept : stream_(&stream) {}
        executor_type get_executor() const noexcept { return stream_->get_executor(); }

        template <class Handler>
        void operator()(Handler&& handler, Work work) const
        {
            using decayed = std::decay_t<Handler>;
            using operation = detail::tls_operation<core, Work, decayed>;
            if (stream_->moved_from_)
                work.refusal = net::error::bad_descriptor;
            else if constexpr (std::is_same_v<Work, detail::tls_handshake_work>)
                work.refusal = stream_->core_->begin_handshake(work.as_server);
            operation(stream_->core_, work, decayed(std::forward<Handler>(handler))).start();
        }

    private:
        tls_stream* stream_;
    };

    void close() noexcept
    {
        if (moved_from_) return;
        error_code ignored;
        core_->socket.lowest_layer().close(ignored);
    }

    detail::counted_ptr<core> core_; // never null: what was moved from shares it, for its executor
    bool moved_from_ = false;
};

} // namespace holdfast

#endif
