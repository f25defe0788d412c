// holdfast: a fuzz target: bytes choose messages, options and the sizes of chunks. Protobuf's own parser
// reads what is written as it was meant, and writes the same bytes.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"
#include "support/protobuf_built.hpp"
#include "support/protobuf_values.hpp"

#include <google/protobuf/stubs/logging.h>

#include <array>
#include <functional>
#include <string>

using holdfast::protobuf;
using holdfast::protobuf_delimited;
using tests::in_chunks;

namespace {

std::size_t one_chunk() { return std::size_t{1} << 20; }

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static const google::protobuf::LogSilencer quiet; // it complains of strings that are not UTF-8
    fuzz::choices choices(data, size);
    std::array<std::size_t, 3> sizes{};
    for (std::size_t& each : sizes)
        each = std::max<std::size_t>(tests::any_size(choices, 65536), 1);
    const auto some = [&, next = std::size_t{0}]() mutable { return sizes[next++ % sizes.size()]; };
    const bool trusting = choices.below(2) == 0;
    const tests::wire::order value = tests::wire::any_order(choices);

    const protobuf format{.check_utf8 = !trusting};
    const auto whole = in_chunks<protobuf>(std::cref(value), one_chunk, format);
    const auto parts = in_chunks<protobuf>(std::cref(value), some, format);
    const auto bytes = in_chunks<protobuf>(std::cref(value), [] { return std::size_t{1}; }, format);
    fuzz::check(parts.error == whole.error && bytes.error == whole.error);
    fuzz::check(!whole.error || (whole.error == holdfast::errc::invalid_utf8 && !trusting));

    tests::proto::order meant, read;
    tests::proto::build(meant, value);
    const std::string expected = tests::proto::bytes_of(meant);
    if (!whole.error) {
        fuzz::check(whole.text == expected && parts.text == expected && bytes.text == expected);
        fuzz::check(read.ParseFromString(whole.text) || trusting);
        const auto delimited = in_chunks<protobuf_delimited>(std::cref(value), some, {.check_utf8 = !trusting});
        fuzz::check(!delimited.error && delimited.text.ends_with(expected));
        fuzz::check(delimited.text.size() ==
                    expected.size() + google::protobuf::io::CodedOutputStream::VarintSize64(expected.size()));
    } else {
        fuzz::check(!read.ParseFromString(expected)); // its parser finds the same strings at fault
    }
    return 0;
}
