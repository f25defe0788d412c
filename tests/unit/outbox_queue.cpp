// holdfast: tests of the outbox's decisions, without I/O: what fits, what goes, what is written next, in
// every order of events.
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <holdfast/detail/outbox/outbox_queue.hpp>
#include <holdfast/error.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

using holdfast::payload;
using holdfast::detail::outbox_item;
using holdfast::detail::outbox_queue;
using outcome = outbox_queue::outcome;
using turn = outbox_queue::turn;

namespace {

constexpr std::size_t place = sizeof(outbox_item);

/// So many chunks of four bytes: "aaaa", "bbbb".
class letters final : public holdfast::detail::streamed_source {
public:
    letters(char first, int chunks, bool interleaves, std::size_t bytes = 100, int* destroyed = nullptr,
            bool interleaves_control = false)
        : streamed_source(bytes, interleaves, interleaves_control), next_(first), left_(chunks), destroyed_(destroyed)
    {
    }
    ~letters() override
    {
        if (destroyed_ != nullptr) ++*destroyed_;
    }

    std::span<char> next(std::span<char> chunk, std::error_code& ec) override
    {
        if (next_ == '!') ec = holdfast::errc::source_failed;
        if (ec || left_ == 0) return {};
        --left_;
        std::fill_n(chunk.begin(), 4, next_++);
        return chunk.first(4);
    }
    [[nodiscard]] bool done() const noexcept override { return left_ == 0; }

private:
    char next_;
    int left_;
    int* destroyed_;
};

struct key_of {
    std::uint64_t key;
};

/// The queue as an outbox uses it, with a socket that takes what the test says.
struct box {
    explicit box(const outbox_queue::marks& marks) : queue(marks) {}

    outcome push(std::string_view text, bool drops = false) { return given(outbox_item(payload(text)), drops); }
    outcome push(std::string_view text, key_of of, bool drops = false)
    {
        return given(outbox_item(payload(text), of.key), drops);
    }
    outcome push(letters* source) { return given(outbox_item(std::unique_ptr<letters>(source)), false); }
    outcome control(std::string_view text, bool ahead)
    {
        outbox_item item{payload(text)};
        const outcome result = queue.push_control(item, ahead);
        if (result != outcome::queued) item.release();
        return result;
    }
    outcome control(std::string_view text, bool ahead, key_of of)
    {
        outbox_item item{payload(text)};
        const outcome result = queue.push_control(item, ahead, &of.key);
        if (result != outcome::queued) item.release();
        return result;
    }
    outcome given(outbox_item item, bool drops)
    {
        const outcome result = queue.push(item, drops);
        if (result != outcome::queued) item.release();
        return result;
    }

    /// Begins a write, and returns its text; empty where there is nothing to be written.
    std::string begin()
    {
        for (;;) {
            switch (queue.next_turn()) {
            case turn::idle:
                return {};
            case turn::payloads: {
                const auto gathered = queue.begin_payloads();
                std::string text;
                for (std::size_t i = 0; i != gathered.payloads.count; ++i)
                    text += gathered.payloads[i].text();
                count = gathered.payloads.count;
                return text.substr(gathered.offset);
            }
            case turn::chunk: {
                const auto rest = queue.begin_chunk();
                return {rest.data(), rest.size()};
            }
            case turn::next_chunk:
                std::error_code ec;
                queue.make_chunk(chunk, ec);
                if (ec) return ec.message();
            }
        }
    }

    /// Writes to the end.
    std::string drain(std::size_t at_most = 1000)
    {
        std::string all;
        for (std::string text; !(text = begin()).empty();) {
            const std::size_t n = std::min(text.size(), at_most);
            all += text.substr(0, n);
            queue.sent(n);
        }
        return all;
    }

    outbox_queue queue;
    std::array<char, 4> chunk{};
    std::size_t count = 0; // of the last write's payloads
};

} // namespace

TEST_CASE("a mark refuses before it is passed: exactly at the mark fits, one byte more does not")
{
    box b({2 * (place + 10), 0, 0});
    CHECK(b.push("0123456789") == outcome::queued);
    CHECK(b.push("01234567890") == outcome::full);
    CHECK(b.push("abcdefghij") == outcome::queued);
    CHECK(b.queue.bytes() == b.queue.limits().high);
    CHECK(b.push("x") == outcome::full);
    CHECK(b.drain() == "0123456789abcdefghij");
    CHECK(b.queue.bytes() == 0);
}

TEST_CASE("a message that is more than the mark alone is refused as such, even by an empty queue, and nothing "
          "is dropped for it")
{
    box b({100, 0, 0});
    CHECK(b.push(std::string(100 - place, 'x')) == outcome::queued);
    CHECK(b.push(std::string(101 - place, 'y'), true) == outcome::too_large);
    CHECK(b.queue.dropped() == 0);
    CHECK(b.drain() == std::string(100 - place, 'x'));
    CHECK(b.push(std::string(101 - place, 'y')) == outcome::too_large);
}

TEST_CASE("payloads are gathered, at most 64 at a time, and half the mark")
{
    box b({10'000, 0, 0});
    for (int i = 0; i != 150; ++i)
        CHECK(b.push("x") == outcome::queued);
    std::vector<std::size_t> counts;
    for (std::string text; !(text = b.begin()).empty(); b.queue.sent(text.size()))
        counts.push_back(b.count);
    CHECK(counts == std::vector<std::size_t>{64, 64, 22});
    for (int i = 0; i != 9; ++i)
        CHECK(b.push(std::string(1000 - place, 'x')) == outcome::queued);
    CHECK(b.begin().size() == 5 * (1000 - place));
}

TEST_CASE("a write may be taken in part, at any byte: the next one continues there")
{
    for (std::size_t most = 1; most != 12; ++most) {
        box b({1000, 0, 100});
        b.push("one");
        b.push("two");
        b.push(new letters('a', 2, false));
        b.push("three");
        b.control("end", false);
        CHECK(b.drain(most) == "onetwoaaaabbbbthreeend");
        CHECK(b.queue.bytes() == 0);
        CHECK(b.queue.control_bytes() == 0);
        CHECK(b.queue.allocated() == 0);
    }
}

TEST_CASE("after a write that was not taken as a whole, only the rest of that message is fixed")
{
    box b({1000, 0, 0});
    b.push("one");
    b.push("two", key_of{2});
    b.push("three", key_of{3});
    CHECK(b.begin() == "onetwothree");
    b.queue.sent(1);
    CHECK(b.begin() == "ne");
    b.push("TWO", key_of{2}); // not being sent
    b.queue.sent(2);
    CHECK(b.drain() == "TWOthree");
}

TEST_CASE("drop_oldest never drops what is being sent, or sent in part, and keeps the newest")
{
    const std::size_t each = place + 4;
    SECTION("being sent")
    {
        box b({6 * each, 0, 0});
        for (const char* text : {"aaaa", "bbbb", "cccc"})
            CHECK(b.push(text) == outcome::queued);
        CHECK(b.begin() == "aaaabbbbcccc");
        for (const char* text : {"dddd", "eeee", "ffff", "gggg", "hhhh"})
            CHECK(b.push(text, true) == outcome::queued);
        CHECK(b.queue.bytes() == 6 * each);
        CHECK(b.queue.dropped() == 2);
        b.queue.sent(12);
        CHECK(b.drain() == "ffffgggghhhh");
    }
    SECTION("sent in part")
    {
        box b({3 * each, 0, 0});
        for (const char* text : {"aaaa", "bbbb", "cccc"})
            b.push(text);
        CHECK_FALSE(b.begin().empty());
        b.queue.sent(5); // "bbbb" is half sent, no write is pending
        for (const char* text : {"dddd", "eeee"})
            CHECK(b.push(text, true) == outcome::queued);
        CHECK(b.queue.dropped() == 1);
        CHECK(b.drain() == "bbbddddeeee");
    }
    SECTION("where that is not enough, nothing is dropped")
    {
        box b({3 * each, 0, 0});
        b.push("aaaa");
        CHECK(b.begin() == "aaaa");
        b.push("bbbb");
        CHECK(b.push(std::string(2 * each - place + 1, 'x'), true) == outcome::full);
        CHECK(b.queue.dropped() == 0);
        CHECK(b.push(std::string(2 * each - place, 'x'), true) == outcome::queued);
        CHECK(b.queue.dropped() == 1);
    }
    SECTION("control messages and a source that has begun stay; one that has not goes, and is destroyed")
    {
        int destroyed = 0;
        box b({300, 0, 100});
        b.push(new letters('a', 2, false, 84));
        b.control("pong", false);
        b.push(new letters('x', 1, false, 84, &destroyed));
        CHECK(b.begin() == "aaaa");
        CHECK(b.push(std::string(184, 'n'), true) == outcome::queued);
        CHECK(destroyed == 1);
        b.queue.sent(4);
        CHECK(b.drain() == "bbbbpong" + std::string(184, 'n'));
    }
}

TEST_CASE("conflate keeps the newest value of a key, in the older one's place, while that is not being sent")
{
    box b({1000, 0, 0});
    b.push("a1", key_of{1});
    b.push("plain");
    b.push("b1", key_of{2});
    b.push("a2!", key_of{1});
    CHECK(b.queue.conflated() == 1);
    CHECK(b.queue.size() == 3);
    CHECK(b.queue.bytes() == 3 * place + 10);
    SECTION("being sent, the old one goes out whole, and the newest one behind")
    {
        CHECK(b.begin() == "a2!plainb1");
        b.push("a3", key_of{1});
        b.push("a4", key_of{1});
        CHECK(b.queue.conflated() == 2);
        b.queue.sent(2);
        CHECK(b.drain() == "!plainb1a4");
    }
    SECTION("every key, 0 and the greatest too, and none is another's")
    {
        b.push("z0", key_of{0});
        b.push("m0", key_of{UINT64_MAX});
        b.push("z1", key_of{0});
        b.push("m1", key_of{UINT64_MAX});
        CHECK(b.drain() == "a2!plainb1z1m1");
    }
    SECTION("a larger value must fit, too")
    {
        CHECK(b.push(std::string(1000 - b.queue.bytes() + 3 + 1, 'x'), key_of{1}) == outcome::full);
        CHECK(b.push(std::string(1000 - b.queue.bytes() + 3, 'x'), key_of{1}) == outcome::queued);
        CHECK(b.queue.bytes() == 1000);
    }
}

TEST_CASE("the reserve takes control messages through a full queue, and no further")
{
    box b({place + 4, 0, 2 * static_cast<std::uint32_t>(place + 4)});
    CHECK(b.push("data") == outcome::queued);
    CHECK(b.push("more") == outcome::full);
    CHECK(b.control("ping", false) == outcome::queued);
    CHECK(b.control("pong", false) == outcome::queued);
    CHECK(b.control("full", false) == outcome::full);
    CHECK(b.control(std::string(2 * place, 'x'), false) == outcome::too_large);
    CHECK(b.queue.bytes() + b.queue.control_bytes() == 3 * (place + 4));
    CHECK(b.drain() == "datapingpong");
    CHECK(b.control("ping", false) == outcome::queued); // the reserve is free again
}

TEST_CASE("a control message with control_place::next passes all but what is being sent, in the order of its like")
{
    box b({1000, 0, 1000});
    SECTION("nothing is being sent")
    {
        b.push("data");
        b.control("1", true);
        b.control("2", true);
        b.control("end", false);
        CHECK(b.drain() == "12dataend");
    }
    SECTION("a write is pending")
    {
        b.push("data");
        CHECK(b.begin() == "data");
        b.push("more");
        b.control("1", true);
        b.control("2", true);
        b.queue.sent(4);
        CHECK(b.drain() == "12more");
    }
    SECTION("a reject_message is behind all")
    {
        CHECK(b.control("end", false) == outcome::queued);
        CHECK(b.control("1", true) == outcome::queued);
        CHECK(b.control("2", true) == outcome::queued);
        CHECK(b.drain() == "12end");
    }
    SECTION("a message is half sent")
    {
        b.push("data");
        CHECK(b.begin() == "data");
        b.queue.sent(2);
        b.control("1", true);
        CHECK(b.drain() == "ta1");
    }
    SECTION("a streamed message has begun")
    {
        b.push(new letters('a', 2, false));
        CHECK(b.begin() == "aaaa");
        b.queue.sent(4);
        b.push("data");
        b.control("1", true);
        CHECK(b.drain() == "bbbb1data");
    }
    SECTION("a streamed message that interleaves has begun")
    {
        b.push(new letters('a', 3, true));
        CHECK(b.begin() == "aaaa");
        b.control("1", true);
        b.queue.sent(4);
        b.push("data");
        b.control("2", true);
        CHECK(b.drain() == "12bbbbdatacccc");
    }
}

TEST_CASE("a streamed message that interleaves gives those after it their turn after each chunk")
{
    box b({1000, 0, 1000});
    b.push(new letters('a', 3, true));
    b.push(new letters('x', 2, true));
    b.push("-");
    CHECK(b.begin() == "aaaa");
    b.queue.sent(2);
    b.control("p", true);
    CHECK(b.begin() == "aa");
    b.queue.sent(2);
    CHECK(b.drain() == "pxxxx-bbbbyyyycccc");
    CHECK(b.queue.size() == 0);
}

TEST_CASE("a source that fails leaves nothing to be written, and says that the message is half sent")
{
    box b({1000, 0, 0});
    b.push(new letters(' ', 3, false));
    CHECK_FALSE(b.queue.sent_in_part());
    CHECK(b.begin() == "    ");
    CHECK(b.queue.sent_in_part());
    b.queue.sent(4);
    CHECK(b.begin() == holdfast::make_error_code(holdfast::errc::source_failed).message());
    CHECK(b.queue.sent_in_part());
    CHECK(b.queue.next_turn() == turn::next_chunk);
    b.queue.clear();
    CHECK(b.queue.next_turn() == turn::idle);
}

TEST_CASE("an empty streamed message is none")
{
    box b({1000, 0, 0});
    b.push(new letters('a', 0, false));
    b.push("x");
    CHECK(b.drain() == "x");
}

TEST_CASE("clear drops all but what a pending write refers to")
{
    box b({1000, 0, 100});
    b.push("one");
    b.push("two");
    SECTION("a write of payloads is pending")
    {
        CHECK(b.begin() == "onetwo");
        b.push("three");
        b.control("x", true);
        b.queue.clear();
        CHECK(b.queue.size() == 2);
        CHECK(b.queue.bytes() == 2 * (place + 3));
        b.queue.sent(4);
        CHECK(b.queue.sent_in_part());
        b.queue.clear();
    }
    SECTION("a chunk is")
    {
        CHECK(b.begin() == "onetwo");
        b.queue.sent(6);
        int destroyed = 0;
        b.push(new letters('a', 2, false, 10, &destroyed));
        CHECK(b.begin() == "aaaa");
        b.queue.clear();
        CHECK(destroyed == 1);
        b.queue.sent(4); // the chunk's memory is the outbox's
    }
    SECTION("none is") { b.queue.clear(); }
    CHECK(b.queue.size() == 0);
    CHECK(b.queue.bytes() == 0);
    CHECK(b.queue.allocated() == 0);
}

TEST_CASE("payloads that a write refers to stay where they are, however the queue grows meanwhile")
{
    box b({100'000, 0, 0});
    for (int i = 0; i != 5; ++i)
        b.push(std::string(1, static_cast<char>('a' + i)));
    const auto gathered = b.queue.begin_payloads();
    for (int i = 0; i != 1000; ++i)
        b.push("-");
    std::string text;
    for (std::size_t i = 0; i != gathered.payloads.count; ++i)
        text += gathered.payloads[i].text();
    CHECK(text == "abcde");
    b.queue.sent(5);
    CHECK(b.drain() == std::string(1000, '-'));
}

TEST_CASE("storage is given back at the low mark, and all of it when the queue is empty, once it exists, a push "
          "allocates nothing")
{
    box b({100'000, 20 * (place + 10), 0});
    const payload message("0123456789");
    const auto push = [&] { b.given(outbox_item(message), false); };
    for (int i = 0; i != 1000; ++i)
        push();
    CHECK(b.queue.allocated() == 1024);
    while (b.queue.bytes() > b.queue.limits().low)
        b.queue.sent(b.begin().size());
    CHECK(b.queue.allocated() <= 64);
    b.drain();
    CHECK(b.queue.allocated() == 0);
    for (int i = 0; i != 40; ++i)
        push();
    const std::size_t room = b.queue.allocated() - b.queue.size();
    CHECK(tests::allocations_in([&] {
              for (std::size_t i = 0; i != room; ++i)
                  push();
          }) == 0);
    CHECK_FALSE(b.drain().empty());
    CHECK(b.queue.allocated() == 0);
    CHECK(message.use_count() == 1);
}

TEST_CASE("a hundred thousand random steps: every message arrives once, in order, whole, or is dropped or "
          "replaced, and no mark is passed")
{
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const bool drops = GENERATE(false, true);
    box b({600, 200, 64});
    std::string pending;
    std::string stream; // what was sent, "<n>" or "[key:n]"
    std::uint64_t number = 0;
    std::uint64_t accepted = 0;
    std::uint64_t arrived = 0;
    std::uint64_t last_plain = 0;
    std::map<std::uint64_t, std::uint64_t> sent_of_key;
    std::map<std::uint64_t, std::uint64_t> newest_of_key;
    const auto parse = [&] {
        for (std::size_t end = 0; (end = stream.find_first_of(">]")) != std::string::npos;) {
            const std::string one = stream.substr(0, end + 1);
            stream.erase(0, end + 1);
            ++arrived;
            if (one[0] == '<') {
                const auto n = std::stoull(one.substr(1));
                REQUIRE(n > last_plain);
                last_plain = n;
            } else {
                const auto colon = one.find(':');
                const auto key = std::stoull(one.substr(1));
                const auto n = std::stoull(one.substr(colon + 1));
                REQUIRE(n > sent_of_key[key]);
                sent_of_key[key] = n;
            }
        }
    };
    for (int step = 0; step != 100'000; ++step) {
        const auto dice = random() % 8;
        if (dice < 3) {
            const std::string text = "<" + std::to_string(++number) + std::string(random() % 20, ' ') + ">";
            if (b.push(text, drops) == outcome::queued) ++accepted;
        } else if (dice < 5) {
            const std::uint64_t key = random() % 5;
            const std::string text = "[" + std::to_string(key) + ":" + std::to_string(++number) + "]";
            if (b.push(text, key_of{key}, drops) == outcome::queued) {
                ++accepted;
                newest_of_key[key] = number;
            }
        } else if (pending.empty()) {
            pending = b.begin();
        } else {
            const std::size_t n = random() % 3 == 0 ? random() % (pending.size() + 1) : pending.size();
            stream += pending.substr(0, n);
            b.queue.sent(n);
            pending.clear();
            parse();
        }
        REQUIRE(b.queue.bytes() <= 600);
    }
    if (!pending.empty()) {
        stream += pending;
        b.queue.sent(pending.size());
    }
    stream += b.drain();
    parse();
    CHECK(stream.empty());
    CHECK(arrived + b.queue.dropped() + b.queue.conflated() == accepted);
    if (!drops)
        for (const auto& [key, n] : newest_of_key)
            CHECK(sent_of_key[key] == n);
    CHECK((b.queue.dropped() != 0) == drops);
    CHECK(b.queue.bytes() == 0);
}

TEST_CASE("with a key a control message replaces the last ones of the key and the place, where the reserve is used up")
{
    box b{{1000, 0, static_cast<std::uint32_t>(3 * (place + 2))}};
    CHECK(b.push("message") == outcome::queued);
    CHECK(b.control("a1", true, {1}) == outcome::queued);
    CHECK(b.control("b1", true, {2}) == outcome::queued);
    CHECK(b.control("a2", true, {1}) == outcome::queued);
    CHECK(b.control("a3", true, {1}) == outcome::queued);
    CHECK(b.control("a4", true, {1}) == outcome::queued);
    CHECK(b.control("a5", false, {1}) == outcome::full);  // of another place
    CHECK(b.control("c1", true, {3}) == outcome::full);   // there is none of that key
    CHECK(b.push("other", key_of{2}) == outcome::queued); // messages with keys are others
    CHECK(b.queue.conflated() == 2);
    CHECK(b.queue.control_bytes() == 3 * (place + 2));
    SECTION("a longer one takes the place of several")
    {
        CHECK(b.control("a6x", true, {1}) == outcome::queued);
        CHECK(b.queue.conflated() == 4);
        CHECK(b.queue.control_bytes() == 2 * place + 5);
        CHECK(b.drain() == "b1a6xmessageother");
    }
    SECTION("all of its key would not free enough: nothing changes")
    {
        CHECK(b.control(std::string(2 * place + 5, 'x'), true, {1}) == outcome::full);
        CHECK(b.queue.conflated() == 2);
        CHECK(b.queue.control_bytes() == 3 * (place + 2));
        CHECK(b.drain() == "a1b1a4messageother");
    }
    CHECK(b.queue.control_bytes() == 0);
}

TEST_CASE("a control message takes the place of the newest of its key, and of no more of them than it needs")
{
    box b{{1000, 0, static_cast<std::uint32_t>(5 * (place + 1))}};
    b.control("1", true, {1});
    CHECK(b.begin() == "1");
    for (const char* each : {"2", "3", "4", "5"})
        CHECK(b.control(each, true, {1}) == outcome::queued);
    CHECK(b.control(std::string(place + 2, '6'), true, {1}) == outcome::queued); // of "4" and "5"
    CHECK(b.queue.conflated() == 2);
    CHECK(b.queue.size() == 4);
    CHECK(b.queue.control_bytes() == 5 * (place + 1));
    CHECK(b.drain() == "123" + std::string(place + 2, '6'));
    CHECK(b.queue.control_bytes() == 0);
}

TEST_CASE("one that is being sent is not replaced")
{
    box b{{1000, 0, static_cast<std::uint32_t>(2 * (place + 1))}};
    b.control("1", true, {1});
    b.control("2", true, {1});
    CHECK(b.begin() == "12");
    CHECK(b.control("3", true, {1}) == outcome::full);
    b.queue.sent(1);
    CHECK(b.control("3", true, {1}) == outcome::queued);
    CHECK(b.control("4", true, {1}) == outcome::queued);
    CHECK(b.drain() == "24");
}

TEST_CASE("a source that interleaves with control messages alone: those that go next pass between its chunks")
{
    box b{{1000, 0, 1000}};
    b.push(new letters('a', 3, false, 100, nullptr, true));
    b.push("message");
    CHECK(b.begin() == "aaaa");
    b.control("1", true); // while a chunk is sent
    b.control("2", true);
    b.control("end", false);
    b.queue.sent(2);
    b.control("3", true); // while one is sent in part
    CHECK(b.begin() == "aa");
    b.queue.sent(2);
    CHECK(b.begin() == "123");
    b.queue.sent(3);
    b.control("4", true); // between two chunks
    CHECK(b.drain() == "4bbbbccccmessageend");
}

TEST_CASE("the last message passes the reserve, and nothing comes after it, not even a source that interleaves")
{
    box b{{1000, 0, 0}};
    b.push(new letters('a', 3, true));
    b.push(new letters('p', 2, true));
    CHECK(b.begin() == "aaaa");
    CHECK(b.queue.push_final(outbox_item(payload("last"))) == outcome::queued);
    b.queue.sent(4);
    CHECK(b.drain() == "bbbbccccppppqqqqlast");
    CHECK(b.queue.control_bytes() == 0);
}
