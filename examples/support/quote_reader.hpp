// holdfast: reads the quotes of a message, by simdjson, into a market.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_QUOTE_READER_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_QUOTE_READER_HPP

#include "market.hpp"

#include <cstdint>
#include <string_view>

#include <simdjson.h>

namespace examples {

/// Makes the state of a market from the messages that change it.
class quote_reader {
public:
    /// Applies a message, an array of quotes as JSON. Returns false where it is anything else; the quotes before the fault
    /// have been applied then.
    bool apply(std::string_view text, market& to)
    {
        const simdjson::padded_string padded(text);
        simdjson::dom::array quotes;
        if (parser_.parse(padded).get(quotes) != simdjson::SUCCESS) return false;
        for (const simdjson::dom::element each : quotes) {
            quote read{};
            std::uint64_t bid_size = 0, ask_size = 0;
            if (each["id"].get(read.id) != simdjson::SUCCESS || each["bid"].get(read.bid) != simdjson::SUCCESS ||
                each["ask"].get(read.ask) != simdjson::SUCCESS || each["bid_size"].get(bid_size) != simdjson::SUCCESS ||
                each["ask_size"].get(ask_size) != simdjson::SUCCESS ||
                each["time"].get(read.time) != simdjson::SUCCESS || each["open"].get(read.open) != simdjson::SUCCESS)
                return false;
            read.bid_size = static_cast<std::uint32_t>(bid_size);
            read.ask_size = static_cast<std::uint32_t>(ask_size);
            if (!to.apply(read)) return false;
        }
        return true;
    }

private:
    simdjson::dom::parser parser_;
};

} // namespace examples

#endif
