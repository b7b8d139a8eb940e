// fedgate::gated_conv2d and fedgate::conv2d for ExecuTorch. Loading this library registers them with the runtime.
//
// Written against the boxed interface: the runtime's own wrapper knows operators of one output alone.
#include <executorch/extension/threadpool/threadpool.h>
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/log.h>

#include "owned_context.h"
#include "operands.h"

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Kernel;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

// The order of the schema in export/gated_conv2d.py: seven tensors, five attributes, and with a gate three tensors more;
// behind them the outputs, and what the call returns, which are the outputs once more.
constexpr size_t kAttributes = 5, kFirstAttribute = fedgate::kResidual + 1;

size_t index_of(fedgate::Name name, bool gated) {
  const size_t index = name <= fedgate::kResidual ? name : name + kAttributes;
  return gated || name < fedgate::kY ? index : index - (fedgate::kY - fedgate::kGateWeight);
}

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

// What is no tensor stays of no known type, which is refused.
fedgate::Operand describe(const EValue &value) {
  fedgate::Operand operand;
  operand.present = !value.isNone();
  if (!value.isTensor()) return operand;
  const Tensor &tensor = value.toTensor();
  switch (tensor.scalar_type()) {
    case ScalarType::Float: operand.type = fedgate::Type::kFloat32; break;
    case ScalarType::Int: operand.type = fedgate::Type::kInt32; break;
    case ScalarType::Byte: operand.type = fedgate::Type::kUint8; break;
    default: return operand;
  }
  operand.rank = tensor.dim();
  operand.dense = tensor.dim_order().data() && tensor.strides().data();
  int64_t stride = 1;
  for (ssize_t i = tensor.dim() - 1; i >= 0; --i) {
    if (i < fedgate::kMostSides) operand.sides[i] = tensor.sizes()[i];
    operand.dense = operand.dense && tensor.dim_order()[i] == i && tensor.strides()[i] == stride &&
                    !__builtin_mul_overflow(stride, static_cast<int64_t>(tensor.sizes()[i]), &stride);
  }
  operand.data = tensor.mutable_data_ptr();
  return operand;
}

// Anything but a whole number becomes one that is refused.
int64_t integer(const EValue &value) {
  if (value.isBool()) return value.toBool();
  return value.isInt() ? value.toInt() : -1;
}

void refuse(KernelRuntimeContext &runtime, bool gated, Error error, const char *why) {
  ET_LOG(Error, "fedgate::%s: %s", gated ? "gated_conv2d" : "conv2d", why);
  runtime.fail(error);
}

void convolve(KernelRuntimeContext &runtime, Span<EValue *> stack, bool gated) {
  const size_t outputs = gated ? 2 : 1, first_output = index_of(fedgate::kY, gated);
  if (stack.size() < first_output + outputs || stack.size() > first_output + 2 * outputs) {
    return refuse(runtime, gated, Error::InvalidProgram, "the call has another number of arguments");
  }
  fedgate::Request request;
  request.gated = gated;
  for (int32_t i = 0; i < fedgate::kNames; ++i) {
    const auto name = fedgate::Name(i);
    if (fedgate::belongs(name, gated)) request.operands[i] = describe(*stack[index_of(name, gated)]);
  }
  int64_t *const attributes[kAttributes] = {&request.stride, &request.relu, &request.pool, &request.residual_stride,
                                            &request.residual_offset};
  for (size_t i = 0; i < kAttributes; ++i) *attributes[i] = integer(*stack[kFirstAttribute + i]);
  fedgate::Checked checked;
  if (!check_shapes(request, checked) || !attach_data(request, checked)) {
    return refuse(runtime, gated, Error::InvalidArgument, checked.reason);
  }
  fedgate_context *context = context_of_thread();
  const int32_t status = context ? fedgate_conv2d(context, &checked.layer, &checked.call) : FEDGATE_NO_MEMORY;
  if (status == FEDGATE_NO_MEMORY) return refuse(runtime, gated, Error::MemoryAllocationFailed, "out of memory");
  if (status != FEDGATE_OK) refuse(runtime, gated, Error::InvalidArgument, "the kernel refuses the call");
}

const Kernel kKernels[] = {
    Kernel("fedgate::gated_conv2d.out",
           [](KernelRuntimeContext &runtime, Span<EValue *> stack) { convolve(runtime, stack, true); }),
    Kernel("fedgate::conv2d.out",
           [](KernelRuntimeContext &runtime, Span<EValue *> stack) { convolve(runtime, stack, false); }),
};

[[maybe_unused]] const Error registered = executorch::runtime::register_kernels({kKernels, 2});

}  // namespace
