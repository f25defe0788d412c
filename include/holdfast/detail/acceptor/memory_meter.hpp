// holdfast: reads memory use again and again through files that stay open.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_MEMORY_METER_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_MEMORY_METER_HPP

#include <holdfast/detail/process/cgroup_files.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace holdfast::detail {

/// A small file of /proc or of a cgroup. It is opened once: without free descriptors it could not be opened
/// when it matters most.
class reread_file {
public:
    reread_file() noexcept = default;
    explicit reread_file(const std::string& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC))
    {
        if (descriptor_ < 0) throw std::system_error(errno, std::system_category(), path);
    }
    reread_file(reread_file&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    reread_file& operator=(reread_file other) noexcept
    {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    ~reread_file()
    {
        if (descriptor_ >= 0) ::close(descriptor_);
    }

    /// What it says now, in `buffer`; empty where it can't be read.
    template <std::size_t Size>
    std::string_view read(std::array<char, Size>& buffer) const noexcept
    {
        const auto n = ::pread(descriptor_, buffer.data(), buffer.size(), 0);
        return {buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
    }

private:
    int descriptor_ = -1;
};

/// Measures VmRSS of this process, or what a cgroup uses without its page cache. Some microseconds; allocates
/// at construction only.
class memory_meter {
public:
    /// Of the process. Throws std::system_error where /proc can't be read.
    memory_meter() : use_("/proc/self/statm") {}

    /// Of a group.
    explicit memory_meter(const cgroup_limit& group)
        : use_(group.directory + (group.version_2 ? "/memory.current" : "/memory.usage_in_bytes")),
          statistics_(group.directory + "/memory.stat"),
          group_(true),
          version_2_(group.version_2)
    {
    }

    /// Bytes in use; nothing where they can't be read any more.
    [[nodiscard]] std::optional<std::uint64_t> read() const noexcept
    {
        std::array<char, 128> small;
        std::string_view text = use_.read(small);
        if (group_) {
            std::array<char, 8192> large;
            const auto use = parse_number(text.substr(0, text.find('\n')));
            if (!use) return std::nullopt;
            const std::uint64_t cache = cgroup_page_cache(statistics_.read(large), version_2_);
            return *use - std::min(*use, cache);
        }
        take_word(text); // the size of the address space
        const auto pages = parse_number(take_word(text));
        if (!pages) return std::nullopt;
        return *pages * page_size_;
    }

private:
    reread_file use_;
    reread_file statistics_;
    bool group_ = false;
    bool version_2_ = false;
    std::uint64_t page_size_ = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
};

} // namespace holdfast::detail

#endif
