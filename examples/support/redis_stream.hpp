// holdfast: a stream of Redis as the engine between nodes, by hiredis on Asio's event loop, without a thread.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_REDIS_STREAM_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_REDIS_STREAM_HPP

#include "message_engine.hpp"

#include <holdfast/asio.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hiredis/async.h>

namespace examples {

/// A connection of hiredis on Asio's loop: it waits for its descriptor to be readable or writable when hiredis says so.
/// Where the connection fails or ends, `on_end` is called with the reason, once. The destructor calls nothing.
class redis_connection {
    struct state;

public:
    using executor_type = holdfast::net::any_io_executor;
    using reply_handler = std::function<void(const redisReply*)>; // nullptr: the connection has ended

    redis_connection(const executor_type& executor, const std::string& host, std::uint16_t port,
                     std::function<void()> on_connected, std::function<void(std::string)> on_end)
        : state_(std::make_shared<state>(executor, std::move(on_connected), std::move(on_end)))
    {
        state_->connect(host, port);
    }
    redis_connection(const redis_connection&) = delete;
    ~redis_connection()
    {
        state_->on_end = nullptr;
        state_->on_connected = nullptr;
        state_->closing = true;
        if (state_->context != nullptr && !state_->in_hiredis) ::redisAsyncFree(state_->context);
    }

    /// Sends a command, and calls `done` with its reply. Returns false, without a call, where the connection has ended.
    bool send(const std::vector<std::string_view>& words, reply_handler done)
    {
        if (state_->context == nullptr) return false;
        std::vector<const char*> texts;
        std::vector<std::size_t> sizes;
        for (const std::string_view each : words) {
            texts.push_back(each.data());
            sizes.push_back(each.size());
        }
        auto handler = std::make_unique<reply_handler>(std::move(done));
        if (::redisAsyncCommandArgv(state_->context, &replied, handler.get(), static_cast<int>(words.size()),
                                    texts.data(), sizes.data()) != REDIS_OK)
            return false;
        (void)handler.release(); // replied() has it; hiredis calls that for each command, also at the end
        return true;
    }

private:
    static void replied(redisAsyncContext* context, void* reply, void* handler)
    {
        const std::unique_ptr<reply_handler> done(static_cast<reply_handler*>(handler));
        const auto* here = static_cast<state*>(context->ev.data);
        if (here == nullptr || !here->closing) (*done)(static_cast<const redisReply*>(reply));
    }

    struct state : std::enable_shared_from_this<state> {
        state(const executor_type& executor, std::function<void()> connected, std::function<void(std::string)> end)
            : socket(executor), on_connected(std::move(connected)), on_end(std::move(end))
        {
        }

        void connect(const std::string& host, std::uint16_t port)
        {
            context = ::redisAsyncConnect(host.c_str(), port);
            if (context == nullptr || context->err != 0) {
                const std::string why = context != nullptr ? context->errstr : "out of memory";
                if (context != nullptr) ::redisAsyncFree(std::exchange(context, nullptr));
                return holdfast::net::post(socket.get_executor(), [self = shared_from_this(), why] { self->end(why); });
            }
            socket.assign(context->c.fd);
            own = shared_from_this();
            auto& ev = context->ev;
            ev.data = this;
            ev.addRead = [](void* me) { of(me).want(of(me).reading, true); };
            ev.delRead = [](void* me) { of(me).reading = false; };
            ev.addWrite = [](void* me) { of(me).want(of(me).writing, false); };
            ev.delWrite = [](void* me) { of(me).writing = false; };
            ev.cleanup = [](void* me) { of(me).cleanup(); };
            ::redisAsyncSetConnectCallback(context, [](const redisAsyncContext* c, int status) {
                state& me = of(c->ev.data);
                if (status == REDIS_OK && me.on_connected) me.on_connected();
                if (status != REDIS_OK) me.reason = c->errstr;
            });
            ::redisAsyncSetDisconnectCallback(context, [](const redisAsyncContext* c, int) {
                if (c->ev.data != nullptr) of(c->ev.data).reason = c->errstr;
            });
        }

        static state& of(void* me) { return *static_cast<state*>(me); }

        /// Waits until the descriptor is ready, as long as hiredis wants that.
        void want(bool& wanted, bool to_read)
        {
            wanted = true;
            bool& waits = to_read ? read_waits : write_waits;
            if (std::exchange(waits, true)) return;
            using descriptor = holdfast::net::posix::stream_descriptor;
            socket.async_wait(to_read ? descriptor::wait_read : descriptor::wait_write,
                              [self = shared_from_this(), to_read](const holdfast::error_code& ec) {
                                  (to_read ? self->read_waits : self->write_waits) = false;
                                  if (!ec) self->ready(to_read);
                              });
        }

        void ready(bool to_read)
        {
            const auto keep = shared_from_this();
            bool& wanted = to_read ? reading : writing;
            if (context == nullptr || !wanted) return;
            in_hiredis = true;
            (to_read ? ::redisAsyncHandleRead : ::redisAsyncHandleWrite)(context);
            in_hiredis = false;
            if (context != nullptr && closing) ::redisAsyncFree(context);
            if (context != nullptr && wanted) want(wanted, to_read);
        }

        /// hiredis frees the context, and closes the descriptor.
        void cleanup()
        {
            const auto keep = std::exchange(own, {});
            if (context == nullptr) return;
            if (reason.empty() && context->errstr != nullptr) reason = context->errstr;
            context->ev.data = nullptr;
            context = nullptr;
            reading = writing = false;
            if (socket.is_open()) socket.release();
            holdfast::net::post(socket.get_executor(), [keep] { keep->end(keep->reason); }); // not inside of hiredis
        }

        void end(const std::string& why)
        {
            if (auto call = std::exchange(on_end, nullptr)) call(why.empty() ? "the connection has ended" : why);
        }

        holdfast::net::posix::stream_descriptor socket;
        redisAsyncContext* context = nullptr;
        std::function<void()> on_connected;
        std::function<void(std::string)> on_end;
        std::shared_ptr<state> own; // for as long as hiredis refers to it
        std::string reason;
        bool reading = false, writing = false, read_waits = false, write_waits = false;
        bool in_hiredis = false, closing = false;
    };

    const std::shared_ptr<state> state_;
};

/// Publishes to a stream by XADD, and reads it by XREAD. Ids are those of the stream's entries.
///
/// Two connections: one waits in XREAD. Where either ends, both are made again, after 50 ms at first, and up to a second.
/// A gap is recognized by the entry that was delivered last: when it has gone, those after it may have gone, too.
/// Memory: at most `batch` entries are read at a time. Not to be destroyed inside a callback.
class redis_stream final : public message_engine {
public:
    struct settings {
        std::string host = "127.0.0.1";
        std::uint16_t port = 6379;
        std::string key = "holdfast";
        std::size_t kept = 10'000;                    ///< entries of the stream, which is trimmed at each publication
        std::size_t batch = 256;                      ///< entries that are read at once
        std::chrono::milliseconds read_timeout{1000}; ///< of one XREAD; it shows that the server is alive
    };

    redis_stream(const holdfast::net::any_io_executor& executor, settings given)
        : message_engine(false, "redis: not connected yet"),
          executor_(executor),
          settings_(std::move(given)),
          retry_(executor),
          watch_(executor)
    {
        connect();
    }

    void subscribe(std::string from, engine_events events) override
    {
        events_ = std::move(events);
        subscribed_ = true;
        last_ = std::move(from);
        if (reader_ready_) begin_reading();
    }

    void publish(std::string_view text, std::function<void(std::string_view)> done) override
    {
        const std::string kept = std::to_string(settings_.kept);
        const auto reply = [this](const redisReply* r) { // in the order of the commands
            const auto first = std::move(pending_.front());
            pending_.pop_front();
            if (pending_.empty() && !subscribed_) watch_.cancel();
            first(r != nullptr && r->type == REDIS_REPLY_STRING ? view(r) : std::string_view());
        };
        if (!connected() || pending_.size() == max_pending ||
            !writer_->send({"XADD", settings_.key, "MAXLEN", "~", kept, "*", "d", text}, reply))
            return holdfast::net::post(executor_, [done] { done({}); });
        if (pending_.empty() && !subscribed_) watch();
        pending_.push_back(std::move(done));
    }

private:
    static std::string_view view(const redisReply* r) { return {r->str, r->len}; }

    void connect()
    {
        const auto open = [this](std::optional<redis_connection>& which, bool& ready) {
            which.emplace(
                executor_, settings_.host, settings_.port,
                [this, &which, &ready] { // it may still be loading what it kept
                    send(which, {"PING"}, [this, &ready](const redisReply&) { connected_to(ready); });
                },
                [this](std::string why) { fail("redis: " + why); });
        };
        watch(); // also over the time that connecting takes
        open(writer_, writer_ready_);
        open(reader_, reader_ready_);
    }

    void connected_to(bool& which)
    {
        which = true;
        if (!reader_ready_ || !writer_ready_) return;
        watch_.cancel();
        delay_ = first_delay;
        set_connected(true, {});
        if (subscribed_) begin_reading();
    }

    /// Called outside of hiredis, and by the timer.
    void fail(std::string why)
    {
        reader_ready_ = writer_ready_ = reading_ = caught_up_ = false;
        watch_.cancel();
        reader_.reset();
        writer_.reset();
        set_connected(false, std::move(why));
        for (const auto& each : std::exchange(pending_, {}))
            each({});
        retry_.expires_after(std::exchange(delay_, std::min(delay_ * 2, max_delay)));
        retry_.async_wait([this](const holdfast::error_code& ec) {
            if (!ec) connect();
        });
    }

    /// A server that does not answer in time has gone, whatever the connection's state.
    void watch()
    {
        watch_.expires_after(settings_.read_timeout * 3);
        watch_.async_wait([this](const holdfast::error_code& ec) {
            if (!ec && watch_.expiry() <= std::chrono::steady_clock::now()) fail("redis: the server does not answer");
        });
    }

    void begin_reading()
    {
        if (std::exchange(reading_, true)) return;
        if (!last_.empty()) return read();
        // What is published from now on: after the newest entry, which has to be known, or one published while the
        // connection was away would be missed.
        send(reader_, {"XREVRANGE", settings_.key, "+", "-", "COUNT", "1"}, [this](const redisReply& r) {
            last_ = r.elements == 1 ? std::string(view(r.element[0]->element[0])) : "0";
            read();
        });
    }

    /// One XREAD, and after it whether the entry that it began after is still there: then nothing is missing between.
    void read()
    {
        const std::string block = std::to_string(settings_.read_timeout.count());
        const std::string count = std::to_string(settings_.batch);
        std::vector<std::string_view> words{"XREAD", "COUNT", count, "BLOCK", block, "STREAMS", settings_.key, last_};
        if (!caught_up_) words.erase(words.begin() + 3, words.begin() + 5);
        watch();
        send(reader_, words, [this](const redisReply& r) {
            batch_.clear();
            if (r.type != REDIS_REPLY_ARRAY || r.elements != 1) return; // none within the time
            const redisReply& entries = *r.element[0]->element[1];
            for (std::size_t i = 0; i != entries.elements; ++i) {
                const redisReply& entry = *entries.element[i];
                const redisReply& fields = *entry.element[1];
                if (fields.elements >= 2) batch_.emplace_back(view(entry.element[0]), view(fields.element[1]));
            }
        });
        send(reader_, {"XRANGE", settings_.key, last_, last_}, [this](const redisReply& r) {
            if (!batch_.empty() && r.elements == 0 && last_ != "0") report_gap();
            const auto batch = std::exchange(batch_, {});
            for (const auto& [id, text] : batch)
                deliver(id, text);
            if (batch.empty() && !std::exchange(caught_up_, true)) report_caught_up();
            read();
        });
    }

    /// An error of the server's is a failure.
    template <class F>
    void send(std::optional<redis_connection>& to, const std::vector<std::string_view>& words, F f)
    {
        if (!to) return;
        to->send(words, [this, f](const redisReply* r) {
            if (r == nullptr) return; // on_end follows
            if (r->type != REDIS_REPLY_ERROR) return f(*r);
            const auto later = [this, alive = std::weak_ptr(alive_), why = std::string(view(r))] {
                if (!alive.expired()) fail("redis: " + why);
            };
            holdfast::net::post(executor_, later); // not inside of hiredis
        });
    }

    static constexpr std::chrono::milliseconds first_delay{50}, max_delay{1000};

    const holdfast::net::any_io_executor executor_;
    const settings settings_;
    holdfast::net::steady_timer retry_, watch_;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>();
    bool subscribed_ = false, reading_ = false, caught_up_ = false;
    bool reader_ready_ = false, writer_ready_ = false;
    std::vector<std::pair<std::string, std::string>> batch_;
    std::deque<std::function<void(std::string_view)>> pending_; // publications
    std::chrono::milliseconds delay_ = first_delay;
    std::optional<redis_connection> writer_, reader_;
};

} // namespace examples

#endif
