// holdfast: an outbox's writes: their buffers, their handler, and what they hold.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_OUTBOX_WRITE_HPP
#define HOLDFAST_DETAIL_OUTBOX_OUTBOX_WRITE_HPP

#include <holdfast/asio.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/async/execute_later.hpp>
#include <holdfast/detail/async/op_storage.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/reset_at_close.hpp>
#include <holdfast/detail/outbox/outbox_queue.hpp>
#include <holdfast/detail/outbox/outbox_waiters.hpp>
#include <holdfast/detail/outbox/stream_access.hpp>
#include <holdfast/detail/outbox/write_delay.hpp>
#include <holdfast/detail/outbox/write_some.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The buffers of one write: queued payloads, or a chunk.
class outbox_buffers {
public:
    using value_type = net::const_buffer;

    explicit outbox_buffers(const outbox_queue::gathered& from) noexcept
        : payloads_(from.payloads), offset_(from.offset)
    {
    }
    explicit outbox_buffers(std::span<const char> chunk) noexcept : chunk_(chunk) { payloads_.count = 1; }

    class const_iterator {
    public:
        using value_type = net::const_buffer;
        using difference_type = std::ptrdiff_t;
        using reference = net::const_buffer;
        using pointer = const net::const_buffer*;
        using iterator_category = std::bidirectional_iterator_tag;

        const_iterator() noexcept = default;
        const_iterator(const outbox_buffers& of, std::size_t i) noexcept : of_(&of), i_(i) {}

        net::const_buffer operator*() const noexcept { return of_->at(i_); }
        const_iterator& operator++() noexcept { return ++i_, *this; }
        const_iterator operator++(int) noexcept { return {*of_, i_++}; }
        const_iterator& operator--() noexcept { return --i_, *this; }
        const_iterator operator--(int) noexcept { return {*of_, i_--}; }
        bool operator==(const const_iterator& other) const noexcept { return i_ == other.i_; }

    private:
        const outbox_buffers* of_ = nullptr;
        std::size_t i_ = 0;
    };

    [[nodiscard]] const_iterator begin() const noexcept { return {*this, 0}; }
    [[nodiscard]] const_iterator end() const noexcept { return {*this, payloads_.count}; }

private:
    [[nodiscard]] net::const_buffer at(std::size_t i) const noexcept
    {
        if (payloads_.places == nullptr) return {chunk_.data(), chunk_.size()};
        const std::string_view text = payloads_[i].text();
        const net::const_buffer whole(text.data(), text.size());
        return i == 0 ? whole + offset_ : whole;
    }

    outbox_ring::pins payloads_{};
    std::size_t offset_ = 0;
    std::span<const char> chunk_;
};

/// What an outbox does that depends on the types of its stream and its connection, which is a stream or a guard of one.
struct outbox_functions {
    bool (*begin)(outbox_base&) noexcept; // makes the flight
    bool (*write_later)(outbox_base&) noexcept;
    void (*drop_flight)(outbox_base&) noexcept;
    void* (*stream)(void* connection) noexcept;
    int (*descriptor)(void* connection) noexcept;
    void (*reset_at_close)(void* connection) noexcept;
    void (*end)(void* connection, close_reason, const error_code&) noexcept;
    void (*keep)(void* connection, stream_keeper&) noexcept; // its stream
    bool (*has_ended)(void* connection) noexcept;
};

/// A friend of `outbox`.
struct outbox_access {
    template <class Outbox>
    static bool begin(outbox_base& box) noexcept
    {
        return static_cast<Outbox&>(box).begin();
    }
    template <class Outbox>
    static bool write_later(outbox_base& box) noexcept
    {
        return static_cast<Outbox&>(box).write_later();
    }
    template <class Outbox>
    static void drop_flight(outbox_base& box) noexcept
    {
        static_cast<Outbox&>(box).drop_flight();
    }
};

template <class Outbox, class To>
inline constexpr outbox_functions outbox_functions_of{
    &outbox_access::begin<Outbox>,
    &outbox_access::write_later<Outbox>,
    &outbox_access::drop_flight<Outbox>,
    [](void* object) noexcept -> void* { return std::addressof(detail::stream_of(*static_cast<To*>(object))); },
    [](void* object) noexcept { return detail::descriptor_of(detail::stream_of(*static_cast<To*>(object))); },
    [](void* object) noexcept { detail::reset_at_close(detail::stream_of(*static_cast<To*>(object))); },
    [](void* object, close_reason reason, const error_code& error) noexcept {
        To& to = *static_cast<To*>(object);
        if constexpr (requires { to.abort(reason, error); }) {
            to.abort(reason, error);
        } else if constexpr (requires(error_code ec) { detail::lowest_layer(to).close(ec); }) {
            error_code ignored;
            detail::reset_at_close(to);
            detail::lowest_layer(to).close(ignored);
        }
    },
    [](void* object, stream_keeper& keeper) noexcept { keeper.keep(*static_cast<To*>(object)); },
    [](void* object) noexcept { return detail::has_ended(*static_cast<To*>(object)); }};

/// What an outbox holds while it is busy, so that an idle one is small. It belongs to the pending operation, which may
/// outlive the outbox.
struct outbox_flight_base : delayed_write {
    explicit outbox_flight_base(const outbox_queue::marks& marks) noexcept : queue(marks) {}

    outbox_queue queue;
    push_waiters waiting;   // for space
    flush_waiters flushing; // until no write is pending
    write_delay* delay = nullptr;
    error_code failure{}; // of a write outside Asio
    std::uint16_t ticks_above = 0;
    bool pending = false;
    bool delayed = false; // a write is, if it has not been posted meanwhile
    bool busy = false;    // a write is pending, or is about to begin; else the block is kept for the next message
    bool used = false;    // since the last tick
};

template <class Outbox>
struct outbox_flight : outbox_flight_base {
    // On a socket the writes that pend are few: those for which the kernel has no space. A posted one takes 48 bytes.
    using stream_type = typename Outbox::stream_type;
    using storage_type = std::conditional_t<is_stream_socket<stream_type>, op_storage_of<56>, op_storage>;

    outbox_flight(Outbox& of, stream_type& to, const outbox_queue::marks& marks) noexcept
        : outbox_flight_base(marks), owner(&of), stream(&to)
    {
    }

    /// False where there is no memory.
    bool post_write() noexcept;

    Outbox* owner; // null once it is gone
    stream_type* stream;
    storage_type storage; // of the pending operation
    shared_buffer_loan chunk;
    stream_keeper kept_stream; // of an outbox that is gone
};

/// The handler of an outbox's writes, and the owner of its flight while one is pending.
template <class Outbox>
class outbox_write_handler {
public:
    using storage_type = typename outbox_flight<Outbox>::storage_type;
    using allocator_type = op_allocator<void, storage_type>;

    explicit outbox_write_handler(outbox_flight<Outbox>& flight) noexcept : storage_(&flight.storage), flight_(&flight)
    {
        flight.pending = true;
    }
    outbox_write_handler(outbox_write_handler&& other) noexcept
        : storage_(other.storage_), flight_(std::exchange(other.flight_, nullptr))
    {
    }
    ~outbox_write_handler()
    {
        if (flight_ != nullptr) (void)end_flight(); // destroyed uncalled, with its execution context
    }

    allocator_type get_allocator() const noexcept { return allocator_type(*storage_); }

    /// Whether the outbox is gone, and perhaps the stream.
    [[nodiscard]] bool abandoned() const noexcept { return flight_->owner == nullptr; }

    void operator()() // after the turn of the event loop in which a message was pushed
    {
        if (Outbox* const owner = end_flight()) owner->write_next(true);
    }
    void operator()(const error_code& ec, std::size_t n)
    {
        if (Outbox* const owner = end_flight()) owner->after_write(ec, n);
    }

private:
    Outbox* end_flight() noexcept
    {
        outbox_flight<Outbox>* const flight = std::exchange(flight_, nullptr);
        flight->pending = false;
        Outbox* const owner = flight->owner;
        if (owner == nullptr) delete flight;
        return owner;
    }

    storage_type* storage_; // apart: Asio calls get_allocator() on a moved-from handler too
    outbox_flight<Outbox>* flight_;
};

template <class Outbox>
bool outbox_flight<Outbox>::post_write() noexcept
{
    try {
        detail::execute_later(stream->get_executor(), outbox_write_handler<Outbox>(*this));
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

/// A streamed message in a queue.
template <class Format, class Source>
class queued_stream final : public streamed_source {
public:
    template <class From>
    queued_stream(bool interleaves, bool interleaves_control, From&& source, Format&& format)
        : streamed_source(sizeof(queued_stream), interleaves, interleaves_control),
          serializer_(std::forward<From>(source), std::move(format))
    {
    }

    std::span<char> next(std::span<char> chunk, std::error_code& ec) override { return serializer_.next(chunk, ec); }
    [[nodiscard]] bool done() const noexcept override { return serializer_.done(); }

private:
    streaming_serializer<Format, Source> serializer_;
};

} // namespace holdfast::detail

#endif
