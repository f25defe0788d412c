// holdfast: tests of systemd's socket protocol: whose descriptors they are, and how
// many.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/server/inherited_listener.hpp>

#include <string>
#include <system_error>

using holdfast::detail::inherited_count;

TEST_CASE("descriptors are taken only where LISTEN_PID names this process")
{
    CHECK(inherited_count("4711", "1", 4711) == 1);
    CHECK(inherited_count("4711", "2", 4711) == 2);
    CHECK(inherited_count("4711", "0", 4711) == 0);
    CHECK(inherited_count("4712", "1", 4711) == 0); // those of the parent
    CHECK(inherited_count(nullptr, "1", 4711) == 0);
    CHECK(inherited_count("4711", nullptr, 4711) == 0);
    CHECK(inherited_count(nullptr, nullptr, 4711) == 0);
}

TEST_CASE("what is no number is refused in words that name the variable")
{
    for (const char* bad : {"", "x", "1x", " 1", "-1", "99999999999"}) {
        CHECK_THROWS_AS(inherited_count(bad, "1", 4711), std::system_error);
        CHECK_THROWS_AS(inherited_count("4711", bad, 4711), std::system_error);
    }
    try {
        inherited_count("4711", "many", 4711);
        FAIL("not refused");
    } catch (const std::system_error& error) {
        CHECK(std::string(error.what()).find("LISTEN_FDS is 'many'") == 0);
    }
}
