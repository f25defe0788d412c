// holdfast: the option --tls CERT,KEY of the example servers: the same sessions over TCP or over TLS.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_TLS_OPTION_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_TLS_OPTION_HPP

#include "command_line.hpp"
#include "log.hpp"

#include <holdfast/adapters/tls_layer.hpp>
#include <holdfast/adapters/tls_memory.hpp>
#include <holdfast/asio.hpp>
#include <holdfast/process/capacity_plan.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// Adds `--tls` to a server, and serves sessions over TCP without it, over TLS with it.
///
///     examples::tls_option tls;
///     tls.add_to(cli);
///     if (!cli.parse(argc, argv)) return 0;
///     tls.load();
///     tls.serve(*acceptor, [&](auto peer) { return serve(std::move(peer), heartbeats); });
class tls_option {
public:
    void add_to(command_line& cli)
    {
        cli.add(
            "tls", files_, "CERT,KEY",
            "serve TLS by these PEM files, a certificate chain and its key, read again at SIGHUP; empty: plain TCP");
        cli.add("tls-compact", compact_, "with --tls: keep two keys for each connection instead of OpenSSL's objects");
    }

    /// Reads the files. Throws a `usage_error` that says which one cannot be used.
    void load()
    {
        if (files_.empty()) return;
        const std::size_t comma = files_.find(',');
        if (comma == files_.npos || comma == 0 || comma + 1 == files_.size())
            command_line::fail("tls", "takes two files, CERT,KEY, not '" + files_ + "'");
        try {
            context_ = holdfast::tls_context::server({.certificate_chain_file = files_.substr(0, comma),
                                                      .private_key_file = files_.substr(comma + 1),
                                                      .compact_records = compact_});
            memory_ = holdfast::measure_tls_memory(*context_).value_or(memory_);
        } catch (const holdfast::system_error& error) {
            throw usage_error(std::string("--tls: ") + error.what());
        }
    }

    /// The most memory of a connection: over TLS with the engine's own, measured here once, and a record in each
    /// direction that has not come or gone as a whole.
    [[nodiscard]] holdfast::connection_cost cost(holdfast::connection_cost plain) const
    {
        constexpr std::size_t record = 18 * 1024;
        if (context_) plain.tls_bytes = memory_.idle_bytes + 2 * record;
        return plain;
    }
    /// The memory of the server without connections: over TLS with that of all handshakes that are under way at once.
    [[nodiscard]] std::uint64_t fixed_bytes() const
    {
        const std::uint64_t plain = holdfast::capacity_budget{}.fixed_bytes;
        return context_ ? plain + holdfast::handshake_options{}.max_handshakes * memory_.handshake_bytes : plain;
    }

    [[nodiscard]] bool enabled() const noexcept { return context_.has_value(); }

    /// Serves until the acceptor is closed: calls `session` with each connection, whose type is that of the acceptor's,
    /// or with a `tls_stream` in its socket's place.
    template <class Acceptor, class Session>
    void serve(Acceptor& acceptor, Session session) const
    {
        if (context_)
            acceptor.async_serve(holdfast::tls(*context_), std::move(session), holdfast::net::detached);
        else
            acceptor.async_serve(std::move(session), holdfast::net::detached);
    }

    /// What SIGHUP does: reads the certificates again. Empty over TCP.
    [[nodiscard]] std::function<void()> reloader(std::string_view program)
    {
        if (!context_) return {};
        return [this, program] { reload(program); };
    }

private:
    /// Reads the files again, for handshakes that begin afterwards. Where that fails, logs it and keeps what is in use.
    void reload(std::string_view program) noexcept
    try {
        context_->reload();
        log_line(program, ": the certificate was read again");
    } catch (const std::exception& error) {
        log_line(program, ": the certificate in use stays: ", error.what());
    }

    std::string files_;
    bool compact_ = false;
    std::optional<holdfast::tls_context> context_;
    holdfast::tls_memory memory_{.idle_bytes = 20 * 1024, .handshake_bytes = 96 * 1024}; // where it cannot be measured
};

/// Reads what has come, without waiting: `would_block` where that is nothing. A plain socket must be in non-blocking
/// mode (`lowest_layer().non_blocking(true)`).
template <class Stream>
std::size_t try_read_some(Stream& stream, const holdfast::net::mutable_buffer& buffer, holdfast::error_code& ec)
{
    if constexpr (requires { stream.try_read_some(buffer, ec); })
        return stream.try_read_some(buffer, ec);
    else
        return stream.read_some(buffer, ec);
}

} // namespace examples

#endif
