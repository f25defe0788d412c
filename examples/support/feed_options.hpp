// holdfast: what market_feed and naive_feed share: protocol, options, the document.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_FEED_OPTIONS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_FEED_OPTIONS_HPP

#include "command_line.hpp"
#include "listening.hpp"
#include "market.hpp"

#include <simdjson.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

// The protocol of both feeds. A client gets a snapshot: one quote a line, as JSON, or the JSON document and a newline.
// Then it gets the quotes that change, again as lines. All that it sends is a sign of life. When it has been silent for
// `ping_after`, it gets a line {"ping":N} and may answer "pong\n". When it has been silent for `timeout`, its
// connection ends.

namespace examples {

/// The options of a feed, with their defaults.
struct feed_options {
    std::string address = "127.0.0.1";
    std::uint16_t port = 7777;
    std::uint32_t max_connections = 12'000;
    std::uint32_t instruments = 20'000;
    std::uint32_t rate = 10; ///< instruments that change each second
    std::string document;    ///< a file; empty: the market's snapshot is served
    std::chrono::milliseconds timeout{30'000};
    std::chrono::milliseconds ping_after{10'000};
    byte_count chunk{16 * 1024};
    byte_count send_buffer{64 * 1024};
};

/// How often the market moves: each time by `feed_options::rate` changes.
inline constexpr std::chrono::seconds tick_period{1};

/// Adds the options to the command line. `options` must outlive its `parse`.
inline void add_options(command_line& cli, feed_options& options)
{
    cli.add("address", options.address, "IP", "the address to listen on");
    cli.add("port", options.port, "N", "the port to listen on; 0: one that the kernel chooses");
    cli.add("max-connections", options.max_connections, "N", "connections served at once");
    cli.add("instruments", options.instruments, "N", "instruments in the market");
    cli.add("rate", options.rate, "N", "instruments that change each second");
    cli.add("document", options.document, "FILE", "serve this JSON document instead of the market's snapshot");
    cli.add("timeout", options.timeout, "TIME", "a client that is silent for this time is disconnected");
    cli.add("ping-after", options.ping_after, "TIME", "a client that is silent for this time is sent a ping");
    cli.add("chunk", options.chunk, "BYTES", "the size of the chunks in which a snapshot is sent");
    cli.add("send-buffer", options.send_buffer, "BYTES", "the kernel's send buffer of each socket (SO_SNDBUF)");
}

/// Throws the `usage_error` for the first option whose value cannot be right.
inline void check(const feed_options& options)
{
    using namespace std::chrono_literals;
    if (options.max_connections == 0) command_line::fail("max-connections", "must be at least 1");
    if (options.instruments == 0 || options.instruments > market::max_instruments)
        command_line::fail("instruments", "must be 1 to " + std::to_string(market::max_instruments));
    if (options.rate > 1'000'000) command_line::fail("rate", "must be at most 1000000");
    if (options.timeout < 1s || options.timeout > 12h) command_line::fail("timeout", "must be 1s to 720m");
    if (options.ping_after <= 0s || options.ping_after >= options.timeout)
        command_line::fail("ping-after", "must be more than 0 and less than --timeout");
    if (options.chunk.value < 64 || options.chunk.value > (1u << 30)) command_line::fail("chunk", "must be 64 to 1G");
    if (options.send_buffer.value < 4096 || options.send_buffer.value > (1u << 30))
        command_line::fail("send-buffer", "must be 4k to 1G");
}

/// A JSON document in memory: `root` refers into what the parser owns.
struct json_document {
    std::unique_ptr<simdjson::dom::parser> parser = std::make_unique<simdjson::dom::parser>();
    simdjson::dom::element root;
};

/// Reads and parses a file. Throws a `usage_error` that names the file when it cannot be read or is not JSON.
inline json_document load_document(const std::string& path)
{
    json_document document;
    const simdjson::error_code error = document.parser->load(path).get(document.root);
    if (error == simdjson::IO_ERROR) throw usage_error("cannot read the document '" + path + "'");
    if (error != simdjson::SUCCESS)
        throw usage_error("the document '" + path + "' cannot be used: " + simdjson::error_message(error));
    return document;
}

/// Returns the most memory that `load_document` takes: the text, and simdjson's tape, strings and index of it.
inline std::uint64_t document_bytes(const std::string& path)
{
    std::error_code error;
    const auto text = path.empty() ? 0 : std::filesystem::file_size(path, error);
    return error ? 0 : 16 * text; // load_document reports the error
}

} // namespace examples

#endif
