// holdfast: tests of saved_ring: a ring that is handed on over a restart, and taken once.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"

#include <holdfast/server/saved_ring.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

/// What was written to the disk: 'd' for a directory, 'f' for a file.
std::string synced;

struct scratch {
    scratch() { std::filesystem::create_directory(directory); }
    ~scratch() { std::filesystem::remove_all(directory); }
    std::filesystem::path directory =
        std::filesystem::temp_directory_path() / ("holdfast_ring_" + std::to_string(::getpid()));
    std::string path = directory / "ring";
};

std::string names_in(const std::filesystem::path& directory)
{
    std::string names;
    for (const auto& each : std::filesystem::directory_iterator(directory))
        names.append(each.path().filename().string()).append(";");
    return names;
}

} // namespace

/// Calls the kernel, and takes the place of the C library's function in this program.
extern "C" int fsync(int descriptor)
{
    struct ::stat status{};
    if (::fstat(descriptor, &status) == 0) synced += S_ISDIR(status.st_mode) ? 'd' : 'f';
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

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

TEST_CASE("only the owner may read a saved ring, whatever is there under its temporary name")
{
    const scratch at;
    const auto owner_only = std::filesystem::perms::owner_read | std::filesystem::perms::owner_write;
    const std::filesystem::path next = at.path + ".new", other = at.directory / "other";
    holdfast::replay_ring ring;
    ring.push(holdfast::payload("a"));
    std::ofstream(next) << "left by a crash";
    std::filesystem::permissions(next, std::filesystem::perms(0666));
    holdfast::save_ring(at.path, ring);
    CHECK(std::filesystem::status(at.path).permissions() == owner_only);
    std::ofstream(other) << "of another program";
    std::filesystem::create_symlink(other, next);
    holdfast::save_ring(at.path, ring);
    CHECK(std::filesystem::file_size(other) == 18);
    CHECK_FALSE(std::filesystem::is_symlink(at.path));
    CHECK(std::filesystem::status(at.path).permissions() == owner_only);
    CHECK(holdfast::read_saved_ring(at.path).last() == ring.last());
}

TEST_CASE("a saved ring is on the disk under its name, and one that was removed is not")
{
    const scratch at;
    holdfast::replay_ring ring;
    synced.clear();
    holdfast::save_ring(at.path, ring);
    CHECK(synced == "fd");
    holdfast::remove_saved_ring(at.path);
    CHECK(synced == "fdd");
    holdfast::remove_saved_ring(at.path); // there is none
    CHECK(synced == "fdd");
}

TEST_CASE("a ring that cannot be removed for want of a descriptor is still there")
{
    const scratch at;
    holdfast::replay_ring ring;
    ring.push(holdfast::payload("a"));
    holdfast::save_ring(at.path, ring);
    {
        const tests::descriptor_limit none(0);
        CHECK_THROWS_AS(holdfast::remove_saved_ring(at.path), std::system_error);
    }
    CHECK(holdfast::take_saved_ring(at.path).last() == ring.last());
}

TEST_CASE("nothing is left of a ring that could not be saved, or that was removed")
{
    const scratch at;
    holdfast::replay_ring ring;
    std::filesystem::create_directory(at.path);
    CHECK_THROWS_AS(holdfast::save_ring(at.path, ring), std::system_error);
    CHECK(names_in(at.directory) == "ring;");
    std::filesystem::remove(at.path);
    std::ofstream(at.path + ".new") << "left by a crash";
    holdfast::remove_saved_ring(at.path);
    CHECK(names_in(at.directory).empty());

    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(at.directory);
    CHECK_NOTHROW(holdfast::save_ring("", ring)); // no file
    CHECK(names_in(at.directory).empty());
    CHECK_NOTHROW(holdfast::save_ring("ring", ring)); // in the working directory
    CHECK(names_in(at.directory) == "ring;");
    std::filesystem::current_path(before);
}
