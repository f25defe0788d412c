// holdfast: a log for event loops: a full pipe or a slow disk never blocks the thread that logs.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LOG_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LOG_HPP

#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>

#include <limits.h>
#include <poll.h>
#include <unistd.h>

namespace examples {

/// Writes lines to a descriptor, the standard error output unless another is given, from a thread of its own. A queue
/// of at most `capacity` lines is between that thread and the callers. When it is full, the oldest line is dropped; the
/// next line that is written says how many were. While a `log_queue` exists, `log_line` uses it.
///
/// The destructor writes what is queued, but gives up where the descriptor takes nothing for half a second.
///
///     const examples::log_queue log; // in main, before the first thread and the context
///     examples::log_line("echo_server: drained, ", reset, " reset");
class log_queue {
public:
    static constexpr std::size_t capacity = 2048; // about 400 bytes each, from the start

    explicit log_queue(int descriptor = STDERR_FILENO)
        : thread_(std::make_shared<spdlog::details::thread_pool>(capacity, 1, &block_signals)),
          sink_(std::make_shared<sink>(descriptor, thread_.get())),
          logger_(std::make_shared<spdlog::async_logger>("log", sink_, thread_,
                                                         spdlog::async_overflow_policy::overrun_oldest))
    {
        logger_->set_error_handler([](const std::string&) {}); // the default one writes to a stream that may block
        current().store(this);
    }

    log_queue(const log_queue&) = delete;
    log_queue& operator=(const log_queue&) = delete;

    ~log_queue()
    {
        current().store(nullptr);
        sink_->closing = true;
        thread_.reset(); // joins
    }

    /// The log of this process, if there is one.
    static std::atomic<log_queue*>& current() noexcept
    {
        static std::atomic<log_queue*> log{nullptr};
        return log;
    }

    /// Queues a line. Never blocks on the descriptor.
    void write(std::string_view line)
    {
        logger_->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
    }

private:
    class sink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
    public:
        sink(int descriptor, spdlog::details::thread_pool* thread) noexcept : descriptor_(descriptor), thread_(thread)
        {
        }

        std::atomic<bool> closing{false};

    private:
        void sink_it_(const spdlog::details::log_msg& message) override
        {
            std::string text;
            if (const std::size_t dropped = thread_->overrun_counter(); dropped != reported_) {
                text = "log: " + std::to_string(dropped - reported_) + " lines were dropped\n";
                reported_ = dropped;
            }
            text.append(message.payload.data(), message.payload.size()) += '\n';
            std::string_view rest = text;
            while (!rest.empty() && wait_until_writable()) {
                // What poll calls writable takes PIPE_BUF bytes without blocking.
                const auto n = ::write(descriptor_, rest.data(), std::min<std::size_t>(rest.size(), PIPE_BUF));
                if (n > 0) rest.remove_prefix(static_cast<std::size_t>(n));
                if (n < 0 && errno != EAGAIN && errno != EINTR) return;
            }
        }

        void flush_() override {}

        bool wait_until_writable()
        {
            for (;;) {
                if (given_up_) return false;
                ::pollfd writable{descriptor_, POLLOUT, 0};
                const int ready = ::poll(&writable, 1, 500);
                if (ready > 0) return true;
                if (ready == 0 && closing) given_up_ = true;
            }
        }

        const int descriptor_;
        spdlog::details::thread_pool* const thread_;
        std::size_t reported_ = 0; // of the dropped lines
        bool given_up_ = false;
    };

    /// The program's signals are for its other threads, and a closed pipe is only an error of `write`.
    static void block_signals()
    {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    }

    std::shared_ptr<spdlog::details::thread_pool> thread_;
    std::shared_ptr<sink> sink_;
    std::shared_ptr<spdlog::async_logger> logger_;
};

/// Logs what `print(std::ostream&)` writes. Without a `log_queue`, or without memory, it is dropped.
template <class Print>
    requires std::invocable<Print&, std::ostream&>
void log_text(Print&& print) noexcept
try {
    if (log_queue* const log = log_queue::current()) {
        std::ostringstream text;
        print(text);
        std::string_view lines = text.view();
        if (lines.ends_with('\n')) lines.remove_suffix(1);
        log->write(lines);
    }
} catch (...) { // without memory there is no log either
}

/// Logs the parts, as `<<` prints them, as one line.
template <class... Parts>
void log_line(const Parts&... parts) noexcept
{
    log_text([&](std::ostream& line) { (line << ... << parts); });
}

} // namespace examples

#endif
