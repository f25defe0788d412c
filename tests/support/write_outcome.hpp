// holdfast: for tests, how an async_write_streamed has ended.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_WRITE_OUTCOME_HPP
#define HOLDFAST_TESTS_SUPPORT_WRITE_OUTCOME_HPP

#include <holdfast/asio.hpp>

#include <cstddef>

namespace tests {

struct write_outcome {
    int completed = 0;
    holdfast::error_code error;
    std::size_t written = 0;

    auto handler()
    {
        return [this](holdfast::error_code ec, std::size_t n) {
            ++completed;
            error = ec;
            written = n;
        };
    }
};

} // namespace tests

#endif
