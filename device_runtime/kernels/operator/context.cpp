#include "operator/context.h"

#include <stdlib.h>
#include <string.h>

#include <new>
#include <utility>

#include "pool.h"

using namespace fedgate;

namespace {

// A loop of less work than this is not worth sharing out.
constexpr size_t kShareWork = 4096;

}  // namespace

fedgate_context::~fedgate_context() { free(scratch); }

bool fedgate_context::reserve(size_t floats) {
  if (floats <= capacity) return true;
  free(std::exchange(scratch, nullptr));
  capacity = 0;
  void *memory = nullptr;  // aligned_alloc came to Android with version 9
  if (posix_memalign(&memory, 64, round_up(floats) * sizeof(float)) != 0) return false;
  scratch = static_cast<float *>(memory);
  // what a vector reads behind a row is never used, but a denormal there would be slow
  memset(scratch, 0, round_up(floats) * sizeof(float));
  capacity = floats;
  return true;
}

void fedgate_context::loop(size_t work, size_t count, void (*task)(void *, size_t), void *argument) {
  if (threads > 1 && count > 1 && work >= kShareWork) {
    run(pool, task, argument, count);
  } else {
    for (size_t i = 0; i < count; ++i) task(argument, i);
  }
}

void fedgate::keep_pool(fedgate_context *context, void *pool, void (*destroy)(void *)) {
  context->own = {pool, destroy};
}

fedgate_context *fedgate_create_with_pool(const char *isa, int32_t threads, fedgate_parallel run, void *pool) {
  const Isa *found = find_isa(isa);
  if (!found || threads < 1) return nullptr;
  auto *context = new (std::nothrow) fedgate_context();
  if (!context) return nullptr;
  context->isa = found;
  context->threads = threads;
  context->run = run;
  context->pool = pool;
  return context;
}

void fedgate_destroy(fedgate_context *context) { delete context; }

const char *fedgate_isa(const fedgate_context *context) { return context->isa->name; }
