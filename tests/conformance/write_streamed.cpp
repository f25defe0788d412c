// holdfast: async_write_streamed in the conformance matrix, over every layer.
// SPDX-License-Identifier: BSL-1.0
#include "conformance/harness.hpp"
#include "conformance/layers.hpp"

#include <holdfast/write_streamed.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace {

namespace net = holdfast::net;

/// More than the buffers of both sockets take.
std::string_view long_text()
{
    static const std::string text(1'000'000, 'x');
    return text;
}

/// Waits until the peer reads, on a thread of its own.
template <class Layer>
struct write_message : conformance::operation {
    static constexpr bool any_executor = true;
    static constexpr bool object_may_go = false;
    static constexpr bool outlives_context = false;
    static constexpr bool several = false;
    static constexpr bool uses_handler_allocator = false; // the buffer pool's

    template <class Executor>
    struct object {
        explicit object(const Executor& executor) : ends(executor)
        {
            ends.stream->lowest_layer().set_option(net::socket_base::send_buffer_size(65536));
        }
        ~object() { ends.stream.reset(); }

        template <class Token>
        auto start(Token&& token)
        {
            return holdfast::async_write_streamed(*ends.stream, long_text(), std::forward<Token>(token));
        }

        void step() // the peer takes what has been sent, which may be nothing yet
        {
            char taken[65536];
            static_cast<void>(::recv(ends.peer.descriptor(), taken, sizeof taken, MSG_DONTWAIT));
        }
        void complete() { all.start(ends.peer.descriptor()); }

        typename Layer::template connected<Executor> ends;
        conformance::taker all;
    };
};

} // namespace

HOLDFAST_CONFORMANCE_OF_STREAMS(write_message);
