// holdfast: one function that uses each part, for the translation units that include every header.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_EVERYTHING_HPP
#define HOLDFAST_TESTS_SUPPORT_EVERYTHING_HPP

#include <holdfast/holdfast.hpp>

inline int use_everything()
{
    namespace net = holdfast::net;
    net::io_context io;
    holdfast::heartbeat_timer<> heartbeats{io.get_executor()};
    holdfast::async_semaphore semaphore{io.get_executor(), 1};
    holdfast::bounded_acceptor<net::ip::tcp> acceptor{io.get_executor(), {net::ip::address_v4::loopback(), 0}};
    holdfast::connection_guard<> guard{net::ip::tcp::socket(io)};
    holdfast::frame_reader<net::ip::tcp::socket> reader{guard.stream()};
    holdfast::outbox<net::ip::tcp::socket> box{guard};
    const bool sound = box.is_open() && semaphore.try_acquire() && acceptor.census().live() == 0 &&
                       heartbeats.watched() == 0 && guard.is_open();
    return sound && holdfast::serialize_to_string<holdfast::json>(42) == "42" ? 0 : 1;
}

#endif
