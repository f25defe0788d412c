// holdfast: a replay_ring in a file, which a graceful restart hands on.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_SAVED_RING_HPP
#define HOLDFAST_SERVER_SAVED_RING_HPP

#include <holdfast/replay_ring.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace holdfast {

namespace detail {

/// A descriptor that is closed at the end of its scope.
struct file_descriptor {
    explicit file_descriptor(int opened) noexcept : number(opened) {}
    file_descriptor(const file_descriptor&) = delete;
    file_descriptor& operator=(const file_descriptor&) = delete;
    ~file_descriptor()
    {
        if (number >= 0) ::close(number);
    }
    int number;
};

[[noreturn]] inline void throw_errno(const std::string& what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

/// The directory of a file, whose entries are written to the disk by `sync`.
class directory_of {
public:
    explicit directory_of(const std::string& path)
        : name_(path.substr(0, path.rfind('/') + 1).append(".")), // "a/b": "a/."; "b": "."
          opened_(::open(name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))
    {
        if (opened_.number < 0) throw_errno("cannot open " + name_);
    }

    void sync() const
    {
        if (::fsync(opened_.number) == 0 || errno == EINVAL) return; // EINVAL: the file system has no such operation
        throw_errno("cannot write " + name_);
    }

private:
    std::string name_;
    file_descriptor opened_;
};

/// A file that is removed at the end of its scope, unless it was given its final name.
struct unfinished_file {
    explicit unfinished_file(const std::string& at) noexcept : path(at) {}
    unfinished_file(const unfinished_file&) = delete;
    unfinished_file& operator=(const unfinished_file&) = delete;
    ~unfinished_file()
    {
        if (!finished) ::unlink(path.c_str());
    }
    const std::string& path;
    bool finished = false;
};

/// Removes a file, if there is one.
inline void remove_file(const std::string& path)
{
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_errno("cannot remove " + path);
}

} // namespace detail

/// Writes the ring into a file, after the last push: at the end of a drain. The file is complete, or as it was. Only
/// the owner may read it. An empty path means no file.
///
/// It is first written as `path` + ".new", which is replaced if it is there, and removed if it cannot be written.
/// The directory must be readable and writable.
///
/// Exceptions: std::system_error, which names the file; std::bad_alloc. Blocks until the disk has the file and its
/// name, where the file system can write a directory to the disk at once.
template <class Clock>
void save_ring(const std::string& path, basic_replay_ring<Clock>& ring)
{
    if (path.empty()) return;
    const std::string text = ring.save();
    const std::string next = path + ".new";
    const detail::directory_of directory(path);
    detail::remove_file(next); // else its permissions would remain, or a link would be followed
    const detail::file_descriptor file(
        ::open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.number < 0) detail::throw_errno("cannot write " + next);
    detail::unfinished_file unfinished(next);
    for (std::string_view rest = text; !rest.empty();) {
        const auto n = ::write(file.number, rest.data(), rest.size());
        if (n < 0 && errno != EINTR) detail::throw_errno("cannot write " + next);
        if (n > 0) rest.remove_prefix(static_cast<std::size_t>(n));
    }
    if (::fsync(file.number) != 0) detail::throw_errno("cannot write " + next);
    if (std::rename(next.c_str(), path.c_str()) != 0) detail::throw_errno("cannot replace " + path);
    unfinished.finished = true;
    directory.sync();
}

/// Removes the file of a saved ring, if there is one. Call it before the first new message: if the process crashed
/// later, the next one would read the outdated ring and give its ids to other messages. An empty path means no file. An
/// incomplete `path` + ".new" is removed, too. Blocks until the disk has it, as `save_ring` does.
///
/// Exceptions: std::system_error where the directory cannot be read or written, or a file not removed: the ring is still
/// there, unless the disk failed; std::bad_alloc.
inline void remove_saved_ring(const std::string& path)
{
    if (path.empty()) return;
    const std::string next = path + ".new";
    const auto missing = [](const std::string& file) { return ::access(file.c_str(), F_OK) != 0 && errno == ENOENT; };
    if (missing(path) && missing(next)) return;
    const detail::directory_of directory(path); // can fail: the ring is still there then
    detail::remove_file(next);
    detail::remove_file(path);
    directory.sync();
}

/// Reads the ring that the previous process has saved. Returns an empty ring with another epoch if there is no file, or
/// none that `replay_ring::load` can read: clients then have a gap. An empty path means no file.
///
/// Call `remove_saved_ring` before the first message, but after everything that can fail at the start of the process,
/// such as opening its ports: if that fails, the next attempt to start still has the ring.
///
/// Exceptions: std::system_error where the file cannot be read; those of `replay_ring`. Of a file above 1 GiB nothing
/// is read.
template <class Clock = std::chrono::steady_clock>
[[nodiscard]] basic_replay_ring<Clock> read_saved_ring(const std::string& path, const replay_ring_options& options = {})
{
    if (path.empty()) return basic_replay_ring<Clock>(options);
    const detail::file_descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number < 0 && errno != ENOENT) detail::throw_errno("cannot read " + path);
    std::optional<basic_replay_ring<Clock>> saved;
    if (file.number >= 0) {
        struct ::stat status{};
        if (::fstat(file.number, &status) != 0) detail::throw_errno("cannot read " + path);
        std::string text;
        if (status.st_size <= (::off_t{1} << 30)) text.resize(static_cast<std::size_t>(status.st_size));
        std::size_t got = 0;
        while (got != text.size()) {
            const auto n = ::read(file.number, text.data() + got, text.size() - got);
            if (n < 0 && errno != EINTR) detail::throw_errno("cannot read " + path);
            if (n == 0) break;
            if (n > 0) got += static_cast<std::size_t>(n);
        }
        saved = basic_replay_ring<Clock>::load({text.data(), got}, options);
    }
    if (saved) return std::move(*saved);
    return basic_replay_ring<Clock>(options);
}

/// Reads the ring and removes the file, where nothing can fail between them.
///
/// Exceptions: those of both.
template <class Clock = std::chrono::steady_clock>
[[nodiscard]] basic_replay_ring<Clock> take_saved_ring(const std::string& path, const replay_ring_options& options = {})
{
    auto ring = read_saved_ring<Clock>(path, options);
    remove_saved_ring(path);
    return ring;
}

} // namespace holdfast

#endif
