// holdfast: tests of formatted: a source with its format, taken apart again without a copy of the source.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/serialize/formatted.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialized_payload.hpp>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

using holdfast::formatted;

TEST_CASE("a source that can only be moved is moved into and out of the operation")
{
    formatted whole(std::make_unique<int>(7), 1.5);
    CHECK(*whole.source() == 7);
    CHECK(whole.format() == 1.5);
    const std::unique_ptr<int> out = std::move(whole).source();
    CHECK(*out == 7);
    CHECK(whole.source() == nullptr);
}

TEST_CASE("a format without state takes no space")
{
    struct nothing {};
    CHECK(sizeof(formatted<int*, nothing>) == sizeof(int*));
}

TEST_CASE("a referred source is serialized as it is then, with the options of its format")
{
    std::vector<int> rows{1, 2};
    const auto framed = formatted(std::ref(rows), holdfast::framed{holdfast::framing::u32_length<>{}});
    rows.push_back(3);
    using namespace std::string_literals;
    CHECK(holdfast::serialize_to_payload(framed).text() == "\0\0\0\7[1,2,3]"s);
}
