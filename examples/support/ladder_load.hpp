// holdfast: the ladder's load: processes with clients, and the object that controls them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LADDER_LOAD_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LADDER_LOAD_HPP

#include "ladder_clients.hpp"
#include "ladder_plan.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ladder {

/// The load processes. They end with this object, or with the process that made it.
class load {
public:
    load(const settings& wanted, const climb_plan& plan, const socket_address& server)
    {
        for (std::uint32_t index = 0; index < plan.processes; ++index) {
            int ends[2];
            if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
                throw std::system_error(errno, std::system_category(), "socketpair");
            descriptor ours{ends[0]}, theirs{ends[1]};
            const pid_t parent = ::getpid();
            const pid_t pid = ::fork();
            if (pid < 0) throw std::system_error(errno, std::system_category(), "fork");
            if (pid == 0) {
                ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (::getppid() != parent) ::_exit(0);
                ours.reset();
                members_.clear_channels();
                ::_exit(run_clients(wanted, plan, index, server, std::move(theirs)));
            }
            members_.list.push_back({pid, std::move(ours), {}});
        }
    }

    load(const load&) = delete;
    load& operator=(const load&) = delete;

    /// Sets the number of clients of all processes together, without waiting. 0 closes every connection.
    void set_target(std::uint32_t target)
    {
        ++command_;
        const auto processes = static_cast<std::uint32_t>(members_.list.size());
        for (std::uint32_t index = 0; index < processes; ++index) {
            // Client i belongs to process i % processes.
            const load_command command{command_, target / processes + (index < target % processes ? 1 : 0)};
            if (::send(members_.list[index].channel.get(), &command, sizeof command, MSG_NOSIGNAL) < 0)
                throw std::runtime_error("a load process has ended");
        }
    }

    /// Waits for `time`, reads the reports of the processes, and returns the sum of the latest ones.
    load_statistics wait(std::chrono::milliseconds time)
    {
        std::vector<pollfd> channels;
        for (const member& each : members_.list)
            channels.push_back({each.channel.get(), POLLIN, 0});
        const auto until = steady::now() + time;
        for (auto left = time; left.count() > 0;
             left = std::chrono::ceil<std::chrono::milliseconds>(until - steady::now())) {
            ::poll(channels.data(), channels.size(), static_cast<int>(left.count()));
            for (std::size_t i = 0; i < channels.size(); ++i)
                if (channels[i].revents != 0) take_reports(members_.list[i]);
        }
        load_statistics sum;
        for (const member& each : members_.list)
            sum += each.latest;
        return sum;
    }

    /// Whether every process has begun the last command.
    bool up_to_date() const
    {
        return std::all_of(members_.list.begin(), members_.list.end(),
                           [&](const member& each) { return each.latest.command == command_; });
    }

private:
    struct member {
        pid_t pid;
        descriptor channel;
        load_statistics latest;
    };

    /// Ends and reaps its processes, also where the constructor of `load` throws.
    struct member_list {
        std::vector<member> list;

        member_list() = default;
        member_list(const member_list&) = delete;
        member_list& operator=(const member_list&) = delete;
        ~member_list()
        {
            for (const member& each : list)
                ::kill(each.pid, SIGKILL);
            for (const member& each : list)
                while (::waitpid(each.pid, nullptr, 0) < 0 && errno == EINTR) {
                }
        }
        void clear_channels()
        {
            for (member& each : list)
                each.channel.reset();
        }
    };

    static int run_clients(const settings& wanted, const climb_plan& plan, std::uint32_t index,
                           const socket_address& server, descriptor channel)
    {
        try {
            client_process{wanted, plan, index, server, std::move(channel)}.run();
            return 0;
        } catch (const std::exception& error) {
            std::fprintf(stderr, "ladder: load process %u: %s\n", index, error.what());
            return 1;
        }
    }

    static void take_reports(member& from)
    {
        for (;;) {
            load_statistics report;
            const ssize_t got = ::recv(from.channel.get(), &report, sizeof report, MSG_DONTWAIT);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0 && errno == EAGAIN) return;
            if (got != sizeof report) throw std::runtime_error("a load process has ended");
            from.latest = report;
        }
    }

    member_list members_;
    std::uint32_t command_ = 0;
};

} // namespace ladder

#endif
