// holdfast: a fuzz target: text that is JSON, or is not. What is copied, converted, and written from
// simdjson's values is what simdjson makes of it, whatever the sizes of the pieces and chunks.
// SPDX-License-Identifier: BSL-1.0
#include "support/json_text.hpp"
#include "choices.hpp"
#include "sizes.hpp"
#include "support/converted.hpp"

#include <holdfast/adapters/simdjson.hpp>
#include <holdfast/adapters/simdjson_ondemand.hpp>

#include <string>
#include <string_view>
#include <system_error>

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::ndjson_conversion;
using tests::chunked_text;
using tests::converted;
using tests::converted_text;
using tests::in_chunks;

namespace {

std::size_t one_byte() { return 1; }

/// What simdjson says of a text.
struct verdict {
    explicit verdict(std::string_view text) : compact(text.size(), 0)
    {
        error = parser.parse(text.data(), text.size()).get(element);
        std::size_t size = 0;
        if (valid() && simdjson::minify(text.data(), text.size(), compact.data(), size) != simdjson::SUCCESS)
            fuzz::check(false);
        compact.resize(size);
        bool in_string = false;
        std::size_t depth = 0;
        for (std::size_t i = 0; i != size; ++i) {
            const char c = compact[i];
            if (in_string && c == '\\') ++i;
            in_string ^= c == '"';
            if (in_string) continue;
            if (c == '[' || c == '{') levels = std::max(levels, ++depth);
            if (c == ']' || c == '}') --depth;
        }
    }

    [[nodiscard]] bool valid() const { return error == simdjson::SUCCESS; }

    /// Whether it is JSON perhaps, but simdjson can't hold it: large numbers, halves of surrogate pairs.
    [[nodiscard]] bool too_much() const
    {
        switch (error) {
        case simdjson::SUCCESS:
        case simdjson::EMPTY:
        case simdjson::TAPE_ERROR:
        case simdjson::DEPTH_ERROR:
        case simdjson::T_ATOM_ERROR:
        case simdjson::F_ATOM_ERROR:
        case simdjson::N_ATOM_ERROR:
        case simdjson::UTF8_ERROR:
        case simdjson::UNESCAPED_CHARS:
        case simdjson::UNCLOSED_STRING:
            return false;
        default:
            return true;
        }
    }

    [[nodiscard]] bool is_array() const { return valid() && element.is_array(); }
    [[nodiscard]] bool is_container() const { return valid() && (element.is_array() || element.is_object()); }

    /// The error of what holds containers to a limit.
    [[nodiscard]] std::error_code at_depth(std::size_t most) const
    {
        return levels > most ? errc::depth_exceeded : std::error_code();
    }

    simdjson::dom::parser parser;
    simdjson::dom::element element;
    simdjson::error_code error{};
    std::string compact; // where it is valid, as the rest
    std::size_t levels = 0;
};

void check_same(const chunked_text& a, const chunked_text& b)
{
    fuzz::check(a.error == b.error);
    fuzz::check(a.error ? a.text.starts_with(b.text) || b.text.starts_with(a.text) : a.text == b.text);
}

void check_copied(std::string_view text, const verdict& meant, const fuzz::sizes& chunks)
{
    const auto copy = in_chunks<json>(holdfast::checked_json(text), chunks);
    check_same(copy, in_chunks<json>(holdfast::checked_json(text), one_byte));
    if (meant.valid()) {
        fuzz::check(copy.error == meant.at_depth(holdfast::checked_json_max_depth));
        fuzz::check(copy.error || copy.text == meant.compact);
    } else {
        fuzz::check(copy.error || meant.too_much());
    }
}

void check_document(const verdict& meant, const fuzz::sizes& chunks)
{
    if (!meant.valid()) return;
    const auto once = in_chunks<json>(meant.element, chunks);
    fuzz::check(!once.error && once.text == in_chunks<json>(meant.element, one_byte).text);
    const verdict again(once.text);
    if (again.valid())
        fuzz::check(in_chunks<json>(again.element, chunks).text == once.text);
    else
        fuzz::check(again.too_much()); // 1e20, with all its digits
}

void check_on_demand(const simdjson::padded_string& text, const verdict& meant, const fuzz::sizes& chunks)
{
    using simdjson::ondemand::document;
    static simdjson::ondemand::parser parser;
    const auto written = [&text](auto format, auto value_of, auto size) {
        document root;
        if (parser.iterate(text).get(root)) return chunked_text{{}, errc::invalid_json};
        return in_chunks<decltype(format)>(value_of(root), size);
    };
    const auto value = [](document& root) { return root.get_value(); };
    const auto elements = [](document& root) { return holdfast::simdjson_elements(root.get_value()); };
    const auto whole = written(json(), value, chunks);
    const auto lines = written(ndjson(), value, chunks);
    const auto each = written(json(), elements, chunks);
    check_same(whole, written(json(), value, one_byte));
    check_same(lines, written(ndjson(), value, one_byte));
    check_same(each, written(json(), elements, one_byte));
    if (meant.is_container()) {
        constexpr std::size_t most = holdfast::checked_json_max_depth;
        fuzz::check(whole.error == meant.at_depth(most));
        fuzz::check(whole.error || whole.text == meant.compact);
        fuzz::check(lines.error == whole.error);
        fuzz::check(each.error == (meant.is_array() ? meant.at_depth(most + 1) : errc::source_failed));
        fuzz::check(each.error || each.text == meant.compact);
    }
}

void check_array_to_lines(std::string_view text, const verdict& meant, const fuzz::sizes& pieces,
                          const fuzz::sizes& chunks)
{
    const converted_text lines = converted<ndjson_conversion::from_array>(text, pieces, chunks);
    const converted_text bytes = converted<ndjson_conversion::from_array>(text, one_byte, one_byte);
    check_same(lines, bytes);
    fuzz::check(lines.elements == bytes.elements);
    if (meant.is_array()) {
        fuzz::check(lines.error == meant.at_depth(holdfast::checked_json_max_depth));
    } else {
        fuzz::check(lines.error || meant.too_much() || meant.error == simdjson::UTF8_ERROR);
    }
    if (lines.error) return;
    const converted_text back = converted<ndjson_conversion::to_array>(lines.text, pieces, chunks);
    fuzz::check(!back.error && back.elements == lines.elements);
    fuzz::check(!meant.is_array() || back.text == meant.compact);
    fuzz::check(converted<ndjson_conversion::from_array>(back.text, pieces, chunks).text == lines.text);
}

void check_lines_to_array(std::string_view text, const fuzz::sizes& pieces, const fuzz::sizes& chunks)
{
    const converted_text array = converted<ndjson_conversion::to_array>(text, pieces, chunks);
    const converted_text bytes = converted<ndjson_conversion::to_array>(text, one_byte, one_byte);
    check_same(array, bytes);
    fuzz::check(array.elements == bytes.elements);

    converted_text expected; // line by line
    while (!text.empty() && !expected.error) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        const auto copy = in_chunks<json>(holdfast::checked_json(line), [] { return std::size_t{1} << 18; },
                                          {.utf8 = holdfast::utf8_policy::trust});
        expected.text += (expected.elements++ == 0 ? '[' : ',') + copy.text;
        expected.error = copy.error;
    }
    fuzz::check(array.error == expected.error && array.elements == expected.elements);
    if (array.error) return;
    fuzz::check(array.text == (expected.elements == 0 ? "[]" : expected.text + ']'));
    const converted_text back = converted<ndjson_conversion::from_array>(array.text, pieces, chunks);
    fuzz::check(back.error ? back.error == errc::depth_exceeded // by the array around
                           : converted<ndjson_conversion::to_array>(back.text, pieces, chunks).text == array.text);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    const fuzz::sizes pieces(choices);
    const fuzz::sizes chunks(choices);
    const std::size_t around = choices.below(4) == 3 ? choices.below(70) : 0; // about as deep as is allowed
    std::string text;
    switch (choices.below(4)) {
    case 0:
        text = tests::any_json(choices).pretty;
        break;
    case 1:
        text = tests::any_json(choices).in_line + '\n' + tests::any_json(choices).in_line;
        break;
    case 2:
        text = tests::spoiled(choices, tests::any_json(choices).pretty);
        break;
    default:
        text = choices.text(choices.rest());
    }
    text = std::string(around, '[') + text + std::string(around, ']');
    const simdjson::padded_string padded(text);
    const verdict meant(text);
    check_copied(text, meant, chunks);
    check_document(meant, chunks);
    check_on_demand(padded, meant, chunks);
    check_array_to_lines(text, meant, pieces, chunks);
    check_lines_to_array(text, pieces, chunks);
    return 0;
}
