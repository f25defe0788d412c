// holdfast: OpenSSL's cipher contexts, with which compact records are protected.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ADAPTERS_DETAIL_TLS_CIPHERS_HPP
#define HOLDFAST_ADAPTERS_DETAIL_TLS_CIPHERS_HPP

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>

namespace holdfast::detail {

/// The cipher suites whose records can be protected here; all that OpenSSL negotiates by default.
enum class tls_suite : std::uint8_t { aes_128_gcm, aes_256_gcm, chacha20_poly1305 };
inline constexpr std::size_t tls_suites = 3;

/// A context of a suite that has no key yet; null without memory.
inline EVP_CIPHER_CTX* new_cipher_context(tls_suite suite, bool sealing) noexcept
{
    const EVP_CIPHER* cipher = nullptr;
    switch (suite) {
    case tls_suite::aes_128_gcm:
        cipher = ::EVP_aes_128_gcm();
        break;
    case tls_suite::aes_256_gcm:
        cipher = ::EVP_aes_256_gcm();
        break;
    case tls_suite::chacha20_poly1305:
        cipher = ::EVP_chacha20_poly1305();
        break;
    }
    EVP_CIPHER_CTX* const context = ::EVP_CIPHER_CTX_new();
    if (context != nullptr && ::EVP_CipherInit_ex(context, cipher, nullptr, nullptr, nullptr, sealing) == 1)
        return context;
    ::EVP_CIPHER_CTX_free(context);
    return nullptr;
}

/// Overwrites the key that a context has.
inline void overwrite_key(EVP_CIPHER_CTX* context) noexcept
{
    static constexpr std::array<unsigned char, 32> nothing{};
    ::EVP_CipherInit_ex(context, nullptr, nullptr, nothing.data(), nullptr, -1);
}

/// Contexts of a thread, one of each suite and direction: a record sets its own key in one.
class tls_cipher_contexts {
public:
    static EVP_CIPHER_CTX* get(tls_suite suite, bool sealing) noexcept
    {
        static thread_local tls_cipher_contexts contexts;
        auto& context = contexts.all_[static_cast<std::size_t>(suite) * 2 + (sealing ? 1 : 0)];
        if (context == nullptr) context = detail::new_cipher_context(suite, sealing);
        return context;
    }

    /// Overwrites what this thread's contexts of a suite keep of the key of their last record.
    static void forget_key(tls_suite suite) noexcept
    {
        if (of_thread_ == nullptr) return; // none was used, or the thread is ending
        for (std::size_t i = 0; i != 2; ++i)
            if (EVP_CIPHER_CTX* const context = of_thread_->all_[static_cast<std::size_t>(suite) * 2 + i])
                detail::overwrite_key(context);
    }

private:
    tls_cipher_contexts() noexcept { of_thread_ = this; }
    ~tls_cipher_contexts()
    {
        of_thread_ = nullptr;
        for (EVP_CIPHER_CTX* const each : all_)
            ::EVP_CIPHER_CTX_free(each);
    }

    std::array<EVP_CIPHER_CTX*, 2 * tls_suites> all_{};
    static inline thread_local tls_cipher_contexts* of_thread_ = nullptr; // valid in destructors that come later
};

/// One of `tls_keyed_contexts`.
struct tls_keyed_context {
    std::atomic<bool> locked = false;         // while a thread uses the context
    bool used = false;                        // since `take` has looked at it; under the lock
    std::atomic<const void*> owner = nullptr; // whose key it has; written under the lock
    EVP_CIPHER_CTX* context = nullptr;        // under the lock
};

/// The process's contexts that keep the key of a busy connection's direction, whose records then set a nonce alone: up to
/// `size` of each suite, of less than 1.2 KB, for the keys that were used last. They are made as they are needed, and
/// freed when OpenSSL ends. No call waits for another thread's record, except `forget`, for as long as that one takes.
class tls_keyed_contexts {
public:
    static constexpr std::size_t size = 256;
    static constexpr std::uint16_t none = 0xFFFF;

    /// A context for the duration of one record; or none.
    class lease {
    public:
        lease() noexcept = default;
        lease(lease&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
        lease& operator=(lease&& other) noexcept
        {
            std::swap(slot_, other.slot_);
            return *this;
        }
        ~lease()
        {
            if (slot_ != nullptr) slot_->locked.store(false, std::memory_order_release);
        }

        explicit operator bool() const noexcept { return slot_ != nullptr; }
        [[nodiscard]] EVP_CIPHER_CTX* context() const noexcept { return slot_->context; }
        /// The key of this one has been set in it.
        template <class Key>
        void keyed_by(const Key& key) noexcept
        {
            slot_->owner.store(&key, std::memory_order_relaxed);
        }

    private:
        friend class tls_keyed_contexts;
        explicit lease(tls_keyed_context& s) noexcept : slot_(&s) {}

        tls_keyed_context* slot_ = nullptr;
    };

    /// The context that has this key, if it is still the one of this number.
    template <class Key>
    static lease find(const Key& key, std::uint16_t number) noexcept
    {
        if (number == none) return {};
        tls_keyed_context& s = all_[number];
        if (s.owner.load(std::memory_order_relaxed) != &key || !lock(s)) return {};
        lease found(s);
        if (s.owner.load(std::memory_order_relaxed) != &key) return {}; // another thread was taking it for its key
        s.used = true;
        return found;
    }

    /// A context whose key has not been used for long, which gets another one; none, where the next context was used since
    /// it was looked at the last time. `number` is the context's.
    template <class Key>
    static lease take(tls_suite suite, const Key& key, std::uint16_t& number) noexcept
    {
        forget(key, number); // a context that was not found, since another thread was looking at it
        static std::atomic<unsigned> next{0};
        const std::size_t i =
            static_cast<std::size_t>(suite) * size + next.fetch_add(1, std::memory_order_relaxed) % size;
        tls_keyed_context& s = all_[i];
        if (!lock(s)) return {};
        lease taken(s);
        if (std::exchange(s.used, false)) return {};
        static const bool ends = ::OPENSSL_atexit(&free_all) == 1;
        if (s.context == nullptr && ends) s.context = detail::new_cipher_context(suite, true);
        if (s.context == nullptr) return {};
        s.owner.store(nullptr, std::memory_order_relaxed);
        tls_cipher_contexts::forget_key(suite); // it would keep the key that is not set there any more
        number = static_cast<std::uint16_t>(i);
        return taken;
    }

    /// Overwrites this key where a context has it.
    template <class Key>
    static void forget(const Key& key, std::uint16_t number) noexcept
    {
        if (number == none) return;
        tls_keyed_context& s = all_[number];
        while (s.owner.load(std::memory_order_relaxed) == &key) {
            if (!lock(s)) { // another thread is replacing the key
                std::this_thread::yield();
                continue;
            }
            const lease held(s);
            if (s.owner.load(std::memory_order_relaxed) != &key) return;
            detail::overwrite_key(s.context);
            s.owner.store(nullptr, std::memory_order_relaxed);
            s.used = false;
        }
    }

private:
    /// Before OpenSSL's own end. Keys may end later, in the destructors of static objects.
    static void free_all() noexcept
    {
        for (tls_keyed_context& s : all_) {
            if (!lock(s)) continue; // a thread that has not ended uses it
            const lease held(s);
            s.owner.store(nullptr, std::memory_order_relaxed);
            ::EVP_CIPHER_CTX_free(std::exchange(s.context, nullptr));
        }
    }

    static bool lock(tls_keyed_context& s) noexcept { return !s.locked.exchange(true, std::memory_order_acquire); }

    // Not destroyed: a key may be later.
    static inline constinit std::array<tls_keyed_context, size * tls_suites> all_{};
};

} // namespace holdfast::detail

#endif
