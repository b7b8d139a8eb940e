// What is behind a fedgate_context: scratch memory, instruction set and threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "fedgate_kernels.h"
#include "microkernels/isa.h"

namespace fedgate {

// Floats up to a whole number of the widest vectors, which is one of cache lines too.
inline size_t round_up(size_t floats) { return (floats + kMaxLanes - 1) / kMaxLanes * kMaxLanes; }

}  // namespace fedgate

struct fedgate_context {
  const fedgate::Isa *isa;
  int32_t threads;
  fedgate_parallel run;
  void *pool;
  std::unique_ptr<void, void (*)(void *)> own{nullptr, nullptr};
  float *scratch = nullptr;
  size_t capacity = 0;  // floats

  ~fedgate_context();
  // Whether `scratch` is that many floats large now; what it held is lost if it had to grow.
  bool reserve(size_t floats);
  // task(argument, i) for i in 0 .. count - 1, shared out where that is worth it. work: floats copied, or MACs / 16.
  void loop(size_t work, size_t count, void (*task)(void *, size_t), void *argument);
};
