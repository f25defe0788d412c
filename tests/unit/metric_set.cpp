// holdfast: tests of metric_set: figures are written in Prometheus' format, and names outside of it are refused.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <holdfast/serialize/streaming_serializer.hpp>
#include <holdfast/server/metric_set.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

using holdfast::metric_set;

TEST_CASE("figures are written in Prometheus' format, whatever the size of the chunks, and read when they are written")
{
    metric_set metrics;
    double lag = 0.25;
    metrics.add({.name = "feed_ended_total",
                 .help = "How many ended.",
                 .type = holdfast::metric_type::counter,
                 .label = "reason",
                 .label_value = "closed by peer"},
                [] { return std::uint64_t{12'345'678'901}; });
    metrics.add({.name = "feed_ended_total", .help = "How many ended.", .label = "reason", .label_value = "reset"},
                [] { return 0U; });
    metrics.add({.name = "feed_lag_seconds", .help = "The lag.", .join = holdfast::metric_join::highest},
                [&] { return lag; });
    metrics.add({.name = "feed_odd", .help = ""}, [] { return -std::numeric_limits<double>::infinity(); });
    const std::string expected =
        "# HELP feed_ended_total How many ended.\n# TYPE feed_ended_total counter\n"
        "feed_ended_total{reason=\"closed by peer\"} 12345678901\nfeed_ended_total{reason=\"reset\"} 0\n"
        "# HELP feed_lag_seconds The lag.\n# TYPE feed_lag_seconds gauge\nfeed_lag_seconds 0.5\n"
        "# HELP feed_odd \n# TYPE feed_odd gauge\nfeed_odd -Inf\n";
    lag = 0.5;
    for (const std::size_t size : {1U, 7U, 100U, 600U, 4096U}) {
        holdfast::streaming_serializer text{std::cref(metrics), holdfast::prometheus_text{}};
        std::string all;
        std::vector<char> chunk(size);
        for (std::error_code ec; !text.done();) {
            const auto part = text.next(chunk, ec);
            REQUIRE_FALSE(ec);
            all.append(part.data(), part.size());
        }
        CHECK(all == expected);
    }
    metric_set other; // of another shard
    other.add({.name = "feed_ended_total", .help = "", .label = "reason", .label_value = "a"}, [] { return 3; });
    other.add({.name = "feed_ended_total", .help = "", .label = "reason", .label_value = "b"}, [] { return 2; });
    other.add({.name = "feed_lag_seconds", .help = ""}, [] { return 0.25; });
    other.add({.name = "feed_odd", .help = ""}, [] { return 7; });
    holdfast::metric_values both{metrics};
    lag = 0;
    both.join(other);
    CHECK(holdfast::serialize_to_string<holdfast::prometheus_text>(both) ==
          "# HELP feed_ended_total How many ended.\n# TYPE feed_ended_total counter\n"
          "feed_ended_total{reason=\"closed by peer\"} 12345678904\nfeed_ended_total{reason=\"reset\"} 2\n"
          "# HELP feed_lag_seconds The lag.\n# TYPE feed_lag_seconds gauge\nfeed_lag_seconds 0.5\n"
          "# HELP feed_odd \n# TYPE feed_odd gauge\nfeed_odd -Inf\n");

    metric_set largest;
    largest.add({.name = std::string(60, 'n'),
                 .help = std::string(150, 'h'),
                 .type = holdfast::metric_type::counter,
                 .label = std::string(30, 'l'),
                 .label_value = std::string(60, 'v')},
                [] { return -std::numeric_limits<double>::min(); });
    CHECK(holdfast::serialize_to_string<holdfast::prometheus_text>(std::cref(largest)).size() <
          metric_set::max_entry_size);
    for (const holdfast::metric& bad : std::vector<holdfast::metric>{{"", ""},
                                                                     {"1a", ""},
                                                                     {"a b", ""},
                                                                     {std::string(61, 'a'), ""},
                                                                     {"a", "two\nlines"},
                                                                     {"a", std::string(151, 'h')},
                                                                     {"a", "", {}, "l-l"},
                                                                     {"a", "", {}, "l:l"},
                                                                     {"a", "", {}, "1l"},
                                                                     {"a", "", {}, "l", "quoted\""},
                                                                     {"a", "", {}, "l", std::string(61, 'v')}})
        CHECK_THROWS_AS(largest.add(bad, [] { return 1; }), std::invalid_argument);
}

TEST_CASE("a metric is described once, and has each of its values once")
{
    metric_set metrics;
    const auto add = [&](const char* name, const char* label = "", const char* value = "") {
        metrics.add({.name = name, .help = "", .label = label, .label_value = value}, [] { return 1; });
    };
    add("a", "l", "1");
    add("a", "l", "2");
    add("a", "m", "1");
    add("a");
    CHECK_THROWS_AS(add("a", "l", "1"), std::invalid_argument);
    CHECK_THROWS_AS(add("a"), std::invalid_argument);
    CHECK_THROWS_AS(add("a", "", "a value without a label is not written"), std::invalid_argument);
    add("a:b");
    CHECK_THROWS_AS(add("a", "l", "3"), std::invalid_argument); // it would be described again
    CHECK(metrics.size() == 5);
    CHECK(holdfast::serialize_to_string<holdfast::prometheus_text>(std::cref(metrics)) ==
          "# HELP a \n# TYPE a gauge\na{l=\"1\"} 1\na{l=\"2\"} 1\na{m=\"1\"} 1\na 1\n"
          "# HELP a:b \n# TYPE a:b gauge\na:b 1\n");
}
