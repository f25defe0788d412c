// holdfast: simdjson's builder as a writer of JSON.
// SPDX-License-Identifier: BSL-1.0

// The program links to the installed simdjson too, which is another one: the build gives this one a namespace of its
// own.
#include <simdjson.h>

#include "json_newest.hpp"

#include <memory>
#include <stdexcept>

namespace benchmarks {
namespace {

using simdjson::builder::string_builder;

void append(string_builder& to, const quote& q)
{
    to.start_object();
    to.append_key_value<"id">(q.id);
    to.append_comma();
    to.append_key_value<"symbol">(std::string_view(q.symbol));
    to.append_comma();
    to.append_key_value<"bid">(q.bid);
    to.append_comma();
    to.append_key_value<"ask">(q.ask);
    to.append_comma();
    to.append_key_value<"bid_size">(q.bid_size);
    to.append_comma();
    to.append_key_value<"ask_size">(q.ask_size);
    to.append_comma();
    to.append_key_value<"time">(q.time);
    to.append_comma();
    to.append_key_value<"open">(q.open);
    to.end_object();
}

void append(string_builder& to, const log_row& row)
{
    to.start_object();
    to.append_key_value<"time">(row.time);
    to.append_comma();
    to.append_key_value<"level">(std::string_view(row.level));
    to.append_comma();
    to.append_key_value<"message">(std::string_view(row.message));
    to.append_comma();
    to.escape_and_append_with_quotes<"tags">();
    to.append_colon();
    to.start_array();
    for (const auto& tag : row.tags) {
        if (&tag != row.tags.data()) to.append_comma();
        to.escape_and_append_with_quotes(std::string_view(tag));
    }
    to.end_array();
    to.end_object();
}

std::string_view text_of(const string_builder& from)
{
    std::string_view text;
    if (from.view().get(text) != simdjson::SUCCESS) throw std::runtime_error("simdjson's builder failed");
    return text;
}

template <class Row>
named_writers of(const std::vector<Row>& rows)
{
    auto builder = std::make_shared<string_builder>();
    return {{"simdjson_builder", [builder, &rows](sink& to) {
                 builder->clear();
                 builder->start_array();
                 for (const auto& row : rows) {
                     if (&row != rows.data()) builder->append_comma();
                     append(*builder, row);
                 }
                 builder->end_array();
                 to.take(text_of(*builder));
             }}};
}

} // namespace

named_writers simdjson_builder_writers(const std::vector<quote>& rows) { return of(rows); }
named_writers simdjson_builder_writers(const std::vector<log_row>& rows) { return of(rows); }

named_writers simdjson_builder_writers_of_one(const std::vector<quote>& quotes)
{
    auto builder = std::make_shared<string_builder>();
    return {{"simdjson_builder", [builder, &quotes](sink& to) {
                 for (const auto& q : quotes) {
                     builder->clear();
                     append(*builder, q);
                     to.take(text_of(*builder));
                 }
             }}};
}

} // namespace benchmarks
