// holdfast: the engine of a push_gateway: its own, or that of many nodes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_ENGINE_OPTION_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_ENGINE_OPTION_HPP

#include "gateway_options.hpp"
#include "local_engine.hpp"
#include "message_engine.hpp"

#ifdef EXAMPLES_WITH_REDIS // set where hiredis was found
#include "redis_stream.hpp"
#endif
#ifdef EXAMPLES_WITH_NATS // set where libnats was found
#include "nats_stream.hpp"
#endif

#include <holdfast/asio.hpp>
#include <holdfast/replay_ring.hpp>

#include <memory>

namespace examples {

/// Makes the engine that `--redis` or `--nats` names, else one of the node's own, which continues after `last`. Throws a
/// `usage_error` where the program was built without it.
inline std::unique_ptr<message_engine> make_engine([[maybe_unused]] const holdfast::net::any_io_executor& executor,
                                                   const gateway_options& options,
                                                   const holdfast::replay_position& last)
{
    if (!options.nats.empty()) {
#ifdef EXAMPLES_WITH_NATS
        return std::make_unique<nats_stream>(executor,
                                             nats_stream::settings{.url = options.nats, .name = options.topic});
#else
        command_line::fail("nats",
                           "this program was built without libnats (Debian: libnats-dev); build it again with it");
#endif
    }
    if (!options.redis.empty()) {
#ifdef EXAMPLES_WITH_REDIS
        const auto colon = options.redis.rfind(':');
        return std::make_unique<redis_stream>(executor, redis_stream::settings{.host = options.redis.substr(0, colon),
                                                                               .port = options.redis_port(),
                                                                               .key = options.topic});
#else
        command_line::fail("redis",
                           "this program was built without hiredis (Debian: libhiredis-dev); build it again with it");
#endif
    }
    return std::make_unique<local_engine>(last);
}

} // namespace examples

#endif
