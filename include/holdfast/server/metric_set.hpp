// holdfast: metric_set, the figures of a server in Prometheus' text format, read and written while they are sent.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_SERVER_METRIC_SET_HPP
#define HOLDFAST_SERVER_METRIC_SET_HPP

#include <holdfast/serialize/detail/chunk.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace holdfast {

/// The type of a metric.
enum class metric_type : std::uint8_t {
    counter, ///< Never decreases while the process lives. Its name ends with `_total`.
    gauge,
};

/// How the values of a metric of several sets are joined (`metric_values`).
enum class metric_join : std::uint8_t { sum, highest };

/// The name and the meaning of a metric, and the label of one of its values.
struct metric {
    std::string name; ///< 1 to 60 letters, digits, underscores and colons; no digit first.
    std::string help; ///< One line of at most 150 bytes, without backslashes.
    metric_type type = metric_type::gauge;
    std::string label{};       ///< At most 30 letters, digits and underscores; no digit first. Empty: a single value.
    std::string label_value{}; ///< One line of at most 60 bytes, without quotes and backslashes.
    metric_join join = metric_join::sum;
};

/// The metrics of a server. Each value is a function, which is called while a scrape is written: a scrape takes one
/// chunk of memory, whatever the number of values. The set of labels is fixed: it is what was added.
///
/// The values of one metric are added one after the other, each with another label value. Values are sent as
/// `prometheus_text`.
///
/// Lifetime: the functions refer to what they were given. The set must not change while it is sent.
/// Thread safety: distinct objects: safe. The functions are called by the thread that sends.
///
///     holdfast::metric_set metrics;
///     holdfast::add_census(metrics, acceptor.census());
///     metrics.add({.name = "feed_messages_total", .help = "Messages published.", .type = holdfast::metric_type::counter},
///                 [&] { return feed.messages; });
///     outbox.push(exchange.response_head(200, holdfast::prometheus_text::content_type));
///     outbox.push_streamed(holdfast::formatted(std::cref(metrics),
///         holdfast::framed{holdfast::framing::http_chunked{}, holdfast::prometheus_text{}}));
class metric_set {
public:
    /// Adds a value of a metric. `value()` returns a number. Must not throw.
    ///
    /// Exceptions: std::invalid_argument for a text out of its limits, for a value whose name and label are in the set,
    /// and for a metric that is in the set before another one; std::bad_alloc. The set is then as it was. Cost: a
    /// comparison with each value of the set.
    template <class F>
        requires std::is_arithmetic_v<std::invoke_result_t<F&>>
    void add(metric what, F value)
    {
        check(what);
        check_place(what);
        entries_.push_back({std::move(what), [value = std::move(value)]() mutable { return double(value()); }});
    }

    /// Returns the number of values.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

    /// The most bytes that one value takes, with the lines that describe its metric.
    static constexpr std::size_t max_entry_size = 500;

    /// Writes value number `index` at `p`, and the lines that describe its metric before the first of them. Returns the
    /// end. Precondition: index < size().
    char* write(char* p, std::size_t index) const { return write(p, index, value(index)); }

private:
    friend class metric_values;

    struct entry {
        metric what;
        std::function<double()> value;
    };

    [[nodiscard]] double value(std::size_t index) const { return entries_[index].value(); }

    char* write(char* p, std::size_t index, double value) const
    {
        const metric& of = entries_[index].what;
        if (index == 0 || entries_[index - 1].what.name != of.name) {
            p = put(put(put(put(put(p, "# HELP "), of.name), " "), of.help), "\n# TYPE ");
            p = put(put(p, of.name), of.type == metric_type::counter ? " counter\n" : " gauge\n");
        }
        p = put(p, of.name);
        if (!of.label.empty()) p = put(put(put(put(put(p, "{"), of.label), "=\""), of.label_value), "\"}");
        p = put(p, " ");
        if (std::isfinite(value))
            p = std::to_chars(p, p + 32, value).ptr;
        else
            p = put(p, std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return put(p, "\n");
    }

    static char* put(char* p, std::string_view text) noexcept { return std::copy(text.begin(), text.end(), p); }

    static bool is_name(std::string_view name, std::size_t most) noexcept
    {
        constexpr std::string_view characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:0123456789";
        return !name.empty() && name.size() <= most && name.find_first_not_of(characters) == name.npos &&
               (name[0] < '0' || name[0] > '9');
    }

    static void check(const metric& what)
    {
        if (!is_name(what.name, 60))
            throw std::invalid_argument("metric::name must be 1 to 60 letters, digits, underscores and colons, not: " +
                                        what.name);
        if (what.help.size() > 150 || what.help.find_first_of("\n\\") != what.help.npos)
            throw std::invalid_argument("metric::help must be one line of at most 150 bytes without backslashes");
        if (!what.label.empty() && (!is_name(what.label, 30) || what.label.find(':') != what.label.npos))
            throw std::invalid_argument("metric::label must be at most 30 letters, digits and underscores, not: " +
                                        what.label);
        if (what.label_value.size() > 60 || what.label_value.find_first_of("\n\\\"") != what.label_value.npos)
            throw std::invalid_argument("metric::label_value must be at most 60 bytes without quotes and backslashes");
    }

    /// A scrape that describes a metric twice, or has a value twice, is refused by Prometheus as a whole.
    void check_place(const metric& what) const
    {
        for (const entry& other : entries_) {
            if (other.what.name != what.name) continue;
            if (entries_.back().what.name != what.name)
                throw std::invalid_argument("metric_set: add the values of a metric one after the other: " + what.name);
            if (other.what.label == what.label && (what.label.empty() || other.what.label_value == what.label_value))
                throw std::invalid_argument("metric_set: this value is in the set: " + what.name);
        }
    }

    std::vector<entry> entries_;
};

/// The values of a `metric_set` at one moment; or of several sets to which the same metrics were added in the same
/// order, such as those of shards, whose values are joined. Sent as `prometheus_text`, like a set.
///
/// Lifetime: refers to the first set.
/// Thread safety: distinct objects: safe. A set is read by the thread that constructs or calls `join`: with shards,
/// each set by the thread of its shard, one after the other.
///
///     holdfast::metric_values all{first.metrics};
///     all.join(second.metrics); // on its thread
///     outbox.push_streamed(holdfast::formatted(std::move(all), holdfast::prometheus_text{}));
class metric_values {
public:
    /// Reads each value of a set. Exceptions: std::bad_alloc.
    explicit metric_values(const metric_set& of) : set_(&of)
    {
        values_.reserve(of.size());
        for (std::size_t i = 0; i != of.size(); ++i)
            values_.push_back(of.value(i));
    }

    /// Joins each value with that of another set: by `metric::join`. Precondition: the set has the same metrics.
    void join(const metric_set& other)
    {
        for (std::size_t i = 0; i != values_.size(); ++i)
            if (set_->entries_[i].what.join == metric_join::sum)
                values_[i] += other.value(i);
            else
                values_[i] = std::max(values_[i], other.value(i));
    }

    [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }
    /// As `metric_set::write`.
    char* write(char* p, std::size_t index) const { return set_->write(p, index, values_[index]); }

private:
    const metric_set* set_;
    std::vector<double> values_;
};

namespace detail {

class prometheus_cursor {
public:
    static constexpr bool repeatable = false; // a figure may change meanwhile

    template <class Source, class Format>
    bool step(chunk_writer& out, const Source& source, const Format&)
    {
        const auto& of = figures(source);
        for (; next_ != of.size(); ++next_)
            if (!out.piece<metric_set::max_entry_size>([&](char* p) { return of.write(p, next_); })) return false;
        return true;
    }

private:
    static const metric_set& figures(const metric_set& of) noexcept { return of; } // a reference_wrapper converts
    static const metric_values& figures(const metric_values& of) noexcept { return of; }

    std::size_t next_ = 0;
};

} // namespace detail

/// A format: a `metric_set` or `metric_values` in Prometheus' text format, version 0.0.4. Pass a set by `std::cref`.
struct prometheus_text {
    static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

    template <class Source>
    using cursor = detail::prometheus_cursor;
};

} // namespace holdfast

#endif
