// holdfast: a thread for a client library that blocks, and the way from it to the node's event loop.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_BLOCKING_WORKER_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_BLOCKING_WORKER_HPP

#include <holdfast/asio.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <semaphore>
#include <utility>

namespace examples {

/// Runs functions that block on a thread of its own, one after another. They have nothing of the node's state: what they
/// have found out goes to the event loop.
///
/// Lifetime: the destructor waits for the function that is running; what has not begun is dropped. To be destroyed on the
/// event loop's thread, not inside a function that was passed to `on_loop`.
class blocking_worker {
public:
    /// At most `max_on_the_way` functions wait on the event loop.
    explicit blocking_worker(const holdfast::net::any_io_executor& loop, std::ptrdiff_t max_on_the_way = 256)
        : loop_(loop), max_on_the_way_(max_on_the_way), on_the_way_(max_on_the_way)
    {
    }
    blocking_worker(const blocking_worker&) = delete;
    ~blocking_worker()
    {
        alive_.reset();
        stopped_ = true;
        on_the_way_.release(max_on_the_way_);
        thread_.stop();
        thread_.join();
    }

    /// Whether what runs has to return.
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }

    /// Calls `f` on the thread.
    template <class F>
    void run(F f)
    {
        holdfast::net::post(thread_, std::move(f));
    }

    /// By the thread: calls `f` on the event loop, unless this object has gone by then. Waits while too many are on the way.
    template <class F>
    void on_loop(F f)
    {
        on_the_way_.acquire();
        holdfast::net::post(loop_, [this, gone = observer_, f = std::move(f)]() mutable {
            if (gone.expired()) return;
            on_the_way_.release();
            f();
        });
    }

private:
    const holdfast::net::any_io_executor loop_;
    const std::ptrdiff_t max_on_the_way_;
    std::counting_semaphore<> on_the_way_;
    std::atomic<bool> stopped_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(); // the event loop's
    const std::weak_ptr<bool> observer_ = alive_;            // the thread's
    holdfast::net::thread_pool thread_{1};
};

} // namespace examples

#endif
