// holdfast: what the parts weigh in a release build: the sizes that the documentation states.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#undef HOLDFAST_TRACK_GUARDS
#define HOLDFAST_TRACK_GUARDS 0
#include <holdfast/holdfast.hpp>

#include <cstdint>

namespace net = holdfast::net;
using net::ip::tcp;

namespace {

/// A finalizer that refers to something.
struct to_one {
    void* object;
    void operator()(const holdfast::connection_end&) const noexcept {}
};

template <class Socket, class Finalizer = holdfast::no_finalizer>
constexpr std::size_t guard_adds = sizeof(holdfast::connection_guard<Socket, Finalizer>) - sizeof(Socket);

#if defined(HOLDFAST_USE_BOOST_ASIO)
constexpr std::size_t guard_bytes = sizeof(holdfast::error_code) + 16;
#else
constexpr std::size_t guard_bytes = 16;
#endif

using concrete_socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;

} // namespace

TEST_CASE("a guard adds at most 16 bytes and its finalizer to the stream")
{
    STATIC_REQUIRE(guard_adds<tcp::socket> <= guard_bytes);
    STATIC_REQUIRE(guard_adds<concrete_socket> <= guard_bytes);
    STATIC_REQUIRE(guard_adds<net::local::stream_protocol::socket> <= guard_bytes);
    STATIC_REQUIRE(guard_adds<tcp::socket, to_one> <= guard_bytes + sizeof(to_one));
}

TEST_CASE("admission adds one word to the guard, for the census and all that a new client takes up")
{
    STATIC_REQUIRE(sizeof(holdfast::admitted_connection<>) <= sizeof(tcp::socket) + guard_bytes + 8);
}

TEST_CASE("a reader and an outbox are as small as they say")
{
    STATIC_REQUIRE(sizeof(holdfast::frame_reader<tcp::socket>) == 56);
    STATIC_REQUIRE(sizeof(holdfast::websocket_reader<tcp::socket>) == 72);
    STATIC_REQUIRE(sizeof(holdfast::outbox<tcp::socket>) <= 64 + sizeof(holdfast::error_code));
}

TEST_CASE("what an acceptor adds to the coroutine of each session are two words")
{
    STATIC_REQUIRE(sizeof(holdfast::detail::report_failed_session) == 2 * sizeof(std::uint64_t));
}
