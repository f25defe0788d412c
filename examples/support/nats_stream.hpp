// holdfast: a stream of NATS JetStream as the engine between nodes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_NATS_STREAM_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_NATS_STREAM_HPP

#include "message_engine.hpp"

#include <holdfast/asio.hpp>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <nats/nats.h>

namespace examples {

/// Publishes to a subject that a stream of JetStream keeps. Ids are the stream's sequence numbers, so that each number that
/// is missing is a gap. libnats has threads of its own and blocking calls: one thread here reads, another one publishes;
/// at most 256 messages are on the way to the event loop, where all functions are called.
class nats_stream final : public message_engine {
public:
    struct settings {
        std::string url = "nats://127.0.0.1:4222";
        std::string name = "holdfast"; ///< of the stream and its subject
        std::int64_t kept = 10'000;    ///< messages of the stream
    };

    nats_stream(const holdfast::net::any_io_executor& executor, settings given)
        : shared_(std::make_shared<shared>(executor, std::move(given)))
    {
    }
    ~nats_stream() override
    {
        shared_->ended = true; // on the event loop's thread: nothing is called any more
        shared_->on_the_way.release(256);
    }

    void subscribe(std::string from, engine_events events) override
    {
        shared_->events = std::move(events);
        std::optional<std::uint64_t> last;
        if (!from.empty()) last = std::strtoull(from.c_str(), nullptr, 10);
        reader_ = std::jthread([s = shared_, last](const std::stop_token& stop) mutable {
            for (; !stop.stop_requested(); std::this_thread::sleep_for(std::chrono::milliseconds(200)))
                read(s, last, stop); // until the connection fails
        });
    }

    void publish(std::string_view text, std::function<void(std::string_view)> done) override
    {
        const bool full = pending_->fetch_add(1) >= static_cast<int>(max_pending);
        auto task = [s = shared_, to = link_, pending = pending_, full, text = std::string(text), done] {
            std::string id = full ? "" : publish_one(*s, *to, text);
            --*pending;
            holdfast::net::post(s->executor, [s, id = std::move(id), done] {
                if (!s->ended) done(id);
            });
        };
        full ? task() : holdfast::net::post(publisher_, std::move(task));
    }

    [[nodiscard]] bool connected() const noexcept override { return shared_->connected; }
    [[nodiscard]] const std::string& problem() const noexcept override { return shared_->problem; }
    [[nodiscard]] bool expects(std::string_view id) const override { return is_later_id(id, shared_->delivered); }

private:
    struct shared {
        shared(const holdfast::net::any_io_executor& ex, settings given) : executor(ex), options(std::move(given)) {}
        const holdfast::net::any_io_executor executor;
        const settings options;
        std::counting_semaphore<> on_the_way{256};
        std::atomic<bool> ended = false;
        engine_events events{}; // from here on: of the event loop
        bool connected = false;
        std::string delivered; // the last id
        std::string problem = "nats: not connected yet";

        void change(bool on, std::string why)
        {
            problem = std::move(why);
            if (std::exchange(connected, on) != on && events.on_connected) events.on_connected(on);
        }
    };

    /// A connection, and the stream. Both are empty where it failed.
    struct link {
        std::shared_ptr<natsConnection> connection;
        std::shared_ptr<jsCtx> stream;

        natsStatus open(const settings& with)
        {
            natsOptions* made = nullptr;
            natsConnection* to = nullptr;
            if (const natsStatus s = ::natsOptions_Create(&made); s != NATS_OK) return s;
            const std::shared_ptr<natsOptions> options(made, &natsOptions_Destroy);
            (void)::natsOptions_SetURL(made, with.url.c_str());
            (void)::natsOptions_SetAllowReconnect(made, false); // from the last number, by read()
            (void)::natsOptions_SetPingInterval(made, 500);
            natsStatus s = ::natsConnection_Connect(&to, made);
            connection.reset(to, &natsConnection_Destroy);
            jsCtx* context = nullptr;
            if (s == NATS_OK) s = ::natsConnection_JetStream(&context, to, nullptr);
            stream.reset(context, &jsCtx_Destroy);
            jsStreamConfig config;
            (void)::jsStreamConfig_Init(&config);
            const char* subject = with.name.c_str();
            config.Name = subject;
            config.Subjects = &subject;
            config.SubjectsLen = 1;
            config.MaxMsgs = with.kept;
            jsErrCode error{};
            if (s == NATS_OK) s = ::js_AddStream(nullptr, context, &config, nullptr, &error);
            return error == JSStreamNameExistErr ? NATS_OK : s; // others may keep more or less
        }
    };

    template <class F>
    static void on_loop(const std::shared_ptr<shared>& s, F f)
    {
        s->on_the_way.acquire();
        holdfast::net::post(s->executor, [s, f = std::move(f)] {
            s->on_the_way.release();
            if (!s->ended) f(*s);
        });
    }

    static std::string publish_one(const shared& s, link& l, const std::string& text)
    {
        jsPubAck* ack = nullptr;
        natsStatus sent = l.connection ? NATS_OK : l.open(s.options);
        if (sent == NATS_OK)
            sent = ::js_Publish(&ack, l.stream.get(), s.options.name.c_str(), text.data(),
                                static_cast<int>(text.size()), nullptr, nullptr);
        const std::shared_ptr<jsPubAck> owned(ack, &jsPubAck_Destroy);
        if (sent != NATS_OK) l = {};
        return sent == NATS_OK ? std::to_string(ack->Sequence) : std::string();
    }

    /// Reads until the connection fails. `last` is the number that was delivered last; none: what is published from now on.
    static void read(const std::shared_ptr<shared>& s, std::optional<std::uint64_t>& last, const std::stop_token& stop)
    {
        link l;
        natsSubscription* from = nullptr;
        natsStatus status = l.open(s->options);
        jsSubOptions options;
        (void)::jsSubOptions_Init(&options);
        options.Config.AckPolicy = js_AckNone;
        options.Config.DeliverPolicy = last ? js_DeliverByStartSequence : js_DeliverNew;
        options.Config.OptStartSeq = last ? *last + 1 : 0;
        if (status == NATS_OK)
            status = ::js_SubscribeSync(&from, l.stream.get(), s->options.name.c_str(), nullptr, &options, nullptr);
        const std::shared_ptr<natsSubscription> subscription(from, &natsSubscription_Destroy);
        if (status == NATS_OK) on_loop(s, [](shared& loop) { loop.change(true, ""); });
        bool caught_up = false;
        const auto note_caught_up = [&] {
            if (std::exchange(caught_up, true)) return;
            on_loop(s, [](shared& loop) {
                if (loop.events.on_caught_up) loop.events.on_caught_up();
            });
        };
        for (bool first = true; status == NATS_OK && !stop.stop_requested();) {
            natsMsg* taken = nullptr;
            jsMsgMetaData* known = nullptr;
            status = ::natsSubscription_NextMsg(&taken, from, 200);
            const std::shared_ptr<natsMsg> message(taken, &natsMsg_Destroy);
            if (status == NATS_TIMEOUT) {
                status = NATS_OK;
                note_caught_up();
            }
            if (taken == nullptr || ::natsMsg_GetMetaData(&known, taken) != NATS_OK) continue;
            const std::uint64_t at = known->Sequence.Stream;
            ::jsMsgMetaData_Destroy(known);
            const bool gap = last && *last != 0 && at != *last + 1;
            if (gap && !first) return; // dropped on the way: perhaps the stream has them
            std::string text(::natsMsg_GetData(taken), static_cast<std::size_t>(::natsMsg_GetDataLength(taken)));
            on_loop(s, [gap, before = last, at, text = std::move(text)](shared& loop) {
                if (gap && loop.events.on_gap) loop.events.on_gap(std::to_string(*before));
                loop.delivered = std::to_string(at);
                if (loop.events.on_message) loop.events.on_message(loop.delivered, text);
            });
            last = at;
            first = false;
        }
        if (status == NATS_OK) return;
        const std::string why = std::string("nats: ") + ::natsStatus_GetText(status);
        on_loop(s, [why](shared& loop) { loop.change(false, why); });
    }

    const std::shared_ptr<shared> shared_;
    const std::shared_ptr<std::atomic<int>> pending_ = std::make_shared<std::atomic<int>>(0);
    const std::shared_ptr<link> link_ = std::make_shared<link>(); // the publisher's
    holdfast::net::thread_pool publisher_{1};
    std::jthread reader_;
};

} // namespace examples

#endif
