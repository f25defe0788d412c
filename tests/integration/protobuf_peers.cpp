// holdfast: tests of Protobuf against its own libraries: protoc's classes in C++ and Python, and protoc
// itself.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/protobuf_built.hpp"
#include "support/protobuf_values.hpp"
#include "support/scale.hpp"

#include <google/protobuf/util/delimited_message_util.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <unistd.h>

namespace {

using holdfast::protobuf;
using holdfast::protobuf_delimited;
using tests::in_chunks;
using tests::random_choices;

std::size_t one_chunk() { return std::size_t{1} << 18; }

std::vector<tests::wire::order> some_orders(random_choices& choices, std::size_t n)
{
    std::vector<tests::wire::order> all;
    while (all.size() != n)
        all.push_back(tests::wire::any_order(choices));
    return all;
}

std::string read_file(const std::filesystem::path& path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// What a program makes of some bytes on its standard input.
std::string run(const std::string& command, const std::string& input)
{
    const auto directory = std::filesystem::temp_directory_path();
    const std::string name = "holdfast_protobuf_" + std::to_string(::getpid());
    const auto in = directory / (name + ".in"), out = directory / (name + ".out");
    std::ofstream(in, std::ios::binary) << input;
    const int status = std::system((command + " < '" + in.string() + "' > '" + out.string() + "'").c_str());
    const std::string output = read_file(out);
    std::filesystem::remove(in);
    std::filesystem::remove(out);
    if (status != 0) throw std::runtime_error(command + ": failed");
    return output;
}

} // namespace

TEST_CASE("protoc's classes in C++ read every message as it was meant, and write the same bytes")
{
    const std::uint64_t seed = Catch::rngSeed();
    INFO("seed " << seed);
    random_choices choices(seed);
    for (int round = 0; round < (tests::sanitized ? 200 : 2000); ++round) {
        const tests::wire::order value = tests::wire::any_order(choices);
        const auto some = [&] { return 1 + tests::any_size(choices, 5000); };
        const auto whole = in_chunks<protobuf>(std::cref(value), one_chunk);
        const auto parts = in_chunks<protobuf>(std::cref(value), some);
        const auto bytes = in_chunks<protobuf>(std::cref(value), [] { return std::size_t{1}; });
        REQUIRE(!whole.error);
        REQUIRE((parts.text == whole.text && bytes.text == whole.text));
        REQUIRE(holdfast::serialized_size<protobuf>(value) == whole.text.size());
        tests::proto::order meant, read;
        tests::proto::build(meant, value);
        REQUIRE(read.ParseFromString(whole.text));
        REQUIRE(tests::proto::bytes_of(meant) == whole.text);
        REQUIRE(tests::proto::bytes_of(read) == whole.text);
    }
}

TEST_CASE("one message in chunks of every size")
{
    random_choices choices(Catch::rngSeed());
    tests::wire::order value;
    std::string whole;
    while (whole.size() < 2000 || whole.size() > 4000) {
        value = tests::wire::any_order(choices);
        whole = in_chunks<protobuf>(std::cref(value), one_chunk).text;
    }
    const std::size_t step = tests::sanitized ? 7 : 1;
    for (std::size_t n = 1; n <= whole.size() + 1; n += step)
        REQUIRE(in_chunks<protobuf>(std::cref(value), [n] { return n; }).text == whole);
}

TEST_CASE("delimited messages are what ParseDelimitedFromZeroCopyStream reads")
{
    const std::uint64_t seed = Catch::rngSeed();
    INFO("seed " << seed);
    random_choices choices(seed);
    const auto rows = some_orders(choices, 100);
    const auto some = [&] { return 1 + tests::any_size(choices, 5000); };
    const std::string stream = in_chunks<protobuf_delimited>(std::cref(rows), some).text;
    google::protobuf::io::ArrayInputStream input(stream.data(), static_cast<int>(stream.size()));
    for (const auto& value : rows) {
        tests::proto::order meant, read;
        tests::proto::build(meant, value);
        REQUIRE(google::protobuf::util::ParseDelimitedFromZeroCopyStream(&read, &input, nullptr));
        REQUIRE(tests::proto::bytes_of(read) == tests::proto::bytes_of(meant));
    }
    tests::proto::order none;
    bool ended = false;
    CHECK_FALSE(google::protobuf::util::ParseDelimitedFromZeroCopyStream(&none, &input, &ended));
    CHECK(ended);
}

#ifdef PYTHON
TEST_CASE("Python's classes read every message, and write the same bytes")
{
    random_choices choices(Catch::rngSeed());
    const std::string stream = in_chunks<protobuf_delimited>(some_orders(choices, 100), one_chunk).text;
    const std::string again = run(PYTHON " '" SUPPORT_DIRECTORY "/protobuf_python.py' '" PYTHON_CLASSES "'", stream);
    CHECK((again == stream)); // not printed
}
#endif

TEST_CASE("the entries of a map may have any order")
{
    std::unordered_map<std::string, std::int32_t> counts;
    tests::proto::order meant;
    for (int i = 0; i < 100; ++i)
        (*meant.mutable_counts())[std::to_string(i)] = counts[std::to_string(i)] = i;
    const std::string entries = holdfast::serialize_to_string<protobuf>(counts); // of the field 1
    std::string bytes;
    for (std::size_t at = 0; at < entries.size(); at += 2 + static_cast<std::size_t>(entries[at + 1])) {
        bytes += '\x5a'; // of the field 11
        bytes += entries.substr(at + 1, 1 + static_cast<std::size_t>(entries[at + 1]));
    }
    tests::proto::order read;
    REQUIRE(read.ParseFromString(bytes));
    CHECK(tests::proto::bytes_of(read) == tests::proto::bytes_of(meant));
}

TEST_CASE("protoc decodes what is written, and encodes it to the same bytes")
{
    tests::wire::order value;
    value.first.i32 = -5;
    value.first.text = "a \u20ac";
    value.numbers = {1, 300};
    value.leaves[-1] = {7, "leaf", true};
    value.what = -3;
    value.root.nodes.resize(1);
    value.root.nodes[0].id = 9;
    value.far = 1;
    const std::string bytes = holdfast::serialize_to_string<protobuf>(value);
    const std::string protoc = PROTOC " --proto_path='" SUPPORT_DIRECTORY "' protobuf_values.proto ";
    const std::string text = run(protoc + "--decode=tests.proto.order", bytes);
    CHECK(text == R"(first {
  i32: -5
  text: "a \342\202\254"
}
numbers: 1
numbers: 300
leaves {
  key: -1
  value {
    change: 7
    name: "leaf"
    last: true
  }
}
root {
  nodes {
    id: 9
  }
}
changed: -3
far: 1
)");
    CHECK(run(protoc + "--encode=tests.proto.order", text) == bytes);
}
