// ndjson: converts a JSON array to NDJSON (default), or NDJSON to a JSON array (--to-array), from standard
// input to standard output. It holds two buffers of 64 KiB, whatever the size of the text and of its
// elements.
//
//     ndjson < catalog.json | grep '"id":7' | ndjson --to-array
//
// SPDX-License-Identifier: BSL-1.0
#include <holdfast/serialize/ndjson_converter.hpp>

#include <array>
#include <cstdio>
#include <string_view>
#include <system_error>

namespace {

template <class Converter>
int convert()
{
    static std::array<char, 65536> input, output;
    Converter converter;
    std::error_code ec;
    const auto write = [](std::string_view part) {
        return std::fwrite(part.data(), 1, part.size(), stdout) == part.size();
    };
    while (const std::size_t size = std::fread(input.data(), 1, input.size(), stdin)) {
        std::string_view piece(input.data(), size);
        for (std::string_view part; !(part = converter.next(piece, output, ec)).empty();)
            if (!write(part)) return 1;
        if (ec) break;
    }
    for (std::string_view part; !ec && !(part = converter.finish(output, ec)).empty();)
        if (!write(part)) return 1;
    if (ec)
        std::fprintf(stderr, "ndjson: element %llu: %s\n", static_cast<unsigned long long>(converter.elements()),
                     ec.message().c_str());
    return ec || std::ferror(stdin) || std::fflush(stdout) != 0 ? 1 : 0;
}

} // namespace

int main(int argc, char** argv)
{
    if (argc == 1) return convert<holdfast::array_to_ndjson>();
    if (argc == 2 && std::string_view(argv[1]) == "--to-array") return convert<holdfast::ndjson_to_array>();
    const bool help = argc == 2 && std::string_view(argv[1]) == "--help";
    std::fputs("usage: ndjson [--to-array] < input > output\n"
               "Converts a JSON array to NDJSON, one element a line; with --to-array NDJSON to an array.\n",
               help ? stdout : stderr);
    return help ? 0 : 2;
}
