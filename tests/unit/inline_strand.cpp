// holdfast: tests of the strand that needs no memory: what order, whose thread, and who may go meanwhile?
// SPDX-License-Identifier: BSL-1.0
#include "support/allocations.hpp"
#include "support/catch.hpp"

#include <holdfast/detail/async/inline_strand.hpp>

#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

using holdfast::detail::inline_strand;

namespace {

/// A task that calls a function.
class call final : public inline_strand::task {
public:
    explicit call(std::function<void()> f) : function_(std::move(f)) {}
    void run() noexcept override { function_(); }

private:
    std::function<void()> function_;
};

/// An owner of a strand, as the acceptor's core is.
struct owner {
    inline_strand strand;
    call task{[] {}};
};

} // namespace

TEST_CASE("a task that others bring while one runs comes after it, once, in the order in which they came")
{
    inline_strand strand;
    std::vector<int> order;
    call second([&] { order.push_back(2); });
    call third([&] { order.push_back(3); });
    call first([&] {
        strand.run(second, nullptr);
        strand.run(third, nullptr);
        strand.run(second, nullptr);
        order.push_back(1);
    });
    const auto allocated = tests::allocations_in([&] {
        order.reserve(8);
        strand.run(first, nullptr);
    });
    CHECK(order == std::vector{1, 2, 3});
    CHECK(allocated <= 1); // the vector's
}

TEST_CASE("the last owner of a strand may be the one that is kept for its task")
{
    std::shared_ptr<owner> last(new owner); // in a block of its own, which a weak pointer does not keep
    const std::weak_ptr<owner> gone = last;
    owner& o = *last;
    o.strand.run(o.task, std::move(last));
    CHECK(gone.expired());
}

TEST_CASE("what is kept for a task may bring another one when it is destroyed")
{
    const auto whole = std::make_shared<owner>();
    int ran = 0;
    call at_the_end([&] { ++ran; });
    const auto bring = [&](owner* o) { o->strand.run(at_the_end, whole); };
    whole->strand.run(whole->task, std::shared_ptr<owner>(whole.get(), bring));
    CHECK(ran == 1);
}

TEST_CASE("whichever threads bring tasks, one runs at a time and none is lost")
{
    inline_strand strand;
    int runs = 0; // not atomic: the strand is what keeps threads apart
    constexpr int each = 2000;
    std::vector<std::thread> threads;
    for (int t = 0; t != 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i != each; ++i) {
                const auto done = std::make_shared<call>([&] { ++runs; });
                strand.run(*done, done);
            }
        });
    for (auto& thread : threads)
        thread.join();
    call last([&] { CHECK(runs == 4 * each); });
    strand.run(last, nullptr);
}
