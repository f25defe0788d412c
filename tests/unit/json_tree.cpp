// holdfast: tests of structs that contain themselves as JSON: any shape, one stack, a bound on the depth.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace disk {

struct folder {
    std::string name;
    std::vector<folder> folders;
};

constexpr auto describe(holdfast::type_tag<folder>)
{
    return holdfast::recursive<8>(holdfast::field("name", &folder::name), holdfast::field("folders", &folder::folders));
}

// Contains itself in every way, more than once, and behind another type that contains it.
struct node;

struct link {
    std::string to;
    std::unique_ptr<node> target;
};

struct node {
    int id = 0;
    std::unique_ptr<node> next{};
    std::map<std::string, std::vector<node>> children{};
    std::optional<std::pair<double, std::shared_ptr<node>>> other{};
    std::vector<std::variant<std::string, std::unique_ptr<node>>> parts{};
    std::vector<link> links{};
};

constexpr auto describe(holdfast::type_tag<link>)
{
    return holdfast::fields(holdfast::field("to", &link::to), holdfast::field("target", &link::target));
}

constexpr auto describe(holdfast::type_tag<node>)
{
    using holdfast::field, holdfast::omit_empty;
    return holdfast::recursive<4>(field("id", &node::id), field("next", &node::next, omit_empty),
                                  field("children", &node::children, omit_empty),
                                  field("other", &node::other, omit_empty), field("parts", &node::parts, omit_empty),
                                  field("links", &node::links, omit_empty));
}

} // namespace disk

namespace {

using holdfast::errc;
using holdfast::json;
using holdfast::ndjson;
using holdfast::serialize_to_string;
using holdfast::streaming_serializer;

std::unique_ptr<disk::node> leaf(int id)
{
    auto made = std::make_unique<disk::node>();
    made->id = id;
    return made;
}

disk::node every_way()
{
    disk::node root;
    root.next = leaf(1);
    root.next->next = leaf(2);
    root.next->next->children["x"].resize(1);
    root.children["a"].resize(2);
    root.children["b"];
    root.children["a"][1].id = 3;
    root.children["a"][1].next = leaf(4);
    root.other.emplace(0.5, leaf(5));
    root.parts.emplace_back("text");
    root.parts.emplace_back(leaf(6));
    root.parts.emplace_back(std::unique_ptr<disk::node>());
    root.links.push_back({"seven", leaf(7)});
    return root;
}

// So many folders within one another.
disk::folder chain(int depth)
{
    disk::folder top{std::to_string(depth), {}};
    if (depth > 1) top.folders.push_back(chain(depth - 1));
    return top;
}

} // namespace

TEST_CASE("a tree is written whole, in whatever way its nodes contain others, for every chunk size")
{
    const disk::node root = every_way();
    const std::string expected =
        R"({"id":0,"next":{"id":1,"next":{"id":2,"children":{"x":[{"id":0}]}}},)"
        R"("children":{"a":[{"id":0},{"id":3,"next":{"id":4}}],"b":[]},"other":[0.5,{"id":5}],)"
        R"("parts":["text",{"id":6},null],"links":[{"to":"seven","target":{"id":7}}]})";
    CHECK(serialize_to_string<json>(root) == expected);
    for (std::size_t n = 1; n <= 100; ++n) {
        INFO("chunks of " << n);
        REQUIRE(tests::in_chunks(std::cref(root), n) == expected);
        REQUIRE(tests::in_chunks<ndjson>(std::pair(std::cref(root), 1), n) == '[' + expected + ",1]\n");
    }
}

TEST_CASE("a tree is a source wherever another type is: in ranges, by value, as lines")
{
    std::vector<disk::folder> forest{chain(1), chain(2)};
    const std::string one = R"({"name":"1","folders":[]})";
    const std::string two = R"({"name":"2","folders":[)" + one + "]}";
    CHECK(serialize_to_string<json>(forest) == '[' + one + ',' + two + ']');
    CHECK(serialize_to_string<ndjson>(forest) == one + '\n' + two + '\n');
    CHECK(serialize_to_string<json>(chain(2)) == two);
    CHECK(serialize_to_string<json>(std::optional(std::tuple(chain(1)))) == '[' + one + ']');
}

TEST_CASE("nodes within one another beyond the depth of the description are an error, with the path to it")
{
    for (const std::size_t n : {1u, 10u, 1000u}) {
        CHECK_FALSE(tests::failure_in_chunks(chain(8), n).error);
        const tests::failure deep = tests::failure_in_chunks(chain(9), n);
        CHECK(deep.error == errc::depth_exceeded);
        CHECK(deep.path == "/folders/0/folders/0/folders/0/folders/0/folders/0/folders/0/folders/0/folders/0");
    }
    disk::folder wide = chain(8); // beside one another there may be any number
    for (int i = 0; i < 1000; ++i)
        wide.folders.push_back(chain(7));
    CHECK_FALSE(tests::failure_in_chunks(std::cref(wide), 4096).error);
}

TEST_CASE("the path to an error leads through all levels of a tree")
{
    disk::node root = every_way();
    std::get<1>(root.parts[1])->links.push_back({"\xff", nullptr});
    const tests::failure bad = tests::failure_in_chunks(std::cref(root), 7);
    CHECK(bad.error == errc::invalid_utf8);
    CHECK(bad.path == "/parts/1/links/0/to");
}

TEST_CASE("a tree is written without allocation, and a serializer destroyed half-way leaves no memory in use")
{
    const disk::node root = every_way();
    char chunk[16];
    for (std::size_t n = 1; n <= 20; ++n) {
        CHECK(tests::allocations_in([&] {
                  streaming_serializer<json, std::reference_wrapper<const disk::node>> text{std::cref(root)};
                  std::error_code ec;
                  for (std::size_t i = 0; i < n; ++i)
                      text.next(chunk, ec);
              }) == 0);
    }
}

TEST_CASE("a tree's cursor has the size that its depth gives it")
{
    using tree = streaming_serializer<json, std::reference_wrapper<const disk::folder>>;
    if constexpr (sizeof(void*) == 8) CHECK(sizeof(tree) <= 560 + 8 * 56);
}
