// holdfast: everything that a server needs and that needs no other library than Asio. The adapters, the parts of a
// whole program in server/, and leak_check, which is for tests, are included by themselves.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_HOLDFAST_HPP
#define HOLDFAST_HOLDFAST_HPP

#include <holdfast/acceptor_event.hpp>
#include <holdfast/acceptor_options.hpp>
#include <holdfast/admitted_connection.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/async_event.hpp>
#include <holdfast/async_semaphore.hpp>
#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/bounded_spawner.hpp>
#include <holdfast/buffer_pool.hpp>
#include <holdfast/census.hpp>
#include <holdfast/connection_end.hpp>
#include <holdfast/connection_guard.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_deadline.hpp>
#include <holdfast/frame_reader.hpp>
#include <holdfast/framing.hpp>
#include <holdfast/heartbeat_counters.hpp>
#include <holdfast/heartbeat_profile.hpp>
#include <holdfast/heartbeat_timer.hpp>
#include <holdfast/http/event_stream.hpp>
#include <holdfast/http/exchange.hpp>
#include <holdfast/http/request_head.hpp>
#include <holdfast/ip_network.hpp>
#include <holdfast/keepalive.hpp>
#include <holdfast/key_limits.hpp>
#include <holdfast/outbox.hpp>
#include <holdfast/outbox_group.hpp>
#include <holdfast/outbox_options.hpp>
#include <holdfast/payload.hpp>
#include <holdfast/peer_address.hpp>
#include <holdfast/process/capacity_plan.hpp>
#include <holdfast/process/cgroup.hpp>
#include <holdfast/process/limits.hpp>
#include <holdfast/process/memory.hpp>
#include <holdfast/progress.hpp>
#include <holdfast/proxy_protocol.hpp>
#include <holdfast/read_rate.hpp>
#include <holdfast/read_rate_limit.hpp>
#include <holdfast/replay_ring.hpp>
#include <holdfast/replay_topic.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/formatted.hpp>
#include <holdfast/serialize/framed.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/ndjson_converter.hpp>
#include <holdfast/serialize/protobuf.hpp>
#include <holdfast/serialize/streaming_serializer.hpp>
#include <holdfast/serialize/values.hpp>
#include <holdfast/serialized_payload.hpp>
#include <holdfast/shard_topic.hpp>
#include <holdfast/shards.hpp>
#include <holdfast/testing/manual_clock.hpp>
#include <holdfast/version.hpp>
#include <holdfast/websocket.hpp>
#include <holdfast/websocket_compression.hpp>
#include <holdfast/websocket_error.hpp>
#include <holdfast/websocket_frame.hpp>
#include <holdfast/websocket_group.hpp>
#include <holdfast/websocket_handshake.hpp>
#include <holdfast/write_streamed.hpp>

#endif
