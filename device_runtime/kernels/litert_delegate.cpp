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

// A tensor of a step: in our memory, or in the runtime's, which may move between two calls.
struct Place {
  int32_t tensor = kAbsent;
  uint8_t *own = nullptr;

  template <typename T>
  T *data(const TfLiteContext &context) const {
    if (own) return reinterpret_cast<T *>(own);
    if (tensor == kAbsent) return nullptr;
    void *const data = context.tensors[tensor].data;
    if (!data || reinterpret_cast<uintptr_t>(data) % alignof(T) != 0) {
      throw std::runtime_error("tensor " + std::to_string(tensor) + " has no memory that could be used");
    }
    return static_cast<T *>(data);
  }
};

struct Step {
  GatedConv node;
  fedgate_layer layer;
  fedgate_call call;
  Place x, level, in_open, residual, y, open;
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
      steps_.push_back({read_node(*node, *registration, nodes.data[i]), {}, {}, {}, {}, {}, {}, {}, {}});
    }
    context_ = make_context(delegate->isa, delegate->threads);
  }

  void prepare(const TfLiteContext &context) {
    for (Step &step : steps_) check_tensors(context, step.node, step.layer, step.call);
    place(context);
    // A call of no samples takes the scratch memory that the layer needs, and computes nothing.
    for (Step &step : steps_) {
      fedgate_call call = step.call;
      float nothing = 0;
      call.batch = call.level = 0;
      call.x = call.residual = call.y = &nothing;
      run(step, call);
    }
  }

  void invoke(const TfLiteContext &context) {
    for (Step &step : steps_) {
      fedgate_call call = step.call;
      call.level = *step.level.data<int32_t>(context);
      if (call.level < 0 || call.level >= step.layer.levels) {
        throw std::runtime_error("level " + std::to_string(call.level) + " is not one of 0 to " +
                                 std::to_string(step.layer.levels - 1));
      }
      call.x = step.x.data<float>(context);
      call.in_open = step.in_open.data<uint8_t>(context);
      call.residual = step.residual.data<float>(context);
      call.y = step.y.data<float>(context);
      call.open = step.open.data<uint8_t>(context);
      run(step, call);
    }
  }

 private:
  // Outputs of the partition, and what was computed before it, are the runtime's; the rest is placed in our memory.
  void place(const TfLiteContext &context) {
    std::vector<Span> spans;
    std::unordered_map<int32_t, size_t> span_of;  // tensor -> its index in spans
    for (size_t i = 0; i < steps_.size(); ++i) {
      const GatedConv &node = steps_[i].node;
      const int32_t now = static_cast<int32_t>(i);
      for (const int32_t tensor : {node.x, node.in_open, node.residual}) {
        if (const auto found = span_of.find(tensor); found != span_of.end()) spans[found->second].last = now;
      }
      for (const int32_t tensor : {node.y, node.open}) {
        if (tensor == kAbsent || is_output(tensor)) continue;
        if (!span_of.emplace(tensor, spans.size()).second) throw std::runtime_error("a tensor is computed twice");
        spans.push_back({context.tensors[tensor].bytes, now, now});
      }
    }
    const size_t bytes = plan_memory(spans);
    memory_.reset(bytes ? static_cast<uint8_t *>(aligned_alloc(64, bytes)) : nullptr);
    if (bytes && !memory_) throw std::bad_alloc();
    for (size_t i = 0; i < steps_.size(); ++i) {
      Step &step = steps_[i];
      const auto at = [&](int32_t tensor) {
        const auto found = span_of.find(tensor);
        if (found == span_of.end()) return Place{tensor, nullptr};
        const Span &span = spans[found->second];
        if (span.first > static_cast<int32_t>(i)) throw std::runtime_error("a tensor is read before it is computed");
        return Place{tensor, memory_.get() + span.offset};
      };
      step.x = at(step.node.x);
      step.level = at(step.node.level);
      step.in_open = at(step.node.in_open);
      step.residual = at(step.node.residual);
      step.y = at(step.node.y);
      step.open = at(step.node.open);
    }
  }

  bool is_output(int32_t tensor) const {
    for (const int32_t output : outputs_) {
      if (output == tensor) return true;
    }
    return false;
  }

  void run(const Step &step, const fedgate_call &call) {
    const int32_t status = fedgate_conv2d(context_.get(), &step.layer, &call);
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
