// holdfast: tests of describe: one declaration a struct, found where the struct is.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>

#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace shop {

struct price {
    double amount = 0;
    std::string currency;
};

constexpr auto describe(holdfast::type_tag<price>)
{
    return holdfast::fields(holdfast::field("amount", &price::amount), holdfast::field("currency", &price::currency));
}

struct item {
    int id = 0;
    price each;
};

// The order of the description, not of the members; other names than theirs.
constexpr auto describe(holdfast::type_tag<item>)
{
    return holdfast::fields(holdfast::field("each-price", &item::each), holdfast::field("#", &item::id));
}

struct gift : item {
    std::string note;
};

constexpr auto describe(holdfast::type_tag<gift>)
{
    return holdfast::fields(holdfast::field("id", &gift::id), holdfast::field("note", &gift::note));
}

struct nothing {};

constexpr auto describe(holdfast::type_tag<nothing>) { return holdfast::fields(); }

struct awkward {
    int quote = 1, slash = 2, control = 3, sea = 4, empty = 5;
};

constexpr auto describe(holdfast::type_tag<awkward>)
{
    using holdfast::field;
    return holdfast::fields(field("\"", &awkward::quote), field("\\", &awkward::slash),
                            field("\n\x1f", &awkward::control), field("\u6d77", &awkward::sea),
                            field("", &awkward::empty));
}

class account {
public:
    explicit account(int balance) : balance_(balance) {}

    friend constexpr auto describe(holdfast::type_tag<account>)
    {
        return holdfast::fields(holdfast::field("balance", &account::balance_));
    }

private:
    int balance_;
};

// A range by itself; described, it is an object.
struct basket : std::vector<int> {
    std::string owner = "me";
};

constexpr auto describe(holdfast::type_tag<basket>)
{
    return holdfast::fields(holdfast::field("owner", &basket::owner));
}

struct undescribed {};
int describe(holdfast::type_tag<undescribed>); // of another library, perhaps

enum class side : char { buy = 'B', sell = 'S', both = 'b', either = 'b' };

constexpr auto describe(holdfast::type_tag<side>)
{
    using holdfast::enumerator;
    return holdfast::enumerators(enumerator("buy", side::buy), enumerator("\"sell\"", side::sell),
                                 enumerator("both", side::both), enumerator("either", side::either));
}

enum class flags : std::int64_t { none = 0, all = -1 };
enum plain { zero, one };

// Every member may be left out.
struct order {
    std::optional<int> id;
    std::string note;
    std::vector<int> parts;
    std::map<std::string, int> prices;
    std::optional<std::vector<int>> rest;
};

constexpr auto describe(holdfast::type_tag<order>)
{
    using holdfast::field, holdfast::omit_empty;
    return holdfast::fields(field("id", &order::id, 4, omit_empty), field("note", &order::note, omit_empty),
                            field("parts", &order::parts, omit_empty, 2), field("prices", &order::prices, omit_empty),
                            field("rest", &order::rest, omit_empty));
}

// Only some of them, in a row that is written at once.
struct tick {
    std::optional<double> bid;
    int id = 0;
    std::array<char, 4> code{};
    std::vector<std::byte> raw;
};

constexpr auto describe(holdfast::type_tag<tick>)
{
    using holdfast::field, holdfast::omit_empty;
    return holdfast::fields(field("bid", &tick::bid, omit_empty), field("id", &tick::id),
                            field("code", &tick::code, omit_empty), field("raw", &tick::raw, omit_empty));
}

using event = std::variant<item, int, std::monostate>;

constexpr auto describe(holdfast::type_tag<event>)
{
    return holdfast::alternatives("item", holdfast::alternative("a \"number\"", 7), "none");
}

using change = std::variant<order, gift, order>; // the same type twice

constexpr auto describe(holdfast::type_tag<change>) { return holdfast::alternatives("new", "gift", "old"); }

using entry = std::variant<item, order, std::monostate, nothing, tick>;

constexpr auto describe(holdfast::type_tag<entry>)
{
    return holdfast::alternatives("item", "order", "no\"thing", "empty", "tick").tagged_by("type");
}

template <class T>
struct boxed {
    T value;
};

template <class T>
constexpr auto describe(holdfast::type_tag<boxed<T>>)
{
    return holdfast::fields(holdfast::field("value", &boxed<T>::value));
}

} // namespace shop

using holdfast::json;
using holdfast::serialize_to_string;

TEST_CASE("a described struct is an object of its members, in the order and by the names of the description")
{
    const shop::item item{7, {2.5, "EUR"}};
    CHECK(serialize_to_string<json>(item) == R"({"each-price":{"amount":2.5,"currency":"EUR"},"#":7})");
}

TEST_CASE("a description may name members of a base, private ones where it is a friend, and be a template")
{
    shop::gift gift;
    gift.id = 3;
    gift.note = "hello";
    CHECK(serialize_to_string<json>(gift) == R"({"id":3,"note":"hello"})");
    CHECK(serialize_to_string<json>(shop::account(12)) == R"({"balance":12})");
    CHECK(serialize_to_string<json>(shop::boxed<shop::boxed<bool>>{{true}}) == R"({"value":{"value":true}})");
}

TEST_CASE("a struct without members is an empty object")
{
    CHECK(serialize_to_string<json>(shop::nothing{}) == "{}");
    CHECK(serialize_to_string<json>(std::vector<shop::nothing>(2)) == "[{},{}]");
}

TEST_CASE("member names are escaped")
{
    CHECK(serialize_to_string<json>(shop::awkward{}) ==
          "{\"\\\"\":1,\"\\\\\":2,\"\\u000a\\u001f\":3,\"\u6d77\":4,\"\":5}");
}

TEST_CASE("a description is preferred to what else a type is")
{
    shop::basket basket;
    basket.assign({1, 2, 3});
    CHECK(serialize_to_string<json>(basket) == R"({"owner":"me"})");
}

TEST_CASE("described holds for the types that are described, at compile time")
{
    STATIC_REQUIRE(holdfast::described<shop::item>);
    STATIC_REQUIRE(holdfast::described<shop::account>);
    STATIC_REQUIRE(holdfast::described<shop::boxed<int>>);
    STATIC_REQUIRE_FALSE(holdfast::described<shop::undescribed>);
    STATIC_REQUIRE_FALSE(holdfast::described<int>);
    STATIC_REQUIRE_FALSE(holdfast::described<std::string>);
    // A description is a constant, from which other formats can read names and members.
    constexpr auto list = describe(holdfast::type_tag<shop::gift>{}).list;
    STATIC_REQUIRE(std::get<1>(list).name == "note");
    const shop::gift gift{{}, "read"};
    CHECK(gift.*(std::get<1>(list).member) == "read");
}

TEST_CASE("an enumeration is its number, or its name where it is described")
{
    CHECK(serialize_to_string<json>(std::tuple(shop::flags::none, shop::flags::all, shop::one)) == "[0,-1,1]");
    CHECK(serialize_to_string<json>(std::tuple(shop::side::buy, shop::side::sell)) == R"(["buy","\"sell\""])");
    CHECK(serialize_to_string<json>(shop::side::either) == R"("both")"); // the first name of its value
    CHECK(serialize_to_string<json>(shop::side{'?'}) == "63");           // has no name
    CHECK(serialize_to_string<json>(std::map<shop::side, shop::flags>{
              {shop::side{'?'}, shop::flags::none}, {shop::side::buy, shop::flags::all}}) == R"({"63":0,"buy":-1})");
    CHECK(serialize_to_string<json>(std::map<shop::plain, int>{{shop::one, 2}}) == R"({"1":2})");
}

TEST_CASE("members with omit_empty are left out where they are empty, whichever come first and last")
{
    using map = std::map<std::string, int>;
    const std::vector<std::pair<shop::order, std::string>> known{
        {{}, "{}"},
        {{7, "", {}, {}, {}}, R"({"id":7})"},
        {{{}, "n", {}, {}, {}}, R"({"note":"n"})"},
        {{{}, "", {1}, map{{"a", 1}}, {}}, R"({"parts":[1],"prices":{"a":1}})"},
        {{{}, "", {}, {}, std::vector<int>{}}, R"({"rest":[]})"}, // it has a value, although an empty one
        {{0, "n", {1, 2}, map{{"a", 1}}, std::vector<int>{3}},
         R"({"id":0,"note":"n","parts":[1,2],"prices":{"a":1},"rest":[3]})"},
    };
    std::string all;
    std::vector<shop::order> orders;
    for (const auto& [order, text] : known) {
        CHECK(serialize_to_string<json>(order) == text);
        orders.push_back(order);
        all += text + '\n';
    }
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks<holdfast::ndjson>(std::cref(orders), n) == all);

    const std::vector<shop::tick> ticks{{}, {1.5, 2, {'X'}, {}}, {{}, 3, {}, {std::byte{1}}}};
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks(std::cref(ticks), n) ==
                R"([{"id":0},{"bid":1.5,"id":2,"code":"X"},{"id":3,"raw":"AQ=="}])");
}

TEST_CASE("a described variant is an object with the name of what it holds")
{
    std::vector<shop::event> events{shop::item{7, {2.5, "EUR"}}, 5, std::monostate{}};
    const std::string text =
        R"([{"item":{"each-price":{"amount":2.5,"currency":"EUR"},"#":7}},{"a \"number\"":5},{"none":null}])";
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks(std::cref(events), n) == text);
    std::vector<shop::change> changes{shop::change(std::in_place_index<0>), shop::change(std::in_place_index<2>),
                                      shop::gift{}};
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks(std::cref(changes), n) == R"([{"new":{}},{"old":{}},{"gift":{"id":0,"note":""}}])");
}

TEST_CASE("a variant that is tagged_by a member has the name of what it holds as the first one of its object")
{
    std::vector<shop::entry> entries{shop::item{7, {2.5, "EUR"}}, shop::order{}, std::monostate{}, shop::nothing{}};
    shop::order order;
    order.note = std::string(600, 'n'); // does not fit into the spill
    entries.emplace_back(order);
    entries.emplace_back(shop::tick{{}, 3, {}, {}});
    entries.emplace_back(shop::tick{1.5, 4, {'A'}, {}});
    const std::string text = R"([{"type":"item","each-price":{"amount":2.5,"currency":"EUR"},"#":7},{"type":"order"},)"
                             R"({"type":"no\"thing"},{"type":"empty"},{"type":"order","note":")" +
                             order.note + R"("},{"type":"tick","id":3},{"type":"tick","bid":1.5,"id":4,"code":"A"}])";
    for (std::size_t n = 1; n <= 100; ++n)
        REQUIRE(tests::in_chunks(std::cref(entries), n) == text);
}

TEST_CASE("descriptions keep numbers for other formats")
{
    constexpr auto order = describe(holdfast::type_tag<shop::order>{}).list;
    STATIC_REQUIRE(std::get<0>(order).number == 4);
    STATIC_REQUIRE(std::get<1>(order).number == 0);
    STATIC_REQUIRE(std::get<2>(order).number == 2);
    STATIC_REQUIRE(describe(holdfast::type_tag<shop::event>{}).list[1].number == 7);
    STATIC_REQUIRE(holdfast::described_enum<shop::side>);
    STATIC_REQUIRE_FALSE(holdfast::described_enum<shop::flags>);
    STATIC_REQUIRE(holdfast::described_variant<shop::event>);
    STATIC_REQUIRE_FALSE(holdfast::described_variant<std::variant<int, shop::item>>);
}
