// holdfast: the newest writers of JSON, which no package has: from the checkouts in the folder that HOLDFAST_PEERS names.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_JSON_NEWEST_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_JSON_NEWEST_HPP

#include "json_rows.hpp"
#include "json_sink.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if !defined(HAVE_GLAZE)
#define HAVE_GLAZE 0
#endif
#if !defined(HAVE_SIMDJSON_BUILDER)
#define HAVE_SIMDJSON_BUILDER 0
#endif
#if !defined(HAVE_YYJSON)
#define HAVE_YYJSON 0
#endif

namespace benchmarks {

/// The name of a writer, and what writes a case once.
using named_writers = std::vector<std::pair<std::string, std::function<void(sink&)>>>;

// Of each peer: the whole rows; one quote at a time into a buffer that is used again; a document of its own. Each in a
// translation unit of its own, since some need a newer standard, or have a namespace that a library here has too.

named_writers glaze_writers(const std::vector<quote>& rows);
named_writers glaze_writers(const std::vector<log_row>& rows);
named_writers glaze_writers_of_one(const std::vector<quote>& quotes);
named_writers glaze_writers(std::string_view document);

named_writers simdjson_builder_writers(const std::vector<quote>& rows);
named_writers simdjson_builder_writers(const std::vector<log_row>& rows);
named_writers simdjson_builder_writers_of_one(const std::vector<quote>& quotes);

/// Rows are a document of yyjson's too.
named_writers yyjson_writers(std::string_view document);
named_writers yyjson_writers_of_one(std::string_view quotes);

} // namespace benchmarks

#endif
