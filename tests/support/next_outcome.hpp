// holdfast: what a test notes of one frame_reader::async_next.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_NEXT_OUTCOME_HPP
#define HOLDFAST_TESTS_SUPPORT_NEXT_OUTCOME_HPP

#include <holdfast/asio.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace tests {

/// What one async_next came to; the frame is copied at once, as the view lives only until the next call.
struct next_outcome {
    int completed = 0;
    holdfast::error_code error;
    std::optional<std::string> frame;

    auto handler()
    {
        return [this](holdfast::error_code ec, std::optional<std::string_view> f) {
            ++completed;
            error = ec;
            frame = f ? std::optional<std::string>(*f) : std::nullopt;
        };
    }
};

} // namespace tests

#endif
