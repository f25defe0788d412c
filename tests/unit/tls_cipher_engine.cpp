// holdfast: compact records where an ENGINE of OpenSSL's, such as an accelerator's, provides the cipher.
// SPDX-License-Identifier: BSL-1.0
#define OPENSSL_SUPPRESS_DEPRECATED // engines are, since OpenSSL 3.0, and can be used all the same
#include "support/catch.hpp"
#include "support/tls_server.hpp"

#include <openssl/aes.h>
#include <openssl/engine.h>
#include <openssl/evp.h>
#include <openssl/modes.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

#ifndef OPENSSL_NO_ENGINE

namespace {

/// AES-128-GCM by OpenSSL's block cipher, in the form that an engine gives a cipher. It takes the calls that TLS makes.
struct engine_cipher {
    AES_KEY key;
    GCM128_CONTEXT* gcm;
    std::array<unsigned char, 16> tag;
    int iv_bytes;

    static inline int records = 0; // that were protected here

    static engine_cipher& of(EVP_CIPHER_CTX* context)
    {
        return *static_cast<engine_cipher*>(::EVP_CIPHER_CTX_get_cipher_data(context));
    }

    static int init(EVP_CIPHER_CTX* context, const unsigned char* key, const unsigned char* iv, int)
    {
        engine_cipher& self = of(context);
        if (key != nullptr) {
            ::AES_set_encrypt_key(key, 128, &self.key);
            ::CRYPTO_gcm128_release(self.gcm);
            self.gcm = ::CRYPTO_gcm128_new(&self.key, reinterpret_cast<block128_f>(&::AES_encrypt));
        }
        if (iv != nullptr && self.gcm != nullptr)
            ::CRYPTO_gcm128_setiv(self.gcm, iv, static_cast<std::size_t>(self.iv_bytes));
        return 1;
    }

    static int update(EVP_CIPHER_CTX* context, unsigned char* out, const unsigned char* in, std::size_t n)
    {
        engine_cipher& self = of(context);
        const bool sealing = ::EVP_CIPHER_CTX_encrypting(context) != 0;
        int ok = 0;
        if (in == nullptr) { // the end
            ++records;
            if (!sealing) return ::CRYPTO_gcm128_finish(self.gcm, self.tag.data(), self.tag.size()) == 0 ? 0 : -1;
            ::CRYPTO_gcm128_tag(self.gcm, self.tag.data(), self.tag.size());
            return 0;
        }
        if (out == nullptr)
            ok = ::CRYPTO_gcm128_aad(self.gcm, in, n);
        else if (sealing)
            ok = ::CRYPTO_gcm128_encrypt(self.gcm, in, out, n);
        else
            ok = ::CRYPTO_gcm128_decrypt(self.gcm, in, out, n);
        return ok == 0 ? static_cast<int>(n) : -1;
    }

    static int control(EVP_CIPHER_CTX* context, int command, int size, void* bytes)
    {
        engine_cipher& self = of(context);
        switch (command) {
        case EVP_CTRL_INIT:
            self.gcm = nullptr;
            self.iv_bytes = 12;
            return 1;
        case EVP_CTRL_AEAD_SET_IVLEN:
            self.iv_bytes = size;
            return 1;
        case EVP_CTRL_GET_IVLEN:
            *static_cast<int*>(bytes) = self.iv_bytes;
            return 1;
        case EVP_CTRL_AEAD_SET_TAG:
            if (bytes != nullptr) std::memcpy(self.tag.data(), bytes, static_cast<std::size_t>(size));
            return 1;
        case EVP_CTRL_AEAD_GET_TAG:
            std::memcpy(bytes, self.tag.data(), static_cast<std::size_t>(size));
            return 1;
        default:
            return -1;
        }
    }

    static int end(EVP_CIPHER_CTX* context)
    {
        ::CRYPTO_gcm128_release(of(context).gcm);
        return 1;
    }

    static const EVP_CIPHER* method()
    {
        static EVP_CIPHER* const made = [] {
            EVP_CIPHER* const m = ::EVP_CIPHER_meth_new(NID_aes_128_gcm, 1, 16);
            ::EVP_CIPHER_meth_set_iv_length(m, 12);
            ::EVP_CIPHER_meth_set_flags(m, EVP_CIPH_GCM_MODE | EVP_CIPH_CUSTOM_IV | EVP_CIPH_FLAG_CUSTOM_CIPHER |
                                               EVP_CIPH_ALWAYS_CALL_INIT | EVP_CIPH_CTRL_INIT |
                                               EVP_CIPH_FLAG_AEAD_CIPHER);
            ::EVP_CIPHER_meth_set_impl_ctx_size(m, sizeof(engine_cipher));
            ::EVP_CIPHER_meth_set_init(m, &init);
            ::EVP_CIPHER_meth_set_do_cipher(m, [](EVP_CIPHER_CTX* context, unsigned char* out, const unsigned char* in,
                                                  std::size_t n) { return update(context, out, in, n); });
            ::EVP_CIPHER_meth_set_ctrl(m, &control);
            ::EVP_CIPHER_meth_set_cleanup(m, &end);
            return m;
        }();
        return made;
    }
};

/// The engine, which is the default for its cipher in the whole process.
class cipher_engine {
public:
    cipher_engine() : engine_(::ENGINE_new())
    {
        if (engine_ == nullptr || ::ENGINE_set_id(engine_, "holdfast_test") != 1 ||
            ::ENGINE_set_ciphers(engine_, &choose) != 1 || ::ENGINE_set_default_ciphers(engine_) != 1)
            throw std::runtime_error("an engine cannot be made");
    }
    cipher_engine(const cipher_engine&) = delete;
    ~cipher_engine()
    {
        ::ENGINE_unregister_ciphers(engine_);
        ::ENGINE_free(engine_);
    }

private:
    static int choose(ENGINE*, const EVP_CIPHER** cipher, const int** numbers, int number)
    {
        static const int only = NID_aes_128_gcm;
        if (cipher == nullptr) {
            *numbers = &only;
            return 1;
        }
        *cipher = number == only ? engine_cipher::method() : nullptr;
        return *cipher != nullptr ? 1 : 0;
    }

    ENGINE* engine_;
};

} // namespace

TEST_CASE("a cipher that an engine of OpenSSL's provides protects compact records", "[tls]")
{
    const cipher_engine engine; // before this thread has protected any
    tests::tls_server f({"compact, AES-128", true, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"});
    f.handshake();
    REQUIRE(f.server->compact());
    const int before = engine_cipher::records;
    for (const std::size_t size : {1U, 1000U, 50'000U}) {
        const std::string text = tests::text_of(size);
        CHECK(f.write(text) == text);
        f.client->send(f.client->seal(text));
        std::string all;
        while (all.size() != size) {
            f.read();
            f.await_read();
            REQUIRE_FALSE(f.read_error);
            all += *f.got;
        }
        CHECK(all == text);
    }
    CHECK(engine_cipher::records > before);

    std::string altered = f.client->seal("altered");
    altered.back() = static_cast<char>(altered.back() ^ 1);
    f.client->send(altered);
    f.read();
    f.await_read();
    CHECK(f.read_error);
    CHECK(f.got->empty());
}

#endif
