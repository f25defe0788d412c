// holdfast: the element of a range that is being written: made once, wherever the iterator keeps it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_DETAIL_ELEMENT_HPP
#define HOLDFAST_SERIALIZE_DETAIL_ELEMENT_HPP

#include <holdfast/serialize/detail/ranges.hpp>

#include <concepts>
#include <memory>
#include <new>
#include <type_traits>

namespace holdfast::detail {

// Where the element lies that an iterator gives: elsewhere, to be pointed at...
template <class Reference>
class serialize_element {
public:
    using type = std::remove_reference_t<Reference>;

    template <class Iterator>
    type& make(Iterator& at)
    {
        auto&& element = *at;
        pointer_ = std::addressof(element);
        return *pointer_;
    }

    type& get() const noexcept { return *pointer_; }
    void drop() noexcept {}

private:
    type* pointer_ = nullptr;
};

// ... or here, since the iterator makes a new one. It is constructed in place, so that it need not be
// movable.
template <class Reference>
    requires(!std::is_reference_v<Reference>)
class serialize_element<Reference> {
public:
    using type = std::remove_cv_t<Reference>;

    serialize_element() noexcept {}
    serialize_element(const serialize_element&) = delete;
    serialize_element& operator=(const serialize_element&) = delete;
    ~serialize_element() { drop(); }

    template <class Iterator>
    type& make(Iterator& at)
    {
        ::new (static_cast<void*>(std::addressof(value_))) type(static_cast<type>(*at));
        made_ = true;
        return value_;
    }

    type& get() noexcept { return value_; }
    bool made() const noexcept { return made_; }

    void drop() noexcept
    {
        if (made_) std::destroy_at(std::addressof(value_));
        made_ = false;
    }

private:
    union {
        type value_;
    };
    bool made_ = false;
};

// The proxies of vector<bool> are read at once.
template <class Range>
using element_of = serialize_element<std::conditional_t<std::same_as<std::ranges::range_value_t<Range>, bool>, bool,
                                                        std::ranges::range_reference_t<Range>>>;

} // namespace holdfast::detail

#endif
