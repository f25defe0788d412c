// holdfast: the speed and the memory of JSON in 16 KiB chunks, beside writing it whole.
// SPDX-License-Identifier: BSL-1.0
#include "support/json_newest.hpp"
#include "support/json_peers.hpp"
#include "support/json_rows.hpp"
#include "support/json_sink.hpp"
#include "support/pinning.hpp"
#include "support/results.hpp"
#include "support/writers.hpp"

#include <holdfast/adapters/simdjson.hpp>
#include <holdfast/adapters/simdjson_ondemand.hpp>
#include <holdfast/serialize/json.hpp>

#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using benchmarks::measure;
using benchmarks::sink;
using benchmarks::subject;

// Cases of the program that is built for newer processors end in _v3.
std::string shown(std::string_view name) { return std::string(name) + HOLDFAST_CASE_SUFFIX; }
constexpr bool first_program = std::string_view(HOLDFAST_CASE_SUFFIX).empty();

struct settings {
    std::string only;
    std::string corpus;
    std::uint32_t rows = 100'000;
    std::uint32_t rounds = 7;
};

template <class Source>
void stream(const Source& source, std::size_t chunk_bytes, sink& to)
{
    benchmarks::stream<holdfast::json>(source, chunk_bytes, to);
}

[[maybe_unused]] void add(std::vector<subject>& all, benchmarks::named_writers writers)
{
    for (auto& [name, run] : writers)
        all.push_back({std::move(name), std::move(run)});
}

// The writers of HOLDFAST_PEERS: glaze and simdjson's builder write rows, yyjson the same text as its own document.
template <class Source>
void add_newest([[maybe_unused]] std::vector<subject>& all, [[maybe_unused]] const Source& source,
                [[maybe_unused]] const std::string& finished)
{
    [[maybe_unused]] constexpr bool rows = !std::is_same_v<Source, simdjson::dom::element>;
#if HAVE_GLAZE
    if constexpr (rows)
        add(all, benchmarks::glaze_writers(source));
    else
        add(all, benchmarks::glaze_writers(std::string_view(finished)));
#endif
#if HAVE_SIMDJSON_BUILDER
    if constexpr (rows) add(all, benchmarks::simdjson_builder_writers(source));
#endif
#if HAVE_YYJSON
    add(all, benchmarks::yyjson_writers(finished));
#endif
}

#if HAVE_RAPIDJSON
template <class Allocator, class Source>
void write_rapidjson(benchmarks::rapidjson_text<Allocator>& text, const Source& source, sink& to)
{
    text.Clear();
    benchmarks::rapidjson_writer<benchmarks::rapidjson_text<Allocator>, Allocator> writer(text);
    benchmarks::rapidjson_put(writer, source);
    to.take({text.GetString(), text.GetSize()});
}

template <class Source>
void add_rapidjson(std::vector<subject>& all, const Source& source)
{
    const auto counted = [&source](sink& to) {
        benchmarks::rapidjson_text<benchmarks::rapidjson_counted> text;
        write_rapidjson(text, source, to);
    };
    all.push_back({"rapidjson",
                   [&source, text = std::make_shared<benchmarks::rapidjson_text<>>()](sink& to) {
                       write_rapidjson(*text, source, to);
                   },
                   counted});
    all.push_back({"rapidjson_fresh",
                   [&source](sink& to) {
                       benchmarks::rapidjson_text<> text;
                       write_rapidjson(text, source, to);
                   },
                   counted});
    all.push_back({"rapidjson_stream", [&source](sink& to) {
                       benchmarks::rapidjson_chunks chunks(to);
                       benchmarks::rapidjson_writer<benchmarks::rapidjson_chunks> writer(chunks);
                       benchmarks::rapidjson_put(writer, source);
                       chunks.Flush();
                   }});
}
#endif

// The writers that are given the same source as holdfast, or the same document as their own.
template <class Source, class RapidjsonSource>
std::vector<subject> writers(const Source& source, [[maybe_unused]] const RapidjsonSource& rapidjson_source,
                             const benchmarks::peer_documents& documents, const std::string& finished)
{
    std::vector<subject> all;
    all.push_back({"holdfast", [&](sink& to) { stream(source, 16 * 1024, to); }});
    all.push_back({"holdfast_1k", [&](sink& to) { stream(source, 1024, to); }});
    all.push_back({"holdfast_64", [&](sink& to) { stream(source, 64, to); }});
#if HAVE_RAPIDJSON
    // Where RapidJSON's document does not compile, the source is simdjson's.
    if constexpr (!std::is_same_v<RapidjsonSource, simdjson::dom::element>) add_rapidjson(all, rapidjson_source);
#endif
#if HAVE_NLOHMANN
    all.push_back({"nlohmann", [&](sink& to) { to.take(documents.nlohmann.dump()); }});
#endif
#if HAVE_BOOST_JSON
    all.push_back({"boost_json", [&](sink& to) {
                       boost::json::serializer writer;
                       writer.reset(&documents.boost);
                       std::vector<char> chunk(16 * 1024);
                       while (!writer.done()) {
                           const auto part = writer.read(chunk.data(), chunk.size());
                           to.take({part.data(), part.size()});
                       }
                   }});
#endif
    add_newest(all, source, finished);
    all.push_back({"simdjson_minify", [&](sink& to) { to.take(simdjson::minify(documents.simdjson)); }});
    all.push_back({"memcpy", [&](sink& to) { to.take(finished); }});
    return all;
}

// A message of one row at a time into a buffer that is used again, for each of many rows.
std::vector<subject> writers_of_one(const std::vector<benchmarks::quote>& quotes,
                                    const benchmarks::peer_documents& documents,
                                    const std::vector<std::string>& finished,
                                    [[maybe_unused]] const std::string& all_finished)
{
    std::vector<subject> all;
    all.push_back({"holdfast", [&](sink& to) {
                       std::vector<char> chunk(16 * 1024);
                       for (const auto& q : quotes) {
                           holdfast::streaming_serializer text{std::cref(q), holdfast::json{}};
                           std::error_code ec;
                           const auto part = text.next(chunk, ec);
                           if (ec || !text.done()) throw std::runtime_error("a quote did not fit");
                           to.take({part.data(), part.size()});
                       }
                   }});
#if HAVE_RAPIDJSON
    all.push_back({"rapidjson", [&](sink& to) {
                       benchmarks::rapidjson_text<> text;
                       benchmarks::rapidjson_writer<benchmarks::rapidjson_text<>> writer(text);
                       for (const auto& q : quotes) {
                           text.Clear();
                           writer.Reset(text);
                           benchmarks::rapidjson_put(writer, q);
                           to.take({text.GetString(), text.GetSize()});
                       }
                   }});
#endif
#if HAVE_NLOHMANN
    all.push_back({"nlohmann", [&](sink& to) {
                       for (const auto& q : documents.nlohmann)
                           to.take(q.dump());
                   }});
#endif
#if HAVE_BOOST_JSON
    all.push_back({"boost_json", [&](sink& to) {
                       boost::json::serializer writer;
                       std::vector<char> chunk(16 * 1024);
                       for (const auto& q : documents.boost.get_array()) {
                           writer.reset(&q);
                           const auto part = writer.read(chunk.data(), chunk.size());
                           to.take({part.data(), part.size()});
                       }
                   }});
#endif
#if HAVE_GLAZE
    add(all, benchmarks::glaze_writers_of_one(quotes));
#endif
#if HAVE_SIMDJSON_BUILDER
    add(all, benchmarks::simdjson_builder_writers_of_one(quotes));
#endif
#if HAVE_YYJSON
    add(all, benchmarks::yyjson_writers_of_one(all_finished));
#endif
    all.push_back({"simdjson_minify", [&](sink& to) {
                       for (const simdjson::dom::element q : simdjson::dom::array(documents.simdjson))
                           to.take(simdjson::minify(q));
                   }});
    all.push_back({"memcpy", [&](sink& to) {
                       for (const auto& text : finished)
                           to.take(text);
                   }});
    return all;
}

// Python writes the same text, in a process of its own after the others.
void measure_python(benchmarks::results& results, const std::string& name, const std::string& text,
                    std::uint32_t rounds)
{
    if (!first_program) return;
    const auto script = std::filesystem::path(SUPPORT_DIRECTORY) / "json_python.py";
    std::string file = (std::filesystem::temp_directory_path() / "holdfast_serialize_XXXXXX").string();
    const int descriptor = ::mkstemp(file.data());
    if (descriptor < 0) throw std::system_error(errno, std::generic_category(), file);
    ::close(descriptor);
    std::ofstream(file, std::ios::binary) << text;
    const std::string command = "python3 '" + script.string() + "' " + std::to_string(rounds) + " < '" + file + "'";
    std::FILE* const python = ::popen(command.c_str(), "r");
    if (python == nullptr) throw std::system_error(errno, std::generic_category(), "python3");
    char writer[32];
    double speed = 0, peak = 0;
    while (std::fscanf(python, "%31s %lf %lf", writer, &speed, &peak) == 3) {
        results.add(std::string("python_") + writer, name, "bytes_per_second", speed, "B/s");
        results.add(std::string("python_") + writer, name, "peak_extra_bytes", peak, "B");
    }
    if (::pclose(python) != 0) std::puts("python is left out: python3 did not run");
    std::filesystem::remove(file);
}

// What two writers wrote must be the same values, or their speeds mean nothing.
void check([[maybe_unused]] const std::string& name, [[maybe_unused]] std::string_view ours,
           [[maybe_unused]] std::string_view theirs)
{
#if HAVE_NLOHMANN
    if (nlohmann::json::parse(ours) != nlohmann::json::parse(theirs))
        throw std::runtime_error(name + ": holdfast did not write what it was given");
#endif
}

template <class Row>
void check_rows([[maybe_unused]] const std::string& name, [[maybe_unused]] const std::vector<Row>& rows)
{
#if HAVE_RAPIDJSON
    benchmarks::rapidjson_text<> text;
    benchmarks::rapidjson_writer<benchmarks::rapidjson_text<>> writer(text);
    benchmarks::rapidjson_put(writer, rows);
    check(name, holdfast::serialize_to_string<holdfast::json>(rows), {text.GetString(), text.GetSize()});
#endif
}

// `sample` is the first of the rows, for the checks, and for Python. Python is measured where `with_python`.
template <class Row>
void rows_case(benchmarks::results& results, const std::string& name, const std::vector<Row>& rows,
               const std::vector<Row>& sample, std::uint32_t rounds, bool with_python)
{
    check_rows(name, sample);
    {
        const std::string finished = holdfast::serialize_to_string<holdfast::json>(rows);
        const benchmarks::peer_documents documents(finished);
        measure(results, shown(name), writers(rows, rows, documents, finished), rounds);
    }
    if (with_python) measure_python(results, name, holdfast::serialize_to_string<holdfast::json>(sample), rounds);
}

void one_quote_case(benchmarks::results& results, std::uint32_t rounds)
{
    const auto quotes = benchmarks::make_quotes(10'000);
    std::vector<std::string> finished;
    for (const auto& q : quotes)
        finished.push_back(holdfast::serialize_to_string<holdfast::json>(q));
    const std::string all_finished = holdfast::serialize_to_string<holdfast::json>(quotes);
    const benchmarks::peer_documents documents(all_finished);
    measure(results, shown("one_quote"), writers_of_one(quotes, documents, finished, all_finished), rounds);
}

// From the text: parsed on demand, and copied without its white space, numbers digit by digit.
void stream_on_demand(simdjson::ondemand::parser& parser, const simdjson::padded_string& document, sink& to)
{
    simdjson::ondemand::document parsed = parser.iterate(document);
    holdfast::streaming_serializer<holdfast::json, simdjson::simdjson_result<simdjson::ondemand::value>> text{
        parsed.get_value()};
    std::vector<char> chunk(16 * 1024);
    std::error_code ec;
    for (auto part = text.next(chunk, ec); !part.empty(); part = text.next(chunk, ec))
        to.take({part.data(), part.size()});
    if (ec) throw std::system_error(ec);
}

void document_case(benchmarks::results& results, const std::string& name, const std::filesystem::path& path,
                   std::uint32_t rounds)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::printf("%s is left out: %s cannot be read\n", name.c_str(), path.c_str());
        return;
    }
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const benchmarks::peer_documents documents(text);
    const std::string finished = holdfast::serialize_to_string<holdfast::json>(documents.simdjson);
    check(name, finished, text);
#if HAVE_RAPIDJSON_DOCUMENT
    auto all = writers(documents.simdjson, documents.rapidjson, documents, finished);
#else
    auto all = writers(documents.simdjson, documents.simdjson, documents, finished);
#endif
    const simdjson::padded_string padded(text);
    simdjson::ondemand::parser parser;
    all.push_back({"holdfast_ondemand", [&](sink& to) { stream_on_demand(parser, padded, to); }});
    measure(results, shown(name), std::move(all), rounds);
    measure_python(results, name, text, rounds);
}

// One number at a time: ours, the standard library's, RapidJSON's (which is not always the shortest).
void numbers_case(benchmarks::results& results, const std::string& name, const std::vector<double>& values,
                  std::uint32_t rounds)
{
    using write = char* (*)(char*, double);
    std::vector<std::pair<std::string, write>> all{
        {"holdfast", [](char* p, double value) { return holdfast::detail::write_finite(p, value); }},
        {"to_chars", [](char* p, double value) { return std::to_chars(p, p + 32, value).ptr; }},
    };
#if HAVE_RAPIDJSON
    all.emplace_back("rapidjson", [](char* p, double value) { return rapidjson::internal::dtoa(value, p); });
#endif
    std::vector<std::vector<double>> nanoseconds(all.size());
    std::size_t written = 0;
    for (std::uint32_t round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            char text[64];
            const auto start = std::chrono::steady_clock::now();
            for (const double value : values)
                written += static_cast<std::size_t>(all[i].second(text, value) - text);
            const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
            nanoseconds[i].push_back(took.count() / static_cast<double>(values.size()));
        }
    }
    if (written == 0) throw std::runtime_error("no number was written");
    for (std::size_t i = 0; i < all.size(); ++i)
        results.add(all[i].first, shown(name), "ns_per_double", benchmarks::median(nanoseconds[i]), "ns");
}

void numbers_cases(benchmarks::results& results, std::uint32_t rounds)
{
    benchmarks::seeded random;
    std::vector<double> prices, decimals, fractions;
    for (int i = 0; i < 100'000; ++i) {
        prices.push_back(static_cast<double>(100 + random.below(100'000)) / 100);
        decimals.push_back(static_cast<double>(random.below(1'000'000'000'000)) / 1'000'000'000);
        fractions.push_back(static_cast<double>(random.below(std::uint64_t{1} << 53)) * 0x1p-53);
    }
    numbers_case(results, "price", prices, rounds);       // two decimals
    numbers_case(results, "decimal", decimals, rounds);   // up to nine
    numbers_case(results, "fraction", fractions, rounds); // 16 or 17 digits
}

void say_what_is_missing()
{
    if (!HAVE_RAPIDJSON) std::puts("rapidjson is left out: <rapidjson/writer.h> was not found (apt: rapidjson-dev)");
    if (!HAVE_NLOHMANN) std::puts("nlohmann is left out: <nlohmann/json.hpp> was not found (apt: nlohmann-json3-dev)");
    if (!HAVE_GLAZE || !HAVE_SIMDJSON_BUILDER || !HAVE_YYJSON)
        std::puts("glaze, simdjson's builder and yyjson are there where HOLDFAST_PEERS names a folder with their "
                  "checkouts, and glaze needs a standard library that has <format>");
    if (!HAVE_BOOST_JSON)
        std::puts("boost_json is left out: <boost/json/src.hpp> was not found (apt: libboost1.81-dev)");
}

void run_cases(benchmarks::results& results, const settings& s)
{
    say_what_is_missing();
    const auto wanted = [&](std::string_view name) { return s.only.empty() || s.only == name; };
    if (wanted("quotes"))
        rows_case(results, "quotes", benchmarks::make_quotes(s.rows), benchmarks::make_quotes(s.rows / 50 + 1),
                  s.rounds, true);
    using benchmarks::prices;
    for (const auto& [name, as] : {std::pair{"decimals5", prices::five_decimals}, {"digits17", prices::any_digits}})
        if (wanted(name))
            rows_case(results, name, benchmarks::make_quotes(s.rows, as), benchmarks::make_quotes(s.rows / 50 + 1, as),
                      s.rounds, false);
    for (const auto& [name, special] : {std::pair{"logs", false}, {"logs_escaped", true}})
        if (wanted(name))
            rows_case(results, name, benchmarks::make_logs(s.rows / 5 + 1, special),
                      benchmarks::make_logs(s.rows / 50 + 1, special), s.rounds, !special);
    for (const auto& [name, file] :
         {std::pair{"twitter", "twitter.json"}, {"citm", "citm_catalog.json"}, {"canada", "canada.json"}})
        if (wanted(name)) document_case(results, name, std::filesystem::path(s.corpus) / file, s.rounds);
    if (wanted("one_quote")) one_quote_case(results, s.rounds);
    if (wanted("numbers")) numbers_cases(results, s.rounds);
}

int run(int argc, char** argv)
{
    settings s;
    const char* const corpus = std::getenv("HOLDFAST_CORPUS");
    s.corpus = corpus != nullptr ? corpus : "../shared/data";
    benchmarks::results results{"serialize"};
    benchmarks::command_line cli{"serialize",
                                 "JSON in 16 KiB chunks into a sink that copies them once, beside whole strings."};
    results.add_options(cli);
    cli.add("case", s.only, "NAME",
            "only quotes, decimals5, digits17, logs, logs_escaped, twitter, citm, canada, one_quote or numbers; all of "
            "them by default");
    cli.add("corpus", s.corpus, "DIR",
            "where twitter.json, citm_catalog.json and canada.json are; HOLDFAST_CORPUS sets it too");
    cli.add("rows", s.rows, "N",
            "quotes, and five times the log rows; above 300000 the peers' documents take so much memory that its pages "
            "are what is measured");
    cli.add("rounds", s.rounds, "N", "rounds, of which the median counts");
    if (!cli.parse(argc, argv)) return 0;
    if (s.rows == 0) benchmarks::command_line::fail("rows", "must be at least 1");
    if (s.rounds == 0) benchmarks::command_line::fail("rounds", "must be at least 1");
    results.open();
    benchmarks::pin_measured();
    run_cases(results, s);
    results.print_table();
    return 0;
}

} // namespace

int main(int argc, char** argv) { return benchmarks::run_main(argc, argv, run); }
