#include "pool.h"

namespace fedgate {
namespace {

// The layers of a network follow each other within microseconds, so a worker looks out for the next loop for about as
// long before it sleeps; waking it through the kernel would cost as much as a small layer.
constexpr int kSpins = 4000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (...) {  // fewer threads are fine
  }
}

Pool::~Pool() {
  stop_.store(true);
  loop_.fetch_add(1);
  loop_.notify_all();
  for (auto &worker : workers_) worker.join();
}

void Pool::run(void (*task)(void *, size_t), void *argument, size_t count) {
  const uint32_t loop = loop_.load(std::memory_order_relaxed) + 1;
  const uint64_t first = static_cast<uint64_t>(loop) << 32;
  // First the loop before is closed: who then reads one of the new values cannot take an index of it any more.
  next_.store(first | UINT32_MAX, std::memory_order_relaxed);
  task_.store(task, std::memory_order_release);
  argument_.store(argument, std::memory_order_release);
  count_.store(count, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  next_.store(first, std::memory_order_release);
  loop_.store(loop, std::memory_order_release);
  loop_.notify_all();
  while (take_one()) {
  }
  for (int spins = 0; done_.load(std::memory_order_acquire) != count; ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

bool Pool::take_one() {
  uint64_t next = next_.load(std::memory_order_acquire);
  for (;;) {
    // These may belong to a later loop than `next`, but then the exchange fails.
    const auto task = task_.load(std::memory_order_acquire);
    void *const argument = argument_.load(std::memory_order_acquire);
    const size_t count = count_.load(std::memory_order_acquire);
    const size_t index = static_cast<uint32_t>(next);
    if (index >= count) return false;
    if (next_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      task(argument, index);
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
}

void Pool::work() {
  uint32_t seen = 0;
  for (;;) {
    for (int spins = 0; loop_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpins) {
        relax();
      } else {
        loop_.wait(seen, std::memory_order_acquire);
      }
    }
    seen = loop_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    while (take_one()) {
    }
  }
}

}  // namespace fedgate
