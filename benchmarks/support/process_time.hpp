// holdfast: the processor time that another process has used.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_PROCESS_TIME_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_PROCESS_TIME_HPP

#include "server_process.hpp"

#include <time.h>

#include <stdexcept>

namespace benchmarks {

/// Measures from its construction on.
class process_time {
public:
    explicit process_time(::pid_t process)
    {
        if (::clock_getcpuclockid(process, &clock_) != 0) throw std::runtime_error("no clock of the server's process");
        begin_ = now();
    }

    /// User and system time of all threads.
    [[nodiscard]] double seconds() const { return now() - begin_; }

private:
    [[nodiscard]] double now() const
    {
        ::timespec time{};
        checked(::clock_gettime(clock_, &time), "clock_gettime");
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
    }

    ::clockid_t clock_{};
    double begin_ = 0;
};

} // namespace benchmarks

#endif
