// holdfast: what an operation needs of the object that it writes to, a stream or a guard of one.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_OUTBOX_STREAM_ACCESS_HPP
#define HOLDFAST_DETAIL_OUTBOX_STREAM_ACCESS_HPP

#include <holdfast/asio.hpp>
#include <holdfast/detail/connection/lowest_layer.hpp>
#include <holdfast/detail/connection/stream_holder.hpp>

#include <concepts>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

/// The stream of a guard, else the object itself.
template <class To>
auto& stream_of(To& to) noexcept
{
    if constexpr (requires { to.stream(); })
        return to.stream();
    else
        return to;
}

template <class To>
using stream_of_t = std::remove_reference_t<decltype(detail::stream_of(std::declval<To&>()))>;

/// What can be written to: it has an executor, and so has its stream.
template <class To>
concept writable = requires(stream_of_t<To>& stream) {
    typename stream_of_t<To>::executor_type;
    stream.get_executor();
};

/// Whether `to` is a guard that has ended, and its stream may still be in use: by async_close, which shares it. (Any
/// other stream of such a guard refuses operations itself.)
template <class To>
bool has_ended([[maybe_unused]] To& to) noexcept
{
    if constexpr (requires {
                      to.stream();
                      to.is_open();
                  } && !operations_outlive<stream_of_t<To>>)
        return !to.is_open();
    else
        return false;
}

struct keeps_nothing {};

/// What keeps the memory of a guard's stream while an operation is pending; nothing for a stream itself.
template <class To>
auto keep_stream(To& to) noexcept
{
    if constexpr (requires { to.keep_stream(); })
        return to.keep_stream();
    else
        return keeps_nothing{};
}

/// What keeps the memory of a guard's stream, whatever its type.
class stream_keeper {
public:
    stream_keeper() noexcept = default;
    stream_keeper(const stream_keeper&) = delete;
    ~stream_keeper()
    {
        if (destroy_ != nullptr) destroy_(memory_);
    }

    /// Precondition: it keeps nothing.
    template <class To>
    void keep(To& to) noexcept
    {
        using keeper = decltype(detail::keep_stream(to));
        if constexpr (!std::is_empty_v<keeper>) {
            static_assert(sizeof(keeper) <= sizeof memory_ && alignof(keeper) <= alignof(void*));
            ::new (static_cast<void*>(memory_)) keeper(detail::keep_stream(to));
            destroy_ = [](void* object) noexcept { static_cast<keeper*>(object)->~keeper(); };
        }
    }

private:
    alignas(void*) std::byte memory_[2 * sizeof(void*)];
    void (*destroy_)(void*) noexcept = nullptr;
};

/// Notes an error of an operation on the guard, if `to` is one.
template <class To>
void note_error(To& to, const error_code& ec) noexcept
{
    if constexpr (requires { to.note(ec); })
        to.note(ec);
    else
        static_cast<void>(to), static_cast<void>(ec);
}

/// The descriptor below the stream; -1 where there is none.
template <class Stream>
int descriptor_of(Stream& stream) noexcept
{
    if constexpr (requires {
                      { detail::lowest_layer(stream).native_handle() } -> std::convertible_to<int>;
                  })
        return detail::lowest_layer(stream).native_handle();
    else
        return static_cast<void>(stream), -1;
}

} // namespace holdfast::detail

#endif
