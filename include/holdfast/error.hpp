// holdfast: the library's error codes, and the reasons for which a connection ends. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ERROR_HPP
#define HOLDFAST_ERROR_HPP

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>

namespace holdfast {

/// What can go wrong in a holdfast operation, apart from what the system and Asio report themselves.
/// Each message says what the reader of a log can do about it.
enum class errc : int {
    /// The semaphore was closed while the operation waited for a permit, or before.
    semaphore_closed = 1,
    /// More units were asked for than the semaphore's limit: the wait could never end.
    exceeds_limit,
    /// The acceptor was closed, or is draining: it admits nobody any more.
    acceptor_closed,
    /// A frame was longer than `max_frame_bytes`.
    frame_too_long,
    /// The stream ended in the middle of a frame.
    truncated_frame,
    /// The peer went on sending past the bounds of `async_close`: the connection was closed without its end
    /// of stream.
    close_incomplete,
    /// A NaN or an infinity, which JSON cannot express.
    not_finite,
    /// A string that is not UTF-8, as JSON and Protobuf require.
    invalid_utf8,
    /// The source threw while an element was made, or has no such value: the output is incomplete.
    source_failed,
    /// A value is nested more deeply than the writer's or the parser's limit.
    depth_exceeded,
    /// As many operations as allowed were waiting for a permit already.
    too_many_waiting,
    /// The spawner was cancelled, or one of its children failed: it starts no more of them.
    spawner_closed,
    /// A `checked_json`, or a frame that is read as JSON, is not the text of one JSON value.
    invalid_json,
    /// A frame's head or tail is not what its framing demands.
    malformed_frame,
    /// A frame that had begun was not complete in time.
    frame_timeout,
    /// All bytes of a buffer pool are lent, and the operation may not wait for more of them.
    pool_exhausted,
    /// The outbox was closed: it takes no messages any more.
    outbox_closed,
    /// A message would have passed the outbox's high mark: the peer reads too slowly.
    outbox_full,
    /// A message alone is more than the outbox's high mark, or its reserve.
    exceeds_mark,
    /// A Protobuf message, or a string in it, is longer than 2 GiB.
    message_too_large,
    /// The source changed after its size was read, before it was written.
    source_changed,
    /// A framing cannot express the frame: its length is beyond the length field, or there is a line end
    /// where none may be.
    unframable,
    /// A number is valid JSON, but the parser cannot hold it: an integer beyond 64 bits, a real number beyond
    /// `double`.
    number_out_of_range,
};

/// The category of `errc`: its name is "holdfast".
inline const std::error_category& error_category() noexcept
{
    class holdfast_category final : public std::error_category {
    public:
        const char* name() const noexcept override { return "holdfast"; }

        std::string message(int value) const override
        {
            switch (static_cast<errc>(value)) {
            case errc::semaphore_closed:
                return "the semaphore was closed: no permit will be granted any more";
            case errc::exceeds_limit:
                return "more units asked for than the semaphore's limit: raise the limit or ask for fewer";
            case errc::acceptor_closed:
                return "the acceptor was closed: it admits no connections any more";
            case errc::frame_too_long:
                return "a frame is longer than max_frame_bytes: raise the limit or close the connection";
            case errc::truncated_frame:
                return "the stream ended in the middle of a frame";
            case errc::close_incomplete:
                return "the peer did not end its stream within the bounds of async_close";
            case errc::not_finite:
                return "a number is NaN or infinite, which JSON cannot express: mend the source, or choose "
                       "non_finite::null "
                       "(a key can never be null)";
            case errc::invalid_utf8:
                return "a string is not valid UTF-8: mend the source, or choose another UTF-8 policy of the "
                       "format";
            case errc::source_failed:
                return "the source threw while an element was made, or has no such value: the output is "
                       "incomplete";
            case errc::depth_exceeded:
                return "a value is nested more deeply than the limit: refuse it, or raise the limit where it "
                       "is an option";
            case errc::too_many_waiting:
                return "as many operations as allowed wait for a permit already: try again later";
            case errc::spawner_closed:
                return "the spawner was cancelled or a child failed: it starts no more children";
            case errc::invalid_json:
                return "a text is not one valid JSON value: mend its source";
            case errc::malformed_frame:
                return "a frame does not begin or end as its framing demands: close the connection";
            case errc::frame_timeout:
                return "a frame that had begun was not complete in time: close the connection";
            case errc::pool_exhausted:
                return "all bytes of the buffer pool are lent: raise max_bytes or lower what connections may "
                       "hold";
            case errc::outbox_closed:
                return "the outbox was closed: it takes no messages any more";
            case errc::outbox_full:
                return "the peer reads too slowly: a message would have passed the outbox's high mark";
            case errc::exceeds_mark:
                return "a message alone is more than the outbox holds: raise its mark, or stream the message";
            case errc::message_too_large:
                return "a Protobuf message is longer than 2 GiB, which no reader accepts: send it in parts";
            case errc::source_changed:
                return "the source changed while it was written, after its size was read: keep it unchanged "
                       "until the last byte";
            case errc::unframable:
                return "the framing cannot express this: a length beyond its field, or a line end in a line";
            case errc::number_out_of_range:
                return "a number is valid JSON, but beyond what the parser can hold: 64-bit integers and "
                       "finite doubles";
            }
            return "unknown holdfast error";
        }
    };
    // Function-local and trivially destroyed for practical purposes: usable from destructors at exit.
    static const holdfast_category instance;
    return instance;
}

/// Makes a `std::error_code` of `error_category()`; found by argument-dependent lookup.
inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Why a connection ended. The first cause wins: a reset that follows our own time-out is still a time-out.
enum class close_reason : std::uint8_t {
    /// Not ended yet.
    none,
    /// This side closed it: `close()`, `async_close()` or `abort()` without another reason.
    local,
    /// The peer ended its stream.
    peer_closed,
    /// The peer reset the connection.
    peer_reset,
    /// A read or a write failed.
    io_error,
    /// Nothing was heard for the heartbeat's time-out.
    heartbeat_timeout,
    /// It reached the greatest age that a connection may have.
    max_lifetime,
    /// The peer did not read, and the queue of what it was to be sent reached its mark.
    send_queue_overflow,
    /// The peer sent a frame beyond the limit, took too long over one, or sent what cannot be one.
    frame_limit,
    /// It was turned away by a limit of admission.
    refused,
    /// A drain asked the session to end, and it did.
    drained,
    /// A drain reached its deadline first.
    drain_deadline,
    /// The session was cancelled.
    cancelled,
    /// An exception left the session, or the owner's scope.
    exception,
    /// Memory ran out.
    out_of_memory,
    /// The owner was destroyed without closing.
    abandoned,
    /// The execution context was destroyed while the connection was still waiting in it.
    context_destroyed,
    /// Another stream was move-assigned over it.
    replaced,
    /// The stream was handed back to the user by `release()`, open.
    released,
};

/// The number of values of `close_reason`, to size tables by.
inline constexpr std::size_t close_reason_count = 19;

/// The reason in a few words, for logs and metrics; static storage.
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
    }
    return "unknown";
}

inline std::ostream& operator<<(std::ostream& out, close_reason reason) { return out << to_string(reason); }

} // namespace holdfast

template <>
struct std::is_error_code_enum<holdfast::errc> : std::true_type {};

#endif
