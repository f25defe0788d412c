// holdfast: tests of the text of an acceptor's events: one line that says what, where and how often.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/acceptor_event.hpp>

#include <exception>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

using holdfast::acceptor_event;
using holdfast::admission_limit;

namespace {

std::string text(const acceptor_event& event)
{
    std::ostringstream out;
    out << event;
    return out.str();
}

} // namespace

TEST_CASE("an event is printed with its limit, its error or its exception")
{
    using kind = acceptor_event::kind;
    const holdfast::error_code refused = holdfast::net::error::connection_refused;
    CHECK(text({kind::starved, refused}) == "accepting is suspended: " + refused.message());
    CHECK(text({kind::lost, refused}) == "a client left before it was accepted: " + refused.message());
    CHECK(text({kind::handshake_failed, refused}) == "a handshake failed: " + refused.message());
    CHECK(text({kind::proxy_header_failed, refused}) == "a PROXY header failed: " + refused.message());
    CHECK(text({.what = kind::paused, .limit = admission_limit::memory}) ==
          "pending connections wait at the limit of memory");
    CHECK(text({.what = kind::rejected, .limit = admission_limit::rate, .count = 3}) ==
          "a connection was rejected at the limit of new connections a second (3 times)");
    CHECK(text({.what = kind::session_failed, .exception = std::make_exception_ptr(std::runtime_error("why"))}) ==
          "a session failed: why");
    CHECK(text({.what = kind::session_failed, .exception = std::make_exception_ptr(7)}) ==
          "a session failed: an exception of another type");
}

TEST_CASE("each limit has a name of its own")
{
    std::set<std::string_view> names;
    for (std::size_t i = 0; i != holdfast::admission_limit_count; ++i)
        names.insert(to_string(static_cast<admission_limit>(i)));
    CHECK(names.size() == holdfast::admission_limit_count);
    CHECK(!names.contains(""));
}
