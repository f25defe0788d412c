// holdfast: tests of the error codes and close reasons.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/asio.hpp>
#include <holdfast/error.hpp>

#include <array>
#include <set>
#include <sstream>
#include <string>

using holdfast::close_reason;
using holdfast::errc;

namespace {

constexpr std::array all_errors{errc::semaphore_closed,
                                errc::exceeds_limit,
                                errc::acceptor_closed,
                                errc::frame_too_long,
                                errc::truncated_frame,
                                errc::close_incomplete,
                                errc::not_finite,
                                errc::invalid_utf8,
                                errc::source_failed,
                                errc::depth_exceeded,
                                errc::too_many_waiting,
                                errc::spawner_closed,
                                errc::invalid_json,
                                errc::malformed_frame,
                                errc::frame_timeout,
                                errc::pool_exhausted,
                                errc::outbox_closed,
                                errc::outbox_full,
                                errc::exceeds_high_watermark,
                                errc::message_too_large,
                                errc::source_changed,
                                errc::not_framable,
                                errc::number_out_of_range,
                                errc::handshake_timeout,
                                errc::malformed_proxy_header,
                                errc::proxy_header_timeout,
                                errc::rate_exceeded,
                                errc::bytes_before_layer};

constexpr std::array all_conditions{holdfast::condition::overloaded, holdfast::condition::peer_gone,
                                    holdfast::condition::timed_out, holdfast::condition::limit_exceeded};

static_assert(std::is_error_code_enum_v<errc>);
static_assert(std::is_convertible_v<errc, std::error_code>);
static_assert(std::is_convertible_v<errc, holdfast::error_code>);

} // namespace

TEST_CASE("every error has a message of its own, and none is the message of an unknown value")
{
    std::set<std::string> messages{holdfast::error_category().message(0)};
    CHECK(holdfast::error_category().message(9999) == holdfast::error_category().message(0));
    for (const errc e : all_errors) {
        const std::error_code code = e;
        CHECK(code); // none of them is zero
        CHECK(code.category() == holdfast::error_category());
        CHECK(messages.insert(code.message()).second);
    }
    // the list above is complete: what comes after its last is unknown
    CHECK(holdfast::error_category().message(static_cast<int>(all_errors.back()) + 1) ==
          holdfast::error_category().message(0));
    CHECK(static_cast<std::size_t>(all_errors.back()) == all_errors.size());
}

TEST_CASE("the category is named holdfast and is one object")
{
    CHECK(std::string(holdfast::error_category().name()) == "holdfast");
    CHECK(&holdfast::error_category() == &holdfast::error_category());
}

TEST_CASE("an error converts to Asio's error code, equals itself, and differs from the others and from the "
          "system's")
{
    const holdfast::error_code code = errc::frame_too_long;
    CHECK(code);
    CHECK(code == holdfast::error_code(errc::frame_too_long));
    CHECK(code != holdfast::error_code(errc::truncated_frame));
    const std::error_code back = code; // Boost's wraps the standard one
    CHECK(back.value() == static_cast<int>(errc::frame_too_long));
    CHECK(code.message() == make_error_code(errc::frame_too_long).message());
    CHECK(back.category() == holdfast::error_category());
    CHECK(code != holdfast::error_code(code.value(), holdfast::net::error::get_system_category()));
}

TEST_CASE("conditions group the errors of holdfast, of the system and of Asio")
{
    using holdfast::condition;
    namespace error = holdfast::net::error;
    const auto is = [](const holdfast::error_code& code, condition c) {
        int matches = 0;
        for (const auto each : all_conditions)
            matches += std::error_code(code) == each ? 1 : 0;
        return code == c && matches == 1;
    };
    for (const holdfast::error_code gone :
         {holdfast::error_code(error::eof), holdfast::error_code(error::connection_reset),
          holdfast::error_code(error::broken_pipe), holdfast::error_code(error::not_connected),
          holdfast::error_code(error::connection_aborted), holdfast::error_code(errc::truncated_frame)})
        CHECK(is(gone, condition::peer_gone));
    for (const holdfast::error_code late :
         {holdfast::error_code(error::timed_out), holdfast::error_code(errc::frame_timeout)})
        CHECK(is(late, condition::timed_out));
    for (const holdfast::error_code many :
         {holdfast::error_code(errc::too_many_waiting), holdfast::error_code(errc::pool_exhausted),
          holdfast::error_code(errc::outbox_full), holdfast::error_code(error::no_memory),
          holdfast::error_code(error::no_descriptors)})
        CHECK(is(many, condition::overloaded));
    for (const holdfast::error_code more :
         {holdfast::error_code(errc::frame_too_long), holdfast::error_code(errc::rate_exceeded)})
        CHECK(is(more, condition::limit_exceeded));
    const std::error_code none;
    for (const std::error_code code :
         {none, std::error_code(holdfast::error_code(error::operation_aborted)), make_error_code(errc::invalid_utf8)})
        for (const auto each : all_conditions)
            CHECK(code != each);
    CHECK(make_error_condition(condition::peer_gone).message() != make_error_condition(condition::timed_out).message());
}

TEST_CASE("every close reason has words of its own, and close_reason_count counts them")
{
    std::set<std::string_view> words;
    for (std::size_t i = 0; i != holdfast::close_reason_count; ++i) {
        const auto reason = static_cast<close_reason>(i);
        CHECK(to_string(reason) != "unknown");
        CHECK(words.insert(to_string(reason)).second);
        std::ostringstream printed;
        printed << reason;
        CHECK(printed.str() == to_string(reason));
    }
    CHECK(to_string(static_cast<close_reason>(holdfast::close_reason_count)) == "unknown");
    CHECK(static_cast<std::size_t>(close_reason::none) == 0);
    static_assert(to_string(close_reason::drained) == "drained");
}
