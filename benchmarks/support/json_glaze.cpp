// holdfast: glaze as a writer of JSON, whole and in chunks of 16 KiB.
// SPDX-License-Identifier: BSL-1.0
#include "json_newest.hpp"

#include <glaze/core/ostream_buffer.hpp>
#include <glaze/json/generic.hpp>
#include <glaze/json/read.hpp>
#include <glaze/json/write.hpp>

#include <cstddef>
#include <memory>
#include <stdexcept>

namespace benchmarks {
namespace {

/// What glaze's stream buffer writes to.
struct sink_stream {
    using char_type = char;

    sink_stream& write(const char* data, std::streamsize n)
    {
        to->take({data, static_cast<std::size_t>(n)});
        return *this;
    }
    sink_stream& flush() { return *this; }
    [[nodiscard]] bool good() const { return true; }

    sink* to;
};

template <class Value>
void write(const Value& value, std::string& text)
{
    if (glz::write_json(value, text)) throw std::runtime_error("glaze failed");
}

template <class Value>
named_writers of(std::shared_ptr<const Value> value)
{
    auto reused = std::make_shared<std::string>();
    return {{"glaze",
             [=](sink& to) {
                 write(*value, *reused);
                 to.take(*reused);
             }},
            {"glaze_fresh",
             [=](sink& to) {
                 std::string text;
                 write(*value, text);
                 to.take(text);
             }},
            {"glaze_stream", [=](sink& to) {
                 sink_stream stream{&to};
                 glz::basic_ostream_buffer<sink_stream, 16 * 1024> buffer(stream);
                 if (glz::write_json(*value, buffer)) throw std::runtime_error("glaze failed");
             }}};
}

template <class Row>
std::shared_ptr<const std::vector<Row>> unowned(const std::vector<Row>& rows)
{
    return {std::shared_ptr<void>(), &rows};
}

} // namespace

named_writers glaze_writers(const std::vector<quote>& rows) { return of(unowned(rows)); }
named_writers glaze_writers(const std::vector<log_row>& rows) { return of(unowned(rows)); }

named_writers glaze_writers_of_one(const std::vector<quote>& quotes)
{
    return {{"glaze", [&](sink& to) {
                 std::string text;
                 for (const auto& q : quotes) {
                     write(q, text);
                     to.take(text);
                 }
             }}};
}

named_writers glaze_writers(std::string_view document)
{
    auto value = std::make_shared<glz::generic>();
    if (glz::read_json(*value, document)) throw std::runtime_error("glaze cannot read the text");
    return of<glz::generic>(value);
}

} // namespace benchmarks
