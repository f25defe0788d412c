// holdfast: frames read as JSON, parsed by simdjson where they lie.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_NEXT_JSON_HPP
#define HOLDFAST_ADAPTERS_NEXT_JSON_HPP

#include <holdfast/adapters/detail/simdjson_error.hpp>
#include <holdfast/error.hpp>
#include <holdfast/frame_reader.hpp>

#include <simdjson.h>

#include <optional>
#include <string_view>
#include <utility>

namespace holdfast {

static_assert(simdjson::SIMDJSON_PADDING <= detail::frame_padding,
              "frame_reader leaves too little room behind a frame");

namespace detail {

template <class Reader>
class next_json {
public:
    next_json(Reader& reader, simdjson::dom::parser& parser) noexcept : reader_(&reader), parser_(&parser) {}

    template <class Self>
    void operator()(Self& self)
    {
        self.reset_cancellation_state(net::enable_total_cancellation());
        reader_->async_next(std::move(self));
    }

    template <class Self>
    void operator()(Self& self, error_code ec, std::optional<std::string_view> frame)
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
        self.complete(ec, value);
    }

private:
    Reader* reader_;
    simdjson::dom::parser* parser_;
};

} // namespace detail

/// Reads the next frame and parses it where it lies, without a copy.
///
/// Completion: void(error_code, std::optional<simdjson::dom::element>), on the handler's executor, never
/// inside this call. The element lies in the parser: it is valid until that parses again, and does not refer
/// to the frame. Nothing, without an error, at the end of the stream.
/// Errors: those of `frame_reader::async_next`; `errc::invalid_json` if the frame is not the text of one JSON
/// value (an empty frame is not); `errc::number_out_of_range` and `errc::depth_exceeded` if it is, but
/// simdjson cannot hold it; `net::error::no_memory`. After an error of the frame the next call continues with
/// the frame after it. Cancellation: terminal, partial and total; no byte is lost. Cost: as `async_next`. The
/// parser grows to the largest frame: some six times `max_frame_bytes` at most; one parser may serve all the
/// connections of a thread.
///
///     simdjson::dom::parser parser;
///     while (const auto message = co_await holdfast::async_next_json(lines, parser))
///         handle(*message);
template <class Stream, class Framing, class Pool,
          class CompletionToken = default_token_t<typename Stream::executor_type>>
auto async_next_json(frame_reader<Stream, Framing, Pool>& reader, simdjson::dom::parser& parser,
                     CompletionToken&& token = CompletionToken())
{
    using operation = detail::next_json<frame_reader<Stream, Framing, Pool>>;
    return net::async_compose<CompletionToken, void(error_code, std::optional<simdjson::dom::element>)>(
        operation(reader, parser), token, reader.get_executor());
}

} // namespace holdfast

#endif
