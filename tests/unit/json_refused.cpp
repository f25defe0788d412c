// holdfast: what must not compile as JSON; the build compiles it by REFUSED, and reads why.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>

#include <memory>
#include <string>
#include <variant>
#include <vector>

using holdfast::field;

struct folder { // undescribed
    std::string name;
    std::vector<folder> folders;
};

struct node {
    int id = 0;
    std::unique_ptr<node> next;
};
constexpr auto describe(holdfast::type_tag<node>) // and not recursive
{
    return holdfast::fields(field("id", &node::id), field("next", &node::next));
}

struct has_array {
    std::unique_ptr<int[]> numbers;
};

struct has_union {
    int id = 0;
    union {
        int number;
        float real;
    };
};

struct has_money { // whose own union is its matter
    struct money {
        union {
            long cents = 0;
            double unused;
        };
        friend constexpr auto describe(holdfast::type_tag<money>)
        {
            return holdfast::fields(field("cents", &money::cents));
        }
    };
    std::string name;
    money price;
    char code[4] = "abc";
    money tax;
};

struct row {
    int id = 0;
    int other = 0;
};
constexpr auto describe(holdfast::type_tag<row>)
{
#if REFUSED == 6
    return holdfast::fields(field("id", &row::id), field("id", &row::other));
#elif REFUSED == 7
    return holdfast::fields(field("id", &row::id, holdfast::omit_empty), field("other", &row::other));
#else
    return holdfast::fields(field("id", &row::id), field("other", &row::other));
#endif
}

enum class side { buy, sell };
constexpr auto describe(holdfast::type_tag<side>)
{
    return holdfast::enumerators(holdfast::enumerator("buy", side::buy), holdfast::enumerator("buy", side::sell));
}

using choice = std::variant<row, int>;
constexpr auto describe(holdfast::type_tag<choice>) { return holdfast::alternatives("row", "row"); }

using tagged = std::variant<row, std::monostate>;
constexpr auto describe(holdfast::type_tag<tagged>) { return holdfast::alternatives("row", "none").tagged_by("id"); }

#if REFUSED == 1
using source = folder;
#elif REFUSED == 2
using source = node;
#elif REFUSED == 3
using source = has_array;
#elif REFUSED == 4
using source = std::shared_ptr<int[]>;
#elif REFUSED == 5
using source = has_union;
#elif REFUSED == 8
using source = side;
#elif REFUSED == 9
using source = choice;
#elif REFUSED == 10
using source = tagged;
#elif REFUSED == 0
using source = has_money;
#else
using source = row;
#endif

template class holdfast::streaming_serializer<holdfast::json, source>;
