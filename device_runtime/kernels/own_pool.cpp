// A context with threads of its own. Where the runtime lends its threads, this file and pool.cpp are not needed.
#include <memory>
#include <new>

#include "fedgate_kernels.h"
#include "pool.h"

using fedgate::Pool;

fedgate_context *fedgate_create(const char *isa, int32_t threads) {
  if (threads <= 1) return fedgate_create_with_pool(isa, threads, nullptr, nullptr);
  try {
    auto pool = std::make_unique<Pool>(threads);
    const auto run = [](void *p, void (*task)(void *, size_t), void *argument, size_t count) {
      static_cast<Pool *>(p)->run(task, argument, count);
    };
    fedgate_context *const context = fedgate_create_with_pool(isa, threads, run, pool.get());
    if (context) fedgate::keep_pool(context, pool.release(), [](void *p) { delete static_cast<Pool *>(p); });
    return context;
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}
