// holdfast: a source's whole text, gathered from chunks of any size, or the error that ends it.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_SERIALIZED_HPP
#define HOLDFAST_TESTS_SUPPORT_SERIALIZED_HPP

#include <holdfast/serialize/json.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace tests {

/// The text in chunks of n bytes, each of which but the last is full.
template <class Format = holdfast::json, class Source>
std::string in_chunks(Source source, std::size_t n, Format format = {})
{
    holdfast::streaming_serializer<Format, Source> text(std::move(source), format);
    std::string whole;
    std::vector<char> chunk(n);
    for (;;) {
        std::error_code ec;
        const auto part = text.next(chunk, ec);
        if (ec) throw std::system_error(ec);
        if (part.empty()) break;
        if (part.data() != chunk.data()) throw std::logic_error("not the caller's buffer");
        if (part.size() != n && !text.done()) throw std::logic_error("a chunk is not full, and not the last one");
        whole.append(part.data(), part.size());
    }
    if (!text.done() || text.bytes_written() != whole.size()) throw std::logic_error("miscounted");
    return whole;
}

/// What ends a text that fails in chunks of n bytes: no error if none did.
struct failure {
    std::error_code error;
    std::string path;
    std::string before; // what was returned
};

template <class Format = holdfast::json, class Source>
failure failure_in_chunks(Source source, std::size_t n, Format format = {})
{
    holdfast::streaming_serializer<Format, Source> text(std::move(source), format);
    failure end;
    std::vector<char> chunk(n);
    while (!end.error && !text.done()) {
        try {
            const auto part = text.next(chunk, end.error);
            end.before.append(part.data(), part.size());
        } catch (...) {
            text.next(chunk, end.error);
        }
    }
    end.path = text.error_path();
    if (text.bytes_written() != end.before.size()) throw std::logic_error("miscounted");
    return end;
}

} // namespace tests

#endif
