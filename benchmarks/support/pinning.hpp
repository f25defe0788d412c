// holdfast: which processor a process of a benchmark runs on.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_BENCHMARKS_SUPPORT_PINNING_HPP
#define HOLDFAST_BENCHMARKS_SUPPORT_PINNING_HPP

#include <sched.h>

namespace benchmarks {

/// The processors that the program may use: those of its start, also in its child processes.
inline const ::cpu_set_t& allowed_processors()
{
    static const ::cpu_set_t set = [] {
        ::cpu_set_t found;
        CPU_ZERO(&found);
        ::sched_getaffinity(0, sizeof found, &found);
        return found;
    }();
    return set;
}

inline int first_processor()
{
    for (int i = 0; i != CPU_SETSIZE; ++i)
        if (CPU_ISSET(i, &allowed_processors())) return i;
    return 0;
}

/// The process that is measured, of one thread, runs on the first processor. One that moves pays for cold caches, and
/// by chance.
inline void pin_measured()
{
    (void)allowed_processors(); // before they become one
    ::cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first_processor(), &one);
    ::sched_setaffinity(0, sizeof one, &one);
}

/// Its clients run on all others, where there are any.
inline void pin_clients()
{
    ::cpu_set_t others = allowed_processors();
    if (CPU_COUNT(&others) < 2) return;
    CPU_CLR(first_processor(), &others);
    ::sched_setaffinity(0, sizeof others, &others);
}

} // namespace benchmarks

#endif
