// holdfast: tests of payload: made once, in one allocation, and shared by reference.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <holdfast/payload.hpp>
#include <holdfast/serialized_payload.hpp>

#include <array>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <vector>

using holdfast::payload;
using holdfast::payload_sharing;

TEST_CASE("a payload copies its text once, in one allocation, references cost nothing")
{
    const auto sharing = GENERATE(payload_sharing::any_thread, payload_sharing::one_thread);
    const std::string text(1000, 'x');
    payload first;
    CHECK(first.empty());
    CHECK(tests::allocations_in([&] { first = payload(text, sharing); }) == 1);
    CHECK(first.text() == text);
    CHECK(first.size() == 1000);
    CHECK(tests::allocations_in([&] {
              payload second = first;
              payload third = second;
              third = std::move(second);
              if (third.text().data() != first.text().data() || first.use_count() != 2) throw 0;
          }) == 0);
    CHECK(first.use_count() == 1);
    STATIC_REQUIRE(sizeof(payload) == sizeof(void*));
}

TEST_CASE("of no bytes there is no block")
{
    CHECK(tests::allocations_in([&] {
              const payload none{std::string_view()};
              const payload copy = none;
              if (!copy.empty() || copy.use_count() != 0 || !copy.text().empty()) throw 0;
          }) == 0);
}

TEST_CASE("bytes are payloads too")
{
    constexpr std::array bytes{std::byte{0}, std::byte{255}};
    CHECK(payload(std::span<const std::byte>(bytes)).text() == std::string("\0\xff", 2));
}

TEST_CASE("a source is serialized once, into the payload's own block where it is short")
{
    const std::vector<int> numbers{1, 2, 3};
    payload made;
    CHECK(tests::allocations_in([&] { made = holdfast::serialize_to_payload(numbers); }) == 1);
    CHECK(made.text() == "[1,2,3]");
    CHECK(holdfast::serialize_to_payload<holdfast::ndjson>(std::vector<int>{4, 5}).text() == "4\n5\n");
    const std::string exactly(4094, 'x'); // a chunk, to the byte
    CHECK(holdfast::serialize_to_payload(holdfast::formatted(std::vector<int>{6}, holdfast::ndjson{})).text() == "6\n");
    CHECK(holdfast::serialize_to_payload(exactly).size() == 4096);
    const std::string large(100'000, 'x');
    CHECK(holdfast::serialize_to_payload(large).text() == '"' + large + '"');
}

TEST_CASE("a source that fails makes no payload")
{
    std::error_code ec;
    const double bad = std::numeric_limits<double>::quiet_NaN();
    CHECK(holdfast::serialize_to_payload(bad, ec).empty());
    CHECK(ec == holdfast::errc::not_finite);
    CHECK_THROWS_AS(holdfast::serialize_to_payload(bad), std::system_error);
    CHECK(holdfast::serialize_to_payload(1, ec).text() == "1");
    CHECK_FALSE(ec);
}

TEST_CASE("threads may take and drop references to one payload")
{
    const payload shared("text");
    std::vector<std::thread> threads;
    for (int i = 0; i != 8; ++i)
        threads.emplace_back([shared] {
            for (int n = 0; n != 10'000; ++n) {
                const payload mine = shared;
                if (mine.text() != "text") std::abort();
            }
        });
    for (auto& each : threads)
        each.join();
    CHECK(shared.use_count() == 1);
}
