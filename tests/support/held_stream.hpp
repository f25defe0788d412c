// holdfast: a stream whose writes end when the test says so, by as many bytes as it says.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_HELD_STREAM_HPP
#define HOLDFAST_TESTS_SUPPORT_HELD_STREAM_HPP

#include <holdfast/asio.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace tests {

namespace net = holdfast::net;

/// Takes one write at a time and holds it. Cancelled, a write takes nothing.
class held_stream {
public:
    using executor_type = net::steady_timer::executor_type;

    explicit held_stream(net::io_context& io) : gate_(io, std::chrono::steady_clock::time_point::max()) {}

    executor_type get_executor() { return gate_.get_executor(); }

    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token)
    {
        if (in_flight()) throw std::logic_error("two writes at once");
        data_.clear();
        ++writes;
        for (auto each = net::buffer_sequence_begin(buffers); each != net::buffer_sequence_end(buffers); ++each) {
            const net::const_buffer part(*each);
            data_.append(static_cast<const char*>(part.data()), part.size());
        }
        error_ = net::error::operation_aborted;
        count_ = 0;
        return net::async_compose<Token, void(holdfast::error_code, std::size_t)>(
            [this, waits = true](auto& self, holdfast::error_code = {}) mutable {
                if (std::exchange(waits, false)) {
                    gate_.async_wait(std::move(self));
                    return;
                }
                data_.clear();
                self.complete(error_, count_);
            },
            token, gate_);
    }

    [[nodiscard]] bool in_flight() const noexcept { return !data_.empty(); }

    /// Ends the write in flight: it took at most so many bytes.
    void take(std::size_t most = std::numeric_limits<std::size_t>::max())
    {
        count_ = std::min(most, data_.size());
        taken.append(data_, 0, count_);
        end({});
    }

    /// Ends the write in flight with an error.
    void fail(const holdfast::error_code& why) { end(why); }

    /// What the write in flight was given.
    [[nodiscard]] const std::string& offered() const noexcept { return data_; }

    std::string taken;
    std::size_t writes = 0; // begun

private:
    void end(const holdfast::error_code& result)
    {
        if (!in_flight()) throw std::logic_error("no write is in flight");
        error_ = result;
        gate_.cancel();
    }

    net::steady_timer gate_;
    std::string data_;
    holdfast::error_code error_;
    std::size_t count_ = 0;
};

} // namespace tests

#endif
