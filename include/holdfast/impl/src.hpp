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
#include <holdfast/impl/proxy_protocol.ipp>
#include <holdfast/impl/websocket_handshake.ipp>
#include <holdfast/process/impl/cgroup.ipp>
#include <holdfast/process/impl/limits.ipp>
#include <holdfast/process/impl/memory.ipp>

#include <holdfast/heartbeat_timer.hpp>

namespace holdfast {

template class detail::heartbeat_ticker<net::any_io_executor, std::chrono::steady_clock, heartbeat_options>;

} // namespace holdfast

#endif
