// holdfast: tests of Protobuf's bytes: every kind of field, by hand, in chunks of every size.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/serialized.hpp"

#include <holdfast/serialize/protobuf.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace wire {

using holdfast::field;
using holdfast::fields;
using holdfast::proto::always;
using holdfast::proto::fixed;
using holdfast::proto::keys;
using holdfast::proto::sint;
using holdfast::proto::unpacked;

enum class color : std::uint8_t { red, green = 200 };
enum class level : std::int64_t { low = -2, none = 0 };

struct scalars {
    std::int32_t i32 = 0;
    std::int64_t i64 = 0;
    std::uint32_t u32 = 0;
    std::uint64_t u64 = 0;
    std::int32_t s32 = 0;
    std::int64_t s64 = 0;
    std::uint32_t f32 = 0;
    std::int64_t sf64 = 0;
    float f = 0;
    double d = 0;
    bool b = false;
    color e{};
    level l{};
    std::int8_t small = 0;
    std::chrono::seconds age{};
};

constexpr auto describe(holdfast::type_tag<scalars>)
{
    using s = scalars;
    return fields(field("i32", &s::i32, 1), field("i64", &s::i64, 2), field("u32", &s::u32, 3),
                  field("u64", &s::u64, 4), field("s32", &s::s32, 5, sint), field("s64", &s::s64, 6, sint),
                  field("f32", &s::f32, 7, fixed), field("sf64", &s::sf64, 8, fixed), field("f", &s::f, 9),
                  field("d", &s::d, 10), field("b", &s::b, 11), field("e", &s::e, 12), field("l", &s::l, 13),
                  field("small", &s::small, 14),
                  field("age", &s::age, 15, holdfast::written_as<holdfast::in_unit<std::chrono::milliseconds>>));
}

struct explicit_zero {
    int plain = 0;
    int kept = 0;
    bool flag = false;
    std::string text{};
    std::vector<int> none{};
    std::optional<int> perhaps{};
    int last = 0;
};

constexpr auto describe(holdfast::type_tag<explicit_zero>)
{
    using e = explicit_zero;
    return fields(field("plain", &e::plain, 1), field("kept", &e::kept, 2, always), field("flag", &e::flag, 3, always),
                  field("text", &e::text, 4, always), field("none", &e::none, 5, always),
                  field("perhaps", &e::perhaps, 6), field("last", &e::last, (1 << 29) - 1, always));
}

struct texts {
    std::string s{};
    std::string_view view{};
    char code[4] = {};
    char letter = 0;
    std::vector<std::byte> bytes{};
    std::string raw{};
};

constexpr auto describe(holdfast::type_tag<texts>)
{
    using t = texts;
    return fields(field("s", &t::s, 1), field("view", &t::view, 2), field("code", &t::code, 3),
                  field("letter", &t::letter, 4), field("bytes", &t::bytes, 5),
                  field("raw", &t::raw, 6, holdfast::written_as<holdfast::base64>));
}

struct point {
    int x = 0;
    int y = 0;
};

constexpr auto describe(holdfast::type_tag<point>) // in another order than that of the numbers
{
    return fields(field("y", &point::y, 2), field("x", &point::x, 1));
}

struct repeats {
    std::vector<int> packed;
    std::list<std::int64_t> zigzag;
    std::vector<bool> flags;
    std::array<float, 2> floats{};
    std::vector<unsigned> loose;
    std::vector<std::string> strings;
    std::vector<point> points;
    std::vector<std::unique_ptr<point>> pointers;
};

constexpr auto describe(holdfast::type_tag<repeats>)
{
    using r = repeats;
    return fields(field("packed", &r::packed, 1), field("zigzag", &r::zigzag, 2, sint), field("flags", &r::flags, 3),
                  field("floats", &r::floats, 4), field("loose", &r::loose, 5, unpacked),
                  field("strings", &r::strings, 6), field("points", &r::points, 7), field("pointers", &r::pointers, 8));
}

struct maps {
    std::map<std::string, int> by_name;
    std::map<std::int32_t, std::uint64_t> by_number;
    std::map<bool, point> by_flag;
};

constexpr auto describe(holdfast::type_tag<maps>)
{
    return fields(field("by_name", &maps::by_name, 1), field("by_number", &maps::by_number, 2, keys{sint}, fixed),
                  field("by_flag", &maps::by_flag, 3));
}

using choice = std::variant<std::monostate, point, int, std::string>;

constexpr auto describe(holdfast::type_tag<choice>)
{
    using holdfast::alternative;
    return holdfast::alternatives("nothing", alternative("point", 5), alternative("number", 2, sint),
                                  alternative("text", 9));
}

using tagged_choice = std::variant<std::monostate, point>;
constexpr auto describe(holdfast::type_tag<tagged_choice>)
{
    return holdfast::alternatives("none", holdfast::alternative("point", 5)).tagged_by("type");
}

struct tagged_oneof {
    tagged_choice inlined;
    tagged_choice nested;
};
constexpr auto describe(holdfast::type_tag<tagged_oneof>)
{
    return fields(field("inlined", &tagged_oneof::inlined), field("nested", &tagged_oneof::nested, 6));
}

struct oneof {
    int before = 0;
    choice inlined;
    choice nested;
    int after = 0;
};

constexpr auto describe(holdfast::type_tag<oneof>)
{
    return fields(field("before", &oneof::before, 4), field("inlined", &oneof::inlined),
                  field("nested", &oneof::nested, 6), field("after", &oneof::after, 7));
}

struct holder {
    point inside;
    std::optional<point> perhaps;
    std::shared_ptr<holder> never;
    std::reference_wrapper<const point> elsewhere;
};

constexpr auto describe(holdfast::type_tag<holder>)
{
    return holdfast::recursive<2>(field("inside", &holder::inside, 1), field("perhaps", &holder::perhaps, 2),
                                  field("never", &holder::never, 3), field("elsewhere", &holder::elsewhere, 4));
}

struct sent {
    using milliseconds = holdfast::in_unit<std::chrono::milliseconds>;
    std::optional<std::chrono::sys_seconds> at{};
    std::chrono::seconds change{};
};

constexpr auto describe(holdfast::type_tag<sent>)
{
    return fields(field("at", &sent::at, 1, holdfast::written_as<std::optional<sent::milliseconds>>),
                  field("change", &sent::change, 2, sint, holdfast::written_as<sent::milliseconds>));
}

struct nothing {};

constexpr auto describe(holdfast::type_tag<nothing>) { return fields(); }

} // namespace wire

namespace {

using holdfast::protobuf;
using holdfast::protobuf_delimited;
using namespace std::string_literals;

std::string from_hex(std::string_view hex)
{
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        if (hex[i] == ' ') ++i;
        bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    }
    return bytes;
}

/// The bytes are these, whatever the size of the chunks; and their number is known beforehand.
template <class Format = protobuf, class T>
void check_bytes(const T& value, std::string_view hex)
{
    const std::string expected = from_hex(hex);
    for (std::size_t n = 1; n <= expected.size() + 1; ++n) {
        INFO(n);
        CHECK(tests::in_chunks<Format>(std::cref(value), n) == expected);
    }
    CHECK(tests::in_chunks<Format>(std::cref(value), 4096) == expected);
    CHECK(holdfast::serialized_size<Format>(value) == expected.size());
}

template <class T>
constexpr T least = std::numeric_limits<T>::min();
template <class T>
constexpr T most = std::numeric_limits<T>::max();

} // namespace

TEST_CASE("scalars take the encoding of their type, or the one that an option states")
{
    using wire::scalars;
    check_bytes(scalars{}, "");
    check_bytes(scalars{.i32 = 150}, "08 9601");
    check_bytes(scalars{.i32 = -1}, "08 ffffffffffffffffff01");
    check_bytes(scalars{.i64 = least<std::int64_t>}, "10 80808080808080808001");
    check_bytes(scalars{.i64 = most<std::int64_t>}, "10 ffffffffffffffff7f");
    check_bytes(scalars{.u32 = most<std::uint32_t>}, "18 ffffffff0f");
    check_bytes(scalars{.u64 = most<std::uint64_t>}, "20 ffffffffffffffffff01");
    check_bytes(scalars{.s32 = -1}, "28 01");
    check_bytes(scalars{.s32 = most<std::int32_t>}, "28 feffffff0f");
    check_bytes(scalars{.s32 = least<std::int32_t>}, "28 ffffffff0f");
    check_bytes(scalars{.s64 = most<std::int64_t>}, "30 feffffffffffffffff01");
    check_bytes(scalars{.s64 = least<std::int64_t>}, "30 ffffffffffffffffff01");
    check_bytes(scalars{.f32 = 1}, "3d 01000000");
    check_bytes(scalars{.sf64 = -2}, "41 feffffffffffffff");
    check_bytes(scalars{.f = 1}, "4d 0000803f");
    check_bytes(scalars{.f = -0.0f}, "4d 00000080"); // not zero to the bit
    check_bytes(scalars{.d = -2}, "51 00000000000000c0");
    check_bytes(scalars{.d = std::numeric_limits<double>::quiet_NaN()}, "51 000000000000f87f");
    check_bytes(scalars{.b = true}, "58 01");
    check_bytes(scalars{.e = wire::color::green}, "60 c801");
    check_bytes(scalars{.l = wire::level::low}, "68 feffffffffffffffff01");
    check_bytes(scalars{.small = -128}, "70 80ffffffffffffffff01");
    check_bytes(scalars{.age = std::chrono::seconds(2)}, "78 d00f");
    check_bytes(scalars{.i32 = 1, .u64 = 2, .d = 1, .b = true}, "0801 2002 51000000000000f03f 5801");
}

TEST_CASE("times are numbers in their unit")
{
    using namespace std::chrono_literals;
    check_bytes(wire::sent{}, "");
    check_bytes(wire::sent{std::chrono::sys_seconds(0s), -1s}, "0800 10cf0f");
    check_bytes(wire::sent{std::chrono::sys_seconds(1s), 0s}, "08e807");
}

TEST_CASE("a varint of every width")
{
    for (unsigned bits = 0; bits < 64; ++bits) {
        for (const std::uint64_t value : {std::uint64_t{1} << bits, (std::uint64_t{2} << bits) - 1}) {
            std::string expected = "\x20";
            std::uint64_t rest = value;
            for (; rest >= 128; rest >>= 7)
                expected += static_cast<char>(rest | 128);
            expected += static_cast<char>(rest);
            const wire::scalars row{.u64 = value};
            CHECK(tests::in_chunks<protobuf>(std::cref(row), 64) == expected);
            CHECK(holdfast::detail::varint_size(value) == expected.size() - 1);
            if (bits >= 32) continue;
            const wire::scalars narrow{.u32 = static_cast<std::uint32_t>(value)};
            expected[0] = '\x18';
            CHECK(tests::in_chunks<protobuf>(std::cref(narrow), 64) == expected);
        }
    }
}

TEST_CASE("what is zero or empty is left out, unless it is always written, or an optional that is set")
{
    check_bytes(wire::explicit_zero{}, "1000 1800 2200 f8ffffff0f00");
    check_bytes(wire::explicit_zero{.plain = 1, .perhaps = 0}, "0801 1000 1800 2200 3000 f8ffffff0f00");
}

TEST_CASE("strings are strings, bytes are bytes")
{
    check_bytes(wire::texts{}, "2201 00"); // a char is one character, whichever it is
    check_bytes(wire::texts{.s = "abc",
                            .view = "\u20ac",
                            .code = {'x', 'y'},
                            .letter = 'B',
                            .bytes = {std::byte{0xff}, std::byte{0}},
                            .raw = "\xfe"},
                "0a03616263 1203e282ac 1a027879 220142 2a02ff00 3201fe");
    const std::string long_text(300, 'a');
    const std::string bytes = tests::in_chunks<protobuf>(wire::texts{.s = long_text}, 7);
    CHECK(bytes == "\x0a\xac\x02" + long_text + "\x22\x01\0"s);
}

TEST_CASE("fields go out in the order of their numbers") { check_bytes(wire::point{.x = 1, .y = 2}, "0801 1002"); }

TEST_CASE("ranges of scalars are packed, others are repeated, an empty one is nothing")
{
    check_bytes(wire::repeats{}, "2208 0000000000000000");
    wire::repeats all{.packed = {3, 270, 86942},
                      .zigzag = {-1, 1},
                      .flags = {true, false},
                      .floats = {1, 0},
                      .loose = {0, 1},
                      .strings = {"", "a"},
                      .points = {{}, {1, 0}},
                      .pointers = {}};
    all.pointers.emplace_back();
    all.pointers.push_back(std::make_unique<wire::point>(wire::point{0, 1}));
    check_bytes(all, "0a06038e029ea705 12020102 1a020100 22080000803f00000000 2800 2801 3200 320161 3a00 3a020801 "
                     "42021001");
    const std::vector<int> many(1000, 1); // as the field 1 of a message
    CHECK(tests::in_chunks<protobuf>(std::cref(many), 3) == "\x0a\xe8\x07" + std::string(1000, '\x01'));
}

TEST_CASE("the entries of a map are messages, in which nothing is left out")
{
    check_bytes(wire::maps{{{"", 0}, {"a", 1}}, {{-1, 1}}, {{false, {}}, {true, {1, 0}}}},
                "0a040a001000 0a050a01611001 120b 0801 110100000000000000 1a0408001200 1a06080112020801");
}

TEST_CASE("a variant without a number of its own is a oneof: its alternatives are fields of the message")
{
    check_bytes(wire::oneof{}, "3200");
    check_bytes(wire::tagged_oneof{wire::point{0, 3}, wire::point{0, 3}},
                "2a021003 3204 2a021003"); // JSON's affair
    check_bytes(wire::oneof{1, wire::point{0, 3}, std::monostate(), 2}, "2001 2a021003 3200 3802");
    check_bytes(wire::oneof{1, -1, "x", 2}, "1001 2001 32034a0178 3802");
    check_bytes(wire::oneof{1, 0, "", 0}, "1000 2001 32024a00"); // a choice that is zero was chosen
    check_bytes(wire::oneof{0, "y", 1, 2}, "32021002 3802 4a0179");
    check_bytes(wire::choice("z"), "4a017a"); // as a message
}

TEST_CASE("messages within a message: always there, or perhaps, or elsewhere")
{
    const wire::point one{1, 0};
    check_bytes(wire::holder{{}, {}, {}, one}, "0a00 22020801");
    const auto within = std::make_shared<wire::holder>(wire::holder{one, {}, {}, one});
    check_bytes(wire::holder{{}, one, within, one}, "0a00 12020801 1a080a02080122020801 22020801");
    check_bytes(wire::nothing{}, "");
}

TEST_CASE("a range at the root is the field 1 of a message, or messages each after its length")
{
    const std::vector<wire::point> rows{{1, 2}, {}, {0, 300}};
    check_bytes(rows, "0a0408011002 0a00 0a0310ac02");
    check_bytes<protobuf_delimited>(rows, "0408011002 00 0310ac02");
    check_bytes<protobuf_delimited>(rows[0], "0408011002");
    const std::vector<std::shared_ptr<const wire::point>> shared{std::make_shared<wire::point>(rows[0]), nullptr};
    check_bytes<protobuf_delimited>(shared, "0408011002");
    check_bytes<protobuf_delimited>(std::vector<wire::point>{}, "");
    const std::map<int, int> squares{{2, 4}};
    check_bytes(squares, "0a0408021004");
}

TEST_CASE("rows of the root may be read from a single-pass range")
{
    std::istringstream text("1 2 3");
    auto rows = std::views::istream<int>(text) | std::views::transform([](int i) { return wire::point{i, i * i}; });
    CHECK(tests::in_chunks<protobuf_delimited>(std::move(rows), 2) == from_hex("0408011001 0408021004 0408031009"));
}

TEST_CASE("packed numbers that lie in memory as they are sent are cut at any byte")
{
    std::vector<double> numbers(100);
    std::string expected = "\x0a\xa0\x06";
    for (double& each : numbers) {
        each = static_cast<double>(&each - numbers.data()) / 3;
        expected.append(reinterpret_cast<const char*>(&each), sizeof each);
    }
    for (std::size_t n = 1; n < 900; n += n < 30 ? 1 : 97)
        CHECK(tests::in_chunks<protobuf>(std::cref(numbers), n) == expected);
}

TEST_CASE("a view that only a changing object can walk is a field as well")
{
    auto odd = std::views::iota(1, 400) | std::views::filter([](int i) { return i % 2 != 0; });
    std::string expected = "\x0a\xd0\x02";
    for (int i = 1; i < 400; i += 2) {
        if (i >= 128) expected += static_cast<char>(i | 128);
        expected += static_cast<char>(i >= 128 ? i >> 7 : i);
    }
    for (const std::size_t n : {1u, 2u, 100u, 1000u})
        CHECK(tests::in_chunks<protobuf>(odd, n) == expected);
}
