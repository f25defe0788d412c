// holdfast: simdjson's on-demand values as sources of the JSON formats: text that is copied, not parsed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_SIMDJSON_ONDEMAND_HPP
#define HOLDFAST_ADAPTERS_SIMDJSON_ONDEMAND_HPP

#include <holdfast/adapters/detail/simdjson_error.hpp>
#include <holdfast/error.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/ndjson_converter.hpp>

#include <simdjson.h>

#include <concepts>
#include <cstddef>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace holdfast {

/// With this header simdjson's on-demand `value`, and the `simdjson_result` of one, is a source of `json` and
/// `ndjson`, on its own and as a member, element and value of other sources. `ndjson` writes a root array one
/// element a line.
///
/// The text of the value is copied token by token, without the white space between tokens: numbers keep their
/// digits and strings their escapes. Text that on-demand parsing has not looked at is checked as
/// `checked_json` is, with the same limit `checked_json_max_depth`.
///
/// Such a source is single-pass: writing an array or object consumes it, so the parser must stand at it when
/// its turn comes. Of several members of a row all but the last are best scalars, or taken at once as
/// `checked_json{value.get_array().raw_json()}`. A document that is an array or object is written by its
/// `get_value()`; a scalar document has none.
///
/// Lifetime: parser and text must exist until the last byte.
/// Errors: `errc::invalid_json` if the text is not JSON, or continues after a document that is written by its
/// value; `errc::depth_exceeded`; `errc::source_failed` for a result without a value, or of another type, and
/// for an array or object that the parser has passed. Cost: simdjson's pass over the value, then linear; no
/// allocation. simdjson 3.0 up to 4.x.
///
///     simdjson::ondemand::parser parser;
///     auto document = parser.iterate(text);
///     co_await holdfast::async_write_streamed(peer, document["items"]);
template <class T>
concept simdjson_ondemand_source =
    std::same_as<T, simdjson::ondemand::value> || std::same_as<T, simdjson::simdjson_result<simdjson::ondemand::value>>;

namespace detail {

// Whether the parser stands at the value: where an array or object has been passed simdjson may not notice,
// and go on at another one, or outside of the text.
inline bool ondemand_is_next(simdjson::ondemand::value& value) noexcept
{
    const char* now = nullptr;
    return value.current_depth() != 0 && // it has not given up
           !value.current_location().get(now) && now == value.raw_json_token().data();
}

// Asked when the parser stands at the value.
inline bool ondemand_is_root(const simdjson::ondemand::value& value) noexcept { return value.current_depth() == 1; }

inline bool ondemand_at_end(simdjson::ondemand::value& value) noexcept
{
    return value.current_location().error() == simdjson::OUT_OF_BOUNDS;
}

} // namespace detail

/// The elements of an on-demand array, which is a `value` or the result of one, as a single-pass range of
/// `simdjson_result<ondemand::value>`: for rows that are picked from a document while they are sent. An error
/// is the last element. Written, it fails; a user's function gets it as any result of simdjson. (If a filter
/// drops it, the message ends as if the array ended.)
///
/// Lifetime: the range refers to the array's document. It may be moved until `begin()` is called. It keeps
/// the current element, which views may read more than once.
///
///     auto prices = holdfast::simdjson_elements(document["trades"]) |
///                   std::views::transform([](auto trade) { return trade["price"]; });
class simdjson_elements {
public:
    using value_type = simdjson::simdjson_result<simdjson::ondemand::value>;

    class iterator {
    public:
        using iterator_concept = std::input_iterator_tag;
        using difference_type = std::ptrdiff_t;
        using value_type = simdjson_elements::value_type;

        iterator() = default;

        value_type operator*() const noexcept { return *range_->current_; }
        iterator& operator++() noexcept
        {
            range_->next();
            return *this;
        }
        void operator++(int) noexcept { range_->next(); }
        bool operator==(std::default_sentinel_t) const noexcept { return !range_->current_; }

    private:
        friend simdjson_elements;
        explicit iterator(simdjson_elements& range) noexcept : range_(&range) {}

        simdjson_elements* range_ = nullptr;
    };

    explicit simdjson_elements(value_type array) noexcept : result_(array) {}
    simdjson_elements(simdjson_elements&&) noexcept = default;
    simdjson_elements& operator=(simdjson_elements&&) noexcept = default;

    /// Must be called at most once.
    iterator begin() noexcept
    {
        if (const auto failed = begin_array())
            current_.emplace(failed);
        else
            read();
        return iterator(*this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    simdjson::error_code begin_array() noexcept
    {
        if (const auto failed = std::move(result_).get(value_)) return failed;
        if (!detail::ondemand_is_next(value_)) return simdjson::OUT_OF_ORDER_ITERATION;
        is_root_ = detail::ondemand_is_root(value_);
        simdjson::ondemand::array array;
        if (const auto failed = value_.get_array().get(array)) return failed;
        if (const auto failed = array.begin().get(at_)) return failed;
        return array.end().get(end_);
    }

    void read() noexcept
    {
        current_.reset();
        if (at_ != end_)
            current_.emplace(*at_); // simdjson allows it once an element
        else if (is_root_ && !detail::ondemand_at_end(value_))
            current_.emplace(simdjson::TRAILING_CONTENT);
    }

    void next() noexcept
    {
        if (current_->error()) {
            current_.reset();
        } else {
            ++at_;
            read();
        }
    }

    value_type result_;
    simdjson::ondemand::value value_; // the array
    simdjson::ondemand::array_iterator at_, end_;
    std::optional<value_type> current_; // none: the end
    bool is_root_ = false;
};

namespace detail {

template <class Container>
simdjson::error_code ondemand_raw_text(simdjson::ondemand::value& value, std::string_view& text) noexcept
{
    Container container;
    const auto failed = value.get<Container>().get(container);
    return failed ? failed : container.raw_json().get(text);
}

// The text of the value, without white space at its end.
inline simdjson::error_code ondemand_text(simdjson::simdjson_result<simdjson::ondemand::value> result,
                                          std::string_view& text) noexcept
{
    using simdjson::ondemand::json_type;
    simdjson::ondemand::value value;
    json_type type{};
    if (const auto failed = std::move(result).get(value)) return failed;
    if (const auto failed = value.type().get(type)) return failed;
    if (type != json_type::array && type != json_type::object) {
        text = value.raw_json_token();
    } else {
        if (!ondemand_is_next(value)) return simdjson::OUT_OF_ORDER_ITERATION;
        const bool is_root = ondemand_is_root(value);
        const auto failed = type == json_type::array ? ondemand_raw_text<simdjson::ondemand::array>(value, text)
                                                     : ondemand_raw_text<simdjson::ondemand::object>(value, text);
        if (failed) return failed;
        if (is_root && !ondemand_at_end(value)) return simdjson::TRAILING_CONTENT;
    }
    text = text.substr(0, text.find_last_not_of(" \t\n\r") + 1);
    return simdjson::SUCCESS;
}

template <simdjson_ondemand_source T, bool Lines>
struct json_foreign_cursor<T, Lines> {
    static constexpr bool bounded = false;
    static constexpr bool repeatable = false;

    bool step(chunk_writer& out, const T& source, const json&)
    {
        if (text.data() == nullptr) {
            if (const errc error = simdjson_value_error(ondemand_text(T(source), text)); error != errc{}) {
                out.fail(error);
                return false;
            }
        }
        if constexpr (Lines)
            if (text.front() == '[') return step_lines(out);
        // Its parser has checked the encoding.
        if (!copied) copied = copy.step(out, checked_json(text), {.utf8 = utf8_policy::trust});
        return copied && (!Lines || out.byte('\n'));
    }

    bool step_lines(chunk_writer& out)
        requires Lines
    {
        std::error_code ec;
        while (taken != text.size() && !ec) {
            if (out.room() == 0) return false;
            std::string_view rest = text.substr(taken);
            const std::string_view part = lines.next(rest, std::span<char>(out.at(), out.room()), ec);
            out.advance_to(out.at() + part.size());
            taken = text.size() - rest.size();
        }
        if (!ec) lines.finish({}, ec); // of lines there is no end to be written
        if (ec) out.fail(static_cast<errc>(ec.value()));
        return !ec;
    }

    struct nothing {};

    std::string_view text;
    json_cursor<checked_json> copy;
    [[no_unique_address]] std::conditional_t<Lines, array_to_ndjson, nothing> lines;
    std::size_t taken = 0;
    bool copied = false;
};

} // namespace detail

} // namespace holdfast

#endif
