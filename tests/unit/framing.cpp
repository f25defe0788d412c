// holdfast: tests of framings: where the frame ends, told by as few bytes as can tell it.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/framing.hpp>

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

using holdfast::errc;
using holdfast::framing::bounds;
using holdfast::framing::line;
using holdfast::framing::readable;
using holdfast::framing::u32_length;
using holdfast::framing::varint_length;
using namespace std::string_literals;

static_assert(readable<line> && readable<u32_length<>> && readable<u32_length<std::endian::little>> &&
              readable<varint_length>);
static_assert(!readable<int>);

namespace {

struct expected {
    std::size_t header, payload, trailer;
    bool known;
};

template <class Framing>
void expect(std::string_view bytes, const expected& e, std::size_t seen = 0)
{
    const bounds b = Framing::parse(bytes, seen);
    INFO(bytes.size() << " bytes");
    CHECK(b.header == e.header);
    CHECK(b.payload == e.payload);
    CHECK(b.trailer == e.trailer);
    CHECK(b.known == e.known);
    CHECK_FALSE(b.error);
}

} // namespace

TEST_CASE("a line ends at its LF, with the CR right before it")
{
    expect<line>("a\nb\n", {0, 1, 1, true});
    expect<line>("a\r\nb", {0, 1, 2, true});
    expect<line>("\n", {0, 0, 1, true});
    expect<line>("\r\n", {0, 0, 2, true});
    expect<line>("\r\r\n", {0, 1, 2, true});
    expect<line>("a\rb\n", {0, 3, 1, true});
    expect<line>("abc", {0, 3, 1, false});
    expect<line>("abc\r", {0, 3, 2, false}); // the CR may be the end's
    expect<line>("abc\rd", {0, 5, 1, false});
    expect<line>("\0\n"s, {0, 1, 1, true});
}

TEST_CASE("a line's end is searched for where it has not been yet, and its CR may have been seen")
{
    expect<line>("x\r\n", {0, 1, 2, true}, 2);
    expect<line>("xyz", {0, 3, 1, false}, 3);
    expect<line>("\nyz", {0, 3, 1, false}, 1); // what it has been told is true, it does not look at again
}

TEST_CASE("a length of 32 bits is known with its fourth byte, in either byte order, whatever it is")
{
    for (std::size_t n = 1; n != 4; ++n)
        expect<u32_length<>>(std::string(n, '\xFF'), {4, 0, 0, false});
    expect<u32_length<>>("\0\0\0\0"s, {4, 0, 0, true});
    expect<u32_length<>>("\0\0\1\2x"s, {4, 258, 0, true});
    expect<u32_length<std::endian::little>>("\1\2\0\0x"s, {4, 513, 0, true});
    expect<u32_length<>>("\xFF\xFF\xFF\xFF"s, {4, 4'294'967'295, 0, true});
    expect<u32_length<>>("\x80\0\0\0"s, {4, 2'147'483'648, 0, true}); // and not negative
}

TEST_CASE("a varint is known with its last byte, also where it is longer than it need be")
{
    expect<varint_length>("\0"s, {1, 0, 0, true});
    expect<varint_length>("\x7F"s, {1, 127, 0, true});
    expect<varint_length>("\x80"s, {2, 0, 0, false});
    expect<varint_length>("\x80\x01"s, {2, 128, 0, true});
    expect<varint_length>("\xAC\x02"s, {2, 300, 0, true});
    expect<varint_length>("\x85\x80\x80\x80\0"s, {5, 5, 0, true});
    expect<varint_length>(std::string(9, '\x80') + '\0', {10, 0, 0, true});
    expect<varint_length>("\xFF\xFF\xFF\xFF\x0F"s, {5, 4'294'967'295, 0, true});
    expect<varint_length>(std::string(9, '\xFF') + '\1', {10, SIZE_MAX, 0, true});
    for (std::size_t n = 1; n != 10; ++n)
        expect<varint_length>(std::string(n, '\x80'), {n + 1, 0, 0, false});
}

TEST_CASE("a varint of more than 64 bits or ten bytes is malformed")
{
    CHECK(varint_length::parse(std::string(9, '\xFF') + '\2', 0).error == errc::malformed_frame);
    CHECK(varint_length::parse(std::string(10, '\x80'), 0).error == errc::malformed_frame);
    CHECK(varint_length::parse(std::string(10, '\x80') + '\0', 0).error == errc::malformed_frame);
}
