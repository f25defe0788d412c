// holdfast: the options of an outbox, and how much memory it can take with them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_OUTBOX_OPTIONS_HPP
#define HOLDFAST_OUTBOX_OPTIONS_HPP

#include <holdfast/detail/saturated.hpp>
#include <holdfast/progress.hpp>

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>

namespace holdfast {

/// What an outbox does with a message that would exceed its high watermark.
enum class overflow_policy : std::uint8_t {
    /// Refuses the message with `errc::outbox_full`; `async_push` waits until there is space.
    wait,
    /// Drops the oldest messages that are not being sent. If that does not free enough space, it drops none, and
    /// refuses the new message.
    drop_oldest,
    /// Resets the connection, for `close_reason::send_queue_overflow`.
    disconnect,
};

/// Options of an `outbox`. A watermark of 2^32 - 1 or more means unlimited.
struct outbox_options {
    /// Maximum number of queued bytes: those of the messages that are not completely sent, and 16 for each message.
    std::size_t high_watermark = 64 * 1024;
    /// Pending `async_push` operations resume when the queue has drained to this many bytes. A value above the high
    /// watermark counts as the high watermark.
    std::size_t low_watermark = 16 * 1024;
    /// Bytes beside the high watermark that `push_control` can use: pings, pongs and closing messages pass a
    /// full queue.
    std::uint32_t reserve_bytes = 256;
    /// What happens to a message that would exceed the high watermark.
    overflow_policy on_overflow = overflow_policy::disconnect;
    /// Resets the connection, like `overflow_policy::disconnect`, when more than `soft_watermark` bytes are queued at
    /// this many consecutive calls of `tick()`. 0: never.
    std::uint16_t soft_limit_ticks = 0;
    /// Number of queued bytes above which a call of `tick()` counts for `soft_limit_ticks`.
    std::size_t soft_watermark = 0;
    /// Size in bytes of the chunk in which streamed messages are serialized. The queue has one while it sends such
    /// a message, however many are queued. Must be 1 to 2^30.
    std::uint32_t chunk_bytes = 16 * 1024;
    /// TCP_NOTSENT_LOWAT of the socket in bytes: the kernel takes no more while it holds this many bytes that it has
    /// not sent. A message that is still in the queue can be dropped or replaced; one that the kernel has taken can
    /// not. 0 leaves the socket's option as it is. Must not be negative.
    int notsent_lowat_bytes = 0;
    /// Maximum time that a message waits so that others go out in the same write. Must be 0 to 60 s. 0: only until the
    /// end of the current turn of the event loop.
    ///
    /// The write begins without a delay when as much is queued as one write takes (64 messages, or half the high
    /// watermark), and after `push_control`, `push_final`, `push_streamed`, `async_flush` and `async_close`; and also
    /// after another write, if messages were pushed meanwhile. Otherwise the messages of all outboxes of an execution
    /// context that have the same delay share one timer, which runs from the first of them on: they wait for that long
    /// at most. While nothing waits, no timer runs. The context's `run()` does not return while one runs.
    std::chrono::milliseconds write_delay{0};
    /// Is notified of what the peer has received: see `holdfast::progress`.
    holdfast::progress progress{};
};
static_assert(std::is_trivially_destructible_v<outbox_options>);

/// Options of `outbox::async_flush`.
struct outbox_flush_options {
    /// Maximum time to wait. At the deadline the operation completes with `net::error::timed_out`, and the messages
    /// stay queued. `duration::max()` means without a limit. Must not be negative.
    std::chrono::steady_clock::duration deadline = std::chrono::steady_clock::duration::max();
};

/// Options of `outbox::async_close`.
struct outbox_close_options {
    /// Maximum time to wait until all is sent. At the deadline the connection is reset. `duration::max()` means without
    /// a limit. Must not be negative.
    std::chrono::steady_clock::duration deadline = std::chrono::seconds(30);
};

/// Marks a message as the newest value of a key: it replaces an older one of that key that is not being sent. (If it
/// is larger than the older one and exceeds the high watermark, it is refused, and the older one stays.)
struct conflate {
    /// Any number that the program chooses, such as that of an instrument.
    std::uint64_t key;
};

/// Where in the queue a control message goes.
enum class control_place : std::uint8_t {
    /// After all queued messages: for closing messages.
    last,
    /// Before all messages but those that are being sent: for pings and pongs. It passes a streamed message that is
    /// being sent only if that one interleaves, or lets control messages through.
    next,
};

/// Options of `outbox::push_streamed`.
struct stream_options {
    /// After each chunk the messages that were queued later have their turn. The peer must be able to separate them:
    /// each chunk has to be a frame of its own.
    bool interleave = false;
    /// After each chunk only control messages with `control_place::next` have their turn, as pings and pongs between
    /// the fragments of a WebSocket message. `interleave` implies it.
    bool interleave_control = false;
};

/// Returns the most memory in bytes that an outbox with these options can take, for messages of at least
/// `smallest_message` bytes that no other outbox shares. It is the sum of what the watermarks count, the blocks of the
/// payloads, the ring, what is held while a write is pending, and a chunk. For `connection_cost::queue_bytes`.
///
/// It saturates at `SIZE_MAX`, which means that there is no bound. `without_streams` leaves the chunk out, for an
/// outbox that sends no streamed messages.
constexpr std::size_t worst_case_bytes(const outbox_options& options, std::size_t smallest_message = 1,
                                       bool without_streams = false) noexcept
{
    using detail::saturated_product;
    using detail::saturated_sum;
    constexpr std::size_t place = 16;      // of a message in the ring
    constexpr std::size_t block = 16 + 16; // of a payload, and malloc's own
    constexpr std::size_t flight = 912;    // while a write is pending
    const std::uint64_t counted = saturated_sum(detail::saturated_size(options.high_watermark), options.reserve_bytes);
    const std::uint64_t messages = counted / saturated_sum(smallest_message == 0 ? 1 : smallest_message, place) + 8;
    const std::uint64_t places = saturated_product(std::bit_ceil(messages), place);
    const std::uint64_t chunk = // as pools lend it
        without_streams ? 0 : std::bit_ceil(std::uint64_t{options.chunk_bytes < 512 ? 512 : options.chunk_bytes});
    std::uint64_t sum = 0;
    for (const std::uint64_t part :
         {counted, saturated_product(messages, block), places, places / 2, std::uint64_t{flight}, chunk})
        sum = saturated_sum(sum, part);
    constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
    return static_cast<std::size_t>(sum < most ? sum : most);
}

namespace detail {

/// Throws std::invalid_argument for an option out of its range.
inline void check(const outbox_options& options)
{
    if (options.chunk_bytes == 0 || options.chunk_bytes > std::uint32_t{1} << 30)
        throw std::invalid_argument("outbox_options::chunk_bytes must be 1 to 2^30");
    if (options.write_delay < options.write_delay.zero() || options.write_delay > std::chrono::seconds(60))
        throw std::invalid_argument("outbox_options::write_delay must be 0 to 60 s");
    if (options.notsent_lowat_bytes < 0)
        throw std::invalid_argument("outbox_options::notsent_lowat_bytes must not be negative");
    if (options.on_overflow > overflow_policy::disconnect)
        throw std::invalid_argument("outbox_options::on_overflow must be one of its enumerators");
}

} // namespace detail

} // namespace holdfast

#endif
