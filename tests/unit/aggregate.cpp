// holdfast: tests of plain structs: is one without a description written as its described twin?
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace {

using holdfast::field;
using holdfast::json;
using holdfast::plain_struct;
using holdfast::serialize_to_string;

enum class side : std::uint8_t { buy, sell };

struct quote {
    std::uint64_t id = 0;
    char symbol[8] = "";
    double bid = 0;
    bool live = true;
    side taker = side::sell;
    std::optional<std::int32_t> change;
};

// The twins have the same members: a description may name those of a base, a plain struct has none.
struct described_quote : quote {};

constexpr auto describe(holdfast::type_tag<described_quote>)
{
    using q = described_quote;
    return holdfast::fields(field("id", &q::id), field("symbol", &q::symbol), field("bid", &q::bid),
                            field("live", &q::live), field("taker", &q::taker), field("change", &q::change));
}

template <class Quote>
struct book {
    std::string name;
    Quote best;
    std::vector<Quote> rows;
    std::map<std::string, std::array<double, 2>> prices;
    std::variant<std::monostate, Quote> last;
    std::unique_ptr<Quote> next; // a book can only be moved
};

struct described_book : book<described_quote> {};

constexpr auto describe(holdfast::type_tag<described_book>)
{
    using b = described_book;
    return holdfast::fields(field("name", &b::name), field("best", &b::best), field("rows", &b::rows),
                            field("prices", &b::prices), field("last", &b::last), field("next", &b::next));
}

template <class Quote>
Quote make_quote(int i)
{
    Quote made;
    made.id = static_cast<std::uint64_t>(i) * 1'000'003;
    std::string_view("HFST\"X").copy(made.symbol, static_cast<std::size_t>(i % 7));
    made.bid = i / 4.0;
    made.live = i % 2 == 0;
    if (i % 3 == 0) made.change = -i;
    return made;
}

template <class Quote, class Book>
Book make_book()
{
    Book made;
    made.name = "\"main\" \u6d77";
    made.best = make_quote<Quote>(1);
    for (int i = 0; i < 20; ++i)
        made.rows.push_back(make_quote<Quote>(i));
    made.prices = {{"a", {1, 2.5}}, {"b", {-3, 0}}};
    made.last = make_quote<Quote>(3);
    made.next = std::make_unique<Quote>(make_quote<Quote>(4));
    return made;
}

using event = std::variant<quote, std::monostate, book<quote>>;
using described_event = std::variant<described_quote, std::monostate, described_book>;

constexpr auto describe(holdfast::type_tag<event>)
{
    return holdfast::alternatives("quote", "none", "book").tagged_by("type");
}
constexpr auto describe(holdfast::type_tag<described_event>)
{
    return holdfast::alternatives("quote", "none", "book").tagged_by("type");
}

// No default constructors, and members that a pointer cannot change.
struct request {
    std::reference_wrapper<const std::string> path;
    holdfast::in_unit<std::chrono::milliseconds> age;
    std::span<const int, 2> range;
    const int attempt;
    mutable int reads;
};

struct timed {
    int counts[2][3] = {{1, 2, 3}, {4, 5, 6}};
    holdfast::in_unit<std::chrono::seconds> since = holdfast::in_unit<std::chrono::seconds>(std::chrono::minutes(1));
    std::array<quote, 2> best;
};

struct nothing {};
struct single {
    std::string value;
};
struct only_nothing {
    [[no_unique_address]] nothing first;
    [[no_unique_address]] nothing second;
};

struct most {
    int a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E, F;
};
struct too_many {
    int a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, A, B, C, D, E, F, G;
};

struct reference {
    int id;
    const std::string& name;
};
struct with_private {
    int id = 0;

private:
    [[maybe_unused]] int hidden = 0;
};
union either {
    int number;
    float real;
};

// Aggregates that are more than that.
struct window {
    const int* first;
    const int* last;

    const int* begin() const { return first; }
    const int* end() const { return last; }
};
struct changing_window {
    const int* first;
    const int* last;

    const int* begin() { return first; }
    const int* end() { return last; }
};
struct label {
    const char* text;

    operator std::string_view() const { return text; }
};

template <class Source>
constexpr std::size_t cursor_size = sizeof(json::cursor<Source>);

} // namespace

TEST_CASE("a plain struct is written as its described twin, by a cursor of the same size")
{
    const auto plain = make_book<quote, book<quote>>();
    const auto described = make_book<described_quote, described_book>();
    const std::string text = serialize_to_string<json>(described);
    CHECK(text.find(R"("best":{"id":1000003,"symbol":"H","bid":0.25,"live":false,"taker":1,"change":null})") !=
          std::string::npos);
    CHECK(serialize_to_string<json>(plain) == text);
    for (std::size_t n = 1; n <= 200; ++n)
        REQUIRE(tests::in_chunks(std::cref(plain), n) == text);
    STATIC_REQUIRE(cursor_size<const quote> == cursor_size<const described_quote>);
    STATIC_REQUIRE(cursor_size<quote> == cursor_size<described_quote>);
    STATIC_REQUIRE(cursor_size<const book<quote>> == cursor_size<const described_book>);
    STATIC_REQUIRE(json::cursor<const quote>::bounded);
    CHECK(json::cursor<const quote>::room(plain.best) == json::cursor<const described_quote>::room(described.best));
}

TEST_CASE("plain structs may be the alternatives of a variant that is tagged_by a member")
{
    std::vector<event> events(2);
    events[1] = std::monostate{};
    events.emplace_back(make_book<quote, book<quote>>());
    std::vector<described_event> described(2);
    described[1] = std::monostate{};
    described.emplace_back(make_book<described_quote, described_book>());
    const std::string text = serialize_to_string<json>(described);
    CHECK(text.starts_with(R"([{"type":"quote","id":0,)"));
    for (std::size_t n = 1; n <= 200; ++n)
        REQUIRE(tests::in_chunks(std::cref(events), n) == text);
}

TEST_CASE("writing plain structs allocates nothing")
{
    std::vector<quote> rows;
    for (int i = 0; i < 500; ++i)
        rows.push_back(make_quote<quote>(i));
    holdfast::streaming_serializer<json, std::reference_wrapper<std::vector<quote>>> text(std::ref(rows));
    std::array<char, 512> chunk;
    CHECK(tests::allocations_in([&] {
              std::error_code ec;
              while (!text.done() && !ec)
                  text.next(chunk, ec);
          }) == 0);
    CHECK(text.bytes_written() == serialize_to_string<json>(rows).size());
}

TEST_CASE("an error's path has the names of members in it")
{
    auto plain = make_book<quote, book<quote>>();
    plain.rows[17].bid = std::numeric_limits<double>::infinity();
    for (const std::size_t n : {1u, 7u, 64u, 4096u}) {
        const tests::failure end = tests::failure_in_chunks(std::cref(plain), n);
        CHECK(end.error == holdfast::errc::not_finite);
        CHECK(end.path == "/rows/17/bid");
    }
}

TEST_CASE("members are named as in the program, wherever the struct is")
{
    struct local {
        int first_1;
        quote* none;
        struct deeper {
            double value;
        } storage;
    };
    struct written {
        std::optional<local::deeper> value;
        int \u6d77, $dollar, _;
    };
    CHECK(serialize_to_string<json>(written{local::deeper{1.5}, 1, 2, 3}) ==
          "{\"value\":{\"value\":1.5},\"\u6d77\":1,\"$dollar\":2,\"_\":3}");
    using name = holdfast::detail::aggregate_member_name<local, 2>;
    STATIC_REQUIRE(name::name == "storage");
    const auto generic = [](auto value) {
        struct inside {
            decltype(value) it;
        };
        return serialize_to_string<json>(inside{value});
    };
    CHECK(generic(7) == R"({"it":7})");
    CHECK(generic(single{"x"}) == R"({"it":{"value":"x"}})");
}

TEST_CASE("members may be arrays, and have no default constructor, and be const and mutable")
{
    const std::string path = "/a";
    const std::array<int, 2> range{3, 4};
    request made{path, holdfast::in_unit<std::chrono::milliseconds>(std::chrono::seconds(2)), range, 5, 6};
    const std::string text = R"({"path":"/a","age":2000,"range":[3,4],"attempt":5,"reads":6})";
    CHECK(serialize_to_string<json>(std::as_const(made)) == text);
    CHECK(serialize_to_string<json>(std::ref(made)) == text);
    timed times;
    times.best[1].id = 9;
    for (std::size_t n = 1; n <= 200; ++n)
        REQUIRE(tests::in_chunks(std::cref(times), n) ==
                R"({"counts":[[1,2,3],[4,5,6]],"since":60,"best":[)"
                R"({"id":0,"symbol":"","bid":0,"live":true,"taker":1,"change":null},)"
                R"({"id":9,"symbol":"","bid":0,"live":true,"taker":1,"change":null}]})");
}

TEST_CASE("a plain struct may have no member, one, and thirty-two")
{
    CHECK(serialize_to_string<json>(std::vector<nothing>(2)) == "[{},{}]");
    CHECK(serialize_to_string<json>(single{"x"}) == R"({"value":"x"})");
    CHECK(serialize_to_string<json>(only_nothing{}) == R"({"first":{},"second":{}})");
    most all{};
    all.a = 1;
    all.F = 2;
    const std::string text = serialize_to_string<json>(all);
    CHECK(text.starts_with(R"({"a":1,"b":0,)"));
    CHECK(text.ends_with(R"("E":0,"F":2})"));
}

TEST_CASE("what is a range or a string or described stays that")
{
    const std::array<int, 2> numbers{1, 2};
    CHECK(serialize_to_string<json>(window{numbers.data(), numbers.data() + 2}) == "[1,2]");
    CHECK(serialize_to_string<json>(label{"x"}) == R"("x")");
    using holdfast::detail::json_kind, holdfast::detail::json_kind_of;
    STATIC_REQUIRE(json_kind_of<changing_window>() == json_kind::range);
    STATIC_REQUIRE(json_kind_of<const changing_window>() == json_kind::unknown);
    STATIC_REQUIRE_FALSE(plain_struct<described_quote>);
}

TEST_CASE("plain_struct names the types that need no description")
{
    STATIC_REQUIRE(plain_struct<quote>);
    STATIC_REQUIRE(plain_struct<book<quote>>);
    STATIC_REQUIRE(plain_struct<request>);
    STATIC_REQUIRE(plain_struct<nothing>);
    STATIC_REQUIRE(plain_struct<most>);
    STATIC_REQUIRE_FALSE(plain_struct<too_many>);
    STATIC_REQUIRE_FALSE(plain_struct<described_book>);
    STATIC_REQUIRE_FALSE(plain_struct<reference>);
    STATIC_REQUIRE_FALSE(plain_struct<with_private>);
    STATIC_REQUIRE_FALSE(plain_struct<either>);
    STATIC_REQUIRE_FALSE(plain_struct<int>);
    STATIC_REQUIRE_FALSE(plain_struct<int[2]>);
    STATIC_REQUIRE_FALSE(plain_struct<std::string>);
    struct derived : quote {};
    struct derived_of_nothing : nothing {
        int id = 0;
    };
    struct derived_without_default : nothing, quote {
        std::reference_wrapper<int> other;
    };
    STATIC_REQUIRE_FALSE(plain_struct<derived>);
    STATIC_REQUIRE_FALSE(plain_struct<derived_of_nothing>);
    STATIC_REQUIRE_FALSE(plain_struct<derived_without_default>);
}
