// holdfast: progress, the callback by which reads and writes report that a peer is alive.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_PROGRESS_HPP
#define HOLDFAST_PROGRESS_HPP

#include <holdfast/version.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>

namespace holdfast {

/// Refers to the object that is notified of progress: one with `touch()`, such as a `heartbeat`, or a
/// noexcept callable that takes the number of bytes. A default-constructed `progress` notifies nothing.
///
/// What counts as progress, in every operation that has this option:
/// - Received bytes count, when they arrive.
/// - Sent bytes count when the peer's TCP has acknowledged them, and only while a message is in flight: part
///   of it has been sent, and the rest waits in the process or in the kernel. So a slow reader that takes a
///   little at a time is alive, and a peer that is hung or unreachable is not, although its kernel, or this
///   one, takes small messages for a long time.
/// - Control messages (`outbox::push_control`) never count: a peer shows that it is alive by its answer to a ping.
/// - A stream that is not carried by TCP has no acknowledgements. There, the bytes of a message in flight count when
///   the stream takes them.
///
/// Acknowledgements are checked when a write completes, and in `outbox::tick()`. A large send buffer makes completions
/// rare: `outbox_options::notsent_lowat_bytes` keeps them frequent.
///
/// Lifetime: the object must outlive the operation. It must not end or destroy what notifies it (the connection, the
/// outbox); it may post that.
/// Thread safety: the object is notified on the executor of the operation's stream.
/// Cost: two pointers; one indirect call for each completed read or write.
///
///     holdfast::outbox outbox{peer, {.progress = heartbeat}};
class progress {
public:
    /// Notifies nothing.
    constexpr progress() noexcept = default;

    /// Calls `object.touch()`. Implicit, so that `{.progress = heartbeat}` can be written.
    template <class T>
        requires requires(T& object) { object.touch(); }
    constexpr progress(T& object) noexcept
        : object_(std::addressof(object)), call_([](void* o, std::size_t) noexcept { static_cast<T*>(o)->touch(); })
    {
    }

    /// Calls `function(bytes)`.
    template <class F>
        requires std::is_nothrow_invocable_v<F&, std::size_t>
    constexpr progress(F& function) noexcept
        : object_(std::addressof(function)),
          call_([](void* o, std::size_t bytes) noexcept { (*static_cast<F*>(o))(bytes); })
    {
    }

    /// Notifies the object of `bytes` received or acknowledged bytes. Has no effect without an object.
    void operator()(std::size_t bytes) const noexcept
    {
        if (call_ != nullptr) call_(object_, bytes);
    }

    /// Whether there is an object to notify.
    explicit constexpr operator bool() const noexcept { return call_ != nullptr; }

private:
    void* object_ = nullptr;
    void (*call_)(void*, std::size_t) noexcept = nullptr;
};

} // namespace holdfast

#endif
