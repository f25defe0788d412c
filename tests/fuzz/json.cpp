// holdfast: a fuzz target: bytes choose values, options and the sizes of chunks. The chunks are the whole
// text, which is valid JSON where the options promise that, and simdjson's document of it is written as the
// same text.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"
#include "support/json_values.hpp"

#include <holdfast/serialize/simdjson.hpp>

#include <array>
#include <functional>
#include <string_view>

using holdfast::json;
using holdfast::ndjson;
using holdfast::utf8_policy;
using tests::in_chunks;

namespace {

/// The sizes of the chunks, over and over again.
struct sizes {
    explicit sizes(fuzz::choices& choices)
    {
        for (std::size_t& size : list)
            size = std::max<std::size_t>(tests::any_size(choices, 65536), 1);
    }

    std::size_t operator()() { return list[next++ % list.size()]; }

    std::array<std::size_t, 3> list{};
    std::size_t next = 0;
};

void check_valid(std::string_view text, sizes chunks, bool by_lines)
{
    static simdjson::dom::parser parser;
    if (by_lines) {
        while (!text.empty()) {
            const std::size_t end = text.find('\n');
            fuzz::check(end != std::string_view::npos);
            check_valid(text.substr(0, end), chunks, false);
            text.remove_prefix(end + 1);
        }
        return;
    }
    simdjson::dom::element element;
    fuzz::check(parser.parse(text.data(), text.size()).get(element) == simdjson::SUCCESS);
    fuzz::check(in_chunks<json>(element, chunks).text == text);
}

template <class Format, class Source>
void check(const Source& source, Format format, const sizes& chunks)
{
    const auto whole = in_chunks<Format>(std::cref(source), [] { return std::size_t{1} << 18; }, format);
    const auto bytes = in_chunks<Format>(std::cref(source), [] { return std::size_t{1}; }, format);
    const auto some = in_chunks<Format>(std::cref(source), chunks, format);
    fuzz::check(bytes.error == whole.error && some.error == whole.error);
    if (whole.error) { // and nothing but a beginning
        fuzz::check(bytes.text.starts_with(some.text) && bytes.text.starts_with(whole.text));
        return;
    }
    fuzz::check(bytes.text == whole.text && some.text == whole.text);
    if (format.utf8 != utf8_policy::trust) check_valid(whole.text, chunks, std::is_same_v<Format, ndjson>);
}

template <class Format>
void check(fuzz::choices& choices)
{
    Format format;
    format.non_finite = choices.below(2) == 0 ? holdfast::non_finite::null : holdfast::non_finite::error;
    format.utf8 = std::array{utf8_policy::replace, utf8_policy::error, utf8_policy::trust}[choices.below(3)];
    const sizes chunks(choices);
    switch (choices.below(4)) {
    case 0: {
        std::vector<tests::nested_order> orders(choices.below(4));
        for (auto& order : orders)
            order = tests::any_order(choices);
        return check(orders, format, chunks);
    }
    case 1:
        return check(tests::any_map(choices), format, chunks);
    case 2:
        return check(choices.text(choices.rest()), format, chunks);
    default:
        return check(tests::any_double(choices), format, chunks);
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
