// holdfast: tests of what JSON asks of its sources: each element read once, generators, locales, a deep tree.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/json.hpp>

#include <clocale>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <iterator>
#include <locale>
#include <memory>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using holdfast::json;
using holdfast::ndjson;
using tests::in_chunks;

struct counts {
    int begins = 0, reads = 0, increments = 0;

    bool operator==(const counts&) const = default;
};

// A range that counts what is asked of it; single-pass, whatever it was before.
template <class R>
class counted_range {
public:
    class iterator {
    public:
        using value_type = std::ranges::range_value_t<R>;
        using difference_type = std::ptrdiff_t;

        explicit iterator(counted_range& of) : of_(&of), at_(std::ranges::begin(of.range_)) {}
        iterator(iterator&&) = default;
        iterator& operator=(iterator&&) = default;

        decltype(auto) operator*() const
        {
            ++of_->counted_->reads;
            return *at_;
        }
        iterator& operator++()
        {
            ++of_->counted_->increments;
            ++at_;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return at_ == std::ranges::end(of_->range_); }

    private:
        counted_range* of_;
        std::ranges::iterator_t<R> at_;
    };

    counted_range(R range, counts& counted) : range_(std::move(range)), counted_(&counted) {}

    iterator begin()
    {
        ++counted_->begins;
        return iterator(*this);
    }
    std::default_sentinel_t end() const { return {}; }

private:
    R range_;
    counts* counted_;
};

template <class Map>
struct counted_map : counted_range<Map> {
    using key_type = typename Map::value_type::first_type;
    using mapped_type = typename Map::value_type::second_type;
    using counted_range<Map>::counted_range;
};

// `make()` gives a range of so many elements, whose text is as expected.
template <template <class> class Counted = counted_range, class Make>
void check_once(int elements, const std::string& expected, const Make& make)
{
    for (std::size_t n = 1; n <= 100; ++n) {
        INFO("chunks of " << n);
        counts counted;
        REQUIRE(in_chunks(Counted<std::invoke_result_t<Make>>(make(), counted), n) == expected);
        REQUIRE(counted == counts{1, elements, elements});
    }
}

struct only_moved {
    explicit only_moved(int id_) : id(std::make_unique<int>(id_)) {}
    std::unique_ptr<int> id;
    std::string name = "row";
};

constexpr auto describe(holdfast::type_tag<only_moved>)
{
    return holdfast::fields(holdfast::field("id", &only_moved::id), holdfast::field("name", &only_moved::name));
}

// A generator: a coroutine as a single-pass range.
template <class T>
class generator {
public:
    struct promise_type {
        generator get_return_object() { return generator(handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(const T& value) noexcept
        {
            yielded = &value;
            return {};
        }
        void return_void() {}
        void unhandled_exception() { throw; }

        const T* yielded = nullptr;
    };

    using handle = std::coroutine_handle<promise_type>;

    class iterator {
    public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;

        explicit iterator(handle of) : of_(of) { of_.resume(); }
        iterator(iterator&& other) noexcept : of_(other.of_) {}
        iterator& operator=(iterator&& other) noexcept
        {
            of_ = other.of_;
            return *this;
        }
        const T& operator*() const { return *of_.promise().yielded; }
        iterator& operator++()
        {
            of_.resume();
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return of_.done(); }

    private:
        handle of_;
    };

    explicit generator(handle of) : of_(of) {}
    generator(generator&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
    generator& operator=(generator&&) = delete;
    ~generator()
    {
        if (of_) of_.destroy();
    }

    iterator begin() { return iterator(of_); }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    handle of_;
};

generator<std::tuple<int, std::string>> count_to(int n, int throws_at, int& made)
{
    for (int i = 0; i < n; ++i) {
        if (i == throws_at) throw std::runtime_error("the cursor is closed");
        ++made;
        co_yield std::tuple(i, std::string(static_cast<std::size_t>(i), 'x'));
    }
}

// Commas for points, and points between thousands.
struct german : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

struct folder {
    std::vector<folder> folders;
};

constexpr auto describe(holdfast::type_tag<folder>)
{
    return holdfast::recursive<100>(holdfast::field("folders", &folder::folders));
}

} // namespace

TEST_CASE("every element is read once and passed once, whatever the range and the size of the chunks")
{
    check_once(5, R"(["0","1","3","6","10"])", [] {
        return std::views::iota(0, 5) |
               std::views::transform([sum = 0](int i) mutable { return std::to_string(sum += i); });
    });
    check_once(4, "[1,3,5,7]",
               [] { return std::views::iota(0, 8) | std::views::filter([](int i) { return i % 2 != 0; }); });
    check_once(3, "[true,false,true]", [] { return std::vector<bool>{true, false, true}; });
    check_once(2, R"([{"id":1,"name":"row"},{"id":2,"name":"row"}])", [] {
        std::vector<only_moved> rows;
        rows.emplace_back(1);
        rows.emplace_back(2);
        return rows;
    });
    check_once<counted_map>(3, R"({"a\"\n":[1],"b\\":[],"\u0001":[2,3]})", [] {
        return std::vector<std::pair<std::string, std::vector<int>>>{{"a\"\n", {1}}, {"b\\", {}}, {"\x01", {2, 3}}};
    });
    check_once(0, "[]", [] { return std::vector<int>(); });

    for (std::size_t n = 1; n <= 100; ++n) { // a stream gives up what is read from it
        std::istringstream words("one two three");
        counts counted;
        counted_range all(std::views::istream<std::string>(words), counted);
        REQUIRE(in_chunks(std::move(all), n) == R"(["one","two","three"])");
        REQUIRE(counted == counts{1, 3, 3});
    }
}

TEST_CASE("a coroutine's rows are made while they are sent")
{
    std::string whole = "[";
    for (int i = 0; i < 20; ++i)
        whole +=
            (i == 0 ? "[" : ",[") + std::to_string(i) + ",\"" + std::string(static_cast<std::size_t>(i), 'x') + "\"]";
    whole += ']';
    for (std::size_t n = 1; n <= 100; ++n) {
        INFO("chunks of " << n);
        int made = 0;
        REQUIRE(in_chunks(count_to(20, -1, made), n) == whole);
        REQUIRE(made == 20);
    }
    int made = 0;
    auto rows = count_to(1'000'000, -1, made);
    holdfast::streaming_serializer text{std::ref(rows), ndjson{}};
    char chunk[64];
    std::error_code ec;
    text.next(chunk, ec);
    CHECK(made < 20); // no more than the chunk holds
}

TEST_CASE("a coroutine that throws ends the text for good, at the row it was making")
{
    for (const int k : {0, 1, 7, 19}) {
        for (const std::size_t n : {1u, 5u, 100u, 4096u}) {
            int made = 0;
            const tests::failure end = tests::failure_in_chunks(count_to(20, k, made), n);
            CHECK(end.error == holdfast::errc::source_failed);
            if (k != 0) CHECK(end.path == '/' + std::to_string(k));
            CHECK(made == k);
        }
    }
}

TEST_CASE("numbers have points, whatever the locale")
{
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new german));
    std::ostringstream shown;
    shown << 1234.5; // it is in force
    const std::string text = holdfast::serialize_to_string<json>(std::tuple(1234567.25, 0.1f, 1e300, -1000000));
    std::locale::global(before);
    CHECK(shown.str() == "1.234,5");
    CHECK(text == "[1234567.25,0.1,1e+300,-1000000]");
}

TEST_CASE("a hundred levels are written like one")
{
    folder root;
    std::string expected;
    for (int level = 1; level < 100; ++level) {
        folder above;
        above.folders.push_back(std::move(root));
        root = std::move(above);
        expected += R"({"folders":[)";
    }
    expected += R"({"folders":[]})";
    for (int level = 1; level < 100; ++level)
        expected += "]}";
    for (const std::size_t n : {1u, 2u, 13u, 64u, 4096u})
        CHECK(in_chunks(std::cref(root), n) == expected);
}
