// holdfast: the encrypted side of a TLS stream: bytes received and not yet consumed, bytes sealed and not yet sent.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_TLS_TRANSPORT_HPP
#define HOLDFAST_ADAPTERS_DETAIL_TLS_TRANSPORT_HPP

#include <holdfast/detail/connection/tcp_state.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast::detail {

/// The limits of a record (RFC 8446, 5.1 and 5.2; RFC 5246, 6.2.3).
inline constexpr std::size_t tls_header_bytes = 5;
inline constexpr std::size_t tls_max_plaintext = 16 * 1024;
inline constexpr std::size_t tls_max_record = tls_header_bytes + tls_max_plaintext + 2048;

/// Bytes on the heap that wait for the other side, consumed from the front. One word while there are none.
class tls_bytes {
public:
    tls_bytes() noexcept = default;
    tls_bytes(tls_bytes&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    tls_bytes& operator=(tls_bytes&& other) noexcept
    {
        if (this != &other) {
            clear();
            block_ = std::exchange(other.block_, nullptr);
        }
        return *this;
    }
    ~tls_bytes() { clear(); }

    [[nodiscard]] std::size_t size() const noexcept { return block_ == nullptr ? 0 : block_->end - block_->begin; }
    [[nodiscard]] char* data() const noexcept { return block_ == nullptr ? nullptr : text(block_) + block_->begin; }

    /// Appends; false where there is no memory.
    bool append(const char* from, std::size_t n) noexcept
    {
        if (n == 0) return true;
        if (block_ == nullptr || n > block_->capacity - block_->end) {
            const std::size_t kept = size();
            void* const memory = ::operator new(sizeof(block) + kept + n, std::nothrow);
            if (memory == nullptr) return false;
            auto* const grown =
                ::new (memory) block{0, static_cast<std::uint32_t>(kept), static_cast<std::uint32_t>(kept + n)};
            if (kept != 0) std::memcpy(text(grown), data(), kept);
            clear();
            block_ = grown;
        }
        std::memcpy(text(block_) + block_->end, from, n);
        block_->end += static_cast<std::uint32_t>(n);
        return true;
    }

    void consume(std::size_t n) noexcept
    {
        if (n == size())
            clear();
        else
            block_->begin += static_cast<std::uint32_t>(n);
    }

    void clear() noexcept
    {
        ::operator delete(block_);
        block_ = nullptr;
    }

private:
    struct block {
        std::uint32_t begin, end, capacity;
    };
    static char* text(block* b) noexcept { return reinterpret_cast<char*>(b + 1); }

    block* block_ = nullptr;
};

/// What a connection keeps of its encrypted side between two calls: nothing while it is idle.
struct tls_transport_state {
    tls_bytes received;              ///< read from the socket, not yet consumed by the engine
    tls_bytes unsent;                ///< sealed, and refused by the socket's full buffer
    std::uint16_t read_failure = 0;  ///< errno of the first read that failed
    std::uint16_t write_failure = 0; ///< errno of the first write that failed: bytes received before can still be read
    bool drained : 1 = false;        ///< the last read took all that the socket had
    bool ended : 1 = false;          ///< the TCP stream has ended
    bool ended_here : 1 = false;     ///< by this side's shutdown of its reading, as a drain does
    bool flooded : 1 = false;        ///< the peer has sent too many records without data
};

/// The encrypted side during one call of the engine: reads the socket in large steps and gathers what is sent
/// into one system call, in buffers on the stack, so that an idle connection has none.
class tls_transport {
public:
    tls_transport(int descriptor, tls_transport_state& state) noexcept : descriptor_(descriptor), state_(state) {}
    tls_transport(const tls_transport&) = delete;

    /// Keeps what was received and not consumed, and sends what was gathered.
    ~tls_transport()
    {
        if (next_ != end_ && !state_.received.append(in_ + next_, end_ - next_)) state_.read_failure = ENOMEM;
        flush();
    }

    [[nodiscard]] tls_transport_state& state() noexcept { return state_; }

    /// The bytes at hand, in one piece.
    [[nodiscard]] std::span<char> available() noexcept
    {
        if (state_.received.size() != 0) return {state_.received.data(), state_.received.size()};
        return {in_ + next_, end_ - next_};
    }

    void consume(std::size_t n) noexcept
    {
        if (state_.received.size() != 0)
            state_.received.consume(n);
        else
            next_ += n;
    }

    /// Reads more from the socket, after what is at hand. False where it has none, has ended, or failed.
    bool receive() noexcept
    {
        if (state_.drained || state_.ended || state_.read_failure != 0) return false;
        if (const std::size_t kept = state_.received.size(); kept != 0) {
            if (kept >= sizeof in_) return false;
            std::memcpy(in_, state_.received.data(), kept);
            state_.received.clear();
            next_ = 0;
            end_ = kept;
        } else if (next_ == end_) {
            next_ = end_ = 0;
        } else if (end_ == sizeof in_) {
            std::memmove(in_, in_ + next_, end_ - next_);
            end_ -= next_;
            next_ = 0;
        }
        const std::size_t room = sizeof in_ - end_;
        if (room == 0) return false;
        ::ssize_t got;
        do
            got = ::recv(descriptor_, in_ + end_, room, MSG_DONTWAIT);
        while (got < 0 && errno == EINTR);
        if (got > 0) {
            end_ += static_cast<std::size_t>(got);
            state_.drained = static_cast<std::size_t>(got) != room;
            return true;
        }
        if (got == 0) {
            state_.ended = true;
            state_.ended_here = !detail::peer_has_ended(descriptor_);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            state_.drained = true;
        } else {
            state_.read_failure = static_cast<std::uint16_t>(errno);
        }
        return false;
    }

    /// Whether the engine may seal more now: what is unsent is bounded.
    [[nodiscard]] bool accepts_output() const noexcept { return state_.unsent.size() < max_unsent; }

    /// Room for a record of up to `n` bytes, to be sent by `sealed()`.
    std::span<char> output(std::size_t n) noexcept
    {
        if (n > sizeof out_ - gathered_) flush();
        return {out_ + gathered_, sizeof out_ - gathered_};
    }
    void sealed(std::size_t n) noexcept { gathered_ += n; }

    /// Takes `n` bytes to be sent.
    void send(const char* from, std::size_t n) noexcept
    {
        while (n != 0) {
            const std::span<char> room = output(std::min(n, sizeof out_));
            const std::size_t part = std::min(n, room.size());
            std::memcpy(room.data(), from, part);
            sealed(part);
            from += part;
            n -= part;
        }
    }

    /// Hands everything that was gathered to the socket; what its full buffer refuses is kept. True when
    /// nothing is left to be sent, or nothing can be sent any more.
    bool flush() noexcept
    {
        if (state_.unsent.size() != 0) state_.unsent.consume(push(state_.unsent.data(), state_.unsent.size()));
        if (gathered_ != 0) {
            const std::size_t sent = state_.unsent.size() == 0 ? push(out_, gathered_) : 0;
            if (!state_.unsent.append(out_ + sent, gathered_ - sent)) state_.write_failure = ENOMEM;
            gathered_ = 0;
        }
        if (state_.write_failure != 0) state_.unsent.clear();
        return state_.unsent.size() == 0;
    }

private:
    static constexpr std::size_t max_unsent = 64 * 1024;

    std::size_t push(const char* from, std::size_t n) noexcept
    {
        std::size_t sent = 0;
        while (sent != n && state_.write_failure == 0) {
            const ::ssize_t took = ::send(descriptor_, from + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (took >= 0)
                sent += static_cast<std::size_t>(took);
            else if (errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            else if (errno != EINTR)
                state_.write_failure = static_cast<std::uint16_t>(errno);
        }
        return sent;
    }

    const int descriptor_;
    tls_transport_state& state_;
    std::size_t next_ = 0, end_ = 0; // of in_
    std::size_t gathered_ = 0;       // of out_
    char in_[2 * tls_max_record];    // not initialized: only what was received is read
    char out_[2 * tls_max_record];
};

} // namespace holdfast::detail

#endif
