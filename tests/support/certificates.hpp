// holdfast: a certificate and key of the test's own, in files that go with the object.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_CERTIFICATES_HPP
#define HOLDFAST_TESTS_SUPPORT_CERTIFICATES_HPP

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace tests {

/// A self-signed certificate for `localhost` with a P-256 key, as two PEM files.
class certificate {
public:
    explicit certificate(const std::string& name = "localhost", long valid_seconds = 3600)
        : directory_(std::filesystem::temp_directory_path() /
                     ("holdfast-tls-" + std::to_string(::getpid()) + "-" + std::to_string(++made)))
    {
        std::filesystem::create_directory(directory_);
        write(name, valid_seconds);
    }
    certificate(const certificate&) = delete;
    ~certificate()
    {
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }

    std::string chain_file() const { return directory_ / "certificate.pem"; }
    std::string key_file() const { return directory_ / "key.pem"; }

    /// Makes both anew, as a renewal does.
    void write(const std::string& name, long valid_seconds = 3600)
    {
        const std::unique_ptr<EVP_PKEY_CTX, decltype(&::EVP_PKEY_CTX_free)> maker(
            ::EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nullptr), &::EVP_PKEY_CTX_free);
        EVP_PKEY* made_key = nullptr;
        if (::EVP_PKEY_keygen_init(maker.get()) != 1 ||
            ::EVP_PKEY_CTX_set_ec_paramgen_curve_nid(maker.get(), NID_X9_62_prime256v1) != 1 ||
            ::EVP_PKEY_keygen(maker.get(), &made_key) != 1)
            throw std::runtime_error("OpenSSL cannot make a key");
        const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key(made_key, &::EVP_PKEY_free);
        const std::unique_ptr<X509, decltype(&::X509_free)> x(::X509_new(), &::X509_free);
        ::X509_set_version(x.get(), 2);
        ::ASN1_INTEGER_set(::X509_get_serialNumber(x.get()), ++made);
        ::X509_gmtime_adj(::X509_getm_notBefore(x.get()), valid_seconds < 0 ? 2 * valid_seconds : 0);
        ::X509_gmtime_adj(::X509_getm_notAfter(x.get()), valid_seconds);
        ::X509_set_pubkey(x.get(), key.get());
        X509_NAME* const subject = ::X509_get_subject_name(x.get());
        ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()),
                                     -1, -1, 0);
        ::X509_set_issuer_name(x.get(), subject);
        const std::string names = "DNS:" + name;
        X509_EXTENSION* const extension = ::X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names.c_str());
        ::X509_add_ext(x.get(), extension, -1);
        ::X509_EXTENSION_free(extension);
        ::X509_sign(x.get(), key.get(), ::EVP_sha256());
        struct closes {
            void operator()(std::FILE* file) const { std::fclose(file); }
        };
        const auto file = [](const std::string& path) {
            return std::unique_ptr<std::FILE, closes>(std::fopen(path.c_str(), "w"));
        };
        if (::PEM_write_X509(file(chain_file()).get(), x.get()) != 1 ||
            ::PEM_write_PrivateKey(file(key_file()).get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
            throw std::runtime_error("a certificate cannot be written");
    }

private:
    static inline long made = 0;
    std::filesystem::path directory_;
};

} // namespace tests

#endif
