// holdfast: the values of protobuf_values.hpp in the classes that protoc makes, set field by field.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_PROTOBUF_BUILT_HPP
#define HOLDFAST_TESTS_SUPPORT_PROTOBUF_BUILT_HPP

#include "protobuf_values.hpp"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <protobuf_values.pb.h>

#include <string>

namespace tests::proto {

inline void build(leaf& to, const wire::leaf& from)
{
    to.set_change(from.change);
    to.set_name(from.name);
    to.set_last(from.last);
}

inline void build(tree& to, const wire::tree& from)
{
    to.set_id(from.id);
    for (const auto& node : from.nodes)
        build(*to.add_nodes(), node);
    if (from.next) build(*to.mutable_next(), *from.next);
    for (const auto& [name, node] : from.named)
        build((*to.mutable_named())[name], node);
}

inline void build(row& to, const wire::row& from)
{
    to.set_i32(from.i32);
    to.set_i64(from.i64);
    to.set_u32(from.u32);
    to.set_u64(from.u64);
    to.set_s32(from.s32);
    to.set_s64(from.s64);
    to.set_f32(from.f32);
    to.set_f64(from.f64);
    to.set_sf32(from.sf32);
    to.set_sf64(from.sf64);
    to.set_real(from.real);
    to.set_wide(from.wide);
    to.set_flag(from.flag);
    to.set_way(static_cast<side>(from.way));
    to.set_text(from.text);
    to.set_data(from.data.data(), from.data.size());
    if (from.perhaps) to.set_perhaps(*from.perhaps);
    if (from.word) to.set_word(*from.word);
}

inline void build(order& to, const wire::order& from)
{
    build(*to.mutable_first(), from.first);
    for (const auto& each : from.rows)
        build(*to.add_rows(), each);
    to.mutable_numbers()->Assign(from.numbers.begin(), from.numbers.end());
    to.mutable_changes()->Assign(from.changes.begin(), from.changes.end());
    to.mutable_marks()->Assign(from.marks.begin(), from.marks.end());
    to.mutable_prices()->Assign(from.prices.begin(), from.prices.end());
    to.mutable_flags()->Assign(from.flags.begin(), from.flags.end());
    for (const wire::side each : from.ways)
        to.add_ways(static_cast<side>(each));
    to.mutable_loose()->Assign(from.loose.begin(), from.loose.end());
    to.mutable_words()->Assign(from.words.begin(), from.words.end());
    for (const auto& [key, value] : from.counts)
        (*to.mutable_counts())[key] = value;
    for (const auto& [key, value] : from.leaves)
        build((*to.mutable_leaves())[key], value);
    for (const auto& [key, value] : from.sums)
        (*to.mutable_sums())[key] = value;
    if (const auto* moved = std::get_if<wire::leaf>(&from.what)) build(*to.mutable_moved(), *moved);
    if (const auto* changed = std::get_if<std::int32_t>(&from.what)) to.set_changed(*changed);
    if (const auto* said = std::get_if<std::string>(&from.what)) to.set_said(*said);
    if (from.within) build(*to.mutable_within(), *from.within);
    build(*to.mutable_root(), from.root);
    for (const auto& each : from.pointed)
        build(*to.add_pointed(), *each);
    to.set_far(from.far);
}

/// The bytes of protoc's class, with the entries of maps in the order of their keys.
inline std::string bytes_of(const google::protobuf::MessageLite& message)
{
    std::string bytes;
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!message.SerializeToCodedStream(&coded)) return "cannot be written";
    coded.Trim();
    return bytes;
}

} // namespace tests::proto

#endif
