// Calls an operator through ExecuTorch's registry, on tensors of its own classes: hostile_executorch.py says which.
// Each tensor's memory is an allocation of exactly its size, so that a sanitizer sees whatever is touched beyond.
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <memory>
#include <vector>

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::runtime::EValue;

namespace {

enum Kind : int32_t { kNone, kTensor, kInteger, kBool, kDouble };
constexpr int32_t kMostSides = 8;

struct Free {
  void operator()(uint8_t *memory) const { free(memory); }
};
using Memory = std::unique_ptr<uint8_t, Free>;

struct Parts {
  int32_t sizes[kMostSides], strides[kMostSides];
  uint8_t order[kMostSides];
};

}  // namespace

extern "C" {

struct Value {
  int32_t kind, type, rank;
  int32_t sizes[kMostSides], strides[kMostSides];
  uint8_t order[kMostSides];
  int64_t number;
  uint8_t *data;    // copied in and back; may be null for a tensor without memory
  int64_t bytes;
  int32_t within;   // the value in whose memory this one lies, at `offset`; -1: its own
  int32_t offset;
};

// The runtime's error, 0 for none; -1 where the registry has no such operator.
__attribute__((visibility("default"))) int32_t call_operator(const char *name, Value *values, int32_t count) {
  const auto function = executorch::runtime::get_op_function_from_registry(name);
  if (!function.ok()) return -1;
  std::vector<Memory> memory(count);
  std::vector<Parts> parts(count);
  std::deque<TensorImpl> tensors;
  std::deque<EValue> evalues;
  std::vector<EValue *> stack;
  for (int32_t i = 0; i < count; ++i) {
    const Value &value = values[i];
    if (value.kind == kTensor && value.data && value.within < 0) {
      memory[i].reset(static_cast<uint8_t *>(malloc(value.bytes)));
      memcpy(memory[i].get(), value.data, value.bytes);
    }
  }
  for (int32_t i = 0; i < count; ++i) {
    const Value &value = values[i];
    switch (value.kind) {
      case kTensor: {
        memcpy(parts[i].sizes, value.sizes, sizeof(parts[i].sizes));
        memcpy(parts[i].strides, value.strides, sizeof(parts[i].strides));
        memcpy(parts[i].order, value.order, sizeof(parts[i].order));
        uint8_t *data = memory[i].get();
        if (value.within >= 0) data = memory[value.within].get() + value.offset;
        tensors.emplace_back(static_cast<ScalarType>(value.type), value.rank, parts[i].sizes, data, parts[i].order,
                             parts[i].strides);
        evalues.emplace_back(Tensor(&tensors.back()));
        break;
      }
      case kInteger: evalues.emplace_back(static_cast<int64_t>(value.number)); break;
      case kBool: evalues.emplace_back(value.number != 0); break;
      case kDouble: evalues.emplace_back(static_cast<double>(value.number)); break;
      default: evalues.emplace_back();
    }
    stack.push_back(&evalues.back());
  }
  executorch::runtime::KernelRuntimeContext context;
  (*function)(context, {stack.data(), stack.size()});
  for (int32_t i = 0; i < count; ++i) {
    if (memory[i]) memcpy(values[i].data, memory[i].get(), values[i].bytes);
  }
  return static_cast<int32_t>(context.failure_state());
}

}
