// holdfast: writes a message of any size as a sequence of chunks of the caller's size. No I/O; standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_STREAMING_SERIALIZER_HPP
#define HOLDFAST_SERIALIZE_STREAMING_SERIALIZER_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/message.hpp>
#include <holdfast/serialize/detail/ranges.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Writes a source in a format, chunk by chunk, into buffers of the caller. The message never exists as a
/// whole: the serializer stops and resumes at any byte, inside a string, an escape or a number.
///
/// It holds the source, the format's options and a *cursor* whose type is derived from the source's type. So
/// the memory of a message that is being sent is `sizeof(streaming_serializer)` plus the caller's chunk; it
/// is known at compile time and does not depend on the length of the message. Nothing is allocated, no
/// virtual function is called, and recursion never depends on data. In JSON, on a 64-bit machine with
/// libstdc++: at most 584 bytes for a described row of scalars and strings, 624 for a `std::vector` of them
/// (both by `std::reference_wrapper`), 736 for a simdjson document of any size. A view that makes its rows
/// adds itself and one row. 508 of these bytes hold the row that the end of a chunk cuts.
///
/// `Format` is `json` or `ndjson` (serialize/json.hpp), `protobuf` or `protobuf_delimited`
/// (serialize/protobuf.hpp), or a layer around one (`framed`, `deflated`). `Source` is held by value; a
/// `std::reference_wrapper<T>` refers to the caller's `T`. The format says which types are sources. A view is
/// a source, so rows can be made while they are sent: each element is made once and each increment is made
/// once, whatever the size of the chunks.
///
/// A format is a value type that holds its options and has a member template `cursor<Source>`.
///
/// Lifetime: a referred source must outlive the serializer, and must not change between the first `next()`
/// and the end. The serializer is neither copyable nor movable, since the cursor holds iterators into the
/// source.
///
/// Thread safety: distinct objects are independent; many serializers may read one constant source at once.
///
/// Cost: making a serializer costs nothing but its initialization, so make one for each message, or `reset()`
/// one.
///
/// Example:
///
///     holdfast::streaming_serializer text{std::cref(quotes), holdfast::json{}};
///     std::array<char, 16384> chunk;
///     std::error_code ec;
///     while (!text.done() && !ec) {
///         auto part = text.next(chunk, ec);
///         std::fwrite(part.data(), 1, part.size(), stdout);
///     }
///     if (ec) std::fprintf(stderr, "%s\n", ec.message().c_str());
template <class Format, class Source>
class streaming_serializer {
public:
    using format_type = Format;
    using source_type = Source;

    /// Reads nothing from the source: the first `next()` does.
    explicit streaming_serializer(Source source, Format format = {}) : source_(std::move(source)), format_(format) {}

    streaming_serializer(const streaming_serializer&) = delete;
    streaming_serializer& operator=(const streaming_serializer&) = delete;

    /// Fills `chunk` with the next bytes of the message and returns the filled part of it.
    ///
    /// Every chunk but the last is filled to the byte; only formats that put a frame around each chunk may
    /// leave a few bytes free (`framed` with `http_chunked` or `u32_parts`). The result is empty after the
    /// end of the message, and for an empty chunk, which changes nothing. Bytes of the chunk after the
    /// returned part may be overwritten. The source may be read one element ahead.
    ///
    /// `ec` is cleared on success. On failure it holds the reason, the result is empty, and every later call
    /// fails in the same way, so a message that failed never looks complete. Reasons are those of the format
    /// (`errc::not_finite`, `errc::invalid_utf8`, `errc::invalid_json`, `errc::depth_exceeded`,
    /// `errc::message_too_large`, `errc::source_changed`), and `errc::source_failed` after an exception.
    /// `bytes_written()` is the length of what was returned before, `error_path()` names the value.
    ///
    /// Exceptions: those of the source while it makes an element; the serializer has then failed. None of its
    /// own. Cost: proportional to the bytes written; no allocation, except those of the source.
    std::span<char> next(std::span<char> chunk, std::error_code& ec)
    {
        ec.clear();
        const std::size_t filled = message_.fill(chunk, source_, format_);
        if (message_.error() != errc{}) ec = message_.error();
        bytes_written_ += filled;
        return chunk.first(filled);
    }

    /// Whether the last byte of the message has been returned. Never true after a failure.
    bool done() const noexcept { return message_.done(); }

    /// The number of bytes that `next()` has returned.
    std::uint64_t bytes_written() const noexcept { return bytes_written_; }

    /// After a failure: the value that caused it, as a JSON Pointer (RFC 6901) from the source, such as
    /// `/rows/17/price`, with the names that the format writes. Empty for the source itself, and if nothing
    /// failed. After an exception of the source it names the element that was being made. It does not look
    /// into simdjson documents and JSON fragments.
    ///
    /// Cost: the path is read from the cursor when this is called, and costs nothing before; the source must still
    /// exist.
    std::string error_path()
    {
        std::string path;
        if (message_.error() != errc{}) detail::append_path(message_.cursor(), path, source_);
        return path;
    }

    /// Begins the message again, with the same source: `bytes_written()` is 0, an error is cleared. Requires
    /// a source that can be read more than once.
    void reset() noexcept
        requires(detail::is_repeatable<typename Format::template cursor<Source>>)
    {
        std::destroy_at(&message_);
        std::construct_at(&message_);
        bytes_written_ = 0;
    }

    /// Begins a new message with another source. Exceptions: those of moving the source; the message has then
    /// not begun again.
    void reset(Source source)
        requires std::is_move_assignable_v<Source>
    {
        std::destroy_at(&message_); // before the source, into which it points
        std::construct_at(&message_);
        bytes_written_ = 0;
        source_ = std::move(source);
    }

private:
    Source source_;
    // Begins at the source's beginning; destroyed before the source, into which it points.
    detail::serialize_message<typename Format::template cursor<Source>> message_;
    std::uint64_t bytes_written_ = 0;
    [[no_unique_address]] Format format_;
};

namespace detail {

// Of a forwarded source: an lvalue is only referred to.
template <class Format, class Source>
using serializer_of = streaming_serializer<
    Format, std::conditional_t<std::is_lvalue_reference_v<Source>,
                               std::reference_wrapper<std::remove_reference_t<Source>>, std::remove_cvref_t<Source>>>;

} // namespace detail

/// A source that can be read more than once, so that its size can be counted before it is written: every
/// source but single-pass ranges and what contains one.
template <class Source, class Format>
concept multi_pass_source = detail::is_repeatable<typename Format::template cursor<std::remove_reference_t<Source>>>;

/// The exact size of `source` in the format, in bytes: `serialized_size<json>(x)`. It holds as long as the
/// source does not change.
///
/// `ec` is cleared on success, else it holds what `next()` reports; the result is then the size up to the
/// chunk that failed. Exceptions: those of the source. Cost: one pass over the source, as long as writing it
/// takes; no allocation, 4 KiB of stack.
template <class Format, class Source>
    requires multi_pass_source<Source, Format>
std::uint64_t serialized_size(Source&& source, std::error_code& ec, Format format = {})
{
    ec.clear();
    detail::serialize_message<typename Format::template cursor<std::remove_reference_t<Source>>> message;
    const std::uint64_t size = detail::measure(message, source, format);
    if (message.error() != errc{}) ec = message.error();
    return size;
}

/// Whether `source` is longer than `bytes` bytes in the format; false if it fails before that. Exceptions:
/// those of the source. Cost: as `serialized_size`, but it stops after `bytes` bytes.
template <class Format, class Source>
    requires multi_pass_source<Source, Format>
bool serialized_size_exceeds(std::uint64_t bytes, Source&& source, Format format = {})
{
    detail::serialize_message<typename Format::template cursor<std::remove_reference_t<Source>>> message;
    return detail::measure(message, source, format, bytes) > bytes;
}

/// The same, but throws `std::system_error` instead of setting an error code.
template <class Format, class Source>
    requires multi_pass_source<Source, Format>
std::uint64_t serialized_size(Source&& source, Format format = {})
{
    std::error_code ec;
    const std::uint64_t size = serialized_size<Format>(std::forward<Source>(source), ec, format);
    if (ec) throw std::system_error(ec, "serialized_size");
    return size;
}

/// The rest of a serializer's message as an input range of `std::span<const char>`, its chunks. Each chunk is
/// written into `buffer` (not empty) and valid until the iterator is incremented. Lifetime: the range refers
/// to the serializer and the buffer. Exceptions: making and incrementing an iterator throw
/// `std::system_error` where `next()` reports an error, and what the source throws.
///
///     for (std::span<const char> chunk : holdfast::chunks(text, buffer))
///         std::fwrite(chunk.data(), 1, chunk.size(), file);
template <class Format, class Source>
class chunks : public std::ranges::view_base {
public:
    chunks(streaming_serializer<Format, Source>& text, std::span<char> buffer) noexcept : text_(&text), buffer_(buffer)
    {
    }

    class iterator {
    public:
        using value_type = std::span<const char>;
        using difference_type = std::ptrdiff_t;
        using iterator_concept = std::input_iterator_tag;

        explicit iterator(const chunks& of) : of_(&of) { ++*this; }
        iterator(iterator&&) = default;
        iterator& operator=(iterator&&) = default;

        value_type operator*() const noexcept { return chunk_; }

        iterator& operator++()
        {
            std::error_code ec;
            chunk_ = of_->text_->next(of_->buffer_, ec);
            if (ec) throw std::system_error(ec);
            return *this;
        }
        void operator++(int) { ++*this; }

        bool operator==(std::default_sentinel_t) const noexcept { return chunk_.empty(); }

    private:
        const chunks* of_;
        value_type chunk_;
    };

    iterator begin() const { return iterator(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    streaming_serializer<Format, Source>* text_;
    std::span<char> buffer_;
};

/// The whole message as a string, for tests and small messages: `serialize_to_string<json>(x)`.
/// Exceptions: `std::system_error` where `next()` reports an error; what the source throws; `std::bad_alloc`.
template <class Format, class Source>
std::string serialize_to_string(Source&& source, Format format = {})
{
    detail::serializer_of<Format, Source> text(std::forward<Source>(source), format);
    std::string whole;
    while (!text.done()) {
        char chunk[1024];
        std::error_code ec;
        const auto part = text.next(chunk, ec);
        if (ec) throw std::system_error(ec);
        whole.append(part.data(), part.size());
    }
    return whole;
}

} // namespace holdfast

#endif
