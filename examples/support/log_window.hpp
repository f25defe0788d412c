// holdfast: the newest records of a log, in bounded memory, and what a reader has yet to see of them.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_LOG_WINDOW_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_LOG_WINDOW_HPP

#include <holdfast/serialize/values.hpp>
#include <holdfast/serialized_payload.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

namespace examples {

/// As in the schema.
enum class log_level : std::uint8_t { debug, info, warn, error };
constexpr auto describe(holdfast::type_tag<log_level>)
{
    using holdfast::enumerator;
    return holdfast::enumerators(enumerator("debug", log_level::debug), enumerator("info", log_level::info),
                                 enumerator("warn", log_level::warn), enumerator("error", log_level::error));
}

/// What one client has to say; `number` is its place in the log.
struct log_record {
    std::uint64_t number = 0;
    std::uint64_t time_ms = 0;
    log_level level = log_level::debug;
    std::string_view service{};
    std::string_view message{};
};

/// What a reader wants to see.
struct log_filter {
    log_level least = log_level::debug;
    std::string service{}; ///< empty: of all
};

/// Records come in at one end, each serialized once for all readers, and fall out at the other when they are
/// more than `bytes`. A reader is a number, of the record that it has yet to see: one that is too slow misses
/// some, and costs nothing.
class log_window {
public:
    explicit log_window(std::size_t bytes) noexcept : most_(bytes) {}

    void add(log_record record)
    {
        record.number = end();
        const holdfast::json format{.utf8 = holdfast::utf8_policy::replace}; // clients log what they like
        entries_.push_back({holdfast::serialize_to_payload(holdfast::formatted(std::cref(record), format)),
                            record.level, std::string(record.service)});
        bytes_ += entries_.back().bytes();
        for (; bytes_ > most_ && !entries_.empty(); ++first_) {
            bytes_ -= entries_.front().bytes();
            entries_.pop_front();
        }
    }

    /// The numbers of the oldest record and of the one to come.
    [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return first_ + entries_.size(); }

    /// The first record from `number` on that passes, or `end()`.
    [[nodiscard]] std::uint64_t find(std::uint64_t number, const log_filter& filter) const
    {
        for (number = std::max(number, first_); number != end(); ++number) {
            const entry& each = (*this)[number];
            if (each.level >= filter.least && (filter.service.empty() || each.service == filter.service)) break;
        }
        return number;
    }

    /// Its JSON, which may be kept while the window moves on.
    [[nodiscard]] const holdfast::payload& text(std::uint64_t number) const { return (*this)[number].text; }

private:
    struct entry {
        holdfast::payload text;
        log_level level;
        std::string service;

        [[nodiscard]] std::size_t bytes() const noexcept
        {
            return sizeof(entry) + text.size() + service.size() + 64; // and malloc's part
        }
    };

    const entry& operator[](std::uint64_t number) const { return entries_[static_cast<std::size_t>(number - first_)]; }

    const std::size_t most_;
    std::size_t bytes_ = 0;
    std::uint64_t first_ = 0;
    std::deque<entry> entries_;
};

/// What a reader has yet to see: a range to serialize, which may take its time. It keeps the record that is
/// being sent, ends where the log does, and also where the window has moved on beyond it.
class unseen_records {
public:
    unseen_records(const log_window& window, log_filter filter, std::uint64_t from)
        : window_(window), filter_(std::move(filter)), next_(from)
    {
    }

    /// The number of the next record that passes, if it is there.
    std::uint64_t seek() { return next_ = window_.find(next_, filter_); }
    [[nodiscard]] bool empty() { return seek() == window_.end(); }
    /// How many records were lost, passing or not, since it last asked.
    std::uint64_t take_missed()
    {
        const std::uint64_t from = std::exchange(next_, std::max(next_, window_.first()));
        return next_ - from;
    }

    class iterator {
    public:
        using value_type = holdfast::raw_json;
        using difference_type = std::ptrdiff_t;

        iterator() = default;
        explicit iterator(unseen_records& of) : of_(&of) { take(); }

        value_type operator*() const { return holdfast::raw_json(text_.text()); }
        iterator& operator++()
        {
            take();
            return *this;
        }
        void operator++(int) { take(); }
        bool operator==(std::default_sentinel_t) const noexcept { return text_.empty(); }

    private:
        void take()
        {
            const bool behind = of_->next_ < of_->window_.first(); // the reader is notified first
            text_ = behind || of_->empty() ? holdfast::payload() : of_->window_.text(of_->next_++);
        }

        unseen_records* of_ = nullptr;
        holdfast::payload text_;
    };

    iterator begin() { return iterator(*this); }
    static std::default_sentinel_t end() noexcept { return {}; }

private:
    const log_window& window_;
    log_filter filter_;
    std::uint64_t next_;
};

} // namespace examples

#endif
