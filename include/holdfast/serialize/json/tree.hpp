// holdfast: the cursors of structs that contain themselves: a stack of bounded depth instead of recursion.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_JSON_TREE_HPP
#define HOLDFAST_SERIALIZE_JSON_TREE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/bounded_stack.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/json/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/json/members.hpp>

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

public:
    static constexpr bool bounded = false;
    static constexpr bool repeatable =
        is_repeatable<json_members_cursor<const node, json_record_shape<const node, node>>>;

    bool step(chunk_writer& out, const T& value, const json& options)
    {
        const json_within<node> within{options};
        if (levels_.empty()) levels_.push(value);
        for (;;) {
            level& top = levels_.top();
            within.below = nullptr;
            if (top.cursor.step(out, top.of, within)) {
                levels_.pop();
                if (levels_.empty()) return true;
            } else if (within.below == nullptr) {
                return false;
            } else if (levels_.full()) {
                out.fail(errc::depth_exceeded);
                return false;
            } else {
                levels_.push(*within.below);
            }
        }
    }

    void path(std::string& to, const T&)
    {
        for (std::size_t i = 0; i != levels_.size(); ++i)
            levels_[i].cursor.path(to, levels_[i].of);
    }

private:
    bounded_stack<level, decltype(describe(type_tag<node>{}))::depth> levels_;
};

} // namespace holdfast::detail

#endif
