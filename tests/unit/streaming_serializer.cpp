// holdfast: tests of streaming_serializer: full chunks, each element made once, no allocation, failures.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <ranges>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace feed {

struct level {
    double price;
    std::uint32_t size;
};

constexpr auto describe(holdfast::type_tag<level>)
{
    return holdfast::fields(holdfast::field("price", &level::price), holdfast::field("size", &level::size));
}

struct quote {
    std::uint64_t id;
    std::string symbol;
    double bid, ask;
    std::uint32_t bid_size, ask_size;
    std::uint64_t time;
    bool open;
};

constexpr auto describe(holdfast::type_tag<quote>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol), field("bid", &quote::bid),
                            field("ask", &quote::ask), field("bid_size", &quote::bid_size),
                            field("ask_size", &quote::ask_size), field("time", &quote::time),
                            field("open", &quote::open));
}

struct instrument {
    std::int64_t id = 0;
    std::string name;
    std::optional<std::optional<double>> last;
    std::map<std::string, std::vector<std::variant<std::monostate, int, std::string, level>>> tags;
    std::array<char, 6> code{};
    std::vector<std::vector<level>> book;
    std::pair<bool, float> state;
    char side = 'B';
};

constexpr auto describe(holdfast::type_tag<instrument>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &instrument::id), field("name", &instrument::name),
                            field("la\"st\n", &instrument::last), field("tags", &instrument::tags),
                            field("code", &instrument::code), field("book", &instrument::book),
                            field("state", &instrument::state), field("side", &instrument::side));
}

} // namespace feed

namespace {

using holdfast::json;
using holdfast::ndjson;
using holdfast::serialize_to_string;
using holdfast::streaming_serializer;
using tests::in_chunks;

feed::instrument make_instrument(int i)
{
    feed::instrument made;
    made.id = i % 3 == 0 ? std::numeric_limits<std::int64_t>::min() + i : i * 1'000'003LL;
    made.name = std::string("tab\tquote\"slash\\bell\a nul") + '\0' + " \u00e9\u20ac\U0001f30a " + std::to_string(i);
    if (i % 2 == 0) made.last.emplace();
    if (i % 4 == 0) *made.last = i * 0.1;
    made.tags["k\"1"] = {i, std::string("x\\y"), feed::level{5e-324, 7}, std::monostate{}};
    made.tags["none"] = {};
    const std::string code = "C" + std::to_string(i);
    std::copy(code.begin(), code.end(), made.code.begin());
    made.book.resize(static_cast<std::size_t>(i % 3));
    for (auto& side : made.book)
        side.assign(2, {1.7976931348623157e308, 4'294'967'295u});
    made.state = {i % 2 != 0, 0.1f};
    return made;
}

// A single-pass range like a generator, with a move-only iterator, that counts what is asked of it.
class counted_rows {
public:
    struct counts {
        int begins = 0, reads = 0, increments = 0;
    };

    class iterator {
    public:
        using value_type = std::tuple<int, std::string>;
        using difference_type = std::ptrdiff_t;

        explicit iterator(counted_rows* of) : of_(of) {}
        iterator(iterator&&) = default;
        iterator& operator=(iterator&&) = default;

        std::tuple<int, std::string> operator*() const
        {
            ++of_->counted_.reads;
            return {of_->row_, "row " + std::to_string(of_->row_)};
        }
        iterator& operator++()
        {
            ++of_->counted_.increments;
            ++of_->row_;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return of_->row_ == of_->rows_; }

    private:
        counted_rows* of_;
    };

    counted_rows(int rows, counts& counted) : rows_(rows), counted_(counted) {}

    iterator begin()
    {
        ++counted_.begins;
        return iterator(this);
    }
    std::default_sentinel_t end() const { return {}; }

private:
    int rows_;
    counts& counted_;
    int row_ = 0;
};

// A row that can neither be copied nor moved.
struct fixed_row {
    explicit fixed_row(int i) : name("row " + std::to_string(i)) {}
    fixed_row(const fixed_row&) = delete;
    fixed_row& operator=(const fixed_row&) = delete;
    std::string name;
};

constexpr auto describe(holdfast::type_tag<fixed_row>)
{
    return holdfast::fields(holdfast::field("name", &fixed_row::name));
}

} // namespace

TEST_CASE("a serializer that is reset writes its source again from the beginning, or another one")
{
    const std::vector<int> numbers{1, 22, 333}, others{4};
    using source = std::reference_wrapper<const std::vector<int>>;
    holdfast::streaming_serializer<holdfast::json, source> text(numbers);
    const auto rest = [&text] {
        std::string whole;
        std::array<char, 3> chunk;
        std::error_code ec;
        while (!text.done() && !ec) {
            const auto part = text.next(chunk, ec);
            whole.append(part.data(), part.size());
        }
        return ec ? ec.message() : whole;
    };
    CHECK(rest() == "[1,22,333]");
    text.reset();
    CHECK_FALSE(text.done());
    CHECK(text.bytes_written() == 0);
    std::array<char, 4> chunk;
    std::error_code ec;
    text.next(chunk, ec);
    text.reset(); // in the middle
    CHECK(rest() == "[1,22,333]");
    text.reset(others);
    CHECK(rest() == "[4]");

    holdfast::streaming_serializer<holdfast::json, double> failed(std::numeric_limits<double>::infinity());
    failed.next(chunk, ec);
    CHECK(ec == holdfast::errc::not_finite);
    failed.reset(1.5);
    CHECK(std::string_view(failed.next(chunk, ec).data(), 3) == "1.5");
    CHECK_FALSE(ec);
}

TEST_CASE("chunks joined are the whole text, and all but the last are full, for every chunk size from 1 to 200")
{
    std::vector<feed::instrument> rows;
    for (int i = 0; i < 7; ++i)
        rows.push_back(make_instrument(i));
    const std::string whole = serialize_to_string<json>(rows);
    const std::string lines = serialize_to_string<ndjson>(rows);
    REQUIRE(whole.size() > 2000);
    CHECK(std::count(lines.begin(), lines.end(), '\n') == 7);
    const auto made = std::views::iota(0, 7) | std::views::transform(make_instrument);
    for (std::size_t n = 1; n <= 200; ++n) {
        INFO("chunks of " << n);
        REQUIRE(in_chunks(std::cref(rows), n) == whole);
        REQUIRE(in_chunks(made, n) == whole);
        REQUIRE(in_chunks<ndjson>(made, n) == lines);
    }
}

TEST_CASE("chunk sizes may change from call to call")
{
    const auto made = std::views::iota(0, 20) | std::views::transform(make_instrument);
    const std::string whole = serialize_to_string<json>(made);
    streaming_serializer<json, std::remove_const_t<decltype(made)>> text(made);
    std::string joined;
    std::error_code ec;
    for (std::size_t n = 1; !text.done(); n = (n * 7 + 3) % 509) {
        std::vector<char> chunk(n);
        const auto part = text.next(chunk, ec);
        REQUIRE_FALSE(ec);
        REQUIRE((part.size() == n || text.done()));
        joined.append(part.data(), part.size());
    }
    CHECK(joined == whole);
}

TEST_CASE("an empty chunk changes nothing, and nothing follows the end")
{
    const std::vector<int> numbers{1, 2, 3};
    streaming_serializer<json, std::reference_wrapper<const std::vector<int>>> text{std::cref(numbers)};
    std::error_code ec = make_error_code(holdfast::errc::source_failed);
    CHECK(text.next({}, ec).empty());
    CHECK_FALSE(ec);
    CHECK_FALSE(text.done());
    std::array<char, 16> chunk{};
    auto part = text.next(chunk, ec);
    CHECK(std::string_view(part.data(), part.size()) == "[1,2,3]");
    CHECK(text.done());
    CHECK(text.bytes_written() == 7);
    CHECK(text.next(chunk, ec).empty());
    CHECK_FALSE(ec);
    CHECK(text.done());
    CHECK(text.bytes_written() == 7);
}

TEST_CASE("a text that fills its last chunk to the byte is done with it")
{
    streaming_serializer<json, std::vector<int>> text({10, 20});
    std::array<char, 7> chunk{};
    std::error_code ec;
    CHECK(text.next(chunk, ec).size() == 7);
    CHECK(text.done());
    streaming_serializer<ndjson, std::vector<int>> lines({10, 20, 3});
    std::array<char, 8> eight{};
    CHECK(lines.next(eight, ec).size() == 8);
    CHECK(lines.done());
}

TEST_CASE("each element of a single-pass range is read once and passed once, whatever the chunk size")
{
    counted_rows::counts reference;
    const std::string whole = serialize_to_string<json>(counted_rows(25, reference));
    CHECK(whole.substr(0, 25) == "[[0,\"row 0\"],[1,\"row 1\"],");
    for (std::size_t n = 1; n <= 200; ++n) {
        INFO("chunks of " << n);
        counted_rows::counts counted;
        REQUIRE(in_chunks(counted_rows(25, counted), n) == whole);
        REQUIRE(counted.begins == 1);
        REQUIRE(counted.reads == 25);
        REQUIRE(counted.increments == 25);
    }
}

TEST_CASE("a transform with a state makes each row once, whatever the chunk size")
{
    for (std::size_t n = 1; n <= 200; ++n) {
        INFO("chunks of " << n);
        int made = 0;
        auto rows = std::views::iota(0, 12) | std::views::transform([&made, sum = 0](int i) mutable {
                        ++made;
                        sum += i;
                        return std::tuple(i, std::to_string(sum), std::vector<int>(static_cast<std::size_t>(i % 3), i));
                    });
        const std::string text = in_chunks(rows, n);
        REQUIRE(made == 12);
        REQUIRE(text == "[[0,\"0\",[]],[1,\"1\",[1]],[2,\"3\",[2,2]],[3,\"6\",[]],[4,\"10\",[4]],[5,\"15\",[5,5]],"
                        "[6,\"21\",[]],[7,\"28\",[7]],[8,\"36\",[8,8]],[9,\"45\",[]],[10,\"55\",[10]],"
                        "[11,\"66\",[11,11]]]");
    }
}

TEST_CASE("a filter calls its predicate once for each element, whatever the chunk size")
{
    for (std::size_t n = 1; n <= 200; ++n) {
        INFO("chunks of " << n);
        int asked = 0;
        auto odd = std::views::iota(0, 30) | std::views::filter([&asked](int i) {
                       ++asked;
                       return i % 2 != 0;
                   });
        REQUIRE(in_chunks(odd, n) == "[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29]");
        REQUIRE(asked == 30);
    }
}

TEST_CASE("views that can be read only once, own rows that don't move, or give proxies are written")
{
    for (const std::size_t n : {1u, 2u, 3u, 7u, 16u, 200u}) {
        INFO("chunks of " << n);
        std::istringstream words("one two three");
        REQUIRE(in_chunks(std::views::istream<std::string>(words), n) == R"(["one","two","three"])");

        auto fixed = std::views::iota(0, 3) | std::views::transform([](int i) { return fixed_row(i); });
        REQUIRE(in_chunks(fixed, n) == R"([{"name":"row 0"},{"name":"row 1"},{"name":"row 2"}])");

        REQUIRE(in_chunks(std::vector<bool>{true, false, true}, n) == "[true,false,true]");

        std::vector<std::pair<int, std::vector<std::string>>> moved;
        moved.emplace_back(1, std::vector<std::string>{"a", "b"});
        REQUIRE(in_chunks(std::move(moved), n) == R"([[1,["a","b"]]])");

        const std::vector<std::string> kept{"x", "yy"};
        REQUIRE(in_chunks(std::ranges::subrange(kept.begin(), kept.end()), n) == R"(["x","yy"])");
        REQUIRE(in_chunks(std::span(kept), n) == R"(["x","yy"])");
        REQUIRE(in_chunks(std::vector{std::cref(kept), std::cref(kept)}, n) == R"([["x","yy"],["x","yy"]])");
    }
}

TEST_CASE("a source that throws ends the text for good, without a closing bracket")
{
    for (std::size_t n = 1; n <= 64; ++n) {
        INFO("chunks of " << n);
        auto rows = std::views::iota(0, 20) | std::views::transform([](int i) {
                        if (i == 9) throw std::runtime_error("the database is gone");
                        return std::vector<int>{i, i};
                    });
        streaming_serializer<json, decltype(rows)> text(rows);
        std::string joined;
        std::vector<char> chunk(n);
        std::error_code ec;
        bool thrown = false;
        try {
            for (;;) {
                const auto part = text.next(chunk, ec);
                REQUIRE_FALSE(ec);
                REQUIRE(part.size() == n);
                joined.append(part.data(), part.size());
            }
        } catch (const std::runtime_error& e) {
            thrown = true;
            CHECK(std::string_view(e.what()) == "the database is gone");
        }
        REQUIRE(thrown);
        REQUIRE(std::string_view("[[0,0],[1,1],[2,2],[3,3],[4,4],[5,5],[6,6],[7,7],[8,8],").starts_with(joined));
        REQUIRE(text.bytes_written() == joined.size());
        for (int again = 0; again < 3; ++again) {
            REQUIRE(text.next(chunk, ec).empty());
            REQUIRE(ec == holdfast::errc::source_failed);
            REQUIRE_FALSE(text.done());
        }
        REQUIRE(text.bytes_written() == joined.size());
    }
}

TEST_CASE("after an error nothing is emitted any more, and the same error comes back")
{
    const std::vector<std::variant<std::string, double>> values{"one", 2.0, "three",
                                                                std::numeric_limits<double>::quiet_NaN(), "five"};
    for (std::size_t n = 1; n <= 40; ++n) {
        INFO("chunks of " << n);
        streaming_serializer<json, std::reference_wrapper<const std::vector<std::variant<std::string, double>>>> text{
            std::cref(values)};
        std::string joined;
        std::vector<char> chunk(n);
        std::error_code ec;
        for (;;) {
            const auto part = text.next(chunk, ec);
            if (ec) break;
            REQUIRE(part.size() == n);
            joined.append(part.data(), part.size());
        }
        REQUIRE(std::string_view(R"(["one",2,"three",)").starts_with(joined));
        for (int again = 0; again < 3; ++again) {
            REQUIRE(ec == holdfast::errc::not_finite);
            REQUIRE_FALSE(text.done());
            REQUIRE(text.bytes_written() == joined.size());
            REQUIRE(text.next(chunk, ec).empty());
        }
        REQUIRE(text.next({}, ec).empty());
        REQUIRE(ec == holdfast::errc::not_finite);
    }
}

TEST_CASE("a serializer that is destroyed half-way destroys the row it was in")
{
    // Counts the rows alive.
    static int alive;
    alive = 0;
    struct row : std::vector<std::string> {
        explicit row(int i) : std::vector<std::string>(3, "row on the heap, number " + std::to_string(i)) { ++alive; }
        row(const row&) = delete;
        row& operator=(const row&) = delete;
        ~row() { --alive; }
    };
    auto rows = std::views::iota(0, 5) | std::views::transform([](int i) { return row(i); });
    for (std::size_t n = 1; n <= 80; ++n) {
        INFO("after " << n << " bytes");
        {
            streaming_serializer<json, decltype(rows)> text(rows);
            std::vector<char> chunk(n);
            std::error_code ec;
            REQUIRE(text.next(chunk, ec).size() == n);
            REQUIRE_FALSE(text.done());
            REQUIRE(alive == 1);
        }
        REQUIRE(alive == 0);
    }
}

TEST_CASE("writing allocates nothing")
{
    std::vector<feed::instrument> rows;
    for (int i = 0; i < 50; ++i)
        rows.push_back(make_instrument(i));
    const auto made = std::views::iota(0, 1000) | std::views::transform([](int i) {
                          return feed::quote{static_cast<std::uint64_t>(i), "SYM", i * 0.01, 1.5, 1, 2, 3, true};
                      });
    std::vector<char> chunk(16384);
    for (const std::size_t n : {1u, 7u, 64u, 1024u, 16384u}) {
        INFO("chunks of " << n);
        std::error_code ec;
        std::size_t bytes = 0;
        const std::size_t allocations = tests::allocations_in([&] {
            streaming_serializer<json, std::reference_wrapper<const std::vector<feed::instrument>>> text{
                std::cref(rows)};
            while (!text.done())
                bytes += text.next({chunk.data(), n}, ec).size();
            streaming_serializer<ndjson, std::remove_const_t<decltype(made)>> lines(made);
            while (!lines.done())
                bytes += lines.next({chunk.data(), n}, ec).size();
        });
        CHECK(allocations == 0);
        CHECK_FALSE(ec);
        CHECK(bytes > 100'000);
    }
}

TEST_CASE("the counter of allocations counts")
{
    std::string* p = nullptr;
    CHECK(tests::allocations_in([&] { p = new std::string(100, 'x'); }) == 2);
    delete p;
}

TEST_CASE("a serializer's size is what the documentation says")
{
    // On 64-bit machines with libstdc++; the upper bounds on others have to be found first.
    if constexpr (sizeof(void*) == 8) {
        CHECK(sizeof(streaming_serializer<json, std::reference_wrapper<const feed::quote>>) <= 584);
        CHECK(sizeof(streaming_serializer<json, std::reference_wrapper<const std::vector<feed::quote>>>) <= 624);
        CHECK(sizeof(streaming_serializer<json, std::reference_wrapper<const std::vector<feed::instrument>>>) <= 728);
        const auto made = std::views::iota(0, 10) | std::views::transform([](int) { return feed::quote{}; });
        CHECK(sizeof(streaming_serializer<ndjson, std::remove_const_t<decltype(made)>>) <=
              624 + sizeof(made) + sizeof(feed::quote));
    }
}

TEST_CASE("format and source are deduced from the arguments")
{
    const std::vector<feed::level> levels{{1.5, 2}};
    streaming_serializer text{std::cref(levels), json{}};
    std::string joined;
    std::array<char, 16> chunk;
    std::error_code ec;
    while (!text.done() && !ec) {
        const auto part = text.next(chunk, ec);
        joined.append(part.data(), part.size());
    }
    CHECK_FALSE(ec);
    CHECK(joined == R"([{"price":1.5,"size":2}])");
}

TEST_CASE("a serializer can neither be copied nor moved, since its cursor points into its source")
{
    using text = streaming_serializer<json, std::vector<int>>;
    CHECK_FALSE(std::is_copy_constructible_v<text>);
    CHECK_FALSE(std::is_move_constructible_v<text>);
    CHECK_FALSE(std::is_copy_assignable_v<text>);
    CHECK_FALSE(std::is_move_assignable_v<text>);
}

TEST_CASE("a format's options are trivially destructible, so that a co_await expression may make them")
{
    CHECK(std::is_trivially_destructible_v<json>);
    CHECK(std::is_trivially_destructible_v<ndjson>);
}
