// holdfast: what is left of a connection's secrets in its process, whose whole writable memory is searched for what the
// peer knows of them.
// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/process.hpp"
#include "support/tls_peer.hpp"

#include <holdfast/adapters/tls_stream.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <malloc.h>

namespace {

namespace net = holdfast::net;
using tcp = net::ip::tcp;
using namespace std::chrono_literals;

// OpenSSL does not overwrite its object of a connection when it frees that; here it does, so that what is found is
// holdfast's, or is in use.
void free_cleared(void* memory, const char*, int)
{
    if (memory != nullptr) ::OPENSSL_cleanse(memory, ::malloc_usable_size(memory));
    std::free(memory);
}
void* realloc_cleared(void* memory, std::size_t size, const char*, int)
{
    if (size == 0) {
        free_cleared(memory, nullptr, 0);
        return nullptr;
    }
    void* const moved = std::malloc(size);
    if (moved != nullptr && memory != nullptr) {
        std::memcpy(moved, memory, std::min(size, ::malloc_usable_size(memory)));
        free_cleared(memory, nullptr, 0);
    }
    return moved;
}
const bool openssl_clears = // before OpenSSL allocates anything
    ::CRYPTO_set_mem_functions([](std::size_t size, const char*, int) { return std::malloc(size); }, &realloc_cleared,
                               &free_cleared) == 1;

/// Secrets are handed over in this disguise: the search must not find itself.
constexpr unsigned char disguise = 0x5A;

std::string disguised(std::string text)
{
    for (char& c : text)
        c = static_cast<char>(c ^ disguise);
    return text;
}

/// In how many places of this process's writable memory the text is that has this disguise.
std::size_t places_of(std::string_view hidden)
{
    std::size_t places = 0;
    std::ifstream maps("/proc/self/maps");
    std::vector<std::pair<std::uintptr_t, std::uintptr_t>> areas;
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0, end = 0;
        char dash = 0;
        std::string rights;
        std::istringstream(line) >> std::hex >> begin >> dash >> end >> rights;
        if (rights.starts_with("rw")) areas.emplace_back(begin, end);
    }
    const int first = static_cast<unsigned char>(hidden[0]) ^ disguise;
    for (const auto& [begin, end] : areas) {
        const auto* at = reinterpret_cast<const unsigned char*>(begin);
        const auto* const last = reinterpret_cast<const unsigned char*>(end) - hidden.size();
        while (at <= last && (at = static_cast<const unsigned char*>(
                                  std::memchr(at, first, static_cast<std::size_t>(last - at) + 1))) != nullptr) {
            std::size_t same = 1;
            while (same != hidden.size() && (at[same] ^ disguise) == static_cast<unsigned char>(hidden[same]))
                ++same;
            places += same == hidden.size() ? 1U : 0U;
            ++at;
        }
    }
    return places;
}

/// The server: its first client sends it what is to be searched for, each text after its size, and the second one speaks
/// TLS, and gets back what it sends.
int serve(const holdfast::tls_context& context)
{
    net::io_context io(1);
    tcp::acceptor listener(io, {net::ip::address_v4::loopback(), 0});
    std::cout << listener.local_endpoint().port() << std::endl;
    tcp::socket questions = listener.accept();
    const auto search = [&]() -> net::awaitable<void> {
        for (unsigned char size = 0;;) {
            co_await net::async_read(questions, net::buffer(&size, 1), net::use_awaitable);
            std::string hidden(size, '\0');
            co_await net::async_read(questions, net::buffer(hidden), net::use_awaitable);
            std::cout << places_of(hidden) << std::endl;
        }
    };
    const auto echo = [&]() -> net::awaitable<void> {
        {
            holdfast::tls_stream<> peer(listener.accept(), context);
            co_await peer.async_handshake(holdfast::tls_role::server, net::use_awaitable);
            holdfast::error_code ec;
            std::array<char, 256> text;
            while (const std::size_t n =
                       co_await peer.async_read_some(net::buffer(text), net::redirect_error(net::use_awaitable, ec)))
                co_await net::async_write(peer, net::buffer(text, n), net::use_awaitable);
        }
        std::cout << "ended" << std::endl;
    };
    net::co_spawn(io, search(), net::detached);
    net::co_spawn(io, echo(), net::detached);
    io.run();
    return 0;
}

/// OpenSSL's key log, of one connection: secrets by their labels.
std::map<std::string, std::string> key_log;

void on_key_log(const SSL*, const char* line)
{
    std::istringstream words(line);
    std::string label, random, hex, secret;
    words >> label >> random >> hex;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        secret += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    key_log[label] = secret;
}

std::string expanded(const EVP_MD* hash, const std::string& secret, std::string_view label, std::size_t size)
{
    std::string out(size, '\0');
    REQUIRE(holdfast::detail::hkdf_expand_label(hash,
                                                {reinterpret_cast<const unsigned char*>(secret.data()), secret.size()},
                                                label, {reinterpret_cast<unsigned char*>(out.data()), out.size()}));
    return out;
}

/// Of each direction: the traffic secret, and the key that comes from it. Not the nonce: it is no secret by itself, and
/// OpenSSL's ciphers leave it on the stack.
struct generation {
    generation(const EVP_MD* hash, std::size_t key_bytes, const std::array<std::string, 2>& of_both) : secrets(of_both)
    {
        for (const std::string& each : secrets) {
            all.push_back(each);
            all.push_back(expanded(hash, each, "key", key_bytes));
        }
    }

    std::array<std::string, 2> secrets;
    std::vector<std::string> all;
};

struct suite {
    const char* name;
    const EVP_MD* hash;
    std::size_t key_bytes;
};

} // namespace

TEST_CASE("no secret of a connection is in its process after its end, nor one that was replaced before", "[tls]")
{
    REQUIRE(openssl_clears);
    const tests::certificate files;
    const bool compact = GENERATE(true, false);
    const suite used = GENERATE(suite{"TLS_AES_128_GCM_SHA256", ::EVP_sha256(), 16},
                                suite{"TLS_AES_256_GCM_SHA384", ::EVP_sha384(), 32},
                                suite{"TLS_CHACHA20_POLY1305_SHA256", ::EVP_sha256(), 32});
    INFO(used.name << (compact ? ", compact" : ""));
    tests::process server([&] {
        return serve(holdfast::tls_context::server({.certificate_chain_file = files.chain_file(),
                                                    .private_key_file = files.key_file(),
                                                    .compact_records = compact}));
    });
    const tcp::endpoint where{net::ip::address_v4::loopback(), static_cast<std::uint16_t>(std::stoul(server.line()))};
    net::io_context io;
    tcp::socket questions(io), socket(io);
    questions.connect(where);
    socket.connect(where);
    const auto places_of_all = [&](const std::vector<std::string>& secrets) {
        std::size_t all = 0;
        for (const std::string& each : secrets) {
            const std::string hidden = disguised(each.substr(0, 12)); // part of one is a leak as well
            net::write(questions, net::buffer(std::string(1, static_cast<char>(hidden.size())) + hidden));
            all += std::stoul(server.line());
        }
        return all;
    };

    key_log.clear();
    std::optional<tests::tls_peer> client(std::in_place, std::move(socket), TLS1_3_VERSION, used.name);
    ::SSL_CTX_set_keylog_callback(::SSL_get_SSL_CTX(client->ssl()), &on_key_log);
    for (bool done = false; !done;) {
        done = client->handshake();
        std::this_thread::sleep_for(1ms);
    }
    const auto exchange = [&](int times) {
        const std::string text = "to and fro";
        for (int i = 0; i != times; ++i) {
            client->send(client->seal(text));
            std::string got;
            while ((got += client->read()) != text)
                std::this_thread::sleep_for(1ms);
        }
    };
    const int times = GENERATE(1, 40); // keys of many records have contexts of their own
    exchange(times);
    const generation first(used.hash, used.key_bytes,
                           {key_log["CLIENT_TRAFFIC_SECRET_0"], key_log["SERVER_TRAFFIC_SECRET_0"]});
    CHECK(places_of_all(first.all) >= first.secrets.size()); // the search finds what is in use

    ::SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED);
    exchange(1);
    exchange(times); // under the new keys in both directions
    const generation second(used.hash, used.key_bytes,
                            {expanded(used.hash, first.secrets[0], "traffic upd", first.secrets[0].size()),
                             expanded(used.hash, first.secrets[1], "traffic upd", first.secrets[1].size())});
    CHECK(places_of_all(second.all) >= second.secrets.size());
    CHECK(places_of_all(first.all) == 0);

    ::SSL_shutdown(client->ssl());
    client->send(client->take_output());
    CHECK(server.line() == "ended");
    CHECK(places_of_all(first.all) == 0);
    CHECK(places_of_all(second.all) == 0);
    CHECK(places_of_all({key_log["CLIENT_HANDSHAKE_TRAFFIC_SECRET"], key_log["SERVER_HANDSHAKE_TRAFFIC_SECRET"]}) == 0);
}
