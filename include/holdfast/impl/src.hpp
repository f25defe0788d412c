// holdfast: the bodies that are no templates, for the one source file that includes this header where all files of a
// program are compiled with HOLDFAST_SEPARATE_COMPILATION defined.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_IMPL_SRC_HPP
#define HOLDFAST_IMPL_SRC_HPP

#if !defined(HOLDFAST_SEPARATE_COMPILATION)
#error "holdfast/impl/src.hpp requires HOLDFAST_SEPARATE_COMPILATION in every file of the program"
#endif

#include <holdfast/detail/acceptor/impl/accept_loop.ipp>
#include <holdfast/detail/acceptor/impl/accept_machine.ipp>
#include <holdfast/detail/acceptor/impl/accept_queue.ipp>
#include <holdfast/detail/acceptor/impl/acceptor_settings.ipp>
#include <holdfast/detail/acceptor/impl/drain_operation.ipp>
#include <holdfast/detail/acceptor/impl/proxy_reading.ipp>
#include <holdfast/detail/acceptor/impl/timed_steps.ipp>
#include <holdfast/detail/buffer/impl/block_slabs.ipp>
#include <holdfast/detail/connection/impl/address_table.ipp>
#include <holdfast/detail/connection/impl/close_machine.ipp>
#include <holdfast/detail/connection/impl/registry.ipp>
#include <holdfast/detail/heartbeat/impl/heartbeat_core.ipp>
#include <holdfast/detail/heartbeat/impl/heartbeat_table.ipp>
#include <holdfast/detail/outbox/impl/write_delay.ipp>
#include <holdfast/detail/process/impl/cgroup_files.ipp>
#include <holdfast/detail/process/impl/proc_file.ipp>
#include <holdfast/detail/shards/impl/topic_core.ipp>
#include <holdfast/detail/websocket/impl/sha1.ipp>
#include <holdfast/http/impl/exchange.ipp>
#include <holdfast/impl/census.ipp>
#include <holdfast/impl/connection_end.ipp>
#include <holdfast/impl/error.ipp>
#include <holdfast/impl/key_limits.ipp>
#include <holdfast/impl/peer_address.ipp>
#include <holdfast/impl/proxy_protocol.ipp>
#include <holdfast/impl/websocket_handshake.ipp>
#include <holdfast/process/impl/cgroup.ipp>
#include <holdfast/process/impl/limits.ipp>
#include <holdfast/process/impl/memory.ipp>

#include <holdfast/buffer_pool.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>
#include <holdfast/detail/async/context_shutdown.hpp>
#include <holdfast/detail/async/event_core.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/serialize/json/string.hpp>

namespace holdfast {

template class basic_permit<detail::synchronized>;
template class detail::semaphore_waiter<detail::synchronized>;
template class detail::semaphore_core<detail::synchronized>;
template class detail::event_waiter<detail::synchronized>;
template class detail::event_core<detail::synchronized>;
template void detail::expect_context_shutdown(const net::any_io_executor&) noexcept;
template bool detail::context_is_ending(const net::any_io_executor&) noexcept;

template class detail::pool_core<detail::synchronized>;
template class basic_buffer_pool<detail::synchronized>;
template class basic_buffer_loan<detail::synchronized>;
template void shared_buffer_pool::wait_for_buffer(std::size_t, detail::usual_resumed_read);
template void detail::execute_later(const net::any_io_executor&, detail::usual_resumed_read&&);
template void detail::queue_wait(const detail::counted_ptr<detail::event_core<detail::synchronized>>&,
                                 const net::any_io_executor&, detail::usual_resumed_read);
template class detail::borrowed_buffer<shared_buffer_pool, detail::frame_bytes<shared_buffer_loan>>;
template class detail::frame_buffer<shared_buffer_pool>;
template std::optional<std::string_view> detail::frame_buffer<shared_buffer_pool>::take(const framing::line&,
                                                                                        std::error_code&) noexcept;

template void detail::spawn_session(const net::any_io_executor&, net::awaitable<void>, detail::report_failed_session);

template char* detail::write_body<false>(char*, char*, const char*&, const char*, utf8_policy, errc&) noexcept;
template char* detail::write_body<true>(char*, char*, const char*&, const char*, utf8_policy, errc&) noexcept;

template class detail::heartbeat_ticker<net::any_io_executor, std::chrono::steady_clock, heartbeat_options>;
template class heartbeat_timer<net::any_io_executor, std::chrono::steady_clock>;

} // namespace holdfast

#endif
