// holdfast: the cursors of structs that contain themselves: a stack of bounded depth instead of recursion.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_DETAIL_JSON_TREE_HPP
#define HOLDFAST_DETAIL_JSON_TREE_HPP

#include <holdfast/detail/json_cursor.hpp>
#include <holdfast/detail/json_kind.hpp>
#include <holdfast/detail/json_members.hpp>
#include <holdfast/detail/serialize_chunk.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/json.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>

namespace holdfast::detail {

// What the cursors inside of a tree get as their options: with a place to say which node is to be written
// next.
template <class Node>
struct json_within : json {
    mutable const Node* below = nullptr;
};

// A node inside of its tree: not written here, but by the tree, while this cursor waits.
template <class T, class Within>
    requires std::same_as<std::remove_const_t<T>, Within>
struct json_cursor<T, Within, json_kind::tree> {
    static constexpr bool bounded = false;

    bool step(chunk_writer&, const T& value, const json& options)
    {
        if (asked) return true; // the tree comes back here when all of it is written
        static_cast<const json_within<Within>&>(options).below = std::addressof(value);
        asked = true;
        return false;
    }

    bool asked = false;
};

// The tree: its root, and the nodes that lie within one another below it, down to the one in flight.
template <class T, class Within>
    requires(!std::same_as<std::remove_const_t<T>, Within>)
struct json_cursor<T, Within, json_kind::tree> {
private:
    using node = std::remove_const_t<T>;

    struct level {
        explicit level(const node& of_) noexcept : of(of_) {}

        const node& of;
        json_members_cursor<const node, json_record_shape<const node, node>> cursor;
    };

    union slot {
        slot() noexcept {}
        ~slot() {}
        level value;
    };

public:
    static constexpr bool bounded = false;
    static constexpr bool repeatable =
        is_repeatable<json_members_cursor<const node, json_record_shape<const node, node>>>;

    json_cursor() noexcept {}
    json_cursor(const json_cursor&) = delete;
    json_cursor& operator=(const json_cursor&) = delete;
    ~json_cursor()
    {
        while (depth_ != 0)
            pop();
    }

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        const json_within<node> within{options};
        if (depth_ == 0) push(value);
        for (;;) {
            level& top = levels_[depth_ - 1].value;
            within.below = nullptr;
            if (top.cursor.step(out, top.of, within)) {
                pop();
                if (depth_ == 0) return true;
            } else if (within.below == nullptr) {
                return false;
            } else if (depth_ == levels_.size()) {
                out.fail(errc::depth_exceeded);
                return false;
            } else {
                push(*within.below);
            }
        }
    }

    void path(std::string& to, const T&)
    {
        for (std::size_t i = 0; i < depth_; ++i)
            levels_[i].value.cursor.path(to, levels_[i].value.of);
    }

private:
    void push(const node& of) { std::construct_at(std::addressof(levels_[depth_++].value), of); }
    void pop() noexcept { std::destroy_at(std::addressof(levels_[--depth_].value)); }

    std::array<slot, decltype(describe(type<node>{}))::depth> levels_;
    std::size_t depth_ = 0;
};

} // namespace holdfast::detail

#endif
