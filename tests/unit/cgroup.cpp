// holdfast: tests of cgroup: the tightest limit of a tree of groups, and what counts against it.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/process/cgroup.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include <sys/wait.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace {

/// A directory with files that have the format of the kernel's.
class directory {
public:
    directory()
    {
        std::string name = fs::temp_directory_path() / "holdfast-cgroup-XXXXXX";
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        root_ = name;
    }
    ~directory()
    {
        std::error_code ignored;
        fs::remove_all(root_, ignored);
    }

    void write(const fs::path& file, const std::string& text) const
    {
        fs::create_directories((root_ / file).parent_path());
        std::ofstream(root_ / file) << text << '\n';
    }

    [[nodiscard]] holdfast::detail::cgroup_place place(const char* group, bool version_2) const
    {
        return {root_.string(), (root_ / group).string(), version_2};
    }

private:
    fs::path root_;
};

} // namespace

TEST_CASE("a limit is a number below 2^62, everything else is none")
{
    using holdfast::parse_cgroup_limit;
    CHECK(parse_cgroup_limit("1048576\n") == 1048576);
    CHECK(parse_cgroup_limit("0") == 0);
    CHECK(parse_cgroup_limit("4611686018427387903") == (std::uint64_t{1} << 62) - 1);
    for (const char* none : {"max\n", "", "\n", "-1", "9223372036854771712\n", "4611686018427387904", "12k"})
        CHECK_FALSE(parse_cgroup_limit(none).has_value());
}

TEST_CASE("the smallest limit up to the root counts, with its own group's use but the page cache")
{
    const directory tree;
    tree.write("memory.max", "max");
    tree.write("a/memory.max", "1000");
    tree.write("a/memory.current", "700");
    tree.write("a/memory.stat", "anon 400\nfile 300\nactive_file 120\ninactive_file 80\nshmem 100");
    tree.write("a/b/memory.max", "2000");
    tree.write("a/b/memory.current", "10");
    const auto found = holdfast::detail::smallest_limit(tree.place("a/b", true));
    REQUIRE(found.has_value());
    CHECK(found->limit == 1000);
    CHECK(found->used == 500);
}

TEST_CASE("version 1 has other names, and totals of the groups below")
{
    const directory tree;
    tree.write("a/memory.limit_in_bytes", "1000");
    tree.write("a/memory.usage_in_bytes", "700");
    tree.write("a/memory.stat", "active_file 1\ntotal_active_file 100\ntotal_inactive_file 1000");
    const auto found = holdfast::detail::smallest_limit(tree.place("a", false));
    REQUIRE(found.has_value());
    CHECK(found->limit == 1000);
    CHECK(found->used == 0); // more cache than use: the two files are not read at one moment
}

TEST_CASE("without a limit there is nothing")
{
    const directory tree;
    tree.write("memory.max", "max");
    CHECK_FALSE(holdfast::detail::smallest_limit(tree.place("missing", true)).has_value());
}

TEST_CASE("a process that has ended is ESRCH")
{
    const ::pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    std::error_code error;
    CHECK_FALSE(holdfast::read_cgroup_memory(child, error).has_value());
    CHECK(error == std::errc::no_such_process);
    (void)holdfast::read_cgroup_memory(0, error);
    CHECK_FALSE(error);
}
