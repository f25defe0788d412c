// holdfast: is what measure_tls_memory says what connections over TLS take of the heap?
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/tls_server.hpp"

#include <holdfast/adapters/tls_memory.hpp>
#include <holdfast/process/capacity_plan.hpp>

#include <memory>
#include <vector>

namespace {

/// How much of the heap each of fifty connections takes, after its handshake and a message each way.
std::size_t bytes_per_connection(const tests::tls_variant& v)
{
    std::vector<std::unique_ptr<tests::tls_server>> all;
    std::size_t before = 0;
    for (int i = 0; i != 60; ++i) {
        if (i == 10) before = holdfast::detail::heap_in_use().value();
        auto one = std::make_unique<tests::tls_server>(v);
        one->handshake();
        one->read(1);
        one->client->send(one->client->seal("x"));
        one->await_read();
        one->write("y");
        one->client.reset();
        all.push_back(std::move(one));
    }
    return (holdfast::detail::heap_in_use().value() - before) / 50;
}

/// The same for what a fixture without TLS takes: its context, files and sockets.
std::size_t bytes_beside(const tests::tls_variant& v)
{
    std::vector<std::unique_ptr<tests::tls_server>> all;
    std::size_t before = 0;
    for (int i = 0; i != 60; ++i) {
        if (i == 10) before = holdfast::detail::heap_in_use().value();
        auto one = std::make_unique<tests::tls_server>(v);
        one->client.reset();
        one->server.reset();
        all.push_back(std::move(one));
    }
    return (holdfast::detail::heap_in_use().value() - before) / 50;
}

} // namespace

TEST_CASE("the measured memory of TLS is that of real connections, and more in the handshake", "[tls]")
{
    const bool compact = GENERATE(false, true);
    const tests::certificate files;
    const auto context = holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                                        .private_key_file = files.key_file(),
                                                        .compact_records = compact});
    const auto measured = holdfast::measure_tls_memory(context);
    REQUIRE(measured);
    INFO("idle " << measured->idle_bytes << ", in the handshake " << measured->handshake_bytes);
    const tests::tls_variant v{"", compact};
    const std::size_t real = bytes_per_connection(v) - bytes_beside(v);
    INFO("real " << real);
    CHECK(measured->idle_bytes < real + real / 4);
    CHECK(real < measured->idle_bytes + measured->idle_bytes / 4 + 1500); // the stream's block and socket are in it
    CHECK(measured->handshake_bytes > 10'000);
    CHECK(measured->handshake_bytes >= measured->idle_bytes);
    CHECK((measured->idle_bytes < 1000) == compact);

    const holdfast::capacity_plan plan(
        {.tls_bytes = measured->idle_bytes, .handshake_bytes = measured->handshake_bytes},
        {.memory_bytes = 2'000'000'000, .handshakes = 32});
    const holdfast::capacity_plan plain({}, {.memory_bytes = 2'000'000'000});
    CHECK(plan.user_bytes_at(1000) ==
          plain.user_bytes_at(1000) + 1000 * measured->idle_bytes + 32 * measured->handshake_bytes);
    CHECK(plan.max_connections() < plain.max_connections());
}
