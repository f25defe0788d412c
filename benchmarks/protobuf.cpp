// holdfast: the speed and the memory of Protobuf in 16 KiB chunks, beside writing it whole.
// SPDX-License-Identifier: BSL-1.0
#include "support/json_rows.hpp"
#include "support/pinning.hpp"
#include "support/results.hpp"
#include "support/writers.hpp"

#include <holdfast/serialize/protobuf.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if HAVE_PROTOBUF
#include <google/protobuf/arena.h>
#include <google/protobuf/util/delimited_message_util.h>
#include <quotes.pb.h>
#endif
#if __has_include(<protozero/pbf_writer.hpp>)
#include <protozero/pbf_writer.hpp>
#define HAVE_PROTOZERO 1
#else
#define HAVE_PROTOZERO 0
#endif

namespace {

using benchmarks::quote;
using benchmarks::sink;
using benchmarks::subject;

constexpr std::size_t chunk_bytes = 16 * 1024;

#if HAVE_PROTOBUF
using benchmarks::proto::quotes;

void fill(quotes& all, const std::vector<quote>& rows)
{
    all.mutable_rows()->Reserve(static_cast<int>(rows.size()));
    for (const quote& row : rows) {
        auto& to = *all.add_rows();
        to.set_id(row.id);
        to.set_symbol(row.symbol);
        to.set_bid(row.bid);
        to.set_ask(row.ask);
        to.set_bid_size(row.bid_size);
        to.set_ask_size(row.ask_size);
        to.set_time(row.time);
        to.set_open(row.open);
    }
}

quotes built(const std::vector<quote>& rows)
{
    quotes all;
    fill(all, rows);
    return all;
}

void serialize(const quotes& all, std::vector<char>& whole, sink& to)
{
    whole.resize(all.ByteSizeLong());
    if (!all.SerializeToArray(whole.data(), static_cast<int>(whole.size())))
        throw std::runtime_error("SerializeToArray failed");
    to.take({whole.data(), whole.size()});
}

// From the rows, as holdfast writes them: into a message that is made for it, on an arena or on the heap.
void write_filled(const std::vector<quote>& rows, bool on_arena, std::vector<char>& whole, sink& to)
{
    google::protobuf::Arena arena;
    if (on_arena) {
        auto& all = *google::protobuf::Arena::CreateMessage<quotes>(&arena);
        fill(all, rows);
        serialize(all, whole, to);
    } else {
        serialize(built(rows), whole, to);
    }
}

// The bytes alone: the sizes that the message keeps are those of the time when it was built.
void write_with_cached_sizes(const quotes& all, std::vector<char>& whole, sink& to)
{
    if (whole.empty()) whole.resize(all.ByteSizeLong());
    all.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(whole.data()));
    to.take({whole.data(), whole.size()});
}

// Whole, into an array that is made for the first round and kept, as its size is: SerializeToArray adds up
// the sizes once more.
void write_whole(const quotes& all, std::vector<char>& whole, sink& to)
{
    if (whole.empty()) whole.resize(all.ByteSizeLong());
    if (!all.SerializeToArray(whole.data(), static_cast<int>(whole.size())))
        throw std::runtime_error("SerializeToArray failed");
    to.take({whole.data(), whole.size()});
}

// A buffer of the chunk's size, which is emptied whenever it is full.
class chunks final : public google::protobuf::io::ZeroCopyOutputStream {
public:
    explicit chunks(sink& to) : to_(to) {}
    ~chunks() override { flush(); }

    bool Next(void** data, int* size) override
    {
        flush();
        *data = chunk_.data();
        *size = static_cast<int>(chunk_.size());
        used_ = chunk_.size();
        return true;
    }

    void BackUp(int count) override { used_ -= static_cast<std::size_t>(count); }
    std::int64_t ByteCount() const override { return static_cast<std::int64_t>(flushed_ + used_); }

private:
    void flush()
    {
        to_.take({chunk_.data(), used_});
        flushed_ += used_;
        used_ = 0;
    }

    sink& to_;
    std::vector<char> chunk_ = std::vector<char>(chunk_bytes);
    std::size_t used_ = 0, flushed_ = 0;
};

void write_delimited(const quotes& all, sink& to)
{
    chunks stream(to);
    google::protobuf::io::CodedOutputStream coded(&stream);
    for (const auto& row : all.rows())
        if (!google::protobuf::util::SerializeDelimitedToCodedStream(row, &coded))
            throw std::runtime_error("SerializeDelimitedToCodedStream failed");
}
#endif

#if HAVE_PROTOZERO
void write_protozero(const std::vector<quote>& rows, std::string& whole, sink& to)
{
    whole.clear();
    protozero::pbf_writer writer(whole);
    for (const quote& row : rows) {
        protozero::pbf_writer message(writer, 1);
        message.add_uint64(1, row.id);
        message.add_string(2, row.symbol);
        message.add_double(3, row.bid);
        message.add_double(4, row.ask);
        if (row.bid_size != 0) message.add_uint32(5, row.bid_size);
        if (row.ask_size != 0) message.add_uint32(6, row.ask_size);
        message.add_uint64(7, row.time);
        if (row.open) message.add_bool(8, true);
    }
    to.take(whole);
}
#endif

// What all write must be the same bytes, or their speeds mean nothing.
void check(const std::vector<quote>& rows)
{
    [[maybe_unused]] const std::string ours = holdfast::serialize_to_string<holdfast::protobuf>(rows);
#if HAVE_PROTOBUF
    if (built(rows).SerializeAsString() != ours) throw std::runtime_error("protobuf writes other bytes");
#endif
#if HAVE_PROTOZERO
    sink zero, whole;
    std::string buffer;
    write_protozero(rows, buffer, zero);
    whole.take(ours);
    if (!zero.same_as(whole)) throw std::runtime_error("protozero writes other bytes");
#endif
}

void run_cases(benchmarks::results& results, std::string_view only, std::uint32_t rows, std::uint32_t rounds)
{
    if (!HAVE_PROTOBUF) std::puts("protobuf is left out (apt: protobuf-compiler libprotobuf-dev)");
    if (!HAVE_PROTOZERO) std::puts("protozero is left out (apt: libprotozero-dev)");
    const auto wanted = [&](std::string_view name) { return only.empty() || only == name; };
    const auto all = benchmarks::make_quotes(rows);
    check(benchmarks::make_quotes(1000));
    std::vector<subject> whole{
        {"holdfast", [&](sink& to) { benchmarks::stream<holdfast::protobuf>(all, chunk_bytes, to); }}};
    std::vector<subject> delimited{
        {"holdfast", [&](sink& to) { benchmarks::stream<holdfast::protobuf_delimited>(all, chunk_bytes, to); }}};
#if HAVE_PROTOBUF
    const quotes messages = built(all);
    whole.push_back(
        {"protobuf", [&, buffer = std::vector<char>()](sink& to) mutable { write_whole(messages, buffer, to); }});
    whole.push_back({"protobuf_cached_sizes", [&, buffer = std::vector<char>()](sink& to) mutable {
                         write_with_cached_sizes(messages, buffer, to);
                     }});
    google::protobuf::Arena arena;
    auto& on_arena_already = *google::protobuf::Arena::CreateMessage<quotes>(&arena);
    fill(on_arena_already, all);
    whole.push_back({"protobuf_arena_cached_sizes", [&, buffer = std::vector<char>()](sink& to) mutable {
                         write_with_cached_sizes(on_arena_already, buffer, to);
                     }});
    for (const bool on_arena : {false, true})
        whole.push_back({on_arena ? "protobuf_arena_from_rows" : "protobuf_from_rows",
                         [&, on_arena, buffer = std::vector<char>()](sink& to) mutable {
                             write_filled(all, on_arena, buffer, to);
                         }});
    const subject one_by_one{"protobuf_delimited", [&](sink& to) { write_delimited(messages, to); }};
    whole.push_back(one_by_one);
    delimited.push_back(one_by_one);
#endif
#if HAVE_PROTOZERO
    whole.push_back({"protozero", [&, buffer = std::string()](sink& to) mutable { write_protozero(all, buffer, to); }});
#endif
    if (wanted("quotes")) benchmarks::measure(results, "quotes", whole, rounds);
    if (wanted("delimited")) benchmarks::measure(results, "delimited", delimited, rounds);
}

int run(int argc, char** argv)
{
    std::string only;
    std::uint32_t rows = 100'000, rounds = 7;
    benchmarks::results results{"protobuf"};
    benchmarks::command_line cli{"protobuf",
                                 "Protobuf in 16 KiB chunks into a sink that copies them once, beside whole messages."};
    results.add_options(cli);
    cli.add("case", only, "NAME", "only quotes or delimited; both by default");
    cli.add("rows", rows, "N",
            "quotes; of a million the peers' messages take so much memory that its pages are what is measured");
    cli.add("rounds", rounds, "N", "rounds, of which the median counts");
    if (!cli.parse(argc, argv)) return 0;
    if (rows == 0) benchmarks::command_line::fail("rows", "must be at least 1");
    if (rounds == 0) benchmarks::command_line::fail("rounds", "must be at least 1");
    results.open();
    benchmarks::pin_measured();
    run_cases(results, only, rows, rounds);
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
