// holdfast: a fuzz target: bytes choose values, options and the sizes of chunks. The chunks are the whole
// text, which is valid JSON where the options promise that, and simdjson's document of it is written as the
// same text.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"
#include "sizes.hpp"
#include "support/json_readings.hpp"
#include "support/json_values.hpp"

#include <holdfast/adapters/simdjson.hpp>

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

using holdfast::json;
using holdfast::ndjson;
using holdfast::utf8_policy;
using tests::in_chunks;

namespace {

/// Whether the text is as the library itself writes values, or has fragments that say them in another way.
enum class wording : bool { own, others };

void check_valid(std::string_view text, fuzz::sizes chunks, bool by_lines, wording by)
{
    static simdjson::dom::parser parser;
    if (by_lines) {
        while (!text.empty()) {
            const std::size_t end = text.find('\n');
            fuzz::check(end != std::string_view::npos);
            check_valid(text.substr(0, end), chunks, false, by);
            text.remove_prefix(end + 1);
        }
        return;
    }
    simdjson::dom::element element;
    fuzz::check(parser.parse(text.data(), text.size()).get(element) == simdjson::SUCCESS);
    const std::string again = in_chunks<json>(element, chunks).text;
    if (by == wording::own)
        fuzz::check(again == text);
    else
        check_valid(again, chunks, by_lines, wording::own);
}

template <class Format, class Source>
std::error_code check(const Source& source, Format format, const fuzz::sizes& chunks, wording by = wording::own)
{
    const auto whole = in_chunks<Format>(std::cref(source), [] { return std::size_t{1} << 18; }, format);
    const auto bytes = in_chunks<Format>(std::cref(source), [] { return std::size_t{1}; }, format);
    const auto some = in_chunks<Format>(std::cref(source), chunks, format);
    fuzz::check(bytes.error == whole.error && some.error == whole.error);
    if (whole.error) { // and nothing but a beginning
        fuzz::check(bytes.text.starts_with(some.text) && bytes.text.starts_with(whole.text));
        return whole.error;
    }
    fuzz::check(bytes.text == whole.text && some.text == whole.text);
    if (format.utf8 != utf8_policy::trust) check_valid(whole.text, chunks, std::is_same_v<Format, ndjson>, by);
    return {};
}

template <class Format>
void check(fuzz::choices& choices)
{
    Format format;
    format.non_finite = choices.below(2) == 0 ? holdfast::non_finite::null : holdfast::non_finite::error;
    format.utf8 = std::array{utf8_policy::replace, utf8_policy::error, utf8_policy::trust}[choices.below(3)];
    const fuzz::sizes chunks(choices);
    switch (choices.below(6)) {
    case 0: {
        std::vector<tests::nested_order> orders(choices.below(4));
        for (auto& order : orders)
            order = tests::any_order(choices);
        check(orders, format, chunks);
        break;
    }
    case 1:
        check(tests::any_map(choices), format, chunks);
        break;
    case 2:
        check(choices.text(choices.rest()), format, chunks);
        break;
    case 3:
        check(tests::any_double(choices), format, chunks);
        break;
    case 4: {
        std::vector<tests::reading> readings(choices.below(3));
        for (auto& reading : readings)
            reading = tests::any_reading(choices);
        check(readings, format, chunks, wording::others);
        break;
    }
    default: {
        const tests::branch tree = tests::any_branch(choices, tests::branch_levels + 2);
        const auto error = check(tree, format, chunks);
        if (tree.levels() <= tests::branch_levels)
            fuzz::check(error != holdfast::errc::depth_exceeded);
        else
            fuzz::check(static_cast<bool>(error));
    }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choices(data, size);
    if (choices.below(2) == 0)
        check<json>(choices);
    else
        check<ndjson>(choices);
    return 0;
}
