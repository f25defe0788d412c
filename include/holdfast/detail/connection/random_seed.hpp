// holdfast: numbers that another process cannot guess.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_RANDOM_SEED_HPP
#define HOLDFAST_DETAIL_CONNECTION_RANDOM_SEED_HPP

#include <cerrno>
#include <cstdint>
#include <system_error>

#include <sys/random.h>

namespace holdfast::detail {

/// Not `std::random_device`, whose header takes long to compile.
inline std::uint64_t random_seed()
{
    std::uint64_t seed = 0;
    while (::getrandom(&seed, sizeof seed, 0) != sizeof seed)
        if (errno != EINTR) throw std::system_error(errno, std::system_category(), "getrandom gives no random numbers");
    return seed;
}

} // namespace holdfast::detail

#endif
