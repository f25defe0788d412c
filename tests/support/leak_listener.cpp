// holdfast: linked into every test: no case may leave a live connection_guard or a descriptor behind.
// SPDX-License-Identifier: BSL-1.0
#include "support/listener.hpp"

#include <holdfast/testing/leak_check.hpp>

#include <optional>

namespace {

class leak_listener : public tests::listener_base {
public:
    using tests::listener_base::listener_base;

    void testCaseStarting(const Catch::TestCaseInfo&) override { check_.emplace(); }
    void testCaseEnded(const Catch::TestCaseStats&) override { check_.reset(); }

private:
    std::optional<holdfast::leak_check> check_; // where something is left, it prints what, and aborts
};

} // namespace

CATCH_REGISTER_LISTENER(leak_listener)
