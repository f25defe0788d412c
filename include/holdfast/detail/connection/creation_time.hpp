// holdfast: when a guard took over its stream.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_CONNECTION_CREATION_TIME_HPP
#define HOLDFAST_DETAIL_CONNECTION_CREATION_TIME_HPP

#include <chrono>
#include <concepts>
#include <optional>

namespace holdfast::detail {

template <class Finalizer>
struct creation_time {
    [[nodiscard]] std::chrono::steady_clock::duration age(const Finalizer&) const noexcept
    {
        return std::chrono::steady_clock::now() - at;
    }

    std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
};

/// Of a finalizer that knows it: an admission, by the registry.
template <class Finalizer>
    requires requires(const Finalizer& f) {
        { f.created_at() } -> std::same_as<std::optional<std::chrono::steady_clock::time_point>>;
    }
struct creation_time<Finalizer> {
    [[nodiscard]] static std::chrono::steady_clock::duration age(const Finalizer& finalizer) noexcept
    {
        const auto at = finalizer.created_at();
        return at ? std::chrono::steady_clock::now() - *at : std::chrono::steady_clock::duration::zero();
    }
};

} // namespace holdfast::detail

#endif
