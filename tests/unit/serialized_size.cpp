// holdfast: tests of serialized_size: to the byte, without allocation, for what can be read twice.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>

#include <cstddef>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace plant {

struct leaf {
    std::string name;
    std::vector<leaf> leaves;
};

constexpr auto describe(holdfast::type_tag<leaf>)
{
    return holdfast::recursive<4>(holdfast::field("name", &leaf::name),
                                  holdfast::field("leaves", &leaf::leaves, holdfast::omit_empty));
}

} // namespace plant

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::multi_pass_source;
using holdfast::ndjson;
using holdfast::serialize_to_string;
using holdfast::serialized_size;

template <class T>
void check_size(T&& value)
{
    CHECK(serialized_size<json>(value) == serialize_to_string<json>(value).size());
    CHECK(serialized_size<ndjson>(value) == serialize_to_string<ndjson>(value).size());
}

} // namespace

TEST_CASE("the size is the length of the text, to the byte, of every kind of value")
{
    check_size(1);
    check_size(std::tuple(true, nullptr, 'c', -7, 0.1, 1e300, -0.0f));
    check_size(std::string("tab\t quote\" \u20ac \x01"));
    check_size(std::vector<std::string>{});
    check_size(std::vector(3000, std::string("\x02 some text")));
    check_size(std::map<std::string, std::list<std::optional<double>>>{{"a\"", {}}, {"b", {1.5, {}}}});
    check_size(std::vector<std::variant<int, std::string>>{1, "two"});
    check_size(std::vector{std::byte{1}, std::byte{2}});
    check_size(holdfast::checked_json(" [ 1 , 2 ] "));
    check_size(plant::leaf{"root", std::vector<plant::leaf>(3)});
    auto odd = std::views::iota(0, 5000) | std::views::filter([](int i) { return i % 2 != 0; });
    check_size(odd);
    check_size(std::views::iota(0, 5000) | std::views::transform([](int i) { return std::to_string(i); }));
    CHECK(serialized_size<json>(std::vector<int>{1, 22}) == 6); // a temporary
    CHECK(serialized_size(std::string("\xff"), json{.utf8 = holdfast::utf8_policy::replace}) == 5);
}

TEST_CASE("what cannot be written has no size, and the error is the writer's")
{
    const std::vector<double> bad(2000, std::numeric_limits<double>::infinity());
    std::error_code ec;
    serialized_size<json>(bad, ec);
    CHECK(ec == errc::not_finite);
    try {
        serialized_size<json>(bad);
        FAIL("nothing was thrown");
    } catch (const std::system_error& e) {
        CHECK(e.code() == errc::not_finite);
    }
    CHECK(serialized_size<json>(bad, ec, {.non_finite = holdfast::non_finite::null}) == 10001);
    CHECK_FALSE(ec);
    const auto thrower = std::views::iota(0, 9) | std::views::transform([](int i) {
                             if (i == 8) throw std::runtime_error("gone");
                             return i;
                         });
    CHECK_THROWS_AS(serialized_size<json>(thrower, ec), std::runtime_error);
}

TEST_CASE("the size is that of the moment: a source that changes then has another text")
{
    std::vector<std::string> lines{"one", "two"};
    const auto size = serialized_size<ndjson>(lines);
    lines[0] += '\n';
    CHECK(serialize_to_string<ndjson>(lines).size() == size + 2);
}

TEST_CASE("a size costs no allocation")
{
    const std::vector rows(1000, std::pair(std::string("a text of its own, on the heap"), 0.5));
    CHECK(tests::allocations_in([&] { CHECK(serialized_size<json>(rows) > 38'000); }) <= 2); // Catch2's own
}

TEST_CASE("only what can be read twice has a size, at compile time")
{
    using words = std::ranges::istream_view<std::string>;
    using counter = std::ranges::iota_view<int, int>;
    STATIC_REQUIRE(multi_pass_source<int, json>);
    STATIC_REQUIRE(multi_pass_source<const std::vector<std::string>&, json>);
    STATIC_REQUIRE(multi_pass_source<std::map<std::string, counter>, ndjson>);
    STATIC_REQUIRE(multi_pass_source<plant::leaf, json>);
    STATIC_REQUIRE_FALSE(multi_pass_source<words, json>);
    STATIC_REQUIRE_FALSE(multi_pass_source<words&, ndjson>);
    STATIC_REQUIRE_FALSE(multi_pass_source<std::tuple<int, std::optional<std::pair<words, int>>>, json>);
    STATIC_REQUIRE_FALSE(multi_pass_source<std::variant<int, words>, json>);
    STATIC_REQUIRE_FALSE(multi_pass_source<std::unique_ptr<std::reference_wrapper<words>>, ndjson>);
}

TEST_CASE("the chunks of a serializer are a range")
{
    std::vector<int> numbers(1000, 7);
    char buffer[64];
    holdfast::streaming_serializer text{std::cref(numbers), json{}};
    holdfast::chunks parts(text, buffer);
    STATIC_REQUIRE(std::ranges::input_range<decltype(parts)>);
    STATIC_REQUIRE(std::ranges::view<decltype(parts)>);
    STATIC_REQUIRE(std::same_as<std::ranges::range_value_t<decltype(parts)>, std::span<const char>>);
    std::string whole;
    for (const std::span<const char> chunk : parts) {
        CHECK((chunk.size() == 64 || text.done()));
        whole.append(chunk.data(), chunk.size());
    }
    CHECK(whole == serialize_to_string<json>(numbers));
    CHECK(std::ranges::distance(parts) == 0); // nothing is left

    const std::vector<double> bad(50, std::numeric_limits<double>::quiet_NaN());
    holdfast::streaming_serializer failing{std::cref(bad), json{}};
    CHECK_THROWS_AS(std::ranges::distance(holdfast::chunks(failing, buffer)), std::system_error);
    holdfast::streaming_serializer empty{std::vector<int>{}, ndjson{}};
    CHECK(std::ranges::distance(holdfast::chunks(empty, buffer)) == 0);
}
