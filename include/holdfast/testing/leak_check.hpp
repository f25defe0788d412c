// holdfast: leak_check, a scope for tests of servers: what was opened in it is closed at its end.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTING_LEAK_CHECK_HPP
#define HOLDFAST_TESTING_LEAK_CHECK_HPP

#include <holdfast/detail/connection/guard_tracking.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include <sys/stat.h>

namespace holdfast {

/// Checks that a test of a server leaves nothing behind: when the scope ends, the live `connection_guard`s and the open
/// descriptors of the process are those that there were at its beginning. Otherwise it reports what is left: each guard
/// with its age and the line of code that made it (for an acceptor's connections, the line that made the acceptor),
/// each descriptor with the file or socket that it refers to. Linux: it reads
/// `/proc/self/fd`.
///
/// Guards are known in debug builds only, or where HOLDFAST_TRACK_GUARDS is 1 in all files of the program;
/// elsewhere descriptors alone are compared.
///
/// Declare it before the io_context, so that it ends after the io_context. What other threads open meanwhile counts
/// too.
///
///     TEST_CASE("nothing is left when clients vanish")
///     {
///         const holdfast::leak_check nothing_left{[](std::string_view left) { FAIL_CHECK(left); }};
///         ...
///     }
class leak_check {
public:
    /// Receives what is left, as lines of text. Must not throw.
    using reporter = std::function<void(std::string_view)>;

    /// Notes what is open now.
    explicit leak_check(reporter on_leak = print_and_abort)
        : on_leak_(std::move(on_leak)), descriptors_(open_descriptors()), born_(born())
    {
    }

    leak_check(const leak_check&) = delete;
    leak_check& operator=(const leak_check&) = delete;

    /// Reports what is left, if anything is.
    ~leak_check()
    {
        if (const std::string left = leaks(); !left.empty()) on_leak_(left);
    }

    /// Returns what is left at this moment, one line for each; empty where nothing is.
    [[nodiscard]] std::string leaks() const
    {
        std::ostringstream out;
#if HOLDFAST_TRACK_GUARDS
        const auto now = std::chrono::steady_clock::now();
        detail::guard_tracking::for_each([&](std::uint64_t number, const std::source_location& where, auto when) {
            if (number <= born_) return;
            out << "connection_guard, live for "
                << std::chrono::duration_cast<std::chrono::milliseconds>(now - when).count() << " ms, made at "
                << where.file_name() << ':' << where.line() << " in " << where.function_name() << '\n';
        });
#endif
        for (const auto& [each, target] : open_descriptors())
            if (!descriptors_.contains(each)) out << "descriptor " << std::get<0>(each) << ": " << target << '\n';
        return out.str();
    }

    /// The reporter that is used where none is given: standard error, then abort().
    static void print_and_abort(std::string_view left)
    {
        std::cerr << "holdfast::leak_check: left at the end of the scope:\n" << left << std::flush;
        std::abort();
    }

private:
    // By number, device and inode, as a file may be renamed or removed; with the name for the report.
    using descriptors = std::map<std::tuple<int, ::dev_t, ::ino_t>, std::string>;

    static descriptors open_descriptors()
    {
        descriptors open;
        std::error_code ec;
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ec)) {
            const std::string target = std::filesystem::read_symlink(entry.path(), ec).string();
            const int number = std::stoi(entry.path().filename().string());
            struct ::stat what{};
            if (!ec && ::fstat(number, &what) == 0) open.emplace(std::tuple(number, what.st_dev, what.st_ino), target);
        }
        std::erase_if(open, [](const auto& each) { // the one that the listing itself had open
            return each.second.starts_with("/proc/") && each.second.ends_with("/fd");
        });
        return open;
    }

    static std::uint64_t born() noexcept
    {
#if HOLDFAST_TRACK_GUARDS
        return detail::guard_tracking::born();
#else
        return 0;
#endif
    }

    reporter on_leak_;
    descriptors descriptors_;
    std::uint64_t born_;
};

} // namespace holdfast

#endif
