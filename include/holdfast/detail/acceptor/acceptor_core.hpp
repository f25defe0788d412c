// holdfast: what of an acceptor depends on the type of its connections. The header of bounded_acceptor includes it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP
#define HOLDFAST_DETAIL_ACCEPTOR_ACCEPTOR_CORE_HPP

#include <holdfast/bounded_acceptor.hpp>
#include <holdfast/detail/acceptor/accept_loop.hpp>
#include <holdfast/detail/acceptor/listening_socket.hpp>
#include <holdfast/detail/acceptor/session_starter.hpp>
#include <holdfast/detail/connection/registry.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include <sys/socket.h>

namespace holdfast {

/// The loop, with the operations and the connections of one acceptor.
template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core final : public detail::accept_loop {
public:
    using stream_type = typename connection_type::stream_type;

    core(const Executor& ex, acceptor_options options, Finalizer f, std::source_location where)
        : detail::accept_loop(ex, std::move(options), std::is_same_v<Protocol, net::ip::tcp>, is_type_erased),
          finalizer(std::move(f)),
          executor_(ex),
          origin_(where)
    {
    }

    ~core() override { this->unhook(); }

    void listen(const endpoint_type& at)
    {
        const auto protocol = at.protocol();
        open(protocol.family(), protocol.type(), protocol.protocol(), at.data(), static_cast<::socklen_t>(at.size()));
        endpoint = local_endpoint(io_->listener.native_handle());
    }

    void adopt(const Protocol& protocol, native_handle_type descriptor)
    {
        endpoint = local_endpoint(descriptor);
        take_over(protocol.family(), descriptor);
    }

    class accept_operation;
    class serve_operation;

    /// Until the end of its context.
    [[nodiscard]] const Executor& executor() const noexcept { return *executor_; }

    const Finalizer finalizer;
    endpoint_type endpoint;

private:
    using session_starter = detail::session_starter<connection_type>;
    using pending_accept = detail::pending_accept;

    static constexpr bool is_type_erased = std::is_same_v<Executor, net::any_io_executor>;

    static endpoint_type local_endpoint(int listener)
    {
        endpoint_type local;
        auto size = static_cast<::socklen_t>(local.capacity());
        if (::getsockname(listener, local.data(), &size) != 0) detail::throw_last_error("the listener has no address");
        local.resize(size);
        return local;
    }

    detail::accept_event admit() override
    {
        const connection_placement where = placement();
        detail::address_place address = std::move(address_);
        detail::unique_descriptor descriptor = std::move(accepted_);
        stream_type socket(executor_of(where));
        error_code ec;
        socket.assign(endpoint.protocol(), descriptor.get(), ec);
        if (ec) return {detail::accept_occurrence::shortage, ec};
        const int number = descriptor.release();
        if (!all_inherit_) (void)configure(number); // a peer that has left shows at the first read
        Finalizer its_own = finalizer;              // before it has a place: it may fail
        if constexpr (requires { its_own.set_shard(where.shard); }) its_own.set_shard(where.shard);
        const auto place =
            members->enter(number, permit_, is_ip_ ? peer_address(remote_) : peer_address::of_socket(number));
        connection_type peer(std::move(socket),
                             detail::admission<Finalizer>(std::move(its_own), *members, place, address.take_over()),
                             origin_);
        hand_over(std::move(peer), place, where.shard);
        return {detail::accept_occurrence::admitted};
    }

    /// To the operation that has waited longest. One that was cancelled meanwhile leaves the connection to the next.
    void hand_over(connection_type&& peer, detail::registry::index place, std::size_t shard) noexcept
    {
        std::shared_ptr<session_starter> starter;
        {
            std::optional<connection_type> dropped;
            const std::lock_guard lock(mutex_);
            if (draining_) members->notify(place, 1);
            if (queue_.empty()) {
                (closed_ ? dropped : late_peer_).emplace(std::move(peer));
                late_ = late_peer_.has_value();
                late_shard_ = shard;
                return;
            }
            pending_accept& first = queue_.front();
            if (first.what == pending_accept::kind::accept) return deliver(first, std::move(peer));
            starter = starter_of(first);
            first.unlink();
            queue_.push_back(first);
        }
        start_session(starter, std::move(peer), shard);
    }

    /// Under the mutex.
    void deliver(pending_accept& operation, connection_type&& peer) noexcept
    {
        remove(operation);
        static_cast<accept_operation&>(operation).accepted.emplace(std::move(peer));
        operation.wake();
    }

    void deliver_late(pending_accept& operation) noexcept override
    {
        late_ = false;
        deliver(operation, std::move(*late_peer_));
        late_peer_.reset();
    }

    void discard_late() noexcept override
    {
        std::optional<connection_type> dropped;
        const std::lock_guard lock(mutex_);
        late_ = false;
        std::swap(dropped, late_peer_);
    }

    void start_late() noexcept override
    {
        std::optional<connection_type> peer;
        std::shared_ptr<session_starter> starter;
        {
            const std::lock_guard lock(mutex_);
            if (!late_ || queue_.empty()) return;
            late_ = false;
            std::swap(peer, late_peer_);
            starter = starter_of(queue_.front()); // another operation would have taken it
        }
        start_session(starter, std::move(*peer), late_shard_);
    }

    void start_session(const std::shared_ptr<session_starter>& starter, connection_type&& peer,
                       std::size_t shard) noexcept
    {
        const auto remote = remote_;
        try {
            starter->start(reporter, std::move(peer), shard, remote);
        } catch (...) {
            report({acceptor_event::kind::session_failed, {}, std::current_exception(), {}, 1, remote});
        }
    }

    /// No copy of a strand may outlive its context.
    void context_ends() noexcept override
    {
        const auto keep = this->weak_from_this().lock(); // the user may destroy the acceptor in a finalizer
        detail::accept_loop::context_ends();
        if constexpr (requires(const Executor& strand) { strand.get_inner_executor(); })
            executor_.reset();
        else if constexpr (std::is_constructible_v<Executor, std::nullptr_t>) // it may hold a strand
            executor_.emplace(nullptr);
        if (!options_.next_executor) discard_late();
    }

    connection_placement placement() const
    {
        if constexpr (is_type_erased)
            if (options_.next_executor) return options_.next_executor();
        return {net::any_io_executor(), 0};
    }

    Executor executor_of(const connection_placement& where) const
    {
        if constexpr (is_type_erased)
            if (options_.next_executor) return where.executor;
        return executor();
    }

    static const std::shared_ptr<session_starter>& starter_of(pending_accept& operation) noexcept
    {
        return static_cast<serve_operation&>(operation).starter;
    }

    std::optional<Executor> executor_;
    std::optional<connection_type> late_peer_; // all operations were cancelled while it was admitted
    std::size_t late_shard_ = 0;
    const std::source_location origin_; // what leak_check names for the connections
};

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::accept_operation : public detail::pending_accept {
public:
    accept_operation(const net::any_io_executor& ex, std::shared_ptr<core> c)
        : pending_accept(ex, std::move(c), kind::accept)
    {
    }

    std::tuple<error_code, connection_type> results()
    {
        if (accepted) return {error_code(), std::move(*accepted)};
        const auto& c = static_cast<const core&>(*queue_);
        return {error, connection_type(c.executor(), c.finalizer)};
    }

    std::optional<connection_type> accepted;

protected:
    ~accept_operation() { leave(); }
};

template <class Protocol, connection_finalizer Finalizer, class Executor>
class bounded_acceptor<Protocol, Finalizer, Executor>::core::serve_operation : public detail::pending_accept {
public:
    serve_operation(const net::any_io_executor& ex, std::shared_ptr<core> c, std::shared_ptr<session_starter> s)
        : pending_accept(ex, std::move(c), kind::serve), starter(std::move(s))
    {
    }

    std::tuple<error_code> results() const noexcept { return {error == errc::acceptor_closed ? error_code() : error}; }

    const std::shared_ptr<session_starter> starter;

protected:
    ~serve_operation() { leave(); }
};

} // namespace holdfast

#endif
