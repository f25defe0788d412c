// holdfast: the sizes of chunks, chosen by a fuzzer's bytes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_FUZZ_SIZES_HPP
#define HOLDFAST_TESTS_FUZZ_SIZES_HPP

#include "choices.hpp"
#include "support/chosen.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace fuzz {

/// Three sizes of 1 to 65,536, over and over again.
struct sizes {
    explicit sizes(choices& choices)
    {
        for (std::size_t& size : list)
            size = std::max<std::size_t>(tests::any_size(choices, 65536), 1);
    }

    std::size_t operator()() { return list[next++ % list.size()]; }

    std::array<std::size_t, 3> list{};
    std::size_t next = 0;
};

} // namespace fuzz

#endif
