// holdfast: a stream of NATS JetStream as the engine between nodes.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_NATS_STREAM_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_NATS_STREAM_HPP

#include "blocking_worker.hpp"
#include "message_engine.hpp"

#include <holdfast/asio.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <nats/nats.h>

namespace examples {

/// Publishes to a subject that a stream of JetStream keeps. An id is the time at which the stream was made, in ns, and the
/// number of the message in it: a number that is missing is a gap, and so is a stream that was made anew.
///
/// libnats has threads of its own and calls that block. So it calls no function of ours, and two workers use it: one reads,
/// the other one publishes. Of what is read at most 256 messages wait in libnats and 256 on the event loop.
///
/// Lifetime: the destructor waits for the call that is under way, up to five seconds where the server does not answer.
class nats_stream final : public message_engine {
public:
    struct settings {
        std::string url = "nats://127.0.0.1:4222";
        std::string name = "holdfast"; ///< of the stream and its subject
        std::int64_t kept = 10'000;    ///< messages of the stream, where it is made here
    };

    nats_stream(const holdfast::net::any_io_executor& executor, settings given)
        : message_engine(false, "nats: not connected yet"), settings_(std::move(given)), executor_(executor)
    {
    }

    void subscribe(std::string from, engine_events events) override
    {
        events_ = std::move(events);
        last_ = std::move(from);
        std::optional<position> last; // of another engine's id: the beginning, with a gap
        if (!last_.empty()) last = parse_id(last_).value_or(position(1, 0));
        reader_.run([this, last]() mutable {
            while (!reader_.stopped())
                try {
                    read(last);
                } catch (const std::exception& error) {
                    reader_.on_loop([this, why = std::string(error.what())] { set_connected(false, "nats: " + why); });
                    std::this_thread::sleep_for(std::chrono::milliseconds(200));
                }
        });
    }

    void publish(std::string_view text, std::function<void(std::string_view)> done) override
    {
        const bool refused = !connected() || pending_ == max_pending;
        pending_ += refused ? 0 : 1;
        if (refused) return holdfast::net::post(executor_, [done] { done({}); });
        publisher_.run([this, text = std::string(text), done] {
            publisher_.on_loop([this, id = publish_one(text), done] {
                --pending_;
                done(id);
            });
        });
    }

private:
    /// An object of libnats.
    template <class T, void (*Destroy)(T*)>
    struct owned {
        owned() = default;
        owned(const owned&) = delete;
        ~owned() { Destroy(object); }
        T* object = nullptr;
    };

    struct closed_at_end {
        natsConnection* connection;
        ~closed_at_end() { ::natsConnection_Close(connection); }
    };

    static void check(natsStatus status)
    {
        if (status != NATS_OK) throw std::runtime_error(::natsStatus_GetText(status));
    }

    /// A connection, and the stream, which is made where there is none.
    struct link {
        explicit link(const settings& with)
        {
            owned<natsOptions, natsOptions_Destroy> options;
            check(::natsOptions_Create(&options.object));
            check(::natsOptions_SetURL(options.object, with.url.c_str()));
            check(::natsOptions_SetAllowReconnect(options.object, false)); // read() continues after the last id
            check(::natsOptions_SetPingInterval(options.object, 500));
            check(::natsConnection_Connect(&connection.object, options.object));
            check(::natsConnection_JetStream(&stream.object, connection.object, nullptr));
            jsStreamConfig config;
            check(::jsStreamConfig_Init(&config));
            const char* subject = config.Name = with.name.c_str();
            config.Subjects = &subject;
            config.SubjectsLen = 1;
            config.MaxMsgs = with.kept;
            (void)::js_AddStream(nullptr, stream.object, &config, nullptr, nullptr); // one that exists may keep more
            owned<jsStreamInfo, jsStreamInfo_Destroy> info;
            check(::js_GetStreamInfo(&info.object, stream.object, subject, nullptr, nullptr));
            made = static_cast<std::uint64_t>(info.object->Created);
            newest = info.object->State.LastSeq;
        }

        owned<natsConnection, natsConnection_Destroy> connection;
        owned<jsCtx, jsCtx_Destroy> stream;
        std::uint64_t made = 0, newest = 0;
    };

    using position = std::pair<std::uint64_t, std::uint64_t>;
    static std::string id(const position& at) { return std::to_string(at.first) + '-' + std::to_string(at.second); }

    std::string publish_one(const std::string& text)
    try {
        owned<jsPubAck, jsPubAck_Destroy> ack;
        if (!writes_to_) writes_to_.emplace(settings_);
        check(::js_Publish(&ack.object, writes_to_->stream.object, settings_.name.c_str(), text.data(),
                           static_cast<int>(text.size()), nullptr, nullptr));
        return id({writes_to_->made, ack.object->Sequence});
    } catch (const std::exception&) {
        writes_to_.reset();
        return {};
    }

    /// Until it fails. `last` is what was delivered last; none: what is published from now on.
    void read(std::optional<position>& last)
    {
        const link from(settings_);
        if (!last) last.emplace(from.made, from.newest);
        jsSubOptions options;
        check(::jsSubOptions_Init(&options));
        options.Config.DeliverPolicy = js_DeliverByStartSequence;
        options.Config.OptStartSeq = last->first == from.made ? last->second + 1 : 1;
        options.Config.MaxAckPending = 256;
        options.Config.MaxDeliver = 1;
        owned<natsSubscription, natsSubscription_Destroy> subscription;
        check(::js_SubscribeSync(&subscription.object, from.stream.object, settings_.name.c_str(), nullptr, &options,
                                 nullptr));
        // First the connection ends, then the subscription: libnats reads on for one that it has just let go.
        const closed_at_end closed{from.connection.object};
        reader_.on_loop([this] { set_connected(true, {}); });
        for (bool caught_up = false; !reader_.stopped();) {
            owned<natsMsg, natsMsg_Destroy> message;
            owned<jsMsgMetaData, jsMsgMetaData_Destroy> known;
            owned<jsConsumerInfo, jsConsumerInfo_Destroy> us;
            const natsStatus status = ::natsSubscription_NextMsg(&message.object, subscription.object, 200);
            bool more = true;
            if (status == NATS_TIMEOUT) { // fails where the stream was deleted, which NextMsg() does not notice
                check(::natsSubscription_GetConsumerInfo(&us.object, subscription.object, nullptr, nullptr));
                more = us.object->NumPending != 0 || us.object->NumAckPending != 0;
            } else {
                check(status);
                check(::natsMsg_GetMetaData(&known.object, message.object));
                const position at(from.made, known.object->Sequence.Stream);
                const bool gap = last->first != 0 && at != position(last->first, last->second + 1);
                std::string text(::natsMsg_GetData(message.object),
                                 static_cast<std::size_t>(::natsMsg_GetDataLength(message.object)));
                reader_.on_loop([this, gap, id = id(at), text = std::move(text)] {
                    if (gap) report_gap();
                    deliver(id, text);
                });
                last = at;
                more = known.object->NumPending != 0;
                check(::natsMsg_Ack(message.object, nullptr));
            }
            if (!more && !std::exchange(caught_up, true)) reader_.on_loop([this] { report_caught_up(); });
        }
    }

    const settings settings_;
    const holdfast::net::any_io_executor executor_;
    std::size_t pending_ = 0;       // publications
    std::optional<link> writes_to_; // of the publisher's thread
    blocking_worker publisher_{executor_}, reader_{executor_};
};

} // namespace examples

#endif
