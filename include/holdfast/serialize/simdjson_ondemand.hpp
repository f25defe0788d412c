// holdfast: simdjson's on-demand values as sources of the JSON formats: text that is copied, not parsed.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERIALIZE_SIMDJSON_ONDEMAND_HPP
#define HOLDFAST_SERIALIZE_SIMDJSON_ONDEMAND_HPP

#include <holdfast/error.hpp>
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/reframe.hpp>

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

/// With this header simdjson's on-demand `value`, `array` and `object`, and the `simdjson_result` of each,
/// are sources of `json` and `ndjson`, on their own and as members, elements and values of other sources.
/// `ndjson` writes a root array one element a line.
///
/// The text of the value is copied token by token, without the white space between: numbers keep their
/// digits, however many they are, and strings their escapes. What on-demand parsing has not looked at yet is
/// checked on the way, as by `checked_json`, with which it shares `checked_json_max_depth`.
///
/// Such a source is single-pass: writing a value consumes it. An array or object must therefore not have been
/// begun, nor been passed, when its turn comes: of the members of one row all but the last are best scalars,
/// or taken at once as `checked_json{array.raw_json()}`. Parser and text must stay until the last byte. A
/// document is written by its `get_value()`.
///
/// Errors: `errc::invalid_json` where the text is none; `errc::depth_exceeded`; `errc::source_failed` for a
/// result that says that there is no such field or element, or that it is of another type, and for an array
/// or object that was passed.
///
/// Cost: simdjson's passing over the value, then linear; no allocation. simdjson 3.0 up to 4.x.
///
///     simdjson::ondemand::parser parser;
///     auto document = parser.iterate(text);
///     co_await holdfast::async_write_streamed(peer, document["items"], {}, net::use_awaitable, json{});
template <class T>
concept simdjson_ondemand_source =
    std::same_as<T, simdjson::ondemand::value> || std::same_as<T, simdjson::ondemand::array> ||
    std::same_as<T, simdjson::ondemand::object> ||
    std::same_as<T, simdjson::simdjson_result<simdjson::ondemand::value>> ||
    std::same_as<T, simdjson::simdjson_result<simdjson::ondemand::array>> ||
    std::same_as<T, simdjson::simdjson_result<simdjson::ondemand::object>>;

/// The elements of an on-demand array as a single-pass range of `simdjson_result<ondemand::value>`, for rows
/// that are picked from a document while they are sent. An error of simdjson's is the last element: written,
/// it fails; to a user's function it comes as simdjson's results do.
///
/// It refers to the array's document, may be moved until `begin()` is called, and keeps the element that its
/// iterator stands at, which views may look at more than once.
///
///     auto prices = holdfast::simdjson_elements(document["trades"].get_array()) |
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

    explicit simdjson_elements(simdjson::simdjson_result<simdjson::ondemand::array> array) noexcept
        : array_(std::move(array))
    {
    }
    simdjson_elements(simdjson_elements&&) noexcept = default;
    simdjson_elements& operator=(simdjson_elements&&) noexcept = default;

    /// To be called once.
    iterator begin() noexcept
    {
        auto failed = array_.error();
        if (!failed) failed = array_.begin().get(at_);
        if (!failed) failed = array_.end().get(end_);
        if (failed)
            current_.emplace(failed);
        else
            read();
        return iterator(*this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    void read() noexcept
    {
        current_.reset();
        if (at_ != end_) current_.emplace(*at_); // simdjson allows it once an element
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

    simdjson::simdjson_result<simdjson::ondemand::array> array_;
    simdjson::ondemand::array_iterator at_, end_;
    std::optional<value_type> current_; // none: the end
};

namespace detail {

inline simdjson::error_code ondemand_text(simdjson::ondemand::array array, std::string_view& text) noexcept
{
    return array.raw_json().get(text);
}

inline simdjson::error_code ondemand_text(simdjson::ondemand::object object, std::string_view& text) noexcept
{
    return object.raw_json().get(text);
}

inline simdjson::error_code ondemand_text(simdjson::ondemand::value value, std::string_view& text) noexcept
{
    simdjson::ondemand::json_type type{};
    if (const auto failed = value.type().get(type)) return failed;
    text = value.raw_json_token();
    const char* now = nullptr;
    const bool here = !value.current_location().get(now) && now == text.data();
    if (!here &&
        (type == simdjson::ondemand::json_type::array || type == simdjson::ondemand::json_type::object))
        return simdjson::OUT_OF_ORDER_ITERATION; // simdjson itself may not notice
    simdjson::ondemand::array array;
    simdjson::ondemand::object object;
    switch (type) {
    case simdjson::ondemand::json_type::array: {
        const auto failed = value.get_array().get(array);
        return failed ? failed : ondemand_text(array, text);
    }
    case simdjson::ondemand::json_type::object: {
        const auto failed = value.get_object().get(object);
        return failed ? failed : ondemand_text(object, text);
    }
    default:
        return simdjson::SUCCESS;
    }
}

template <class T>
simdjson::error_code ondemand_text(simdjson::simdjson_result<T> result, std::string_view& text) noexcept
{
    T value;
    const auto failed = std::move(result).get(value);
    return failed ? failed : ondemand_text(value, text);
}

inline errc ondemand_error(simdjson::error_code failed) noexcept
{
    switch (failed) {
    case simdjson::SUCCESS:
        return {};
    case simdjson::NO_SUCH_FIELD:
    case simdjson::INDEX_OUT_OF_BOUNDS:
    case simdjson::INCORRECT_TYPE:
    case simdjson::OUT_OF_ORDER_ITERATION:
        return errc::source_failed;
    default:
        return errc::invalid_json;
    }
}

template <simdjson_ondemand_source T, bool Lines>
struct json_foreign_cursor<T, Lines> {
    static constexpr bool bounded = false;
    static constexpr bool repeatable = false;

    bool step(chunk_writer& out, const T& source, const json&)
    {
        if (text.data() == nullptr) {
            if (const errc error = ondemand_error(ondemand_text(source, text)); error != errc{}) {
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
    [[no_unique_address]] std::conditional_t<Lines, reframer<reframe_to::ndjson>, nothing> lines;
    std::size_t taken = 0;
    bool copied = false;
};

} // namespace detail

} // namespace holdfast

#endif
