// holdfast: the way through a range that is being written: each element is made once, each step done once.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_WALK_HPP
#define HOLDFAST_SERIALIZE_DETAIL_WALK_HPP

#include <holdfast/serialize/detail/element.hpp>
#include <holdfast/serialize/detail/ranges.hpp>

#include <cstdint>
#include <optional>
#include <type_traits>

namespace holdfast::detail {

// Some views can only be iterated when they are not const.
template <class R>
using iterated = std::conditional_t<std::ranges::input_range<const R>, const R, R>;

// `Indexed`: index() is asked for, if only after an error.
template <class Range, bool Indexed>
class serialize_walk {
public:
    using element = element_of<Range>;
    using element_type = typename element::type;

    bool begun() const noexcept { return at_.has_value(); }

    // False where there is no element.
    bool begin(Range& r)
    {
        at_.emplace(std::ranges::begin(r));
        return !(*at_ == std::ranges::end(r));
    }

    void make() { element_.make(*at_); }
    element_type& get() noexcept { return element_.get(); }

    // Leaves the element for the next one; false at the end.
    bool advance(Range& r)
    {
        element_.drop();
        if constexpr (counted) ++passed_;
        ++*at_;
        return !(*at_ == std::ranges::end(r));
    }

    // The number of the element that is in hand, or being made.
    std::uint64_t index(Range& r)
    {
        if constexpr (counted)
            return passed_;
        else
            return static_cast<std::uint64_t>(*at_ - std::ranges::begin(r));
    }

private:
    static constexpr bool counted = Indexed && !std::ranges::random_access_range<Range>;
    struct no_count {};

    std::optional<std::ranges::iterator_t<Range>> at_;
    element element_; // may point into the iterator
    [[no_unique_address]] std::conditional_t<counted, std::uint64_t, no_count> passed_{};
};

} // namespace holdfast::detail

#endif
