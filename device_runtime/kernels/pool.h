// A small thread pool: a caller and its workers share out the indices of one loop at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <thread>
#include <vector>

#include "fedgate_kernels.h"

namespace fedgate {

class Pool {
 public:
  explicit Pool(int threads);  // the caller counts as one
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  // count: less than 2^32
  void run(void (*task)(void *, size_t), void *argument, size_t count);

 private:
  void work();
  bool take_one();

  // The loop's number in the upper half, its next index in the lower: one exchange takes an index of a loop that is
  // still the current one. So the caller waits for the indices that were taken, never for a worker that sleeps.
  alignas(64) std::atomic<uint64_t> next_{0};
  alignas(64) std::atomic<size_t> done_{0};
  alignas(64) std::atomic<uint32_t> loop_{0};  // what idle workers wait for to change
  std::atomic<void (*)(void *, size_t)> task_{nullptr};
  std::atomic<void *> argument_{nullptr};
  std::atomic<size_t> count_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// Lets the context destroy a pool when it is destroyed itself.
void keep_pool(fedgate_context *context, void *pool, void (*destroy)(void *));

}  // namespace fedgate
