// fedgate::gated_conv2d and fedgate::conv2d for ExecuTorch. Loading this library registers them with the runtime.
//
// Written against the boxed interface: the runtime's own wrapper knows operators of one output alone.
#include <executorch/extension/threadpool/threadpool.h>
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include "context.h"
#include "fedgate_kernels.h"

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Kernel;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

// The order of the schema in export/gated_conv2d.py.
enum Argument {
  kX, kWeight, kScale, kShift, kLevel, kInOpen, kResidual,
  kStride, kRelu, kPool, kResidualStride, kResidualOffset,
  kEnd,
  kGateWeight = kEnd, kGateBias, kKept,
  kGatedEnd,
};

void run_in_pool(void *pool, void (*task)(void *, size_t), void *argument, size_t count) {
  static_cast<executorch::extension::threadpool::ThreadPool *>(pool)->run(
      [task, argument](size_t i) { task(argument, i); }, count);
}

// Scratch memory belongs to a thread: two programs that run at once must not share it.
fedgate_context *context_of_thread() {
  thread_local fedgate::Context context;
  thread_local size_t context_threads = 0;
  auto *pool = executorch::extension::threadpool::get_threadpool();
  const size_t threads = pool ? pool->get_thread_count() : 1;
  if (!context || threads != context_threads) {
    context.reset(fedgate_create_with_pool(nullptr, static_cast<int32_t>(threads), run_in_pool, pool));
    context_threads = threads;
  }
  return context.get();
}

// A tensor of a type, dense in the standard order of dimensions; anything else is refused.
class Arguments {
 public:
  explicit Arguments(Span<EValue *> stack) : stack_(stack) {}

  template <typename T>
  T *data(size_t index, ScalarType type, std::initializer_list<int64_t> shape) {
    if (!stack_[index]->isTensor()) return fail<T>();
    const Tensor &t = stack_[index]->toTensor();
    if (t.scalar_type() != type || t.dim() != static_cast<ssize_t>(shape.size())) return fail<T>();
    size_t i = 0;
    for (const int64_t side : shape) {
      if (t.size(i) != side || t.dim_order()[i] != i) return fail<T>();
      ++i;
    }
    return static_cast<T *>(t.mutable_data_ptr());
  }
  float *floats(size_t index, std::initializer_list<int64_t> shape) {
    return data<float>(index, ScalarType::Float, shape);
  }
  bool present(size_t index) const { return !stack_[index]->isNone(); }
  int32_t size(size_t index, size_t dimension) {
    if (!stack_[index]->isTensor() || stack_[index]->toTensor().dim() <= static_cast<ssize_t>(dimension)) {
      good = false;
      return 0;
    }
    return static_cast<int32_t>(stack_[index]->toTensor().size(dimension));
  }
  int32_t integer(size_t index) {
    if (stack_[index]->isInt()) return static_cast<int32_t>(stack_[index]->toInt());
    if (stack_[index]->isBool()) return stack_[index]->toBool();
    good = false;
    return 0;
  }

  bool good = true;

 private:
  template <typename T>
  T *fail() {
    good = false;
    return nullptr;
  }
  Span<EValue *> stack_;
};

void convolve(KernelRuntimeContext &runtime, Span<EValue *> stack, bool gated) {
  const size_t y_index = gated ? kGatedEnd : kEnd;
  if (stack.size() < y_index + (gated ? 2 : 1)) return runtime.fail(Error::InvalidProgram);
  Arguments a(stack);
  fedgate_layer layer{};
  fedgate_call call{};
  call.batch = a.size(kX, 0);
  layer.in_channels = a.size(kX, 1);
  layer.height = a.size(kX, 2);
  layer.width = a.size(kX, 3);
  layer.out_channels = a.size(kWeight, 0);
  layer.kernel = a.size(kWeight, 2);
  layer.levels = a.size(kScale, 0);
  layer.stride = a.integer(kStride);
  layer.relu = a.integer(kRelu);
  layer.pool = a.integer(kPool);
  const int32_t out = layer.out_channels, in = layer.in_channels;
  if (a.present(kResidual)) {
    layer.residual_channels = a.size(kResidual, 1);
    layer.residual_height = a.size(kResidual, 2);
    layer.residual_width = a.size(kResidual, 3);
    layer.residual_stride = a.integer(kResidualStride);
    layer.residual_offset = a.integer(kResidualOffset);
    call.residual = a.floats(
        kResidual, {call.batch, layer.residual_channels, layer.residual_height, layer.residual_width});
  }
  if (!a.good || fedgate_refused(&layer)) return runtime.fail(Error::InvalidArgument);
  call.x = a.floats(kX, {call.batch, in, layer.height, layer.width});
  layer.weight = a.floats(kWeight, {out, in, layer.kernel, layer.kernel});
  layer.scale = a.floats(kScale, {layer.levels, out});
  layer.shift = a.floats(kShift, {layer.levels, out});
  const int32_t *level = a.data<int32_t>(kLevel, ScalarType::Int, {1});
  if (a.present(kInOpen)) call.in_open = a.data<uint8_t>(kInOpen, ScalarType::Byte, {call.batch, in});
  const int32_t height = ((layer.height - 1) / layer.stride + 1) / layer.pool;
  const int32_t width = ((layer.width - 1) / layer.stride + 1) / layer.pool;
  call.y = a.floats(y_index, {call.batch, out, height, width});
  if (gated) {
    layer.gate_weight = a.floats(kGateWeight, {in, out});
    layer.gate_bias = a.floats(kGateBias, {out});
    layer.kept = a.data<int32_t>(kKept, ScalarType::Int, {layer.levels});
    call.open = a.data<uint8_t>(y_index + 1, ScalarType::Byte, {call.batch, out});
  }
  if (!a.good) return runtime.fail(Error::InvalidArgument);
  call.level = *level;
  fedgate_context *context = context_of_thread();
  if (!context) return runtime.fail(Error::MemoryAllocationFailed);
  switch (fedgate_conv2d(context, &layer, &call)) {
    case FEDGATE_OK: return;
    case FEDGATE_NO_MEMORY: return runtime.fail(Error::MemoryAllocationFailed);
    default: return runtime.fail(Error::InvalidArgument);
  }
}

const Kernel kKernels[] = {
    Kernel("fedgate::gated_conv2d.out",
           [](KernelRuntimeContext &runtime, Span<EValue *> stack) { convolve(runtime, stack, true); }),
    Kernel("fedgate::conv2d.out",
           [](KernelRuntimeContext &runtime, Span<EValue *> stack) { convolve(runtime, stack, false); }),
};

[[maybe_unused]] const Error registered = executorch::runtime::register_kernels({kKernels, 2});

}  // namespace
