// The external delegate for LiteRT and TensorFlow Lite: loaded with load_delegate, it claims the nodes that are named
// fedgate.gated_conv2d. Neighbours become one node that runs them in order; what passes between them stays here.
//
// Options: threads (default 1), isa (default the best here).
#include <stdlib.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "fedgate_kernels.h"
#include "litert_abi.h"
#include "litert_node.h"
#include "litert_plan.h"
#include "options.h"

namespace fedgate::litert {
namespace {

struct Free {
  void operator()(uint8_t *memory) const { free(memory); }
};

struct Delegate {
  TfLiteDelegate c{};
  int32_t threads = 1;
  std::string isa;  // empty: the best
};

// A node, and what there is of each operand: constants, our memory for what passes between nodes, or else nothing here.
struct Step {
  GatedConv node;
  Checked checked;
  void *own[kNames];
};

// The nodes of one partition.
class Kernel {
 public:
  Kernel(TfLiteContext &context, const TfLiteDelegateParams &params) {
    const auto *delegate = static_cast<const Delegate *>(params.delegate->data_);
    const TfLiteIntArray &nodes = *params.nodes_to_replace, &outputs = *params.output_tensors;
    outputs_.assign(outputs.data, outputs.data + outputs.size);
    for (int32_t i = 0; i < nodes.size; ++i) {
      TfLiteNode *node;
      TfLiteRegistration *registration;
      if (context.GetNodeAndRegistration(&context, nodes.data[i], &node, &registration) != kTfLiteOk) {
        throw std::runtime_error("a node of the partition is not there");
      }
      steps_.push_back({read_node(*node, *registration, nodes.data[i]), {}, {}});
    }
    context_ = make_context(delegate->isa, delegate->threads);
  }

  void prepare(const TfLiteContext &context) {
    for (Step &step : steps_) check_tensors(context, step.node, step.checked);
    place(context);
    // A call of no samples takes the scratch memory that the layer needs, and computes nothing.
    for (Step &step : steps_) {
      const Operand *const operands = step.node.request.operands;
      fedgate_layer layer = step.checked.layer;
      fedgate_call call = step.checked.call;
      float nothing = 0;
      const int32_t none = 0;
      call.batch = call.level = 0;
      call.y = &nothing;
      call.x = call.residual = layer.weight = layer.scale = layer.shift = &nothing;
      if (operands[kGateWeight].present) layer.gate_weight = layer.gate_bias = &nothing, layer.kept = &none;
      run(step, layer, call);
    }
  }

  void invoke(const TfLiteContext &context) {
    for (Step &step : steps_) {
      Request &request = step.node.request;
      for (int32_t i = 0; i < kNames; ++i) {
        Operand &operand = request.operands[i];
        if (!operand.present) continue;
        operand.data = step.own[i];
        if (operand.data) continue;
        // the runtime's memory may move between two calls, and a tensor may change behind our back
        const TfLiteTensor &tensor = context.tensors[step.node.tensors[i]];
        describe(tensor, operand);
        operand.data = tensor.data;
      }
      if (!check_shapes(request, step.checked) || !attach_data(request, step.checked)) {
        refuse(step.node, step.checked.reason);
      }
      run(step, step.checked.layer, step.checked.call);
    }
  }

 private:
  // Outputs of the partition, and what was computed before it, are the runtime's; the rest is placed in our memory.
  void place(const TfLiteContext &context) {
    std::vector<Span> spans;
    std::unordered_map<int32_t, size_t> span_of;  // tensor -> its index in spans
    for (size_t i = 0; i < steps_.size(); ++i) {
      const int32_t *const tensors = steps_[i].node.tensors;
      const int32_t now = static_cast<int32_t>(i);
      for (int32_t read = 0; read < kY; ++read) {
        if (const auto found = span_of.find(tensors[read]); found != span_of.end()) spans[found->second].last = now;
      }
      for (const Name written : {kY, kOpen}) {
        if (tensors[written] == kAbsent || is_output(tensors[written])) continue;
        if (!span_of.emplace(tensors[written], spans.size()).second) throw std::runtime_error("a tensor is computed twice");
        spans.push_back({steps_[i].checked.bytes[written], now, now});
      }
    }
    const size_t bytes = plan_memory(spans);
    memory_.reset(bytes ? static_cast<uint8_t *>(aligned_alloc(64, bytes)) : nullptr);
    if (bytes && !memory_) throw std::bad_alloc();
    for (size_t i = 0; i < steps_.size(); ++i) {
      for (int32_t operand = 0; operand < kNames; ++operand) {
        const auto found = span_of.find(steps_[i].node.tensors[operand]);
        steps_[i].own[operand] = nullptr;
        if (found == span_of.end()) continue;
        const Span &span = spans[found->second];
        if (span.first > static_cast<int32_t>(i)) throw std::runtime_error("a tensor is read before it is computed");
        steps_[i].own[operand] = memory_.get() + span.offset;
      }
    }
  }

  bool is_output(int32_t tensor) const {
    for (const int32_t output : outputs_) {
      if (output == tensor) return true;
    }
    return false;
  }

  void run(const Step &step, const fedgate_layer &layer, const fedgate_call &call) {
    const int32_t status = fedgate_conv2d(context_.get(), &layer, &call);
    if (status == FEDGATE_NO_MEMORY) throw std::bad_alloc();
    if (status != FEDGATE_OK) {
      throw std::runtime_error("node " + std::to_string(step.node.index) + " failed with " + std::to_string(status));
    }
  }

  std::vector<Step> steps_;
  std::vector<int32_t> outputs_;
  std::unique_ptr<uint8_t, Free> memory_;
  Context context_;
};

// Nothing is thrown through the runtime, which is C.
template <typename Body>
TfLiteStatus guarded(TfLiteContext *context, Body body) {
  try {
    body();
    return kTfLiteOk;
  } catch (const std::bad_alloc &) {
    context->ReportError(context, "fedgate: out of memory. ");
  } catch (const std::exception &error) {
    context->ReportError(context, "fedgate: %s. ", error.what());
  } catch (...) {
    context->ReportError(context, "fedgate: unknown error. ");
  }
  return kTfLiteError;
}

void *kernel_init(TfLiteContext *context, const char *buffer, size_t) {
  Kernel *kernel = nullptr;
  guarded(context, [&] { kernel = new Kernel(*context, *reinterpret_cast<const TfLiteDelegateParams *>(buffer)); });
  return kernel;  // without one, prepare fails
}

void kernel_free(TfLiteContext *, void *buffer) { delete static_cast<Kernel *>(buffer); }

TfLiteStatus kernel_prepare(TfLiteContext *context, TfLiteNode *node) {
  auto *kernel = static_cast<Kernel *>(node->user_data);
  if (!kernel) return kTfLiteError;
  return guarded(context, [&] { kernel->prepare(*context); });
}

TfLiteStatus kernel_invoke(TfLiteContext *context, TfLiteNode *node) {
  return guarded(context, [&] { static_cast<Kernel *>(node->user_data)->invoke(*context); });
}

// Claims what it understands. The rest keeps what the runtime has for it, which may be nothing: then that says so too.
void claim(TfLiteContext &context, TfLiteDelegate &delegate) {
  TfLiteIntArray *plan;
  if (context.GetExecutionPlan(&context, &plan) != kTfLiteOk) throw std::runtime_error("there is no execution plan");
  std::vector<int32_t> claimed{0};  // a TfLiteIntArray: its size, then the nodes
  for (int32_t i = 0; i < plan->size; ++i) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    if (context.GetNodeAndRegistration(&context, plan->data[i], &node, &registration) != kTfLiteOk) {
      throw std::runtime_error("a node of the execution plan is not there");
    }
    if (!is_ours(*node, *registration)) continue;
    if (guarded(&context, [&] { read_node(*node, *registration, plan->data[i]); }) != kTfLiteOk) continue;
    claimed.push_back(plan->data[i]);
  }
  claimed[0] = static_cast<int32_t>(claimed.size()) - 1;
  if (claimed[0] == 0) return;
  TfLiteRegistration registration{};
  registration.init = kernel_init;
  registration.free = kernel_free;
  registration.prepare = kernel_prepare;
  registration.invoke = kernel_invoke;
  registration.custom_name = "fedgate";
  registration.version = 1;
  if (context.ReplaceNodeSubsetsWithDelegateKernels(
          &context, registration, reinterpret_cast<const TfLiteIntArray *>(claimed.data()), &delegate) != kTfLiteOk) {
    throw std::runtime_error("the runtime does not hand over its nodes");
  }
}

TfLiteStatus delegate_prepare(TfLiteContext *context, TfLiteDelegate *delegate) {
  return guarded(context, [&] { claim(*context, *delegate); });
}

std::unique_ptr<Delegate> make_delegate(const char *const *keys, const char *const *values, size_t count) {
  auto delegate = std::make_unique<Delegate>();
  for (size_t i = 0; i < count; ++i) {
    const std::string key = keys[i], value = values[i];
    if (key == "threads") {
      delegate->threads = read_threads(key, value);
    } else if (key == "isa") {
      delegate->isa = value;
    } else {
      throw std::runtime_error("unknown option '" + key + "'; there are threads and isa");
    }
  }
  check_isa(delegate->isa);
  delegate->c.data_ = delegate.get();
  delegate->c.Prepare = delegate_prepare;
  // Without this flag the runtime prepares every node before it asks, and refuses those it has no code for.
  delegate->c.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return delegate;
}

}  // namespace
}  // namespace fedgate::litert

extern "C" {

FEDGATE_API fedgate::litert::TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys,
                                                                           const char *const *values, size_t count,
                                                                           void (*report_error)(const char *)) {
  try {
    return &fedgate::litert::make_delegate(keys, values, count).release()->c;
  } catch (const std::exception &error) {
    if (report_error) report_error(error.what());
  } catch (...) {
    if (report_error) report_error("unknown error");
  }
  return nullptr;
}

FEDGATE_API void tflite_plugin_destroy_delegate(fedgate::litert::TfLiteDelegate *delegate) {
  if (delegate) delete static_cast<fedgate::litert::Delegate *>(delegate->data_);
}

}  // extern "C"
