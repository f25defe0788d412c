// holdfast: RapidJSON as the benchmarks use it: its writer, and what it writes for our rows.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_RAPIDJSON_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_RAPIDJSON_HPP

#include "json_rows.hpp"

#include <cstddef>
#include <string_view>
#include <vector>

#if __has_include(<rapidjson/writer.h>)
// Its strings are scanned by SIMD too.
#if defined(__SSE4_2__)
#define RAPIDJSON_SSE42
#elif defined(__SSE2__)
#define RAPIDJSON_SSE2
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#pragma GCC diagnostic pop
#define HAVE_RAPIDJSON 1
#else
#define HAVE_RAPIDJSON 0
#endif

#if HAVE_RAPIDJSON

namespace benchmarks {

template <class Allocator = rapidjson::CrtAllocator>
using rapidjson_text = rapidjson::GenericStringBuffer<rapidjson::UTF8<>, Allocator>;
template <class Out, class Allocator = rapidjson::CrtAllocator>
using rapidjson_writer = rapidjson::Writer<Out, rapidjson::UTF8<>, rapidjson::UTF8<>, Allocator>;

template <class Writer>
void rapidjson_put(Writer& to, std::string_view text)
{
    to.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

template <class Writer, std::size_t N>
void rapidjson_key(Writer& to, const char (&name)[N])
{
    to.Key(name, N - 1);
}

template <class Writer>
void rapidjson_put(Writer& to, const quote& q)
{
    to.StartObject();
    rapidjson_key(to, "id"), to.Uint64(q.id);
    rapidjson_key(to, "symbol"), rapidjson_put(to, std::string_view(q.symbol));
    rapidjson_key(to, "bid"), to.Double(q.bid);
    rapidjson_key(to, "ask"), to.Double(q.ask);
    rapidjson_key(to, "bid_size"), to.Uint(q.bid_size);
    rapidjson_key(to, "ask_size"), to.Uint(q.ask_size);
    rapidjson_key(to, "time"), to.Uint64(q.time);
    rapidjson_key(to, "open"), to.Bool(q.open);
    to.EndObject();
}

template <class Writer>
void rapidjson_put(Writer& to, const log_row& row)
{
    to.StartObject();
    rapidjson_key(to, "time"), to.Uint64(row.time);
    rapidjson_key(to, "level"), rapidjson_put(to, std::string_view(row.level));
    rapidjson_key(to, "message"), rapidjson_put(to, std::string_view(row.message));
    rapidjson_key(to, "tags"), to.StartArray();
    for (const auto& tag : row.tags)
        rapidjson_put(to, std::string_view(tag));
    to.EndArray();
    to.EndObject();
}

template <class Writer, class Row>
void rapidjson_put(Writer& to, const std::vector<Row>& rows)
{
    to.StartArray();
    for (const auto& row : rows)
        rapidjson_put(to, row);
    to.EndArray();
}

} // namespace benchmarks

#endif

#endif
