// holdfast: for tests in which descriptors run out.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_DESCRIPTOR_LIMIT_HPP
#define HOLDFAST_TESTS_SUPPORT_DESCRIPTOR_LIMIT_HPP

#include <sys/resource.h>
#include <unistd.h>

namespace tests {

/// Lowers the limit of descriptors so that `spare` more can be opened; restores it.
class descriptor_limit {
public:
    explicit descriptor_limit(rlim_t spare)
    {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const int next = ::dup(0);
        ::close(next);
        rlimit lower = before_;
        lower.rlim_cur = static_cast<rlim_t>(next) + spare;
        ::setrlimit(RLIMIT_NOFILE, &lower);
    }
    descriptor_limit(const descriptor_limit&) = delete;
    ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

} // namespace tests

#endif
