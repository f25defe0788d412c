// holdfast: a simulated market for the examples: quotes made on the fly, and what changed since a version.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_MARKET_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_MARKET_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <ranges>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace examples {

/// One row of the market. About 110 bytes as a line of JSON. It owns nothing: `symbol` points into the
/// market.
struct quote {
    std::uint64_t id;
    std::string_view symbol;
    double bid; ///< with two decimals, as `ask`
    double ask;
    std::uint32_t bid_size;
    std::uint32_t ask_size;
    std::uint64_t time; ///< of the last change: simulated milliseconds since midnight; a later change has a later one
    bool open;
};

/// Instruments whose prices walk at random; the same seed gives the same market on every machine.
///
/// Every change of an instrument increments the market's version. So the state of a client is one number, the
/// version up to which it knows everything, and not a queue:
///
///     auto version = market.version();
///     send(market.snapshot());
///     for (;;) {
///         wait_for_a_tick();
///         const auto changes = market.changed_since(version);
///         version = changes.version();
///         send(changes);
///     }
///
/// Cost: 40 bytes an instrument, 16 bytes for each change that is remembered; nothing is allocated after
/// construction. Lifetime: quotes and ranges refer to the market. Concurrency: one thread at a time.
class market {
public:
    /// The number of symbols of 4 to 6 letters.
    static constexpr std::size_t max_instruments = 3 * 26 * 26 * 26 * 26;

    /// \param instruments 1 to `max_instruments`.
    /// \param history the least number of changes that are remembered; see `changed_since`.
    /// Throws std::invalid_argument for a number out of that range.
    explicit market(std::size_t instruments, std::uint64_t seed = 1, std::size_t history = 16'384)
        : history_(std::bit_ceil(history)), random_(seed)
    {
        if (instruments < 1 || instruments > max_instruments)
            throw std::invalid_argument("a market has 1 to 1,370,928 instruments");
        instruments_.reserve(instruments);
        for (std::size_t i = 0; i != instruments; ++i) {
            instrument fresh;
            fresh.symbol = symbol_of(i);
            fresh.bid_cents = 100 + below(50'000);
            fresh.spread_cents = static_cast<std::uint16_t>(1 + below(9));
            fresh.bid_size = 100 * (1 + below(50));
            fresh.ask_size = 100 * (1 + below(50));
            instruments_.push_back(fresh);
        }
    }

    market(const market&) = delete;
    market& operator=(const market&) = delete;

    /// Returns the memory of a market in bytes.
    static constexpr std::size_t bytes(std::size_t instruments, std::size_t history = 16'384) noexcept
    {
        return instruments * sizeof(instrument) + std::bit_ceil(history) * sizeof(change_record);
    }

    /// The number of instruments, which is constant.
    [[nodiscard]] std::size_t size() const noexcept { return instruments_.size(); }

    /// The number of changes so far.
    [[nodiscard]] std::uint64_t version() const noexcept { return version_; }

    /// The instrument as it is now. Precondition: index < size().
    [[nodiscard]] quote operator[](std::size_t index) const noexcept
    {
        const instrument& from = instruments_[index];
        return {.id = index,
                .symbol = {from.symbol.letters.data(), from.symbol.length},
                .bid = from.bid_cents / 100.0,
                .ask = (from.bid_cents + from.spread_cents) / 100.0,
                .bid_size = from.bid_size,
                .ask_size = from.ask_size,
                .time = from.time,
                .open = from.open};
    }

    /// Changes one instrument after the other, `count` times, each chosen at random. O(count).
    void tick(std::size_t count) noexcept
    {
        for (; count != 0; --count)
            change(below(static_cast<std::uint32_t>(size())));
    }

    /// Takes an instrument's values from elsewhere, such as those that another market has changed. Returns false, without
    /// an effect, where there is no instrument with that id, or where it cannot have such values.
    bool apply(const quote& newest) noexcept
    {
        const double spread = (newest.ask - newest.bid) * 100;
        if (newest.id >= size() || !(newest.bid >= 0 && newest.bid < 1e7) || !(spread >= 0 && spread < 65'535))
            return false;
        const auto index = static_cast<std::size_t>(newest.id);
        instrument& chosen = instruments_[index];
        chosen.bid_cents = static_cast<std::uint32_t>(newest.bid * 100 + 0.5);
        chosen.spread_cents = static_cast<std::uint16_t>(spread + 0.5);
        chosen.bid_size = newest.bid_size;
        chosen.ask_size = newest.ask_size;
        chosen.open = newest.open;
        note_change(index);
        chosen.time = newest.time;
        return true;
    }

    /// All instruments: a random-access view that makes each quote when it is read. It may be read while the
    /// market goes on changing: a reader that notes `version()` first misses nothing.
    [[nodiscard]] auto snapshot() const noexcept
    {
        return std::views::iota(std::size_t{0}, size()) |
               std::views::transform([this](std::size_t index) { return (*this)[index]; });
    }

    class changes;

    /// The instruments that changed after `version`, each once, with its newest values. O(1); reading it
    /// costs O(changes since then), and O(size()) when those are more than the market remembers.
    [[nodiscard]] changes changed_since(std::uint64_t version) const noexcept;

private:
    struct symbol_text {
        std::array<char, 6> letters;
        std::uint8_t length;
    };

    struct instrument {
        std::uint64_t stamp = 0; // the version of its last change
        std::uint64_t time = opening_time;
        std::uint32_t bid_cents;
        std::uint32_t bid_size;
        std::uint32_t ask_size;
        std::uint16_t spread_cents;
        symbol_text symbol;
        bool open = true;
    };
    static_assert(sizeof(instrument) == 40);

    struct change_record {
        std::uint64_t previous; // the version of the change before this one of the same instrument
        std::size_t index;
    };

    static constexpr std::uint64_t opening_time = (9 * 60 + 30) * 60 * 1000;

    /// A third of the instruments have 4 letters, a third 5, a third 6. The factor has no divisor in common
    /// with 26, so that no two instruments share a symbol.
    static symbol_text symbol_of(std::size_t index) noexcept
    {
        symbol_text symbol{{}, static_cast<std::uint8_t>(4 + index % 3)};
        std::uint64_t number = 187'654'321 + (index / 3) * 2'654'435'761;
        for (std::size_t i = 0; i != symbol.length; ++i, number /= 26)
            symbol.letters[i] = static_cast<char>('A' + number % 26);
        return symbol;
    }

    /// A random number below `bound`, which is not zero: splitmix64 and a multiplication.
    std::uint32_t below(std::uint32_t bound) noexcept
    {
        std::uint64_t mixed = random_ += 0x9e3779b97f4a7c15;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
        return static_cast<std::uint32_t>(((mixed >> 32) * bound) >> 32);
    }

    void change(std::size_t index) noexcept
    {
        instrument& chosen = instruments_[index];
        const std::uint32_t step = below(21); // -10 to +10 cents
        if (chosen.bid_cents + step >= 10 + 100) chosen.bid_cents = chosen.bid_cents + step - 10;
        chosen.spread_cents = static_cast<std::uint16_t>(1 + below(9));
        (step % 2 == 0 ? chosen.bid_size : chosen.ask_size) = 100 * (1 + below(50));
        if (below(1000) == 0) chosen.open = !chosen.open; // a trading halt, or its end
        note_change(index);
        chosen.time = std::max(chosen.time + 1, opening_time + version_); // also after one that was applied
    }

    void note_change(std::size_t index) noexcept
    {
        ++version_;
        history_[version_ % history_.size()] = {instruments_[index].stamp, index};
        instruments_[index].stamp = version_;
    }

    /// Whether the record of this change is still there. Precondition: 1 <= version <= version_.
    [[nodiscard]] bool remembers(std::uint64_t version) const noexcept { return version_ - version < history_.size(); }

    std::vector<instrument> instruments_;
    std::vector<change_record> history_; // the change to version v at v % size, a power of two
    std::uint64_t version_ = 0;
    std::uint64_t random_;
};

/// What changed since a version: a single-pass view of quotes, made when they are read.
///
/// It may be read slowly, while the market goes on changing: each instrument that had changed when the view
/// was made comes, with the values it has when it is read. When changes that it has not read yet are
/// forgotten meanwhile, it goes over all instruments instead, and some may come twice.
class market::changes : public std::ranges::view_base {
public:
    class iterator {
    public:
        using value_type = quote;
        using difference_type = std::ptrdiff_t;
        using iterator_concept = std::input_iterator_tag;

        iterator() = default;

        quote operator*() const noexcept { return (*market_)[index_]; }

        iterator& operator++() noexcept
        {
            ++next_;
            find();
            return *this;
        }

        void operator++(int) noexcept { ++*this; }

        bool operator==(std::default_sentinel_t) const noexcept { return index_ == nowhere; }

    private:
        friend class changes;

        static constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();

        iterator(const market& from, std::uint64_t since, std::uint64_t until) noexcept
            : market_(&from), since_(since), until_(until), next_(since + 1)
        {
            find();
        }

        /// Moves on to the next instrument to be sent, from `next_` itself.
        void find() noexcept
        {
            for (; !scanning_ && next_ <= until_; ++next_) {
                if (!market_->remembers(next_)) {
                    scanning_ = true;
                    next_ = 0;
                    break;
                }
                const change_record& record = market_->history_[next_ % market_->history_.size()];
                if (record.previous <= since_) { // else the instrument has come already
                    index_ = record.index;
                    return;
                }
            }
            for (; scanning_ && next_ < market_->size(); ++next_) {
                if (market_->instruments_[next_].stamp > since_) {
                    index_ = next_;
                    return;
                }
            }
            index_ = nowhere;
        }

        const market* market_ = nullptr;
        std::uint64_t since_ = 0;
        std::uint64_t until_ = 0;
        std::uint64_t next_ = 0; // a version; an index when scanning
        std::size_t index_ = nowhere;
        bool scanning_ = false;
    };

    /// The version up to which the reader knows everything, when it has read all.
    [[nodiscard]] std::uint64_t version() const noexcept { return until_; }

    [[nodiscard]] bool empty() const noexcept { return since_ >= until_; }

    [[nodiscard]] iterator begin() const noexcept { return {*market_, since_, until_}; }
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

private:
    friend class market;

    changes(const market& from, std::uint64_t since) noexcept : market_(&from), since_(since), until_(from.version()) {}

    const market* market_;
    std::uint64_t since_;
    std::uint64_t until_;
};

inline market::changes market::changed_since(std::uint64_t version) const noexcept { return {*this, version}; }

} // namespace examples

#endif
