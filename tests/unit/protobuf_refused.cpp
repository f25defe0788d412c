// holdfast: what must not compile as Protobuf; the build compiles it by REFUSED, and reads why.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/protobuf.hpp>

#include <functional>
#include <map>
#include <optional>
#include <ranges>
#include <utility>
#include <variant>
#include <vector>

using holdfast::field;

struct row {
    int id = 0;
    double price = 0;
};

constexpr auto describe(holdfast::type_tag<row>)
{
#if REFUSED == 1
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price));
#elif REFUSED == 2
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price, 1));
#elif REFUSED == 3
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price, 19'500));
#elif REFUSED == 4
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price, 2, holdfast::proto::fixed));
#else
    return holdfast::fields(field("id", &row::id, 1), field("price", &row::price, 2));
#endif
}

using choice = std::variant<row, int>;
constexpr auto describe(holdfast::type_tag<choice>) { return holdfast::alternatives("row", "number"); }

struct make_row {
    row operator()(int id) const { return {id, 0}; }
};
struct flags {
#if REFUSED == 11
    bool flag = false;
#elif REFUSED == 12
    std::map<int, bool> flag;
#else
    std::vector<bool> flag;
#endif
};
constexpr auto describe(holdfast::type_tag<flags>)
{
    return holdfast::fields(field("flag", &flags::flag, 1, holdfast::proto::fixed));
}

#if REFUSED == 14
using many = std::vector<row>;
#elif REFUSED == 15
using many = std::map<int, row>;
#elif REFUSED == 16
using many = std::optional<row>;
#else
using many = std::reference_wrapper<const std::vector<row>>;
#endif
using one = std::variant<row, many>;
constexpr auto describe(holdfast::type_tag<one>)
{
    return holdfast::alternatives(holdfast::alternative("row", 1), holdfast::alternative("many", 2));
}

struct folder {
    std::vector<folder> folders;
};
constexpr auto describe(holdfast::type_tag<folder>) // and not recursive
{
    return holdfast::fields(field("folders", &folder::folders, 1));
}

using once = std::ranges::transform_view<std::ranges::istream_view<int>, make_row>;

struct snapshot {
    once rows;
};
constexpr auto describe(holdfast::type_tag<snapshot>) { return holdfast::fields(field("rows", &snapshot::rows, 1)); }

struct envelope {
    snapshot inside;
};
constexpr auto describe(holdfast::type_tag<envelope>)
{
    return holdfast::fields(field("inside", &envelope::inside, 1));
}

struct undescribed { // which JSON would take
    int id = 0;
};

#if REFUSED == 5
using source = envelope;
#elif REFUSED == 6
using source = std::ranges::istream_view<int>;
#elif REFUSED == 7
using source = std::vector<std::vector<int>>;
#elif REFUSED == 8
using source = choice;
#elif REFUSED == 9
using source = std::vector<std::pair<int, int>>;
#elif REFUSED == 10
using source = undescribed;
#elif REFUSED >= 11 && REFUSED <= 13
using source = flags;
#elif REFUSED >= 14 && REFUSED <= 17
using source = one;
#elif REFUSED == 18
using source = folder;
#elif REFUSED == 0
using source = snapshot; // at the root it may be
#else
using source = row;
#endif

template class holdfast::streaming_serializer<holdfast::protobuf, source>;
