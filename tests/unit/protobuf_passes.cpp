// holdfast: tests of how often Protobuf reads its source, since lengths stand before what they measure.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/protobuf.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ranges>
#include <string>
#include <vector>

namespace passes {

using holdfast::field;

struct row {
    std::uint64_t id = 0;
    std::uint32_t price = 0;
};

constexpr auto describe(holdfast::type_tag<row>)
{
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price, 2));
}

inline std::size_t made = 0;

struct make_number {
    int operator()(int i) const
    {
        ++made;
        return i;
    }
};

struct make_row {
    row operator()(int i) const
    {
        ++made;
        return {static_cast<std::uint64_t>(i), 7};
    }
};

using numbers_view = std::ranges::transform_view<std::ranges::iota_view<int, int>, make_number>;
using rows_view = std::ranges::transform_view<std::ranges::iota_view<int, int>, make_row>;

struct numbers {
    numbers_view all{{}, {}};
};

constexpr auto describe(holdfast::type_tag<numbers>) { return holdfast::fields(field("all", &numbers::all, 1)); }

struct middle {
    numbers inside;
};

constexpr auto describe(holdfast::type_tag<middle>) { return holdfast::fields(field("inside", &middle::inside, 1)); }

struct outer {
    middle inside;
};

constexpr auto describe(holdfast::type_tag<outer>) { return holdfast::fields(field("inside", &outer::inside, 1)); }

struct snapshot {
    std::uint64_t sequence = 0;
    rows_view rows{{}, {}};
};

constexpr auto describe(holdfast::type_tag<snapshot>)
{
    return holdfast::fields(field("sequence", &snapshot::sequence, 1), field("rows", &snapshot::rows, 2));
}

struct folder {
    std::string name;
    std::vector<folder> folders;
};

constexpr auto describe(holdfast::type_tag<folder>)
{
    return holdfast::recursive<16>(field("name", &folder::name, 1), field("folders", &folder::folders, 2));
}

} // namespace passes

namespace {

using holdfast::multi_pass_source;
using holdfast::protobuf;
using holdfast::protobuf_delimited;
using holdfast::streaming_serializer;

/// How many elements are made for a message in chunks of n bytes.
template <class Format, class T>
std::size_t made_for(const T& source, std::size_t n)
{
    passes::made = 0;
    tests::in_chunks<Format>(std::cref(source), n);
    return passes::made;
}

template <class Format, class T>
std::uint64_t written(const T& source)
{
    static std::array<char, 16384> chunk;
    streaming_serializer text{std::cref(source), Format{}};
    std::error_code ec;
    while (!text.done() && !ec)
        text.next(chunk, ec);
    return ec ? 0 : text.bytes_written();
}

} // namespace

TEST_CASE("an element is made once for its writing, and once for each length that stands before it")
{
    const std::size_t n = 1000;
    const passes::numbers flat{passes::numbers_view({0, 1000}, {})};
    const passes::outer deep{{flat}};
    for (const std::size_t chunk : {1u, 7u, 509u, 4096u, 100'000u}) {
        CHECK(made_for<protobuf>(flat, chunk) == 2 * n);                 // the packed field's length
        CHECK(made_for<protobuf>(passes::middle{flat}, chunk) == 3 * n); // and the message's around it
        CHECK(made_for<protobuf>(deep, chunk) == 4 * n);
        CHECK(made_for<protobuf_delimited>(deep, chunk) == 5 * n);
    }
}

TEST_CASE("rows of the root are made once, however they straddle chunks")
{
    const passes::rows_view rows({0, 1000}, {});
    const passes::snapshot whole{1, rows};
    for (const std::size_t chunk : {1u, 2u, 3u, 16u, 4096u}) {
        CHECK(made_for<protobuf>(rows, chunk) == 1000);
        CHECK(made_for<protobuf>(whole, chunk) == 1000);
        CHECK(made_for<protobuf_delimited>(rows, chunk) == 1000);
    }
    CHECK(made_for<protobuf_delimited>(whole, 64) == 2000); // a message with a length is read twice
}

TEST_CASE("ten million rows that never exist take no memory")
{
    const int n = tests::sanitized ? 100'000 : 10'000'000;
    const passes::rows_view rows({1, n + 1}, {});
    passes::made = 0;
    std::uint64_t bytes = 0;
    const std::size_t allocations = tests::allocations_in([&] { bytes = written<protobuf>(rows); });
    CHECK(allocations == 0);
    CHECK(passes::made == static_cast<std::size_t>(n));
    CHECK(bytes > 7 * static_cast<std::uint64_t>(n));
    CHECK(tests::allocations_in([&] { written<protobuf_delimited>(rows); }) == 0);
}

TEST_CASE("the lengths of a tree cost as many passes as it is deep, and no allocation")
{
    passes::folder chain{"leaf", {}};
    std::size_t expected = 0; // one more level is one more tag and length around all of it
    for (int depth = 1; depth < 16; ++depth)
        chain = passes::folder{std::string(1000, 'a'), std::vector<passes::folder>(1, chain)};
    const auto bytes = tests::in_chunks<protobuf>(std::cref(chain), 4096);
    for (int depth = 1; depth < 16; ++depth)
        expected += 1000 + 3 + 3;
    CHECK(bytes.size() == expected + 6 - 1); // the innermost length takes one byte
    for (const std::size_t n : {1u, 64u, 509u, 20'000u})
        CHECK(tests::in_chunks<protobuf>(std::cref(chain), n) == bytes);
    CHECK(tests::allocations_in([&] { written<protobuf>(chain); }) == 0);
}

TEST_CASE("what is read twice must be readable twice, at compile time")
{
    using single = std::ranges::istream_view<int>;
    using rows = decltype(std::declval<single>() | std::views::transform(passes::make_row()));
    STATIC_REQUIRE(multi_pass_source<passes::outer, protobuf>);
    STATIC_REQUIRE(multi_pass_source<passes::folder, protobuf>);
    STATIC_REQUIRE(multi_pass_source<std::vector<passes::row>, protobuf_delimited>);
    STATIC_REQUIRE_FALSE(multi_pass_source<rows, protobuf>);
    STATIC_REQUIRE_FALSE(multi_pass_source<rows, protobuf_delimited>);
}

TEST_CASE("the size of a serializer is that of its cursor, whatever it writes")
{
    if constexpr (sizeof(void*) == 8) {
        using std::reference_wrapper;
        CHECK(sizeof(streaming_serializer<protobuf, reference_wrapper<const passes::row>>) <= 576);
        CHECK(sizeof(streaming_serializer<protobuf, reference_wrapper<const std::vector<passes::row>>>) <= 640);
        // A level of a tree takes what its cursor takes.
        CHECK(sizeof(streaming_serializer<protobuf, reference_wrapper<const passes::folder>>) <= 600 + 16 * 104);
    }
}
