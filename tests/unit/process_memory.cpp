// holdfast: tests of the headers of process/: the readings against what the process does, the parsers on samples.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/process/cgroup.hpp>
#include <holdfast/process/limits.hpp>
#include <holdfast/process/memory.hpp>

#include "support/catch.hpp"

#include <holdfast/detail/acceptor/memory_meter.hpp>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>
#include <thread>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t MiB = 1024 * 1024;

/// A private anonymous mapping, untouched.
struct mapping {
    explicit mapping(std::size_t bytes)
        : size{bytes}, address{::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)}
    {
        REQUIRE(address != MAP_FAILED);
    }
    ~mapping() { ::munmap(address, size); }
    mapping(const mapping&) = delete;
    mapping& operator=(const mapping&) = delete;

    void touch() const
    {
        for (std::size_t at = 0; at < size; at += 4096)
            static_cast<volatile char*>(address)[at] = 1;
    }

    std::size_t size;
    void* address;
};

/// A process that waits until it is ended.
struct child_process {
    child_process() : pid{::fork()}
    {
        if (pid == 0)
            for (;;)
                ::pause();
        REQUIRE(pid > 0);
    }
    ~child_process()
    {
        ::kill(pid, SIGKILL);
        if (!reaped) ::waitpid(pid, nullptr, 0);
    }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    /// Ends it, and leaves it a zombie.
    void end() const
    {
        ::kill(pid, SIGKILL);
        siginfo_t info;
        REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0);
    }

    void reap()
    {
        ::waitpid(pid, nullptr, 0);
        reaped = true;
    }

    pid_t pid;
    bool reaped = false;
};

/// A folder of files, removed at the end.
struct temporary_folder {
    temporary_folder()
    {
        std::string name = (std::filesystem::temp_directory_path() / "holdfast-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~temporary_folder() { std::filesystem::remove_all(path); }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;

    void write(const std::string& file, const std::string& text) const
    {
        std::filesystem::create_directories((path / file).parent_path());
        std::ofstream{path / file} << text;
    }

    std::filesystem::path path;
};

holdfast::process_memory own_memory()
{
    std::error_code error;
    const auto memory = holdfast::read_process_memory(0, error);
    REQUIRE(!error);
    return memory;
}

std::uint64_t own_descriptors()
{
    std::error_code error;
    const auto count = holdfast::read_open_descriptors(0, error);
    REQUIRE(!error);
    return count;
}

std::uint64_t growth(std::uint64_t before, std::uint64_t after) { return after > before ? after - before : 0; }

} // namespace

TEST_CASE("64 MiB that are touched raise RssAnon and VmRSS by that much, and giving them back lowers both")
{
    const auto before = own_memory();
    {
        const mapping block{64 * MiB};
        const auto untouched = own_memory();
        CHECK(growth(before.rss_anon, untouched.rss_anon) < 8 * MiB);
        block.touch();
        const auto touched = own_memory();
        CHECK(growth(before.rss_anon, touched.rss_anon) >= 60 * MiB);
        CHECK(growth(before.rss_anon, touched.rss_anon) <= 72 * MiB);
        CHECK(growth(before.vm_rss, touched.vm_rss) >= 60 * MiB);
        CHECK(touched.vm_rss_peak >= touched.vm_rss);
        CHECK(touched.vm_rss >= touched.rss_anon);
    }
    const auto after = own_memory();
    CHECK(growth(before.rss_anon, after.rss_anon) < 8 * MiB);
    CHECK(after.vm_rss_peak >= before.vm_rss + 60 * MiB);
}

TEST_CASE("A thread is counted while it lives")
{
    const auto before = own_memory().threads;
    std::mutex mutex;
    std::condition_variable wake;
    bool running = false, stop = false;
    std::thread thread{[&] {
        std::unique_lock lock{mutex};
        running = true;
        wake.notify_all();
        wake.wait(lock, [&] { return stop; });
    }};
    {
        std::unique_lock lock{mutex};
        wake.wait(lock, [&] { return running; });
    }
    CHECK(own_memory().threads == before + 1);
    {
        const std::lock_guard lock{mutex};
        stop = true;
    }
    wake.notify_all();
    thread.join();
}

TEST_CASE("Open descriptors are counted exactly, whichever way the kernel offers")
{
    std::error_code error;
    const auto before = own_descriptors();
    CHECK(holdfast::detail::list_open_descriptors(0, error) == before);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    CHECK(own_descriptors() == before + 2);
    CHECK(holdfast::detail::list_open_descriptors(0, error) == before + 2);
    CHECK(holdfast::detail::list_open_descriptors(::getpid(), error) == before + 2);
    CHECK(!error);
    ::close(ends[0]);
    ::close(ends[1]);
    CHECK(own_descriptors() == before);
}

TEST_CASE("An anonymous mapping is counted, with its size where it can be accessed")
{
    std::error_code error;
    const auto before = holdfast::read_anonymous_mappings(0, error);
    REQUIRE(!error);
    CHECK(before.count > 0);
    const std::size_t size = 32 * MiB;
    const mapping block{size};
    // Without access at both ends, so that the kernel cannot merge it with a neighbour.
    REQUIRE(::mprotect(block.address, 4096, PROT_NONE) == 0);
    REQUIRE(::mprotect(static_cast<char*>(block.address) + size - 4096, 4096, PROT_NONE) == 0);
    const auto mapped = holdfast::read_anonymous_mappings(0, error);
    REQUIRE(!error);
    CHECK(mapped.count > before.count);
    CHECK(growth(before.bytes, mapped.bytes) >= size - 8192);
    CHECK(growth(before.bytes, mapped.bytes) <= size + MiB);
}

TEST_CASE("Another process is read by its id, and one that has ended gives no_such_process")
{
    child_process child;
    std::error_code error;
    const auto memory = holdfast::read_process_memory(child.pid, error);
    CHECK(!error);
    CHECK(memory.vm_rss > 0);
    CHECK(memory.threads == 1);
    CHECK(holdfast::read_open_descriptors(child.pid, error) == own_descriptors());
    CHECK(!error);
    CHECK(holdfast::read_anonymous_mappings(child.pid, error).count > 0);
    CHECK(!error);

    child.end();
    const auto zombie = holdfast::read_process_memory(child.pid, error);
    CHECK(error == std::errc::no_such_process);
    CHECK(zombie.vm_rss == 0);

    child.reap();
    holdfast::read_process_memory(child.pid, error);
    CHECK(error == std::errc::no_such_process);
    holdfast::read_open_descriptors(child.pid, error);
    CHECK(error == std::errc::no_such_process);
    holdfast::read_anonymous_mappings(child.pid, error);
    CHECK(error == std::errc::no_such_process);
    holdfast::read_cgroup_memory(child.pid, error);
    CHECK(error == std::errc::no_such_process);
}

TEST_CASE("The kernel's socket memory grows with unread data, and the socket is counted")
{
    std::error_code error;
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    const int writer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ::connect(writer, reinterpret_cast<sockaddr*>(&address), sizeof address);
    const int reader = ::accept(listener, nullptr, nullptr);
    REQUIRE(reader >= 0);
    const std::string block(65536, 'x');
    ssize_t written = 0, queued = 0;
    while ((written = ::send(writer, block.data(), block.size(), MSG_NOSIGNAL)) > 0)
        queued += written;
    const auto full = holdfast::read_socket_memory(error);
    CHECK(!error);
    // The sum is the machine's: others may free memory meanwhile, but what is queued here is surely in it.
    CHECK(full.tcp_bytes >= static_cast<std::uint64_t>(queued) / 2);
    CHECK(full.tcp_sockets >= 2);
    ::close(writer);
    ::close(reader);
    ::close(listener);
}

TEST_CASE("The machine has more memory than it has available, and this process fits into it")
{
    std::error_code error;
    const auto machine = holdfast::read_machine_memory(error);
    REQUIRE(!error);
    CHECK(machine.available <= machine.total);
    CHECK(own_memory().vm_rss < machine.total);
}

TEST_CASE("The own cgroup can be read, and where it has a limit, this process is within it")
{
    std::error_code error;
    const auto group = holdfast::read_cgroup_memory(0, error);
    CHECK(!error);
    if (group) CHECK(group->used <= group->limit);
}

TEST_CASE("A status text is read, and one without the figures is refused")
{
    const std::string sample =
        "Name:\tVmRSS: 1 kB\nUmask:\t0022\nState:\tS (sleeping)\nVmPeak:\t  999 kB\n"
        "VmHWM:\t    7000 kB\nVmRSS:\t    6000 kB\nRssAnon:\t    5000 kB\nRssFile:\t     900 kB\n"
        "RssShmem:\t     100 kB\nVmSwap:\t      12 kB\nThreads:\t3\nSigQ:\t0/96365\n";
    const auto memory = holdfast::parse_process_status(sample);
    REQUIRE(memory);
    CHECK(memory->vm_rss == 6000 * 1024);
    CHECK(memory->vm_rss_peak == 7000 * 1024);
    CHECK(memory->rss_anon == 5000 * 1024);
    CHECK(memory->rss_file == 900 * 1024);
    CHECK(memory->rss_shmem == 100 * 1024);
    CHECK(memory->vm_swap == 12 * 1024);
    CHECK(memory->threads == 3);

    CHECK(!holdfast::parse_process_status(""));
    CHECK(!holdfast::parse_process_status("Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n"));
    CHECK(!holdfast::parse_process_status("VmRSS:\t6 kB\nRssAnon:\t kB\nThreads:\t1\n"));
    CHECK(!holdfast::parse_process_status("VmRSS:\t6 kB\nRssAnon:\t-5 kB\nThreads:\t1\n"));
    CHECK(!holdfast::parse_process_status("VmRSS:\t6 MB\nRssAnon:\t5 kB\nThreads:\t1\n"));
    CHECK(!holdfast::parse_process_status("VmRSS:\t99999999999999999999999 kB\nRssAnon:\t5 kB\nThreads:\t1\n"));
    // Every piece that ends early is refused or complete, but never read beyond its end.
    for (std::size_t size = 0; size < sample.size(); ++size) {
        const std::string piece = sample.substr(0, size);
        if (holdfast::parse_process_status(piece)) CHECK(piece.find("Threads:\t3") != piece.npos);
    }
}

TEST_CASE("A maps text is read: files and the kernel's pages are left out, guards have no size")
{
    const auto maps = holdfast::parse_maps("55d0c8a00000-55d0c8a01000 r--p 00000000 08:01 1234      /usr/bin/cat\n"
                                           "55d0c9000000-55d0c9021000 rw-p 00000000 00:00 0         [heap]\n"
                                           "7f12a0000000-7f12a0021000 rw-p 00000000 00:00 0 \n"
                                           "7f12a0021000-7f12a4000000 ---p 00000000 00:00 0 \n"
                                           "7ffd1b9f0000-7ffd1ba11000 rw-p 00000000 00:00 0         [stack]\n"
                                           "7ffd1bbd9000-7ffd1bbdd000 r--p 00000000 00:00 0         [vvar]\n"
                                           "7ffd1bbdd000-7ffd1bbdf000 r-xp 00000000 00:00 0         [vdso]\n");
    REQUIRE(maps);
    CHECK(maps->count == 4);
    CHECK(maps->bytes == 3 * 0x21000);
    CHECK(holdfast::parse_maps("")->count == 0);
    CHECK(!holdfast::parse_maps("nonsense\n"));
    CHECK(!holdfast::parse_maps("\n"));
    CHECK(!holdfast::parse_maps("7f12a0000000 rw-p 00000000 00:00 0\n"));
    CHECK(!holdfast::parse_maps("7f12a0021000-7f12a0000000 rw-p 00000000 00:00 0\n"));
    CHECK(!holdfast::parse_maps("7f12a0000000-7f12a0021000 rw-p 00000000 00:00\n"));
}

TEST_CASE("A sockstat text is read, and one without the figures is refused")
{
    const auto sockets = holdfast::parse_sockstat("sockets: used 11\nTCP: inuse 5 orphan 1 tw 2 alloc 7 mem 164\n"
                                                  "UDP: inuse 9 mem 3\n");
    REQUIRE(sockets);
    CHECK(sockets->tcp_sockets == 5);
    CHECK(sockets->tcp_bytes == 164 * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
    CHECK(!holdfast::parse_sockstat(""));
    CHECK(!holdfast::parse_sockstat("UDP: inuse 9 mem 3\n"));
    CHECK(!holdfast::parse_sockstat("TCP: inuse 9\n"));
    CHECK(!holdfast::parse_sockstat("TCP: inuse 9 mem\n"));
    CHECK(!holdfast::parse_sockstat("TCP: inuse x mem 3\n"));
}

TEST_CASE("A meminfo text is read, and one without the figures is refused")
{
    const auto machine = holdfast::parse_meminfo("MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable: 50 kB\n");
    REQUIRE(machine);
    CHECK(machine->total == 100 * 1024);
    CHECK(machine->available == 50 * 1024);
    CHECK(!holdfast::parse_meminfo("MemTotal: 100 kB\nMemFree: 5 kB\n"));
}

TEST_CASE("A cgroup's limit is a number, and max and the old sentinel are none")
{
    CHECK(holdfast::parse_cgroup_limit("268435456\n") == 268435456u);
    CHECK(holdfast::parse_cgroup_limit("0\n") == 0u);
    CHECK(!holdfast::parse_cgroup_limit("max\n"));
    CHECK(!holdfast::parse_cgroup_limit("9223372036854771712\n"));
    CHECK(!holdfast::parse_cgroup_limit(""));
    CHECK(!holdfast::parse_cgroup_limit("-1\n"));
}

TEST_CASE("The memory controller's directory is found in both versions, mixed, and in a container")
{
    using holdfast::detail::find_memory_cgroup;
    const std::string v2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const auto unified = find_memory_cgroup("0::/system.slice/feed.service\n", v2);
    REQUIRE(unified);
    CHECK(unified->version_2);
    CHECK(unified->mount == "/sys/fs/cgroup");
    CHECK(unified->directory == "/sys/fs/cgroup/system.slice/feed.service");

    const std::string mixed = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                              "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
                              "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const auto old = find_memory_cgroup("5:cpu,cpuacct:/c\n4:memory:/m/n\n0::/u\n", mixed);
    REQUIRE(old);
    CHECK(!old->version_2);
    CHECK(old->directory == "/sys/fs/cgroup/memory/m/n");

    const std::string bound = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    CHECK(find_memory_cgroup("4:memory:/docker/abc\n", bound)->directory == "/sys/fs/cgroup/memory");
    CHECK(find_memory_cgroup("4:memory:/docker/abc/d\n", bound)->directory == "/sys/fs/cgroup/memory/d");
    CHECK(find_memory_cgroup("4:memory:/docker/abcd\n", bound)->directory == "/sys/fs/cgroup/memory");
    CHECK(find_memory_cgroup("0::/../other\n", v2)->directory == "/sys/fs/cgroup");
    CHECK(find_memory_cgroup("0::/\n", v2)->directory == "/sys/fs/cgroup");

    CHECK(!find_memory_cgroup("0::/x\n", ""));
    CHECK(!find_memory_cgroup("", v2));
    CHECK(!find_memory_cgroup("4:memory:/x\n", v2));
    CHECK(!find_memory_cgroup("broken\n:\n4:cpu:/x\n", "broken\n - \n"));
}

TEST_CASE("The smallest limit up the chain counts, with the page cache subtracted from its use")
{
    using holdfast::detail::smallest_limit;
    const temporary_folder folder;
    const std::string mount = folder.path.string();

    SECTION("version 2")
    {
        folder.write("a/memory.max", "1000000\n");
        folder.write("a/memory.current", "900000\n");
        folder.write("a/memory.stat", "anon 1\nfile 350000\nshmem 50000\ninactive_file 200000\nactive_file 100000\n");
        folder.write("a/b/memory.max", "max\n");
        folder.write("a/b/c/memory.max", "2000000\n");
        folder.write("a/b/c/memory.current", "10\n");
        const auto group = smallest_limit({mount, mount + "/a/b/c", true});
        REQUIRE(group);
        CHECK(group->limit == 1000000);
        CHECK(group->used == 600000);
        CHECK(!smallest_limit({mount, mount, true}));
    }
    SECTION("version 1")
    {
        folder.write("memory.limit_in_bytes", "9223372036854771712\n");
        folder.write("a/memory.limit_in_bytes", "5000\n");
        folder.write("a/memory.usage_in_bytes", "4000\n");
        folder.write("a/memory.stat", "inactive_file 9\ntotal_inactive_file 500\ntotal_active_file 300\n");
        const auto group = smallest_limit({mount, mount + "/a", false});
        REQUIRE(group);
        CHECK(group->limit == 5000);
        CHECK(group->used == 3200);
    }
    SECTION("a page cache above the use, or files that are missing, give zero and no wrap-around")
    {
        folder.write("a/memory.max", "1000\n");
        folder.write("a/memory.current", "10\n");
        folder.write("a/memory.stat", "inactive_file 20\n");
        CHECK(smallest_limit({mount, mount + "/a", true})->used == 0);
        folder.write("b/memory.max", "1000\n");
        CHECK(smallest_limit({mount, mount + "/b", true})->used == 0);
    }
}

TEST_CASE("A meter reads the use of the group with the smallest limit again and again, without its page cache")
{
    using holdfast::detail::memory_meter;
    using holdfast::detail::tightest_group;
    const temporary_folder folder;
    const std::string mount = folder.path.string();

    SECTION("version 2, where the limit is the parent's")
    {
        folder.write("a/memory.max", "1000000\n");
        folder.write("a/memory.current", "900000\n");
        folder.write("a/memory.stat", "anon 1\ninactive_file 200000\nactive_file 100000\n");
        folder.write("a/b/memory.max", "max\n");
        folder.write("a/b/memory.current", "7\n");
        const auto group = tightest_group({mount, mount + "/a/b", true});
        REQUIRE(group);
        const memory_meter meter(*group);
        CHECK(meter.read() == 600000u);
        folder.write("a/memory.current", "950000\n");
        folder.write("a/memory.stat", "inactive_file 0\nactive_file 0\n");
        CHECK(meter.read() == 950000u);
        folder.write("a/memory.stat", "inactive_file 99999999\n");
        CHECK(meter.read() == 0u);
        folder.write("a/memory.current", "");
        CHECK_FALSE(meter.read()); // as where the group is gone
        folder.write("a/memory.current", "much\n");
        CHECK_FALSE(meter.read());
    }
    SECTION("version 1, whose sentinel is no limit")
    {
        folder.write("memory.limit_in_bytes", "9223372036854771712\n");
        CHECK_FALSE(tightest_group({mount, mount, false}));
        folder.write("a/memory.limit_in_bytes", "5000\n");
        folder.write("a/memory.usage_in_bytes", "4000\n");
        folder.write("a/memory.stat", "inactive_file 9\ntotal_inactive_file 500\n");
        const auto group = tightest_group({mount, mount + "/a", false});
        REQUIRE(group);
        CHECK(memory_meter(*group).read() == 3500u);
    }
    SECTION("files that can't be opened are an error at once, not a memory_source that never moves")
    {
        folder.write("a/memory.max", "1000000\n");
        CHECK_THROWS_AS(memory_meter(*tightest_group({mount, mount + "/a", true})), std::system_error);
        folder.write("a/memory.current", "1\n");
        CHECK_THROWS_AS(memory_meter(*tightest_group({mount, mount + "/a", true})), std::system_error);
    }
}

TEST_CASE("A file is read by lines whatever their length and wherever the buffer ends")
{
    const temporary_folder folder;
    for (const std::size_t length : {0u, 1u, 4094u, 4095u, 4096u, 4097u, 9000u}) {
        const std::string line(length, 'x');
        folder.write("file", "first\n" + line + "\nlast");
        std::vector<std::string> lines;
        std::error_code error;
        holdfast::detail::for_each_line_of_file((folder.path / "file").c_str(), error,
                                                [&](std::string_view each) { lines.emplace_back(each); });
        CHECK(!error);
        REQUIRE(lines.size() == 3);
        CHECK(lines[0] == "first");
        CHECK(line.starts_with(lines[1]));
        CHECK(lines[1].size() >= std::min<std::size_t>(length, 4096));
        CHECK(lines[2] == "last");
    }
}

TEST_CASE("The memory limit of this process is its cgroup's limit or the machine's memory")
{
    std::error_code ec;
    const auto memory = holdfast::read_memory_limit(ec);
    REQUIRE_FALSE(ec);
    CHECK(memory > 16 * 1024 * 1024);
    CHECK(memory <= holdfast::read_machine_memory(ec).total);
}

TEST_CASE("The limit of descriptors is raised up to the hard limit, never lowered, and not beyond")
{
    std::error_code ec;
    const holdfast::descriptor_limits before = holdfast::read_descriptor_limits(ec);
    REQUIRE_FALSE(ec);
    REQUIRE(before.soft <= before.hard);
    REQUIRE(before.soft > 0);
    const auto hard = static_cast<rlim_t>(before.hard);
    const rlimit lower{static_cast<rlim_t>(before.soft - 1), hard};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &lower) == 0);
    holdfast::raise_descriptor_limit(0, ec);
    CHECK_FALSE(ec);
    CHECK(holdfast::read_descriptor_limits(ec).soft == before.soft - 1);
    holdfast::raise_descriptor_limit(before.soft, ec);
    CHECK_FALSE(ec);
    CHECK(holdfast::read_descriptor_limits(ec).soft == before.soft);
    if (before.hard != std::numeric_limits<std::uint64_t>::max()) {
        holdfast::raise_descriptor_limit(before.hard + 1, ec);
        CHECK(ec == std::errc::operation_not_permitted);
        CHECK(holdfast::read_descriptor_limits(ec).soft == before.soft);
    }
}

TEST_CASE("Figures of the kernel that do not fit saturate")
{
    const auto most = std::numeric_limits<std::uint64_t>::max();
    const auto text = [](const char* number) {
        return std::string("VmRSS: ") + number + " kB\nRssAnon: " + number + " kB\nThreads: " + number + "\n";
    };
    for (const char* number : {"18014398509481984", "18446744073709551614", "18446744073709551615"}) {
        const auto memory = holdfast::parse_process_status(text(number));
        REQUIRE(memory);
        CHECK(memory->vm_rss == most);
        CHECK(memory->rss_anon == most);
        const auto sockets =
            holdfast::parse_sockstat(std::string("TCP: inuse 1 orphan 0 tw 0 alloc 1 mem ") + number + "\n");
        REQUIRE(sockets);
        CHECK(sockets->tcp_bytes == most);
    }
    CHECK_FALSE(holdfast::parse_process_status(text("18446744073709551616")));
    CHECK_FALSE(holdfast::parse_process_status(text("-1")));
    CHECK(holdfast::parse_process_status(text("0"))->vm_rss == 0);
    CHECK(holdfast::parse_process_status(text("1"))->vm_rss == 1024);
}

TEST_CASE("The arenas of glibc's malloc are counted: 64 MiB each, used at the beginning, neighbours merged")
{
    const auto maps = holdfast::parse_maps("555500000000-555500100000 rw-p 00000000 00:00 0    [heap]\n"
                                           "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n"
                                           "7f0000021000-7f0004000000 ---p 00000000 00:00 0 \n"
                                           "7f0008000000-7f000c100000 rw-p 00000000 00:00 0 \n" // one is full
                                           "7f000c100000-7f0010000000 ---p 00000000 00:00 0 \n"
                                           "7f0014000000-7f0014021000 rw-p 00000000 00:00 0 \n" // no reserve
                                           "7f0018000000-7f0018021000 rw-p 00000000 08:01 7 /file\n"
                                           "7f0018021000-7f001c000000 ---p 00000000 00:00 0 \n");
    REQUIRE(maps);
    CHECK(maps->arenas == 3);
}
