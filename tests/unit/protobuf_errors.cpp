// holdfast: tests of what cannot be written as Protobuf: which error, when, and which value it was.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/scale.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/protobuf.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>
#include <vector>

#include <sys/mman.h>

namespace bad {

using holdfast::field;

struct text {
    std::string_view value{};
};

constexpr auto describe(holdfast::type_tag<text>) { return holdfast::fields(field("value", &text::value, 1)); }

using choice = std::variant<std::monostate, text, int>;

constexpr auto describe(holdfast::type_tag<choice>)
{
    return holdfast::alternatives("none", holdfast::alternative("text", 7), holdfast::alternative("n", 8));
}

struct message {
    int id = 0;
    std::vector<text> rows{};
    std::map<std::string, text> by_name{};
    std::map<int, std::optional<std::string>> by_number{};
    choice either{};
    std::string own{};
};

constexpr auto describe(holdfast::type_tag<message>)
{
    using m = message;
    return holdfast::fields(field("id", &m::id, 1), field("rows", &m::rows, 2), field("by_name", &m::by_name, 3),
                            field("by_number", &m::by_number, 4), field("either", &m::either),
                            field("own", &m::own, 9));
}

struct envelope {
    message inside{};
    std::string_view bytes{};
};

constexpr auto describe(holdfast::type_tag<envelope>)
{
    return holdfast::fields(field("inside", &envelope::inside, 1),
                            field("bytes", &envelope::bytes, 2, holdfast::written_as<holdfast::base64>));
}

struct folder {
    std::vector<folder> folders{};
    std::unique_ptr<folder> last{};
    std::string name{};
};

constexpr auto describe(holdfast::type_tag<folder>)
{
    return holdfast::recursive<3>(field("folders", &folder::folders, 1), field("last", &folder::last, 2),
                                  field("name", &folder::name, 3));
}

struct changing {
    std::vector<int> numbers{};
    std::string text{};
};

constexpr auto describe(holdfast::type_tag<changing>)
{
    return holdfast::fields(field("numbers", &changing::numbers, 1), field("text", &changing::text, 2));
}

struct thrower {
    thrower() = default;
    thrower(const thrower&) { throw std::runtime_error("not copied"); }
    thrower(thrower&&) = default;
    int id = 1;
};

constexpr auto describe(holdfast::type_tag<thrower>) { return holdfast::fields(field("id", &thrower::id, 1)); }

using breakable = std::variant<text, thrower>;

constexpr auto describe(holdfast::type_tag<breakable>)
{
    return holdfast::alternatives(holdfast::alternative("text", 2), holdfast::alternative("thrower", 3));
}

struct with_oneof {
    int id = 5;
    breakable either{};
};

constexpr auto describe(holdfast::type_tag<with_oneof>)
{
    return holdfast::fields(field("id", &with_oneof::id, 1), field("either", &with_oneof::either));
}

inline void break_it(breakable& value)
{
    struct throws {
        operator thrower() const { throw std::runtime_error("not made"); }
    };
    try {
        value.emplace<1>(throws{});
    } catch (const std::runtime_error&) {
    }
    REQUIRE(value.valueless_by_exception());
}

struct around {
    changing inside{};
};

constexpr auto describe(holdfast::type_tag<around>) { return holdfast::fields(field("inside", &around::inside, 1)); }

} // namespace bad

namespace {

using holdfast::errc;
using holdfast::protobuf;
using holdfast::protobuf_delimited;
using holdfast::streaming_serializer;
using tests::failure_in_chunks;

/// A source fails in the same way whatever the size of the chunks.
template <class T>
void check_failure(const T& source, errc error, std::string_view path)
{
    for (const std::size_t n : {1u, 2u, 3u, 10u, 509u, 10'000u}) {
        INFO(n);
        const auto end = failure_in_chunks<protobuf>(std::cref(source), n);
        CHECK(end.error == error);
        CHECK(end.path == path);
    }
}

/// What happens when the source changes after the first chunk, which is of that size: everything that follows
/// in chunks of it.
template <class Change>
std::error_code after_change(bad::around source, std::size_t n, Change change)
{
    streaming_serializer text{std::cref(source), protobuf{}};
    std::vector<char> chunk(n);
    std::error_code ec;
    text.next(chunk, ec);
    const auto told = holdfast::serialized_size<protobuf>(source);
    change(source.inside);
    while (!ec && !text.done())
        text.next(chunk, ec);
    CHECK(text.bytes_written() <= told); // never beyond the length that was told
    return ec;
}

} // namespace

TEST_CASE("a string that is not UTF-8 is an error, which names it, bytes are any")
{
    std::string broken(701, 'a');
    broken.back() = '\xff';
    const std::string_view shorter = "\xc3";
    for (const std::string_view text : {std::string_view(broken), shorter}) {
        check_failure(bad::text{text}, errc::invalid_utf8, "/value");
        check_failure(bad::message{.id = 1, .rows = {{"good"}, {text}}}, errc::invalid_utf8, "/rows/1/value");
        check_failure(bad::message{.by_name = {{"a/b", {text}}}}, errc::invalid_utf8, "/by_name/a~1b/value");
        check_failure(bad::message{.by_number = {{1, {}}, {-7, std::string(text)}}}, errc::invalid_utf8,
                      "/by_number/-7");
        check_failure(bad::message{.either = bad::text{text}}, errc::invalid_utf8, "/either/text/value");
        check_failure(bad::envelope{{.own = std::string(text)}}, errc::invalid_utf8, "/inside/own");
        check_failure(std::vector<bad::text>{{}, {}, {text}}, errc::invalid_utf8, "/2/value");
        const bad::envelope fine{{}, text};
        CHECK(holdfast::serialize_to_string<protobuf>(fine).ends_with(text));
        CHECK(holdfast::serialize_to_string(bad::text{text}, protobuf{.check_utf8 = false}).ends_with(text));
        CHECK(holdfast::serialize_to_string(bad::text{text}, protobuf_delimited{.check_utf8 = false}).ends_with(text));
    }
}

TEST_CASE("beyond 2 GiB a message or a string fails before its first byte")
{
    // Views of memory that does not exist: only their sizes are looked at.
    const std::string_view half("some", std::size_t{1} << 30), most("some", 0x7fffffff), more("some", 0x80000000);
    const std::error_code too_large = errc::message_too_large;
    auto end = failure_in_chunks<protobuf>(bad::text{more}, 10);
    CHECK((end.error == too_large && end.before.empty() && end.path == "/value"));
    end = failure_in_chunks<protobuf>(bad::envelope{{.id = 1}, more}, 1);
    CHECK((end.error == too_large && std::string_view("\x0a\x02\x08\x01").starts_with(end.before) &&
           end.path == "/bytes"));
    const bad::message two{.id = 1, .rows = {{half}, {half}}};
    end = failure_in_chunks<protobuf>(bad::envelope{{.rows = {{half}, {half}}}}, 10);
    CHECK((end.error == too_large && end.before.empty() && end.path == "/inside"));
    end = failure_in_chunks<protobuf_delimited>(two, 10);
    CHECK((end.error == too_large && end.before.empty()));
    end = failure_in_chunks<protobuf>(std::vector<bad::text>{{}, {most}}, 1); // the message, with its tag
    CHECK((end.error == too_large && std::string_view("\x0a\0", 2).starts_with(end.before) && end.path == "/1"));
    const std::size_t vast = std::size_t{3} << 30; // a chunk that would have the room
    void* const mapped =
        ::mmap(nullptr, vast, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(mapped != MAP_FAILED);
    streaming_serializer roomy{std::vector<bad::text>{{"a"}, {more}}, protobuf{}};
    std::error_code refused;
    CHECK(roomy.next({static_cast<char*>(mapped), vast}, refused).empty());
    CHECK(refused == too_large);
    CHECK(roomy.error_path() == "/1");
    ::munmap(mapped, vast);
    streaming_serializer fits{bad::envelope{{}, most}, protobuf{}};
    std::array<char, 10> chunk{};
    std::error_code ec;
    const auto part = fits.next(chunk, ec);
    CHECK(!ec);
    CHECK(std::string_view(part.data(), 10) == std::string_view("\x0a\0\x12\xff\xff\xff\xff\x07so", 10));
}

TEST_CASE("the message at the root fails where it passes 2 GiB, a delimited stream may be of any length")
{
    const std::string megabyte(std::size_t{1} << 20, 'a');
    const auto rows = [&](int n) {
        return std::views::iota(0, n) | std::views::transform([&](int) { return bad::text{megabyte}; });
    };
    std::error_code ec;
    const auto size = holdfast::serialized_size<protobuf>(rows(2100), ec);
    CHECK(ec == errc::message_too_large);
    CHECK(size <= holdfast::protobuf_max_bytes);
    const auto end = failure_in_chunks(rows(2100), 100, protobuf{.measure_first = true});
    CHECK((end.error == errc::message_too_large && end.before.empty()));
    CHECK(failure_in_chunks(rows(1), 1 << 20, protobuf{.measure_first = true}).error == std::error_code());
    if (tests::sanitized) return;
    CHECK(holdfast::serialized_size<protobuf_delimited>(rows(4100), {.check_utf8 = false}) == // beyond 32 bits
          4100 * (std::uint64_t{megabyte.size()} + 7));
}

TEST_CASE("a tree that is too deep fails before the first byte of what holds too much")
{
    bad::folder deep;
    deep.folders.resize(2);
    deep.folders[1].last = std::make_unique<bad::folder>();
    CHECK(failure_in_chunks<protobuf>(std::cref(deep), 3).error == std::error_code());
    deep.folders[1].last->folders.resize(1);
    for (const std::size_t n : {1u, 2u, 100u}) {
        const auto end = failure_in_chunks<protobuf>(std::cref(deep), n);
        CHECK(end.error == errc::depth_exceeded);
        CHECK(end.path == "/folders/1");
        CHECK(end.before.size() <= 2);
    }
    const auto end = failure_in_chunks<protobuf_delimited>(std::cref(deep), 1);
    CHECK((end.error == errc::depth_exceeded && end.before.empty()));
}

TEST_CASE("a source that changes after its length was sent is an error, never a message of another length")
{
    bad::around source{{std::vector<int>(1000, 1), std::string(2000, 'a')}};
    using changing = bad::changing;
    for (const std::size_t n : {1u, 10u, 600u, 1500u}) {
        INFO(n);
        const auto end = [&](auto change) { return after_change(source, n, change); };
        CHECK_FALSE(end([](changing&) {}));
        CHECK(end([](changing& c) { c.numbers.back() = 300; }) ==
              (n < 1000 ? make_error_code(errc::source_changed) : std::error_code()));
        CHECK(end([](changing& c) { c.text.back() = 'b'; }) == std::error_code()); // of the same length
        CHECK(end([](changing& c) { c.text.resize(1999); }) == errc::source_changed);
        CHECK(end([](changing& c) { c.text.reserve(3000), c.text.resize(2001, 'a'); }) == errc::source_changed);
        CHECK(end([](changing& c) { c.text.clear(); }) == errc::source_changed);
    }
    streaming_serializer text{std::cref(source.inside), protobuf{}}; // at the root a string has a length as well
    std::array<char, 1500> chunk{};
    std::error_code ec;
    text.next(chunk, ec);
    source.inside.text.pop_back();
    text.next(chunk, ec);
    CHECK(ec == errc::source_changed);
    CHECK(text.error_path() == "/text");
}

TEST_CASE("a variant that holds nothing is an error of the source: as a oneof, a message, an element")
{
    bad::with_oneof message;
    bad::break_it(message.either);
    for (const std::size_t n : {1u, 10u, 1000u}) {
        CHECK(failure_in_chunks<protobuf>(std::cref(message), n).error == errc::source_failed);
        CHECK(failure_in_chunks<protobuf>(std::cref(message.either), n).error == errc::source_failed);
        CHECK(failure_in_chunks<protobuf_delimited>(std::cref(message), n).error == errc::source_failed);
        const std::array messages{std::cref(message)};
        CHECK(failure_in_chunks<protobuf_delimited>(std::cref(messages), n).error == errc::source_failed);
    }
}

TEST_CASE("so is a tree that changes")
{
    for (const std::size_t grown : {101u, 110u, 1000u, 99u, 0u}) {
        bad::folder source;
        source.folders.resize(2);
        source.folders[0].name.assign(100, 'a');
        source.folders[0].last = std::make_unique<bad::folder>();
        const auto told = holdfast::serialized_size<protobuf>(source.folders[0]) + 2;
        streaming_serializer text{std::cref(source), protobuf{}};
        std::array<char, 3> chunk{};
        std::error_code ec;
        text.next(chunk, ec);
        source.folders[0].name.assign(grown, 'b');
        while (!ec && !text.done())
            text.next(chunk, ec);
        CHECK(ec == errc::source_changed);
        CHECK(text.bytes_written() <= told);
    }
}

TEST_CASE("what the source throws leaves through next(), and the serializer has failed")
{
    const auto rows = std::views::iota(0, 9) | std::views::transform([](int i) {
                          if (i == 5) throw std::runtime_error("gone");
                          return bad::text{"some"};
                      });
    for (const std::size_t n : {1u, 7u, 1000u}) {
        const auto end = failure_in_chunks<protobuf>(rows, n);
        CHECK(end.error == errc::source_failed);
        CHECK(end.path == "/5");
    }
}
