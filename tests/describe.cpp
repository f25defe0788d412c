// holdfast: tests of describe: one declaration a struct, found where the struct is.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>

#include "support/catch.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

namespace shop {

struct price {
    double amount = 0;
    std::string currency;
};

constexpr auto describe(holdfast::type<price>)
{
    return holdfast::fields(holdfast::field("amount", &price::amount),
                            holdfast::field("currency", &price::currency));
}

struct item {
    int id = 0;
    price each;
};

// The order of the description, not of the members; other names than theirs.
constexpr auto describe(holdfast::type<item>)
{
    return holdfast::fields(holdfast::field("each-price", &item::each), holdfast::field("#", &item::id));
}

struct gift : item {
    std::string note;
};

constexpr auto describe(holdfast::type<gift>)
{
    return holdfast::fields(holdfast::field("id", &gift::id), holdfast::field("note", &gift::note));
}

struct nothing {};

constexpr auto describe(holdfast::type<nothing>) { return holdfast::fields(); }

struct awkward {
    int quote = 1, slash = 2, control = 3, sea = 4, empty = 5;
};

constexpr auto describe(holdfast::type<awkward>)
{
    using holdfast::field;
    return holdfast::fields(field("\"", &awkward::quote), field("\\", &awkward::slash),
                            field("\n\x1f", &awkward::control), field("\u6d77", &awkward::sea),
                            field("", &awkward::empty));
}

class account {
public:
    explicit account(int balance) : balance_(balance) {}

    friend constexpr auto describe(holdfast::type<account>)
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

constexpr auto describe(holdfast::type<basket>)
{
    return holdfast::fields(holdfast::field("owner", &basket::owner));
}

struct undescribed {};
int describe(holdfast::type<undescribed>); // of another library, perhaps

template <class T>
struct boxed {
    T value;
};

template <class T>
constexpr auto describe(holdfast::type<boxed<T>>)
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

TEST_CASE("a description goes before what else a type is")
{
    shop::basket basket;
    basket.assign({1, 2, 3});
    CHECK(serialize_to_string<json>(basket) == R"({"owner":"me"})");
}

TEST_CASE("described tells who is described, at compile time")
{
    STATIC_REQUIRE(holdfast::described<shop::item>);
    STATIC_REQUIRE(holdfast::described<shop::account>);
    STATIC_REQUIRE(holdfast::described<shop::boxed<int>>);
    STATIC_REQUIRE_FALSE(holdfast::described<shop::undescribed>);
    STATIC_REQUIRE_FALSE(holdfast::described<int>);
    STATIC_REQUIRE_FALSE(holdfast::described<std::string>);
    // A description is a constant, from which other formats can read names and members.
    constexpr auto list = describe(holdfast::type<shop::gift>{}).list;
    STATIC_REQUIRE(std::get<1>(list).name == "note");
    const shop::gift gift{{}, "read"};
    CHECK(gift.*(std::get<1>(list).member) == "read");
}
