// holdfast: the speed and the memory of JSON in 16 KiB chunks, beside writing it whole.
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/json.hpp>
#include <holdfast/serialize/simdjson.hpp>

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define HAVE_NLOHMANN 1
#else
#define HAVE_NLOHMANN 0
#endif

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <new>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// The heap, counted: everything below allocates through here.
namespace {
std::atomic<std::size_t> heap_now{0};
std::atomic<std::size_t> heap_peak{0};

void count_up(void* p) noexcept
{
    const std::size_t now =
        heap_now.fetch_add(malloc_usable_size(p), std::memory_order_relaxed) + malloc_usable_size(p);
    if (now > heap_peak.load(std::memory_order_relaxed)) heap_peak.store(now, std::memory_order_relaxed);
}
} // namespace

// Not inlined, or g++ takes the free() for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size)
{
    void* p = std::malloc(size != 0 ? size : 1);
    if (p == nullptr) throw std::bad_alloc();
    count_up(p);
    return p;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept
{
    void* p = std::malloc(size != 0 ? size : 1);
    if (p != nullptr) count_up(p);
    return p;
}
[[gnu::noinline]] void operator delete(void* p) noexcept
{
    heap_now.fetch_sub(malloc_usable_size(p), std::memory_order_relaxed);
    std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace {

constexpr std::size_t chunk_bytes = 16 * 1024;

struct quote {
    std::uint64_t id;
    std::string symbol;
    double bid, ask;
    std::uint32_t bid_size, ask_size;
    std::uint64_t time;
    bool open;
};

constexpr auto describe(holdfast::type<quote>)
{
    using holdfast::field;
    return holdfast::fields(field("id", &quote::id), field("symbol", &quote::symbol),
                            field("bid", &quote::bid), field("ask", &quote::ask),
                            field("bid_size", &quote::bid_size), field("ask_size", &quote::ask_size),
                            field("time", &quote::time), field("open", &quote::open));
}

std::vector<quote> make_quotes(std::size_t rows)
{
    std::mt19937_64 random(42);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    std::vector<quote> quotes;
    quotes.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        quote q{};
        q.id = 1'000'000 + i;
        for (auto letters = 4 + below(3); letters != 0; --letters)
            q.symbol += static_cast<char>('A' + below(26));
        const auto cents = 100 + below(100'000);
        q.bid = static_cast<double>(cents) / 100;
        q.ask = static_cast<double>(cents + 1 + below(10)) / 100;
        q.bid_size = static_cast<std::uint32_t>(below(10'000));
        q.ask_size = static_cast<std::uint32_t>(below(10'000));
        q.time = 1'700'000'000'000'000'000 + i * 1'000 + below(1'000);
        q.open = below(2) == 0;
        quotes.push_back(std::move(q));
    }
    return quotes;
}

// Copies what it is given once, as a socket does: into a ring of the size of a large socket buffer.
class sink {
public:
    sink() : ring_(256 * 1024) {}

    void take(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const std::size_t n = std::min(bytes.size(), ring_.size() - at_);
            std::memcpy(ring_.data() + at_, bytes.data(), n);
            at_ = (at_ + n) % ring_.size();
            taken_ += n;
            bytes.remove_prefix(n);
        }
    }

    std::size_t taken() const noexcept { return taken_; }

private:
    std::vector<char> ring_;
    std::size_t at_ = 0;
    std::size_t taken_ = 0;
};

struct subject {
    std::string name;
    std::function<void(sink&)> run;
    std::vector<double> bytes_per_second{};
    std::size_t peak_extra_bytes = 0;
};

template <class Source>
void stream(const Source& source, sink& to)
{
    holdfast::streaming_serializer<holdfast::json, std::reference_wrapper<const Source>> text{
        std::cref(source)};
    std::vector<char> chunk(chunk_bytes);
    std::error_code ec;
    for (auto part = text.next(chunk, ec); !part.empty(); part = text.next(chunk, ec))
        to.take({part.data(), part.size()});
    if (ec) throw std::system_error(ec);
}

class report {
public:
    explicit report(const std::string& json_file)
    {
        if (json_file.empty()) return;
        json_.open(json_file, std::ios::app);
        if (!json_) throw std::system_error(errno, std::generic_category(), "cannot write " + json_file);
    }

    void run(const std::string& name, std::vector<subject> subjects, int rounds)
    {
        sink to;
        for (int round = -1; round < rounds; ++round) { // the first one warms up, and measures the memory
            for (auto& s : subjects) {
                const std::size_t before = heap_now;
                heap_peak = before;
                const std::size_t taken = to.taken();
                const auto start = std::chrono::steady_clock::now();
                s.run(to);
                const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
                if (round < 0) {
                    s.peak_extra_bytes = heap_peak - before;
                } else {
                    s.bytes_per_second.push_back(static_cast<double>(to.taken() - taken) / took.count());
                }
            }
        }
        std::printf("\n%-10s %-10s %12s %22s %18s\n", "case", "subject", "MB/s", "(slowest..fastest)",
                    "peak extra bytes");
        for (auto& s : subjects) {
            std::sort(s.bytes_per_second.begin(), s.bytes_per_second.end());
            const double median = s.bytes_per_second[s.bytes_per_second.size() / 2];
            std::printf("%-10s %-10s %12.0f %10.0f .. %8.0f %18zu\n", name.c_str(), s.name.c_str(),
                        median / 1e6, s.bytes_per_second.front() / 1e6, s.bytes_per_second.back() / 1e6,
                        s.peak_extra_bytes);
            line(s.name, name, "bytes_per_second", median, "B/s");
            line(s.name, name, "peak_extra_bytes", static_cast<double>(s.peak_extra_bytes), "B");
        }
    }

private:
    void line(const std::string& subject, const std::string& name, const char* metric, double value,
              const char* unit)
    {
        if (!json_.is_open()) return;
        char text[64];
        const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 0).ptr;
        json_ << R"({"bench":"serialize","subject":")" << subject << R"(","case":")" << name
              << R"(","metric":")" << metric << R"(","value":)" << std::string_view(text, end)
              << R"(,"unit":")" << unit << "\"}\n";
    }

    std::ofstream json_;
};

#if HAVE_NLOHMANN
nlohmann::json nlohmann_of(const std::vector<quote>& quotes)
{
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& q : quotes)
        rows.push_back({{"id", q.id},
                        {"symbol", q.symbol},
                        {"bid", q.bid},
                        {"ask", q.ask},
                        {"bid_size", q.bid_size},
                        {"ask_size", q.ask_size},
                        {"time", q.time},
                        {"open", q.open}});
    return rows;
}
#endif

// `document` is nlohmann's own; nullptr where it is not installed.
template <class Source>
std::vector<subject> subjects_of(const Source& source, const std::string& finished,
                                 [[maybe_unused]] const void* document)
{
    std::vector<subject> subjects{{"holdfast", [&](sink& to) { stream(source, to); }}};
#if HAVE_NLOHMANN
    subjects.push_back({"nlohmann", [document](sink& to) {
                            to.take(static_cast<const nlohmann::json*>(document)->dump());
                        }});
#endif
    subjects.push_back({"memcpy", [&](sink& to) { to.take(finished); }});
    return subjects;
}

struct settings {
    std::string json_file;
    std::string document = "/usr/share/iso-codes/json/iso_639-3.json";
    std::size_t rows = 1'000'000;
    int rounds = 7;
};

void run(const settings& s)
{
    report out(s.json_file);
    if (!HAVE_NLOHMANN)
        std::puts("nlohmann is left out: <nlohmann/json.hpp> was not found (apt: nlohmann-json3-dev)");
    {
        const std::vector<quote> quotes = make_quotes(s.rows);
        const std::string finished = holdfast::serialize_to_string<holdfast::json>(quotes);
        const void* document = nullptr;
#if HAVE_NLOHMANN
        const nlohmann::json rows = nlohmann_of(quotes);
        if (nlohmann::json::parse(finished) != rows) throw std::runtime_error("the quotes do not read back");
        document = &rows;
#endif
        out.run("quotes", subjects_of(quotes, finished, document), s.rounds);
    }
    {
        simdjson::dom::parser parser;
        simdjson::dom::element root;
        if (const auto error = parser.load(s.document).get(root))
            throw std::runtime_error(s.document + ": " + simdjson::error_message(error) +
                                     (error == simdjson::IO_ERROR ? " (apt: iso-codes)" : ""));
        const std::string finished = holdfast::serialize_to_string<holdfast::json>(root);
        const void* document = nullptr;
#if HAVE_NLOHMANN
        std::ifstream file(s.document);
        const nlohmann::json own = nlohmann::json::parse(file);
        if (nlohmann::json::parse(finished) != own)
            throw std::runtime_error("the document does not read back");
        document = &own;
#endif
        // It is small: many times over, so that a round is long enough to be measured.
        auto subjects = subjects_of(root, finished, document);
        for (auto& one : subjects)
            one.run = [run = one.run](sink& to) {
                for (int i = 0; i < 20; ++i)
                    run(to);
            };
        out.run("document", std::move(subjects), s.rounds);
    }
}

constexpr const char* usage =
    R"(serialize: JSON in 16 KiB chunks into a sink that copies them once, beside whole-string writers

  --json FILE       append the figures to FILE, one JSON object a line
  --rows N          quotes (default 1000000; nlohmann's DOM of them takes about a gigabyte)
  --document FILE   the document (default Debian's iso_639-3.json, package iso-codes)
  --rounds N        rounds, of which the median counts (default 7)
)";

std::size_t number(std::string_view text)
{
    std::size_t value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size() || value == 0)
        throw std::runtime_error("not a number above 0: " + std::string(text));
    return value;
}

} // namespace

int main(int argc, char** argv)
try {
    settings s;
    for (int i = 1; i < argc; ++i) {
        const std::string_view option = argv[i];
        if (option == "--help") {
            std::fputs(usage, stdout);
            return 0;
        }
        if (option != "--json" && option != "--rows" && option != "--document" && option != "--rounds")
            throw std::runtime_error("unknown option " + std::string(option) + ": see --help");
        if (++i == argc) throw std::runtime_error(std::string(option) + " needs a value: see --help");
        if (option == "--json") s.json_file = argv[i];
        if (option == "--document") s.document = argv[i];
        if (option == "--rows") s.rows = number(argv[i]);
        if (option == "--rounds") s.rounds = static_cast<int>(number(argv[i]));
    }
    run(s);
} catch (const std::exception& e) {
    std::fprintf(stderr, "serialize: %s\n", e.what());
    return 2;
}
