// holdfast: tests of written_as<W>: what it makes is kept until it is written, wherever chunks end.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/protobuf.hpp>

#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace {

using holdfast::field;
using holdfast::omit_empty;
using holdfast::written_as;

/// Trivially copyable, and it owns a range.
struct bits {
    explicit bits(std::uint32_t from)
    {
        for (unsigned i = 0; i != 32; ++i)
            values[i] = from >> i & 1;
    }
    auto begin() const { return values.begin(); }
    auto end() const { return values.end(); }

    std::array<bool, 32> values{};
};
static_assert(std::is_trivially_copyable_v<bits>);

/// Trivially copyable, and it owns a text.
struct label {
    explicit label(int from) { text.fill(static_cast<char>('a' + from)); }
    operator std::string_view() const { return {text.data(), text.size()}; }

    std::array<char, 600> text{};
};
static_assert(std::is_trivially_copyable_v<label>);

/// Not trivially copyable, and made only once.
struct words {
    explicit words(int count)
    {
        ++made;
        for (int i = 0; i != count; ++i)
            values.push_back("a word that is longer than a small string, number " + std::to_string(i));
    }
    auto begin() const { return values.begin(); }
    auto end() const { return values.end(); }
    bool empty() const { return values.empty(); }

    std::vector<std::string> values;
    static inline int made = 0;
};

struct row {
    std::uint32_t flags = 0xdeadbeef;
    int name = 3;
    int count = 4;
    int none = 0;
    std::optional<int> perhaps = 5;
    std::optional<int> absent{};
};

constexpr auto describe(holdfast::type_tag<row>)
{
    return holdfast::fields(
        field("flags", &row::flags, 1, written_as<bits>), field("name", &row::name, 2, written_as<label>),
        field("count", &row::count, 3, written_as<words>), field("none", &row::none, 4, written_as<words>, omit_empty),
        field("perhaps", &row::perhaps, 5, written_as<std::optional<label>>),
        field("absent", &row::absent, 6, written_as<std::optional<label>>, omit_empty));
}

std::string expected_json()
{
    std::string text = "{\"flags\":[";
    for (unsigned i = 0; i != 32; ++i)
        text += (i == 0 ? "" : ",") + std::string(0xdeadbeef >> i & 1 ? "true" : "false");
    text += "],\"name\":\"" + std::string(600, 'd') + "\",\"count\":[";
    for (int i = 0; i != 4; ++i)
        text += (i == 0 ? "\"" : ",\"") + words(4).values[static_cast<std::size_t>(i)] + '"';
    return text + "],\"perhaps\":\"" + std::string(600, 'f') + "\"}";
}

} // namespace

TEST_CASE("JSON: what written_as makes is whole, wherever chunks end")
{
    const row source;
    const std::string expected = expected_json();
    CHECK(holdfast::serialize_to_string<holdfast::json>(source) == expected);
    for (std::size_t size = 1; size != 700; ++size)
        REQUIRE(tests::in_chunks(std::cref(source), size) == expected);
    const std::vector<row> rows(3);
    REQUIRE(tests::in_chunks(std::cref(rows), 5) == '[' + expected + ',' + expected + ',' + expected + ']');
}

TEST_CASE("Protobuf: what written_as makes is whole, wherever chunks end")
{
    const row source;
    const std::string expected = holdfast::serialize_to_string<holdfast::protobuf>(source);
    CHECK(expected.find(std::string(600, 'd')) != std::string::npos);
    CHECK(expected.find(std::string(600, 'f')) != std::string::npos);
    CHECK(expected.find(words(4).values[3]) != std::string::npos);
    for (std::size_t size = 1; size != 700; ++size)
        REQUIRE(tests::in_chunks<holdfast::protobuf>(std::cref(source), size) == expected);
}

TEST_CASE("a value that is not trivially copyable is made once, whatever the size of the chunks")
{
    const row source;
    for (const std::size_t size : {1U, 10U, 5000U}) {
        words::made = 0;
        static_cast<void>(tests::in_chunks(std::cref(source), size));
        CHECK(words::made <= 4); // one member, and one whose emptiness is looked at
    }
}
