// holdfast: the other writers of JSON, each as it is best used; what is not installed is left out.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_PEERS_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_PEERS_HPP

#include "heap.hpp"
#include "json_rapidjson.hpp"
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

// clang 19 and newer reject an assignment to a const member in RapidJSON 1.1.0's document.h: its writer alone remains.
#if HAVE_RAPIDJSON && (!defined(__clang__) || __clang_major__ < 19)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <rapidjson/document.h>
#pragma GCC diagnostic pop
#define HAVE_RAPIDJSON_DOCUMENT 1
#else
#define HAVE_RAPIDJSON_DOCUMENT 0
#endif

namespace benchmarks {

#if HAVE_RAPIDJSON_DOCUMENT
template <class Writer>
void rapidjson_put(Writer& to, const rapidjson::Document& document)
{
    document.Accept(to);
}
#endif

#if HAVE_RAPIDJSON

/// RapidJSON's own allocator, counted: for the memory alone, since the writer has fast paths for its own allocator only.
struct rapidjson_counted {
    static constexpr bool kNeedFree = true;
    void* Malloc(std::size_t size) { return size != 0 ? heap::allocate(size) : nullptr; }
    void* Realloc(void* p, std::size_t, std::size_t size) { return heap::reallocate(p, size); }
    static void Free(void* p) { heap::release(p); }
};

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
        boost = boost::json::parse(text, &boost_memory);
#endif
#if HAVE_RAPIDJSON_DOCUMENT
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
    boost::json::monotonic_resource boost_memory;
    boost::json::value boost; // on an arena
#endif
#if HAVE_RAPIDJSON_DOCUMENT
    rapidjson::Document rapidjson;
#endif
};

} // namespace benchmarks

#endif
