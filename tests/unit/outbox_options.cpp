// holdfast: tests of outbox_options: their ranges, and the memory that they allow.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/sockets.hpp"

#include <holdfast/outbox.hpp>
#include <holdfast/outbox_options.hpp>

#include <cstdint>
#include <stdexcept>

using holdfast::outbox_options;
using holdfast::worst_case_bytes;
namespace net = holdfast::net;

TEST_CASE("an outbox refuses options out of their range, and takes their limits")
{
    net::io_context io;
    auto pair = tests::socket_pair(io);
    const auto accepts = [&](const outbox_options& options) {
        const holdfast::outbox box(pair.first, options);
        return box.is_open();
    };
    CHECK(accepts({.chunk_bytes = 1}));
    CHECK(accepts({.chunk_bytes = std::uint32_t{1} << 30}));
    CHECK_THROWS_AS(accepts({.chunk_bytes = 0}), std::invalid_argument);
    CHECK_THROWS_AS(accepts({.chunk_bytes = (std::uint32_t{1} << 30) + 1}), std::invalid_argument);
    CHECK(accepts({.notsent_lowat_bytes = 0}));
    CHECK_THROWS_AS(accepts({.notsent_lowat_bytes = -1}), std::invalid_argument);
    CHECK_THROWS_AS(accepts({.on_overflow = static_cast<holdfast::overflow_policy>(3)}), std::invalid_argument);
}

TEST_CASE("the most memory grows with what is allowed, and saturates where nothing bounds it")
{
    const outbox_options usual;
    static_assert(worst_case_bytes(outbox_options{}) > outbox_options{}.high_watermark);
    CHECK(worst_case_bytes(usual, 1000) < worst_case_bytes(usual, 1)); // fewer messages have fewer places
    CHECK(worst_case_bytes(usual, 0) == worst_case_bytes(usual, 1));
    CHECK(worst_case_bytes(usual, 1, true) + usual.chunk_bytes == worst_case_bytes(usual, 1));
    CHECK(worst_case_bytes({.high_watermark = usual.high_watermark * 2}) > worst_case_bytes(usual));
    CHECK(worst_case_bytes({.high_watermark = SIZE_MAX}) == SIZE_MAX);
}
