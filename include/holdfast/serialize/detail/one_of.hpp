// holdfast: room for one of several cursors, of which at most one exists. Standard library only.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_ONE_OF_HPP
#define HOLDFAST_SERIALIZE_DETAIL_ONE_OF_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

namespace holdfast::detail {

// A std::variant<std::monostate, Cursors...> for what serializers need of one: its user names the type
// together with its index. It costs the compiler a fraction of a variant. Cursors are made and destroyed in
// place.
template <class... Cursors>
class one_of {
public:
    one_of() noexcept = default;
    one_of(const one_of&) = delete;
    one_of& operator=(const one_of&) = delete;
    ~one_of()
        requires(std::is_trivially_destructible_v<Cursors> && ...)
    = default;
    ~one_of() { reset(); }

    // Whether the cursor of that index exists.
    bool holds(std::size_t index) const noexcept { return made_ == index + 1; }
    bool empty() const noexcept { return made_ == 0; }

    template <class Cursor>
    void emplace(std::size_t index)
    {
        reset();
        ::new (static_cast<void*>(room_)) Cursor();
        made_ = static_cast<std::uint32_t>(index) + 1;
    }

    // Precondition: the cursor exists, and is of that type.
    template <class Cursor>
    Cursor& get() noexcept
    {
        return *std::launder(reinterpret_cast<Cursor*>(room_));
    }

private:
    void reset() noexcept
    {
        if constexpr (!(std::is_trivially_destructible_v<Cursors> && ...)) {
            std::uint32_t index = 0;
            static_cast<void>(((++index == made_ && (get<Cursors>().~Cursors(), true)) || ...));
        }
        made_ = 0;
    }

    alignas(std::max({std::size_t{1},
                      alignof(Cursors)...})) std::byte room_[std::max({std::size_t{1}, sizeof(Cursors)...})];
    std::uint32_t made_ = 0; // the index of the one that exists, plus 1
};

} // namespace holdfast::detail

#endif
