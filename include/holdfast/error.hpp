// holdfast: the library's error codes and conditions, and the reasons for which a connection ends. Standard
// library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ERROR_HPP
#define HOLDFAST_ERROR_HPP

#include <holdfast/detail/linkage.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast {

/// Errors of holdfast's operations, beside those of the system and of Asio.
enum class errc : int {
    /// The semaphore or the pool was closed or destroyed before the permit, buffer or compressor was granted.
    semaphore_closed = 1,
    /// An operation requested more than the limit of the semaphore, the pool or the queue: it could never succeed.
    exceeds_limit,
    /// The acceptor was closed or is draining: it accepts no more connections.
    acceptor_closed,
    /// A frame was longer than `max_frame_bytes`.
    frame_too_long,
    /// The stream ended within a frame.
    truncated_frame,
    /// `async_close` reached its deadline or its byte limit before the peer ended its stream.
    close_incomplete,
    /// A number is NaN or infinite, which JSON cannot express.
    not_finite,
    /// A string that is not UTF-8, as JSON and Protobuf require.
    invalid_utf8,
    /// The source threw while an element was made, or has no such value: the output is incomplete.
    source_failed,
    /// A value is nested more deeply than the writer's or the parser's limit.
    depth_exceeded,
    /// The maximum number of operations already waits for a permit.
    too_many_waiting,
    /// The spawner was cancelled, or one of its children failed: it starts no more children.
    spawner_closed,
    /// A `checked_json`, or a frame that is read as JSON, is not the text of one JSON value.
    invalid_json,
    /// The header or trailer of a frame violates its framing.
    malformed_frame,
    /// A frame was not complete within its time limit.
    frame_timeout,
    /// All bytes of a buffer pool are in use, and the operation may not wait.
    pool_exhausted,
    /// The outbox or the topic was closed: it accepts no more messages.
    outbox_closed,
    /// A message would have exceeded the high watermark of the outbox, or the queue of a shard: the receiver is too
    /// slow.
    outbox_full,
    /// A single message is larger than the outbox's high watermark or its reserve.
    exceeds_high_watermark,
    /// A Protobuf message, or a string in it, is longer than 2 GiB.
    message_too_large,
    /// The source changed after its size was read, before it was written.
    source_changed,
    /// A framing cannot express the frame: its size exceeds the length field, or it contains a line end.
    not_framable,
    /// A number is valid JSON, but the parser cannot hold it: an integer beyond 64 bits, a real number beyond
    /// `double`.
    number_out_of_range,
    /// A handshake was not complete within its time limit.
    handshake_timeout,
    /// A connection does not begin with a PROXY header, or the header is malformed or too long.
    malformed_proxy_header,
    /// A PROXY header was not complete within its time limit.
    proxy_header_timeout,
    /// The peer has sent more than its `read_rate_limit` allows.
    rate_exceeded,
    /// `upgrade()` was called while received bytes of the peer were still buffered above the stream.
    bytes_before_layer,
};

/// Groups of errors that a program handles alike, from any category: holdfast's, the system's, Asio's, TLS.
/// Compare an error code with them.
///
///     if (ec == holdfast::condition::peer_gone) co_return;
enum class condition : int {
    /// A limit of this process is reached: a wait queue, a pool, an outbox, memory or descriptors. Try again
    /// later, or shed load.
    overloaded = 1,
    /// The peer ended, reset or truncated the connection.
    peer_gone,
    /// A time limit expired.
    timed_out,
    /// The peer has sent more than a limit allows: a frame or a WebSocket message that is too long, or too much in its
    /// time.
    limit_exceeded,
};

namespace detail {

class errc_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "holdfast"; }

    HOLDFAST_DECL std::string message(int value) const override;
};

} // namespace detail

/// The category of `errc`, named "holdfast".
inline const std::error_category& error_category() noexcept
{
    static const detail::errc_category instance; // usable from destructors at exit: it has no state
    return instance;
}

/// Makes a `std::error_code` of `error_category()`; found by argument-dependent lookup.
inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

namespace detail {

/// Whether the error is the system's. By name: Asio has a category of its own for these numbers.
inline bool is_system_error(const std::error_code& error) noexcept
{
    const std::string_view name = error.category().name();
    return name == "system" || name == "generic" || name == "asio.system";
}

/// Whether the error is `net::error::eof`.
inline bool is_end_of_stream(const std::error_code& error) noexcept
{
    return error.value() == 2 && std::string_view(error.category().name()) == "asio.misc";
}

/// Whether the error is `net::ssl::error::stream_truncated`: the peer ended the socket's stream without the
/// layer's own end.
inline bool is_truncated_stream(const std::error_code& error) noexcept
{
    return error.value() == 1 && std::string_view(error.category().name()) == "asio.ssl.stream";
}

class condition_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "holdfast.condition"; }

    HOLDFAST_DECL std::string message(int value) const override;

    HOLDFAST_DECL bool equivalent(const std::error_code& code, int value) const noexcept override;

private:
    static int of(errc error) noexcept
    {
        switch (error) {
        case errc::too_many_waiting:
        case errc::pool_exhausted:
        case errc::outbox_full:
            return static_cast<int>(condition::overloaded);
        case errc::truncated_frame:
            return static_cast<int>(condition::peer_gone);
        case errc::frame_timeout:
        case errc::handshake_timeout:
        case errc::proxy_header_timeout:
            return static_cast<int>(condition::timed_out);
        case errc::frame_too_long:
        case errc::rate_exceeded:
            return static_cast<int>(condition::limit_exceeded);
        default:
            return 0;
        }
    }

    static int of_system(int error) noexcept
    {
        switch (error) {
        case ENOMEM:
        case ENOBUFS:
        case EMFILE:
        case ENFILE:
            return static_cast<int>(condition::overloaded);
        case ECONNRESET:
        case ECONNABORTED:
        case EPIPE:
        case ENOTCONN:
            return static_cast<int>(condition::peer_gone);
        case ETIMEDOUT:
            return static_cast<int>(condition::timed_out);
        default:
            return 0;
        }
    }
};

} // namespace detail

/// Makes a `std::error_condition`; found by argument-dependent lookup.
inline std::error_condition make_error_condition(condition c) noexcept
{
    static const detail::condition_category instance;
    return {static_cast<int>(c), instance};
}

/// Why a connection ended. The first cause counts: a reset that follows a time-out of ours is a time-out.
enum class close_reason : std::uint8_t {
    /// It has not ended.
    none,
    /// This side closed it by `close()`, `async_close()` or `abort()`, without another reason.
    local,
    /// The peer ended its stream.
    peer_closed,
    /// The peer reset the connection.
    peer_reset,
    /// The peer ended the socket's stream without the end of the layer above it, such as TLS's close_notify: what
    /// it sent last may be missing.
    peer_truncated,
    /// A layer above the socket failed: an alert, a record that cannot be decrypted, a failed handshake of the user's.
    layer_failed,
    /// A handshake that the acceptor performs failed, or a PROXY header that it reads: no session began.
    handshake_failed,
    /// Such a handshake or header reached its time limit.
    handshake_timeout,
    /// A read or a write failed.
    io_error,
    /// No sign of life arrived within the heartbeat's time-out.
    heartbeat_timeout,
    /// It reached the maximum age of a connection.
    max_lifetime,
    /// The peer did not read, and the queue of messages for it reached its limit.
    send_queue_overflow,
    /// The peer sent a frame that is too long, too slow or malformed.
    frame_limit,
    /// A limit of the acceptor rejected it, or the session did.
    refused,
    /// It ended after a drain, or `bounded_acceptor::shed`, had notified it.
    drained,
    /// A drain reached its deadline, and aborted it.
    drain_deadline,
    /// The session was cancelled.
    cancelled,
    /// An exception left the session, or the owner's scope.
    exception,
    /// Memory was exhausted.
    out_of_memory,
    /// The owner was destroyed without closing it.
    abandoned,
    /// The execution context was destroyed while the connection was waiting in it.
    context_destroyed,
    /// Another connection was move-assigned over it.
    replaced,
    /// `release_unbounded()` returned the open stream to the user.
    released,
    /// The peer sent more than its rate limit allows.
    rate_limit,
    /// A newer connection of the same key took its place (`key_limits`).
    superseded,
};

/// The number of values of `close_reason`, for the size of tables.
inline constexpr std::size_t close_reason_count = 25;

/// Returns the reason in a few words, for logs and metrics; static storage.
constexpr std::string_view to_string(close_reason reason) noexcept
{
    switch (reason) {
    case close_reason::none:
        return "open";
    case close_reason::local:
        return "closed here";
    case close_reason::peer_closed:
        return "closed by peer";
    case close_reason::peer_reset:
        return "reset by peer";
    case close_reason::peer_truncated:
        return "truncated by peer";
    case close_reason::layer_failed:
        return "layer failed";
    case close_reason::handshake_failed:
        return "handshake failed";
    case close_reason::handshake_timeout:
        return "handshake timeout";
    case close_reason::io_error:
        return "I/O error";
    case close_reason::heartbeat_timeout:
        return "heartbeat timeout";
    case close_reason::max_lifetime:
        return "maximum lifetime";
    case close_reason::send_queue_overflow:
        return "send queue overflow";
    case close_reason::frame_limit:
        return "frame limit";
    case close_reason::refused:
        return "refused";
    case close_reason::drained:
        return "drained";
    case close_reason::drain_deadline:
        return "drain deadline";
    case close_reason::cancelled:
        return "cancelled";
    case close_reason::exception:
        return "exception";
    case close_reason::out_of_memory:
        return "out of memory";
    case close_reason::abandoned:
        return "abandoned by owner";
    case close_reason::context_destroyed:
        return "execution context destroyed";
    case close_reason::replaced:
        return "replaced";
    case close_reason::released:
        return "released";
    case close_reason::rate_limit:
        return "rate limit";
    case close_reason::superseded:
        return "superseded";
    }
    return "unknown";
}

inline std::ostream& operator<<(std::ostream& out, close_reason reason) { return out << to_string(reason); }

} // namespace holdfast

template <>
struct std::is_error_code_enum<holdfast::errc> : std::true_type {};
template <>
struct std::is_error_condition_enum<holdfast::condition> : std::true_type {};

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#include <holdfast/impl/error.ipp>
#endif

#endif
