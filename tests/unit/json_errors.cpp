// holdfast: tests of where JSON fails: the error, the bytes before it, and the path to the value.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace shop {

enum class currency { eur, usd };

constexpr auto describe(holdfast::type_tag<currency>)
{
    using holdfast::enumerator;
    return holdfast::enumerators(enumerator("EUR", currency::eur), enumerator("USD", currency::usd));
}

struct row {
    int id = 0;
    std::string name;
    double price = 1.5;
    std::optional<std::pair<std::string, double>> last;
    std::vector<float> sizes; // short ones are written with their row
};

constexpr auto describe(holdfast::type_tag<row>)
{
    using holdfast::field, holdfast::omit_empty;
    return holdfast::fields(field("id", &row::id), field("name", &row::name, omit_empty), field("price", &row::price),
                            field("last~/", &row::last), field("sizes", &row::sizes, omit_empty));
}

struct table {
    std::string title;
    std::vector<row> rows;
    std::map<currency, std::list<double>> totals;
};

constexpr auto describe(holdfast::type_tag<table>)
{
    using holdfast::field;
    return holdfast::fields(field("title", &table::title), field("rows", &table::rows),
                            field("totals", &table::totals));
}

using event = std::variant<row, double>;
constexpr auto describe(holdfast::type_tag<event>) { return holdfast::alternatives("row", "price"); }

using message = std::variant<std::monostate, row, table>;
constexpr auto describe(holdfast::type_tag<message>)
{
    return holdfast::alternatives("none", "row", "table").tagged_by("type");
}

} // namespace shop

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::streaming_serializer;

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
const std::string bad = "\xff";

std::vector<shop::row> make_rows(std::size_t n)
{
    std::vector<shop::row> rows(n);
    for (std::size_t i = 0; i < n; ++i) {
        rows[i].id = static_cast<int>(i);
        if (i % 2 != 0) rows[i].name = "row " + std::to_string(i);
        if (i % 3 != 0) rows[i].last.emplace("x", 2.5);
        rows[i].sizes.assign(i % 4, 1.0f);
    }
    return rows;
}

// It ends with this error at this path, in chunks of every size. What was returned before begins the text
// that the same source gives where nothing is checked.
template <class Format = json, class T>
void fails(const T& value, errc error, std::string_view path)
{
    const std::string whole = holdfast::serialize_to_string<Format>(
        value, {.non_finite = holdfast::non_finite::null, .utf8 = holdfast::utf8_policy::trust});
    std::size_t longest = 0;
    for (std::size_t n = 1; n <= 400; n < 70 ? ++n : n += 30) {
        INFO("chunks of " << n);
        const tests::failure end = tests::failure_in_chunks<Format>(std::cref(value), n);
        REQUIRE(end.error == error);
        REQUIRE(end.path == path);
        REQUIRE(end.before.size() % n == 0);
        REQUIRE(whole.starts_with(end.before));
        longest = std::max(longest, end.before.size());
    }
    REQUIRE(longest < whole.size());
}

} // namespace

TEST_CASE("an error names the value by its path, however deep it lies and whatever the chunk size")
{
    shop::table table{"title", make_rows(25), {{shop::currency::usd, {1, 2, 3}}}};
    const auto with = [&](const auto& change) {
        shop::table changed = table;
        change(changed);
        return changed;
    };
    fails(with([](shop::table& t) { t.title += bad; }), errc::invalid_utf8, "/title");
    fails(with([](shop::table& t) { t.rows[0].price = no_number; }), errc::not_finite, "/rows/0/price");
    fails(with([](shop::table& t) { t.rows[17].price = no_number; }), errc::not_finite, "/rows/17/price");
    fails(with([](shop::table& t) { t.rows[24].name = bad; }), errc::invalid_utf8, "/rows/24/name");
    fails(with([](shop::table& t) { t.rows[5].last.emplace("x", -1 / 0.0); }), errc::not_finite, "/rows/5/last~0~1/1");
    fails(with([](shop::table& t) { t.rows[9].last.emplace(bad, 1); }), errc::invalid_utf8, "/rows/9/last~0~1/0");
    fails(with([](shop::table& t) { t.rows[3].sizes[2] = std::numeric_limits<float>::infinity(); }), errc::not_finite,
          "/rows/3/sizes/2");
    fails(with([](shop::table& t) {
              t.rows[2].sizes.assign(100, 1);
              t.rows[2].sizes.back() = std::numeric_limits<float>::infinity();
          }),
          errc::not_finite, "/rows/2/sizes/99");
    fails(with([](shop::table& t) { t.totals[shop::currency::eur] = {1, no_number}; }), errc::not_finite,
          "/totals/EUR/1");
}

TEST_CASE("the first of several errors in a row is the one that is reported")
{
    std::vector<shop::row> rows = make_rows(3);
    rows[1].last.emplace(bad, no_number);
    rows[2].name = bad;
    rows[2].price = no_number;
    fails(rows, errc::invalid_utf8, "/1/last~0~1/0");
    rows[1].price = no_number;
    fails(rows, errc::not_finite, "/1/price");
}

TEST_CASE("keys, indices, tags and lines are parts of a path, choices, references and the source itself are not")
{
    fails(no_number, errc::not_finite, "");
    fails(bad, errc::invalid_utf8, "");
    fails(std::vector<std::optional<double>>{1, {}, no_number}, errc::not_finite, "/2");
    fails(std::tuple(1, std::tuple(no_number)), errc::not_finite, "/1/0");
    fails(std::map<std::string, std::map<int, double>>{{"a", {}}, {"a/b", {{-7, no_number}}}}, errc::not_finite,
          "/a~1b/-7");
    fails(std::map<double, std::map<bool, std::map<char, double>>>{{0.5, {{true, {{'c', no_number}}}}}},
          errc::not_finite, "/0.5/true/c");
    fails(std::map<std::string, int>{{"a", 1}, {"b" + bad, 2}}, errc::invalid_utf8, "/b" + bad);
    const std::vector<double> numbers{1, no_number};
    fails(std::pair(0, std::vector{std::cref(numbers)}), errc::not_finite, "/1/0/1");
    fails(std::vector<std::variant<int, std::string, std::vector<double>>>{1, "s", std::vector<double>{no_number}},
          errc::not_finite, "/2/0");
    fails(std::vector<shop::event>{1.5, shop::row{1, bad, 1.5, {}, {}}}, errc::invalid_utf8, "/1/row/name");
    fails(std::vector<shop::event>{no_number}, errc::not_finite, "/0/price");
    fails(std::vector<shop::message>{{}, shop::row{1, bad, 1.5, {}, {}}}, errc::invalid_utf8, "/1/name");
    fails(std::vector<shop::message>{shop::table{"t", {{1, {}, no_number, {}, {}}}, {}}}, errc::not_finite,
          "/0/rows/0/price");
    std::vector<shop::row> rows = make_rows(20);
    rows[12].price = no_number;
    fails<ndjson>(rows, errc::not_finite, "/12/price");
    fails<ndjson>(rows[12], errc::not_finite, "/price");
    fails<ndjson>(std::cref(rows), errc::not_finite, "/12/price");
}

TEST_CASE("ranges that count nothing themselves are counted: lists, filters, single-pass ranges")
{
    std::list<double> list(40, 1.5);
    *std::next(list.begin(), 33) = no_number;
    fails(list, errc::not_finite, "/33");
    for (const std::size_t n : {1u, 8u, 1000u}) {
        const auto odd = std::views::iota(0, 100) | std::views::filter([](int i) { return i % 2 != 0; }) |
                         std::views::transform([](int i) { return i == 41 ? no_number : i; });
        CHECK(tests::failure_in_chunks(odd, n).path == "/20");
        std::istringstream words("a b c \xff e");
        CHECK(tests::failure_in_chunks(std::views::istream<std::string>(words), n).path == "/3");
        CHECK(tests::failure_in_chunks(std::views::iota(0, 50) | std::views::transform([](int i) {
                                           return std::pair(i, i == 30 ? no_number : 0);
                                       }),
                                       n)
                  .path == "/30/1");
    }
}

TEST_CASE("where the source throws, the path leads to the element that was being made")
{
    for (const std::size_t n : {1u, 8u, 1000u}) {
        auto rows = std::views::iota(0, 4) | std::views::transform([](int i) {
                        return std::views::iota(0, 10) | std::views::transform([i](int j) {
                                   if (i == 2 && j == 7) throw std::runtime_error("the database is gone");
                                   return j;
                               });
                    });
        const tests::failure end = tests::failure_in_chunks(rows, n);
        CHECK(end.error == errc::source_failed);
        CHECK(end.path == "/2/7");
    }
}

TEST_CASE("a serializer that has not failed has no path to an error")
{
    const std::vector<double> numbers{1, 2, no_number};
    streaming_serializer text{std::cref(numbers), json{}};
    std::array<char, 2> chunk;
    std::error_code ec;
    CHECK(text.error_path().empty());
    text.next(chunk, ec);
    CHECK(text.error_path().empty());
    CHECK(text.bytes_written() == 2);
    while (!ec)
        text.next(chunk, ec);
    CHECK(text.error_path() == "/2");
    CHECK(text.error_path() == "/2");
    CHECK(text.bytes_written() == 4);
}

TEST_CASE("a key that is not a finite number is an error, also where values become null")
{
    const std::map<double, int> numbers{{std::numeric_limits<double>::infinity(), 1}};
    const holdfast::json nulls{.non_finite = holdfast::non_finite::null};
    for (const std::size_t n : {1u, 5u, 100u}) {
        CHECK(tests::failure_in_chunks(std::cref(numbers), n).error == errc::not_finite);
        CHECK(tests::failure_in_chunks(std::cref(numbers), n, nulls).error == errc::not_finite);
    }
    using real_seconds = holdfast::in_unit<std::chrono::duration<double>>;
    const std::vector<std::pair<const int, real_seconds>> values{
        {1, real_seconds(std::chrono::duration<double>(std::nan("")))}};
    CHECK(tests::in_chunks(std::cref(values), 5, nulls) == "[[1,null]]");
}

TEST_CASE("a variant that holds nothing is an error of the source")
{
    struct thrower : std::list<int> {
        explicit thrower(int) { throw std::runtime_error("not made"); }
    };
    std::variant<double, thrower> broken = 1.5;
    CHECK_THROWS(broken.emplace<1>(1));
    REQUIRE(broken.valueless_by_exception());
    const tests::failure end = tests::failure_in_chunks(std::pair(1, std::cref(broken)), 8);
    CHECK(end.error == errc::source_failed);
    CHECK(end.path == "/1");
}
