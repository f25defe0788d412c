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

/// The maximum size of a Protobuf message, and of a string in it, in bytes.
inline constexpr std::uint64_t protobuf_max_bytes = 0x7fffffff;

/// One Protobuf message. Its fields are the members of a described struct, by the numbers of the description,
/// in the order of their numbers: the same bytes as the classes of protoc write. The type of a member
/// determines the field's type:
///
/// - `bool`; signed integers: `int32`, `int64`; unsigned integers: `uint32`, `uint64`. `proto::sint` and
///   `proto::fixed` choose the other encodings. Durations and time points `in_unit` are its numbers;
/// - `float`, `double`; enumerations: by value;
/// - strings (the same types as in JSON, and `char`): `string`. Contiguous ranges of `std::byte`, and
///   `base64`: `bytes`;
/// - described structs: messages; structs that contain themselves need `recursive`;
/// - `std::optional`, `std::unique_ptr`, `std::shared_ptr`: a field that may be absent;
/// - other ranges: `repeated`, packed for scalars. An element without a value is left out;
/// - maps (ranges with `key_type` and `mapped_type`): `map`, in the order of the map;
/// - a `std::variant` whose description numbers its alternatives (`described_variant`): if the member has no
///   number, a `oneof` of the message that holds it, else a message with that `oneof`. An alternative is no range, map,
///   optional or pointer. `std::monostate` writes nothing and needs no number;
/// - `std::reference_wrapper`: the value that it refers to.
///
/// Other types, and members without a number, are refused at compile time. A value that is zero, false or
/// empty is left out, as in proto3, unless the member has the option `proto::always`, or is an
/// `std::optional` or an alternative.
///
/// A range as the source is field 1 of a message. A message inside another one is preceded by its length, so
/// ranges in it are read once more to count it, and single-pass ranges are refused there at compile time.
/// Lengths of messages that fit into the rest of the chunk, or into half a KiB, need no such pass. Each byte
/// is read once for every length in front of it, and once to be written; one length is kept for each message
/// that is being written. On a 64-bit machine the serializer of a described row of scalars and strings takes
/// at most 576 bytes, that of a `std::vector` of them 624 (both by `std::reference_wrapper`).
///
/// Errors: `errc::message_too_large` for a string or an inner message above `protobuf_max_bytes`, before its
/// first byte, and for the whole message when that many bytes are written (before the first byte with
/// `measure_first`); `errc::source_changed` if a message does not get the length that was written in front of
/// it; `errc::source_failed` for a variant without a value; `errc::invalid_utf8`; `errc::depth_exceeded`.
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
    /// Whether strings are checked to be UTF-8, as Protobuf requires and most readers check.
    bool check_utf8 = true;
    /// Whether the whole message is counted before its first byte, so that one that is too large or too deep
    /// fails there. Ignored for single-pass sources.
    bool measure_first = false;

    template <class Source>
    using cursor = detail::protobuf_root<Source>;
};

/// A stream of Protobuf messages, each preceded by its length as a varint: the elements of a range, or one
/// message. The stream may have any length. `parseDelimitedFrom` and `ParseDelimitedFromZeroCopyStream` read
/// it.
struct protobuf_delimited {
    /// As in `protobuf`.
    bool check_utf8 = true;

    template <class Source>
    using cursor = detail::protobuf_delimited_root<Source>;
};

} // namespace holdfast

#include <holdfast/serialize/protobuf/root.hpp>

#endif
