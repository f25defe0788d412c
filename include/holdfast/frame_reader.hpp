// holdfast: frame_reader, lines from a stream, with a hard limit and no buffer while the peer is quiet.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_FRAME_READER_HPP
#define HOLDFAST_FRAME_READER_HPP

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <sys/socket.h>
#include <sys/types.h>

namespace holdfast {

/// Limits of a `frame_reader`.
struct frame_options {
    /// The longest frame, in bytes, its terminator not counted. At least 1.
    std::size_t max_frame_bytes = 64 * 1024;
};

namespace detail {

/// Bytes received and not yet handed out, and where the lines in them end. No I/O.
class line_buffer {
public:
    explicit line_buffer(std::size_t max_line) noexcept : max_line_(max_line) {}

    /// The next whole line without its LF or CRLF; what was handed out before is gone then. Nothing when
    /// there is none yet.
    std::optional<std::string_view> take_line() noexcept
    {
        const char* const from = data_.get() + searched_;
        const void* const found = end_ != searched_ ? std::memchr(from, '\n', end_ - searched_) : nullptr;
        if (found == nullptr) {
            searched_ = end_;
            return std::nullopt;
        }
        const auto terminator = static_cast<std::size_t>(static_cast<const char*>(found) - data_.get());
        std::string_view line(data_.get() + begin_, terminator - begin_);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.size() > max_line_) return std::nullopt; // and overlong() says why, from now on
        begin_ = searched_ = terminator + 1;
        return line;
    }

    /// Whether the line under way is too long already. A CR may yet turn out to be a part of its end.
    [[nodiscard]] bool overlong() const noexcept
    {
        const std::size_t n = end_ - begin_;
        return n > max_line_ + 1 || (n == max_line_ + 1 && data_[end_ - 1] != '\r');
    }

    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }

    /// Gives the memory back where nothing is held.
    void shrink() noexcept
    {
        if (empty()) {
            data_.reset();
            capacity_ = begin_ = end_ = searched_ = 0;
        }
    }

    /// Room for more bytes, at least one: grows with what was received, up to one line and its terminator.
    std::pair<char*, std::size_t> room()
    {
        if (begin_ != 0 && begin_ != end_) std::memmove(data_.get(), data_.get() + begin_, end_ - begin_);
        searched_ -= begin_;
        end_ -= begin_;
        begin_ = 0;
        if (end_ == capacity_) {
            const std::size_t wanted = std::min(std::max(smallest, 2 * capacity_), max_line_ + 2);
            auto larger = std::make_unique_for_overwrite<char[]>(wanted);
            if (end_ != 0) std::memcpy(larger.get(), data_.get(), end_);
            data_ = std::move(larger);
            capacity_ = wanted;
        }
        return {data_.get() + end_, capacity_ - end_};
    }

    void received(std::size_t n) noexcept { end_ += n; }

private:
    static constexpr std::size_t smallest = 512;

    std::size_t max_line_;
    std::unique_ptr<char[]> data_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;    // of the line under way
    std::size_t searched_ = 0; // no LF before this
    std::size_t end_ = 0;
};

} // namespace detail

/// Reads frames from a stream: lines that end with LF or CRLF. A frame has a hard limit; memory grows with
/// the bytes received, never beyond one frame, and an idle connection holds none: the reader waits for
/// readiness and makes its buffer then.
///
/// `Stream` is an Asio socket, or another asynchronous read stream, on which the buffer is held while it
/// waits (a TLS stream may hold decrypted bytes that no readiness announces).
///
/// Lifetime: refers to the stream, and must stay in place while an operation is pending.
/// Concurrency: one operation at a time; distinct readers are independent.
///
///     holdfast::frame_reader lines{peer.stream(), {.max_frame_bytes = 4096}};
///     while (auto line = co_await lines.async_next())
///         handle(*line);
template <class Stream>
class frame_reader {
public:
    using executor_type = typename Stream::executor_type;

    /// Allocates nothing.
    explicit frame_reader(Stream& stream, frame_options options = {}) noexcept
        : stream_(stream), buffer_(options.max_frame_bytes)
    {
    }

    frame_reader(const frame_reader&) = delete;
    frame_reader& operator=(const frame_reader&) = delete;

    executor_type get_executor() { return stream_.get_executor(); }

    /// Reads the next frame.
    ///
    /// Completion: void(error_code, std::optional<std::string_view>), on the handler's executor, never inside
    /// this call. The view, without the line's end, is valid until the next call. Nothing, without an error,
    /// at the end of the stream (of a drain too). `errc::frame_too_long` once more than the limit came
    /// without an end of line: the stream is then of no more use; `errc::truncated_frame` when the stream
    /// ends within a line; the stream's own errors.
    /// Cancellation: terminal, partial and total;
    /// `operation_aborted`, and no byte is lost.
    /// Cost: allocates when bytes arrive and none were held, at
    /// most log2(limit/512) times a frame.
    template <class CompletionToken = default_token_t<executor_type>>
    auto async_next(CompletionToken&& token = CompletionToken())
    {
        return net::async_compose<CompletionToken, void(error_code, std::optional<std::string_view>)>(
            next_op{*this}, token, stream_.get_executor());
    }

private:
    static constexpr bool waits_for_readiness = requires(Stream& s) {
        { s.native_handle() } -> std::convertible_to<int>;
        s.async_wait(net::socket_base::wait_read, net::detached);
    };

    class next_op {
    public:
        explicit next_op(frame_reader& reader) noexcept : reader_(&reader) {}

        template <class Self>
        void operator()(Self& self, error_code ec = {}, std::size_t n = 0)
        {
            detail::line_buffer& buffer = reader_->buffer_;
            const bool initiating = step_ == step::start;
            switch (step_) {
            case step::start:
                self.reset_cancellation_state(net::enable_total_cancellation());
                break;
            case step::waiting:
                if constexpr (waits_for_readiness) {
                    if (!ec) ec = receive(n);
                    if (ec == net::error::would_block || ec == net::error::try_again)
                        ec = {};
                    else if (!ec)
                        buffer.received(n);
                }
                break;
            case step::reading:
                buffer.received(n);
                break;
            case step::finished:
                break;
            }
            if (step_ != step::finished) {
                if (!ec) {
                    frame_ = buffer.take_line();
                    if (!frame_ && buffer.overlong())
                        ec = errc::frame_too_long;
                    else if (!frame_ &&
                             self.get_cancellation_state().cancelled() != net::cancellation_type::none)
                        ec = net::error::operation_aborted; // it came while this step was queued
                    else if (!frame_) {
                        read_more(self);
                        return;
                    }
                } else if (ec == net::error::eof) {
                    ec = buffer.empty() ? error_code() : error_code(errc::truncated_frame);
                }
                result_ = ec;
                if (initiating) { // completing here would be inside the initiating function
                    step_ = step::finished;
                    auto executor = reader_->get_executor();
                    net::post(executor, std::move(self));
                    return;
                }
            }
            self.complete(result_, frame_);
        }

    private:
        enum class step : unsigned char { start, waiting, reading, finished };

        template <class Self>
        void read_more(Self& self)
        {
            Stream& stream = reader_->stream_;
            if constexpr (waits_for_readiness) {
                reader_->buffer_.shrink();
                step_ = step::waiting;
                stream.async_wait(net::socket_base::wait_read, std::move(self));
            } else {
                const auto [data, size] = reader_->buffer_.room();
                step_ = step::reading;
                stream.async_read_some(net::buffer(data, size), std::move(self));
            }
        }

        error_code receive(std::size_t& n)
        {
            const auto [data, size] = reader_->buffer_.room();
            const ::ssize_t got = ::recv(reader_->stream_.native_handle(), data, size, MSG_DONTWAIT);
            if (got < 0) return {errno, net::error::get_system_category()};
            n = static_cast<std::size_t>(got);
            return got == 0 ? error_code(net::error::eof) : error_code();
        }

        frame_reader* reader_;
        step step_ = step::start;
        error_code result_;
        std::optional<std::string_view> frame_;
    };

    Stream& stream_;
    detail::line_buffer buffer_;
};

} // namespace holdfast

#endif
