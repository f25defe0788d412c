// holdfast: the Protobuf wire format of streaming_serializer. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_HPP

#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>
#include <holdfast/serialize/values.hpp>

#include <cstdint>

namespace holdfast {

namespace detail {

template <class T>
struct protobuf_root;
template <class T>
struct protobuf_delimited_root;

} // namespace detail

/// The longest message of Protobuf, in bytes; also the longest string.
inline constexpr std::uint64_t protobuf_max_bytes = 0x7fffffff;

/// One Protobuf message. Its fields are the members of a described struct that stands at its root, by the
/// numbers of the description; they are written in the order of their numbers, as the classes that protoc
/// makes do it, and these write the same bytes. The member's type tells the field's:
///
/// - `bool`; signed integers: `int32`, `int64`; unsigned ones: `uint32`, `uint64`. The options `sint` and
///   `fixed` choose the other encodings. Durations and time points `in` a unit are its numbers;
/// - `float`, `double`; enumerations: by value;
/// - strings (whatever JSON takes for one, `char` too): `string`. Contiguous ranges of `std::byte`, and
///   `holdfast::base64`, which is a word for JSON alone: `bytes`;
/// - described structs: messages; also those that contain themselves (`recursive`);
/// - `std::optional`, `std::unique_ptr`, `std::shared_ptr`: a field that is there or not;
/// - other ranges: `repeated`, packed where they hold scalars. An element without a value is left out;
/// - maps (ranges with `key_type` and `mapped_type`): `map`, in their order;
/// - a `std::variant` with a description (`described_variant`) that numbers its alternatives: a `oneof` of
///   the message that holds it, if its member has no number; else a message with that `oneof`. An
///   alternative `std::monostate` is nothing and needs no number;
/// - `std::reference_wrapper`: what it refers to.
///
/// A type that is none of these, or a member without a number, is refused at compile time. A value that is
/// zero, false or empty is left out, as proto3 has it, unless the member has the option `always`, or is an
/// optional, or a choice of a `oneof`, or a message.
///
/// A range at the root is a message as well, `repeated` with the number 1. Its elements may be made while
/// they are sent and be as many as there are; so may those of a range that is a member of the root. Inside of
/// a message within another one, its length comes first: there a range is gone through once more beforehand,
/// so that a single-pass range is refused at compile time. The length of a message that fits into what is
/// left of the chunk, or into half a KiB, is told without such a pass. Otherwise a byte
/// is read once for each length that stands before it, and once to be written; nothing is remembered of these
/// passes but one length for each message in flight. On a 64-bit machine the serializer of a described row of
/// scalars and strings takes 576 bytes, and that of a `std::vector` of them 624, both by
/// `std::reference_wrapper`.
///
/// `next()` fails with `errc::message_too_large` where a message within another, or a string, is longer than
/// `protobuf_max_bytes`: before its first byte. The root's length is not known beforehand: there it fails
/// when that many bytes are written, unless `measure_first` is set. It fails with `errc::source_changed`
/// where a message does not get the length that was told; with `errc::invalid_utf8`; and with
/// `errc::depth_exceeded`.
///
///     struct tick { std::uint64_t id; std::int32_t change; std::vector<double> prices; };
///     constexpr auto describe(holdfast::type_tag<tick>)
///     {
///         using holdfast::field;
///         return holdfast::fields(field("id", &tick::id, 1), field("prices", &tick::prices, 3),
///                                 field("change", &tick::change, 2, holdfast::proto::sint));
///     }
///     // message tick { uint64 id = 1; sint32 change = 2; repeated double prices = 3; }
///
///     std::string message = holdfast::serialize_to_string<holdfast::protobuf>(tick{1, -2, {3.5}});
struct protobuf {
    /// Whether strings are held to be UTF-8, as Protobuf demands and most readers check. If not, their bytes
    /// go out as they are.
    bool check_utf8 = true;
    /// Whether the root is gone through once more before its first byte, so that a message that is too large
    /// or too deep fails there. A single-pass source is not.
    bool measure_first = false;

    template <class Source>
    using cursor = detail::protobuf_root<Source>;
};

/// Protobuf messages one after the other, each behind its length as a varint, as `parseDelimitedFrom` and
/// `ParseDelimitedFromZeroCopyStream` read them: the elements of a range, or one message. There is no end to
/// such a stream: ten million rows or the changes of a year, in the memory of one chunk.
struct protobuf_delimited {
    /// As in `protobuf`.
    bool check_utf8 = true;

    template <class Source>
    using cursor = detail::protobuf_delimited_root<Source>;
};

} // namespace holdfast

#include <holdfast/serialize/protobuf/root.hpp>

#endif
