// holdfast: async_next_json, which reads frames as JSON, parsed by simdjson without a copy.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_NEXT_JSON_HPP
#define HOLDFAST_ADAPTERS_NEXT_JSON_HPP

#include <holdfast/adapters/detail/simdjson_error.hpp>
#include <holdfast/detail/async/step_handler.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_reader.hpp>

#include <simdjson.h>

#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace holdfast {

static_assert(simdjson::SIMDJSON_PADDING <= detail::frame_padding,
              "frame_reader leaves too few readable bytes after a frame");

namespace detail {

/// Parses a frame, and calls the user's handler.
class parse_frame {
public:
    explicit parse_frame(simdjson::dom::parser& parser) noexcept : parser_(&parser) {}

    template <class Handler>
    void operator()(Handler&& handler, error_code ec, std::optional<std::string_view> frame)
    {
        std::optional<simdjson::dom::element> value;
        if (!ec && frame) {
            simdjson::dom::element root;
            const auto failed = parser_->parse(frame->data(), frame->size(), false).get(root);
            if (failed == simdjson::MEMALLOC)
                ec = net::error::no_memory;
            else if (failed != simdjson::SUCCESS)
                ec = simdjson_parse_error(failed, *frame);
            else
                value = root;
        }
        std::forward<Handler>(handler)(ec, value);
    }

private:
    simdjson::dom::parser* parser_;
};

template <class Reader>
class initiate_next_json {
public:
    using executor_type = typename Reader::executor_type;

    initiate_next_json(Reader& reader, simdjson::dom::parser& parser) noexcept : reader_(&reader), parser_(&parser) {}

    [[nodiscard]] executor_type get_executor() const noexcept { return reader_->get_executor(); }

    template <class Handler>
    void operator()(Handler&& handler) const
    {
        using decayed = std::decay_t<Handler>;
        reader_->async_next(
            step_handler<decayed, parse_frame>(decayed(std::forward<Handler>(handler)), parse_frame(*parser_)));
    }

private:
    Reader* reader_;
    simdjson::dom::parser* parser_;
};

} // namespace detail

/// Reads the next frame and parses it as JSON, without a copy.
///
/// Completion: void(error_code, std::optional<simdjson::dom::element>). The element belongs to the parser: it is valid
/// until the parser is used again, and does not refer to the frame. Without an error and without a value at the end of
/// the stream.
///
/// Errors: those of `frame_reader::async_next`; `errc::invalid_json` if the frame is not the text of one JSON value;
/// `errc::number_out_of_range` and `errc::depth_exceeded` if it is, but simdjson cannot hold it;
/// `net::error::no_memory` when the parser has none. After an error of the frame's text the next call reads the next
/// frame.
///
/// Cancellation: terminal, partial and total; fails with `operation_aborted`. No byte is lost.
///
/// Cost: as `async_next`. The parser grows to the largest frame, to about six times `max_frame_bytes` at most. One
/// parser can serve all connections of a thread.
///
///     simdjson::dom::parser parser;
///     while (const auto message = co_await holdfast::async_next_json(lines, parser))
///         handle(*message);
template <class Peer, class Framing, class Pool,
          class CompletionToken = default_token_t<typename frame_reader<Peer, Framing, Pool>::executor_type>>
    requires net::completion_token_for<CompletionToken, void(error_code, std::optional<simdjson::dom::element>)>
auto async_next_json(frame_reader<Peer, Framing, Pool>& reader, simdjson::dom::parser& parser,
                     CompletionToken&& token = CompletionToken())
{
    return net::async_initiate<CompletionToken, void(error_code, std::optional<simdjson::dom::element>)>(
        detail::initiate_next_json<frame_reader<Peer, Framing, Pool>>(reader, parser), token);
}

} // namespace holdfast

#endif
