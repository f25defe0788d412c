// holdfast: the other writers of JSON, each as it is best used; what is not installed is left out.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_PEERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_PEERS_HPP

#include "heap.hpp"
#include "json_rows.hpp"
#include "json_sink.hpp"

#include <simdjson.h>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define HAVE_NLOHMANN 1
#else
#define HAVE_NLOHMANN 0
#endif

#if __has_include(<boost/json/src.hpp>)
#include <boost/json/src.hpp>
#define HAVE_BOOST_JSON 1
#else
#define HAVE_BOOST_JSON 0
#endif

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
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#pragma GCC diagnostic pop
#define HAVE_RAPIDJSON 1
#else
#define HAVE_RAPIDJSON 0
#endif

namespace benchmarks {

#if HAVE_RAPIDJSON

/// RapidJSON's own allocator, counted: for the memory alone, since the writer has fast paths for its own allocator only.
struct rapidjson_counted {
    static constexpr bool kNeedFree = true;
    void* Malloc(std::size_t size) { return size != 0 ? heap::allocate(size) : nullptr; }
    void* Realloc(void* p, std::size_t, std::size_t size) { return heap::reallocate(p, size); }
    static void Free(void* p) { heap::release(p); }
};

template <class Allocator = rapidjson::CrtAllocator>
using rapidjson_text = rapidjson::GenericStringBuffer<rapidjson::UTF8<>, Allocator>;
template <class Out, class Allocator = rapidjson::CrtAllocator>
using rapidjson_writer = rapidjson::Writer<Out, rapidjson::UTF8<>, rapidjson::UTF8<>, Allocator>;

/// An output stream of RapidJSON's that hands full chunks to the sink.
class rapidjson_chunks {
public:
    using Ch = char;
    explicit rapidjson_chunks(sink& to) : to_(to) {}
    void Put(char c)
    {
        if (size_ == chunk_.size()) Flush();
        chunk_[size_++] = c;
    }
    void Flush()
    {
        to_.take({chunk_.data(), size_});
        size_ = 0;
    }

private:
    sink& to_;
    std::array<char, 16 * 1024> chunk_;
    std::size_t size_ = 0;
};

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

template <class Writer>
void rapidjson_put(Writer& to, const rapidjson::Document& document)
{
    document.Accept(to);
}

#endif

/// One text in the peers' own documents.
struct peer_documents {
    explicit peer_documents(const std::string& text)
    {
        if (const auto error = parser.parse(text).get(simdjson))
            throw std::runtime_error(std::string("simdjson: ") + simdjson::error_message(error));
#if HAVE_NLOHMANN
        nlohmann = nlohmann::json::parse(text);
#endif
#if HAVE_BOOST_JSON
        boost = boost::json::parse(text);
#endif
#if HAVE_RAPIDJSON
        rapidjson.Parse(text.data(), text.size());
        if (rapidjson.HasParseError()) throw std::runtime_error("RapidJSON cannot read the text");
#endif
    }

    simdjson::dom::parser parser;
    simdjson::dom::element simdjson;
#if HAVE_NLOHMANN
    nlohmann::json nlohmann;
#endif
#if HAVE_BOOST_JSON
    boost::json::value boost;
#endif
#if HAVE_RAPIDJSON
    rapidjson::Document rapidjson;
#endif
};

} // namespace benchmarks

#endif
