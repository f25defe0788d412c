// holdfast: fuzz target of proxy_header_parser: whatever the bytes and their cuts, it takes a header and nothing after it.
// SPDX-License-Identifier: BSL-1.0
#include "choices.hpp"
#include "support/proxy_headers.hpp"

#include <holdfast/proxy_protocol.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using holdfast::net::ip::tcp;

/// A header, or something near one, and bytes after it.
std::string input(fuzz::choices& choose)
{
    const tcp::endpoint v4{holdfast::net::ip::address_v4(static_cast<std::uint32_t>(choose.bits())), 4711};
    std::string made;
    switch (choose.below(4)) {
    case 0:
        break;
    case 1:
        made =
            "PROXY TCP4 " + v4.address().to_string() + " 192.0.2.2 " + std::to_string(choose.below(70000)) + " 1\r\n";
        break;
    case 2:
        made = tests::proxy_v2_tcp4(v4, choose.text(300));
        break;
    case 3:
        made = tests::proxy_v2(static_cast<char>(choose.below(256)), static_cast<char>(choose.below(256)),
                               choose.text(600));
        break;
    }
    if (!made.empty() && choose.below(4) == 0) made[choose.below(made.size())] = static_cast<char>(choose.below(256));
    return made + choose.text(300);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::choices choose(data, size);
    const std::size_t limit = 107 + choose.below(600);
    const std::string bytes = input(choose);
    const std::string_view all = bytes;

    holdfast::proxy_header_parser whole(limit);
    const std::size_t used = whole.parse(all);
    fuzz::check(used <= all.size() && used <= limit);
    fuzz::check(!(whole.done() && whole.failed()));
    fuzz::check(whole.done() || whole.failed() || used == all.size());

    holdfast::proxy_header_parser cut(limit);
    std::size_t at = 0;
    while (at != all.size()) {
        const std::size_t n = std::min(all.size() - at, 1 + choose.below(40));
        const std::size_t taken = cut.parse(all.substr(at, n));
        at += taken;
        if (taken != n) break;
    }
    fuzz::check(cut.done() == whole.done() && cut.failed() == whole.failed() && at == used);
    if (!whole.done()) return 0;
    fuzz::check(cut.header().source == whole.header().source && cut.header().local == whole.header().local);

    holdfast::proxy_header_parser again(limit); // the header alone is one
    fuzz::check(again.parse(all.substr(0, used)) == used && again.done());
    holdfast::proxy_header_parser without_end(limit);
    without_end.parse(all.substr(0, used - 1));
    fuzz::check(!without_end.done() && !without_end.failed());
    return 0;
}
