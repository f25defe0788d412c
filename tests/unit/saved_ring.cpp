// holdfast: tests of saved_ring: a ring that is handed on over a restart, and taken once.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/server/saved_ring.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include <unistd.h>

TEST_CASE("a saved ring is taken once: after a crash its ids would be used again")
{
    const std::filesystem::path directory =
        std::filesystem::temp_directory_path() / ("holdfast_ring_" + std::to_string(::getpid()));
    std::filesystem::create_directory(directory);
    const std::string path = directory / "ring";
    holdfast::replay_ring ring;
    ring.push(holdfast::payload("a"));
    holdfast::save_ring(path, ring);
    holdfast::save_ring(path, ring); // replaces it
    CHECK(std::filesystem::status(path).permissions() ==
          (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
    CHECK(std::distance(std::filesystem::directory_iterator(directory), std::filesystem::directory_iterator()) == 1);
    CHECK(holdfast::read_saved_ring(path).last() == ring.last()); // by a process that then cannot start
    CHECK(holdfast::take_saved_ring(path).last() == ring.last());
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(holdfast::take_saved_ring(path).epoch() != ring.epoch());
    std::ofstream(path) << "something else";
    CHECK(holdfast::take_saved_ring(path).last().id == 0);
    CHECK(holdfast::take_saved_ring("").last().id == 0);
    CHECK_THROWS_AS(holdfast::save_ring((directory / "none" / "ring").string(), ring), std::system_error);
    CHECK_NOTHROW(holdfast::remove_saved_ring(path)); // there is none
    CHECK_THROWS_AS(holdfast::remove_saved_ring(directory), std::system_error);
    CHECK_THROWS_AS(holdfast::take_saved_ring(directory), std::system_error);
    std::filesystem::remove_all(directory);
}
