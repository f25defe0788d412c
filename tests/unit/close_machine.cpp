// holdfast: tests of async_close's decisions, without sockets: every order of events.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/detail/connection/close_machine.hpp>

#include <cstdint>
#include <vector>

using holdfast::close_reason;
using holdfast::errc;
using holdfast::error_code;
using holdfast::detail::close_machine;
using action = close_machine::action;
using found = close_machine::found;
using reading = close_machine::reading;
namespace error = holdfast::net::error;

namespace {

bool is_last(action a) { return a == action::close || a == action::reset; }

reading bytes(std::size_t n) { return {found::bytes, n, {}, false}; }
reading nothing(bool acknowledged = false) { return {found::nothing, 0, {}, acknowledged}; }
reading peer_end(bool acknowledged = true) { return {found::peer_end, 0, {}, acknowledged}; }
reading own_end(bool acknowledged) { return {found::own_end, 0, {}, acknowledged}; }
reading failed(const error_code& ec) { return {found::failed, 0, ec, true}; }

const std::vector<reading> all_readings{nothing(),
                                        nothing(true),
                                        bytes(1),
                                        bytes(1000),
                                        peer_end(),
                                        peer_end(false),
                                        own_end(true),
                                        own_end(false),
                                        failed(error::connection_reset),
                                        failed(error::host_unreachable)};

/// Walks every sequence of events that a machine can meet, to a depth, and checks what must hold in each.
class walk {
public:
    explicit walk(int depth) : depth_(depth) {}

    void from(const close_machine& m, action a, bool ended_sending, bool own, int depth = 0)
    {
        ++steps;
        if (is_last(a)) {
            ++ends;
            const bool in_order = a == action::close;
            CHECK((in_order || m.result())); // a reset always has a cause
            if (m.result() == error_code(errc::close_incomplete)) ++incomplete;
            return;
        }
        if (depth == depth_) return;
        { // a limit and a cancellation end it at any moment, at once
            close_machine late = m, cancelled = m;
            REQUIRE(late.expired() == action::reset);
            REQUIRE(late.result() == error_code(errc::close_incomplete));
            REQUIRE(cancelled.cancelled() == action::reset);
            REQUIRE(cancelled.result() == error_code(error::operation_aborted));
            REQUIRE(cancelled.reason() == m.reason());
        }
        switch (a) {
        case action::shut_layer_down: {
            REQUIRE(depth == 0);
            close_machine next = m;
            const action then = next.layer_is_down();
            from(next, then, ended_sending, own, depth + 1);
            break;
        }
        case action::end_sending:
            REQUIRE_FALSE(ended_sending); // once
            for (const error_code ec : {error_code(), error_code(error::not_connected), error_code(error::no_memory)}) {
                close_machine next = m;
                const action then = next.sending_ended(ec);
                REQUIRE(is_last(then) == bool(ec));
                from(next, then, true, own, depth + 1);
            }
            break;
        case action::wait_readable:
            REQUIRE_FALSE(own); // readiness says nothing then
            [[fallthrough]];
        case action::wait_briefly: {
            close_machine next = m;
            REQUIRE(next.wait_ended() == action::read);
            from(next, action::read, ended_sending, own, depth + 1);
            break;
        }
        case action::read:
            for (const reading& r : all_readings) {
                close_machine next = m;
                const action then = next.read(r);
                const bool now_own = own || r.what == found::own_end;
                if (then == action::end_sending) REQUIRE(r.acknowledged); // an earlier end would reset the peer
                if (then == action::close && r.what != found::failed) {
                    REQUIRE(r.what == found::peer_end);
                    REQUIRE(r.acknowledged);
                    REQUIRE(ended_sending);
                    REQUIRE_FALSE(next.result());
                }
                from(next, then, ended_sending, now_own, depth + 1);
            }
            break;
        case action::close:
        case action::reset:
            break;
        }
    }

    std::uint64_t steps = 0;
    std::uint64_t ends = 0;
    std::uint64_t incomplete = 0;

private:
    int depth_;
};

} // namespace

TEST_CASE("in every order of events async_close ends its sending side once, and succeeds only after the peer's end")
{
    walk all(8);
    for (const bool layer : {false, true})
        for (const error_code noted : {error_code(), error_code(error::connection_reset)})
            for (const reading& peeked : all_readings) {
                close_machine m(1500, layer, noted);
                const action first = m.start(peeked, false);
                REQUIRE(is_last(first) == (peeked.what == found::failed));
                all.from(m, first, false, peeked.what == found::own_end);
            }
    CHECK(all.steps > 10'000);
    CHECK(all.ends > 1'000);
    CHECK(all.incomplete > 100);
}

TEST_CASE("the ordinary close: end of sending, wait, bytes discarded up to the limit, the peer's end")
{
    close_machine m(10, false, {});
    CHECK(m.start(nothing(), false) == action::end_sending);
    CHECK(m.sending_ended({}) == action::wait_readable);
    CHECK(m.wait_ended() == action::read);
    CHECK(m.read(bytes(10)) == action::read);
    CHECK(m.read(nothing()) == action::wait_readable);
    CHECK(m.wait_ended() == action::read);
    SECTION("a byte more than the limit")
    {
        CHECK(m.read(bytes(1)) == action::reset);
        CHECK(m.result() == error_code(errc::close_incomplete));
    }
    SECTION("the peer's end, with bytes of ours on their way")
    {
        CHECK(m.read(peer_end(false)) == action::wait_briefly);
        CHECK(m.wait_ended() == action::read);
        CHECK(m.read(peer_end(true)) == action::close);
        CHECK_FALSE(m.result());
    }
    SECTION("the peer's reset")
    {
        CHECK(m.read(failed(error::connection_reset)) == action::close);
        CHECK_FALSE(m.result());
        CHECK(m.error() == error::connection_reset);
    }
    SECTION("another failure")
    {
        CHECK(m.read(failed(error::host_unreachable)) == action::close);
        CHECK(m.result() == error::host_unreachable);
    }
    CHECK(m.reason() == close_reason::local);
}

TEST_CASE("what was the case before async_close is the reason of the end")
{
    const auto reason = [](const reading& peeked, const error_code& noted) {
        close_machine m(10, false, noted);
        m.start(peeked, false);
        return m.reason();
    };
    const error_code frame = errc::frame_too_long;
    CHECK(reason(nothing(), {}) == close_reason::local);
    CHECK(reason(bytes(1), {}) == close_reason::local);
    CHECK(reason(peer_end(), {}) == close_reason::peer_closed);
    CHECK(reason(own_end(true), {}) == close_reason::local);
    CHECK(reason(failed(error::connection_reset), {}) == close_reason::peer_reset);
    CHECK(reason(failed(error::not_connected), {}) == close_reason::peer_reset);
    for (const reading& peeked : all_readings)
        CHECK(reason(peeked, frame) == close_reason::frame_limit);
    CHECK(reason(nothing(), error::operation_aborted) == close_reason::local);
}

TEST_CASE("where the drain shut the receiving side down, the sending side ends once all is acknowledged")
{
    close_machine m(10, false, {});
    CHECK(m.start(own_end(false), false) == action::read);
    CHECK(m.read(own_end(false)) == action::wait_briefly);
    CHECK(m.wait_ended() == action::read);
    CHECK(m.read(own_end(true)) == action::end_sending);
    CHECK(m.sending_ended({}) == action::wait_briefly);
    CHECK(m.wait_ended() == action::read);
    CHECK(m.read(own_end(false)) == action::wait_briefly);
    CHECK(m.wait_ended() == action::read);
    CHECK(m.read(peer_end()) == action::close);
}

TEST_CASE("a layer is shut down first, a message that was sent in part is followed by a reset and nothing else")
{
    close_machine layered(10, true, {});
    CHECK(layered.start(nothing(), false) == action::shut_layer_down);
    CHECK(layered.layer_is_down() == action::end_sending);
    close_machine cut(10, true, {});
    CHECK(cut.start(nothing(), true) == action::close);
    CHECK(cut.result() == error_code(errc::close_incomplete));
}
