// holdfast: the cursors of Protobuf messages that contain themselves: a stack of bounded depth instead of
// recursion.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_PROTOBUF_TREE_HPP
#define HOLDFAST_SERIALIZE_PROTOBUF_TREE_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/describe.hpp>
#include <holdfast/serialize/detail/bounded_stack.hpp>
#include <holdfast/serialize/detail/chunk.hpp>
#include <holdfast/serialize/detail/cursor.hpp>
#include <holdfast/serialize/json/kind.hpp>
#include <holdfast/serialize/protobuf/cursor.hpp>
#include <holdfast/serialize/protobuf/message.hpp>
#include <holdfast/serialize/protobuf/shape.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace holdfast::detail {

// What the cursors inside of a tree get as their context: with a place to say which node is to be written
// next, and where it ends.
template <class Node>
struct protobuf_within : protobuf_context {
    const Node* below = nullptr;
    std::uint64_t below_end = 0;
};

// The fields of a node; they contain the node's own type as one that lies within the tree.
template <class Node>
using protobuf_node = protobuf_fields_cursor<const Node, protobuf_record_shape<const Node, Node>>;

template <class Node>
inline constexpr std::size_t protobuf_tree_depth = decltype(describe(type_tag<Node>{}))::depth;

// A node inside of its tree: not written here, but by the tree, while this cursor waits.
template <class T, class Within>
    requires std::same_as<std::remove_const_t<T>, Within>
struct protobuf_body<T, Within, json_kind::tree> {
    static constexpr bool bounded = false;

    static std::uint64_t size(const T& value, protobuf_sizer& sizer)
    {
        if (sizer.depth == protobuf_tree_depth<Within>) {
            if (sizer.error == errc{}) sizer.error = errc::depth_exceeded;
            return 0;
        }
        ++sizer.depth;
        const std::uint64_t size = protobuf_node<Within>::size(value, sizer);
        --sizer.depth;
        return size;
    }

    bool step(chunk_writer&, const T& value, protobuf_context& context)
    {
        if (asked) return true; // the tree comes back here when all of it is written
        auto& within = static_cast<protobuf_within<Within>&>(context);
        within.below = std::addressof(value);
        within.below_end = context.end;
        asked = true;
        return false;
    }

    bool asked = false;
};

// The tree: its root, and the nodes that lie within one another below it, down to the one in flight.
template <class T, class Within>
    requires(!std::same_as<std::remove_const_t<T>, Within>)
struct protobuf_body<T, Within, json_kind::tree> {
private:
    using node = std::remove_const_t<T>;

    struct level {
        level(const node& of_, std::uint64_t end_) noexcept : of(of_), end(end_) {}

        const node& of;
        std::uint64_t end;
        protobuf_node<node> cursor;
    };

public:
    static constexpr bool bounded = false;
    static constexpr bool repeatable = is_repeatable<protobuf_node<node>>;

    static std::uint64_t size(const T& value, protobuf_sizer& sizer)
    {
        const std::size_t outer = std::exchange(sizer.depth, 1);
        const std::uint64_t size = protobuf_node<node>::size(value, sizer);
        sizer.depth = outer;
        return size;
    }

    bool step(chunk_writer& out, const T& value, protobuf_context& context)
    {
        protobuf_within<node> within{context};
        if (levels_.empty()) levels_.push(value, context.end);
        for (;;) {
            level& top = levels_.top();
            within.below = nullptr;
            within.end = top.end;
            within.depth = levels_.size();
            const bool ended = top.cursor.step(out, top.of, within);
            if (out.error() == errc{} && within.position(out) > top.end) {
                out.fail(errc::source_changed);
                return false;
            }
            if (ended) {
                levels_.pop();
                if (levels_.empty()) return true;
            } else if (within.below == nullptr) {
                return false;
            } else if (levels_.full()) {
                out.fail(errc::depth_exceeded);
                return false;
            } else {
                levels_.push(*within.below, within.below_end);
            }
        }
    }

    void path(std::string& to, const T&)
    {
        for (std::size_t i = 0; i != levels_.size(); ++i)
            levels_[i].cursor.path(to, levels_[i].of);
    }

private:
    bounded_stack<level, protobuf_tree_depth<node>> levels_;
};

} // namespace holdfast::detail

#endif
