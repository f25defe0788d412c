// holdfast: tests of sources that change while they are written: they fail, and nothing is written past the chunk.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/protobuf.hpp>

#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>

namespace {

using holdfast::errc;
using holdfast::field;

/// How often each source is asked before it grows; and how large it then is.
struct growth {
    int asked_before = 0;
    std::size_t grown = 0;
};
growth current;

std::size_t next_size(std::size_t small) { return current.asked_before-- > 0 ? small : current.grown; }

const std::string& letters()
{
    static const std::string all(4096, 'x');
    return all;
}

struct growing_text {
    operator std::string_view() const { return std::string_view(letters()).substr(0, next_size(3)); }
};

template <class T>
class growing_array {
public:
    using value_type = T;

    const T* data() const { return all().data(); }
    std::size_t size() const { return next_size(2); }
    const T* begin() const { return data(); }
    const T* end() const { return data() + size(); }

private:
    static const std::array<T, 4096>& all()
    {
        static const std::array<T, 4096> values{};
        return values;
    }
};
struct growing_numbers : growing_array<std::uint32_t> {};
struct growing_bytes : growing_array<std::byte> {};

struct inner {
    growing_text text;
    int number = 7;
};
constexpr auto describe(holdfast::type_tag<inner>)
{
    return holdfast::fields(field("text", &inner::text, 1), field("number", &inner::number, 2));
}

using choice = std::variant<std::monostate, growing_text, inner>;
constexpr auto describe(holdfast::type_tag<choice>)
{
    using holdfast::alternative;
    return holdfast::alternatives("none", alternative("text", 20), alternative("inner", 21));
}

template <class Member>
struct row {
    std::uint64_t id = 1;
    Member member{};
    double price = 2.5;

    friend constexpr auto describe(holdfast::type_tag<row>)
    {
        return holdfast::fields(field("id", &row::id, 1), field("member", &row::member, 2),
                                field("price", &row::price, 3));
    }
};

struct row_with_choice {
    std::uint64_t id = 1;
    choice member;
    double price = 2.5;
};
constexpr auto describe(holdfast::type_tag<row_with_choice>)
{
    return holdfast::fields(field("id", &row_with_choice::id, 1), field("member", &row_with_choice::member),
                            field("price", &row_with_choice::price, 3));
}

/// Writes `source` in chunks of `size` bytes that end where their memory ends. Returns whether it came to an
/// end, with or without an error that says that the source changed.
template <class Format, class Source>
void write_all(const Source& source, std::size_t size)
{
    holdfast::streaming_serializer<Format, std::reference_wrapper<const Source>> text(source);
    constexpr std::size_t around = 64;
    const auto memory = std::make_unique<char[]>(size + around); // under ASan an exact block is checked as well
    const auto exact = std::make_unique<char[]>(size);
    std::fill_n(memory.get() + size, around, '\x5a');
    std::error_code ec;
    bool in_exact = false;
    for (std::size_t chunks = 0; !text.done() && !ec && chunks != 100'000; ++chunks) {
        const std::span<char> chunk((in_exact ? exact : memory).get(), size);
        text.next(chunk, ec);
        in_exact = !in_exact;
    }
    REQUIRE((text.done() || ec == errc::source_changed));
    REQUIRE(std::all_of(memory.get() + size, memory.get() + size + around, [](char c) { return c == '\x5a'; }));
}

template <class Format, class Source>
void check_growing(const Source& source)
{
    for (const std::size_t size : {1U, 7U, 40U, 64U, 100U, 508U, 600U, 1000U, 5000U})
        for (const std::size_t grown : {0U, 1U, 4U, 16U, 17U, 60U, 100U, 500U, 1000U, 4096U})
            for (int asked = 0; asked != 8; ++asked) {
                INFO("chunks of " << size << ", " << grown << " after it was asked " << asked << " times");
                current = {asked, grown};
                write_all<Format>(source, size);
            }
}

} // namespace

TEST_CASE("JSON: a text, an array or bytes that grow after their size was counted never pass the chunk's end")
{
    check_growing<holdfast::json>(row<growing_text>{});
    check_growing<holdfast::json>(row<growing_numbers>{});
    check_growing<holdfast::json>(row<growing_bytes>{});
    check_growing<holdfast::json>(row<inner>{});
    check_growing<holdfast::json>(row<std::optional<growing_text>>{1, growing_text{}, 2});
    check_growing<holdfast::json>(row<std::array<growing_text, 3>>{});
    check_growing<holdfast::json>(std::array<inner, 5>{});
    check_growing<holdfast::json>(row_with_choice{1, growing_text{}, 2});
    check_growing<holdfast::json>(row_with_choice{1, inner{}, 2});
    check_growing<holdfast::ndjson>(std::array<inner, 5>{});
}

TEST_CASE("Protobuf: a text, an array or bytes that grow after their size was counted never pass the chunk's end")
{
    check_growing<holdfast::protobuf>(row<growing_text>{});
    check_growing<holdfast::protobuf>(row<growing_numbers>{});
    check_growing<holdfast::protobuf>(row<growing_bytes>{});
    check_growing<holdfast::protobuf>(row<inner>{});
    check_growing<holdfast::protobuf>(row<std::optional<growing_text>>{1, growing_text{}, 2});
    check_growing<holdfast::protobuf>(row<std::array<growing_text, 3>>{});
    check_growing<holdfast::protobuf>(row_with_choice{1, growing_text{}, 2});
    check_growing<holdfast::protobuf>(row_with_choice{1, inner{}, 2});
    check_growing<holdfast::protobuf_delimited>(std::array<inner, 5>{});
}

TEST_CASE("a text that grew while a row was written fails as source_changed")
{
    const row<growing_text> source;
    current = {1, 1000};
    holdfast::streaming_serializer<holdfast::json, row<growing_text>> text(source);
    char chunk[200];
    std::error_code ec;
    CHECK(text.next(chunk, ec).empty());
    CHECK(ec == errc::source_changed);
    CHECK_FALSE(text.done());
}
