// holdfast: a message as a sequence of fixed-size chunks, however large it is. No I/O; standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_STREAMING_SERIALIZER_HPP
#define HOLDFAST_SERIALIZE_STREAMING_SERIALIZER_HPP

#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/detail/message.hpp>
#include <holdfast/error.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <ranges>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast {

/// Writes a source in a format, into buffers of the caller's, one after the other: the message never exists
/// as a whole. It stops and goes on at any byte, in the middle of a string, an escape or a number.
///
/// What it holds is the source, the format's options and a *cursor*, whose type the compiler derives from the
/// source's type: so the memory of a message being sent is `sizeof(streaming_serializer)` plus the caller's
/// chunk, known at compile time and independent of the message's length. It allocates nothing, calls nothing
/// virtual and does not recurse to a depth that depends on data. In JSON, on a 64-bit machine with libstdc++:
/// 584 bytes for one described row of scalars and strings, 624 for a `std::vector` of them (both by
/// `std::reference_wrapper`), 736 for a simdjson document of any size; a view that makes its rows adds itself
/// and one row. 508 bytes of it hold the row that a chunk's end cuts.
///
/// `Format` is `json` or `ndjson` (serialize/json.hpp), `protobuf` or `protobuf_delimited`
/// (serialize/protobuf.hpp). `Source` is held by value;
/// `std::reference_wrapper<T>` refers to the caller's `T`, which must then outlive the serializer. Which
/// types are sources is the format's matter (see `json`). A view is a source too, so rows can be made while
/// they are sent: each element is made once and each increment made once, whatever the size of the chunks.
///
/// A format is a value type that holds its options and has a member template `cursor<Source>`; this class
/// knows nothing else of it.
///
/// Neither copyable nor movable: the cursor holds iterators into the source. A referred source must not be
/// changed between the first `next()` and the end.
///
/// Thread safety: distinct objects are independent; many serializers may read one constant source at once.
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

    /// Nothing is read from the source before the first `next()`.
    explicit streaming_serializer(Source source, Format format = {})
        : source_(std::move(source)), format_(format)
    {
    }

    streaming_serializer(const streaming_serializer&) = delete;
    streaming_serializer& operator=(const streaming_serializer&) = delete;

    /// Fills `chunk` with the next bytes of the message and returns the part of it that was filled.
    ///
    /// That part is the whole chunk, to the byte, for every chunk but the last (the source may be read one
    /// element ahead of it). It is empty when the message had ended before, and for an empty chunk, which
    /// changes nothing. Bytes of the chunk behind the returned part may have been written to.
    ///
    /// `ec` is cleared on success. On failure it says why, the returned part is empty, and every later call
    /// fails in the same way: a message that failed half-way never looks complete. The reasons are the
    /// format's (`errc::not_finite`, `errc::invalid_utf8`, `errc::invalid_json`, `errc::depth_exceeded`,
    /// `errc::message_too_large`, `errc::source_changed`), and `errc::source_failed` after an exception. What
    /// was returned before is `bytes_written()` long; which value it was, `error_path()` tells.
    ///
    /// Exceptions: what the source throws while an element is made leaves through here; the serializer has
    /// then failed. It throws nothing itself.
    /// Cost: proportional to the bytes written; no allocation apart
    /// from the source's own.
    std::span<char> next(std::span<char> chunk, std::error_code& ec)
    {
        ec.clear();
        const std::size_t filled = message_.fill(chunk, source_, format_);
        if (message_.error() != errc{}) ec = message_.error();
        bytes_written_ += filled;
        return chunk.first(filled);
    }

    /// Whether the last byte of the message has been returned: never after a failure.
    bool done() const noexcept { return message_.done(); }

    /// How many bytes `next()` has returned up to now.
    std::uint64_t bytes_written() const noexcept { return bytes_written_; }

    /// After a failure, which value it was: a JSON Pointer (RFC 6901) from the source, such as
    /// `/rows/17/price`, with the names that the format writes; empty for the source itself. After an
    /// exception of the source: up to the element that was being made. Inside of a simdjson document or a
    /// fragment of JSON it doesn't look.
    ///
    /// It is read off the cursor, so nothing is spent on it before; the source must still be there.
    std::string error_path()
    {
        std::string path;
        if (message_.error() != errc{}) detail::append_path(message_.cursor(), path, source_);
        return path;
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
using serializer_of =
    streaming_serializer<Format, std::conditional_t<std::is_lvalue_reference_v<Source>,
                                                    std::reference_wrapper<std::remove_reference_t<Source>>,
                                                    std::remove_cvref_t<Source>>>;

} // namespace detail

/// A source that can be read more than once, so that its size can be told before it is written. All can, but
/// for single-pass ranges, and what holds one.
template <class Source, class Format>
concept multi_pass_source =
    detail::is_repeatable<typename Format::template cursor<std::remove_reference_t<Source>>>;

/// How many bytes `source` will be, to the byte: `serialized_size<json>(x)`. It is only true for as long as
/// the source does not change.
///
/// `ec` is cleared on success; else it is what `next()` reports, and the returned value says how many bytes
/// were written up to the chunk in which it happened. Exceptions: what the source throws. Cost: one pass over
/// the source, as long as writing it; no allocation, 4 KiB of the stack.
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

/// Whether `source` will be more than `bytes` bytes: for what is done to large messages only. A source
/// that fails before is not. Exceptions: what the source throws. Cost: as `serialized_size`, but at most for
/// `bytes` bytes.
template <class Format, class Source>
    requires multi_pass_source<Source, Format>
bool serialized_size_exceeds(std::uint64_t bytes, Source&& source, Format format = {})
{
    detail::serialize_message<typename Format::template cursor<std::remove_reference_t<Source>>> message;
    return detail::measure(message, source, format, bytes) > bytes;
}

/// The same. Exceptions: `std::system_error` too, instead of an error code.
template <class Format, class Source>
    requires multi_pass_source<Source, Format>
std::uint64_t serialized_size(Source&& source, Format format = {})
{
    std::error_code ec;
    const std::uint64_t size = serialized_size<Format>(std::forward<Source>(source), ec, format);
    if (ec) throw std::system_error(ec, "serialized_size");
    return size;
}

/// The rest of a serializer's message as an input range of `std::span<const char>`, its chunks, made in
/// `buffer` (not empty): each is there until the iterator goes on. It refers to both.
/// Exceptions: making the iterator and incrementing it throw `std::system_error` where `next()` reports an
/// error, and what the source throws.
///
///     for (std::span<const char> chunk : holdfast::chunks(text, buffer))
///         std::fwrite(chunk.data(), 1, chunk.size(), file);
template <class Format, class Source>
class chunks : public std::ranges::view_base {
public:
    chunks(streaming_serializer<Format, Source>& text, std::span<char> buffer) noexcept
        : text_(&text), buffer_(buffer)
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

/// The whole message as a string, for tests and for small things: `serialize_to_string<json>(x)`.
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
