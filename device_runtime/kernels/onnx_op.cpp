// The operators of `skip` programs for ONNX Runtime, gated_conv2d and conv2d of the domain fedgate: a library for
// SessionOptions.register_custom_ops_library.
//
// Session config entries, to be set before: fedgate.threads (default 1), fedgate.isa (default the best here).
#include <string.h>

#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "fedgate_kernels.h"
#include "onnx_abi.h"
#include "onnx_kernel.h"
#include "options.h"

namespace fedgate::onnx {
namespace {

// What sessions ask for, and the operators that do it.
struct Setting {
  const OrtApi *api;
  int32_t threads;
  std::string isa;  // empty: the best
  OrtCustomOpDomain *domain = nullptr;
  std::mutex mutex;
  std::weak_ptr<Contexts> contexts{};
  struct Operator : OrtCustomOp {
    Setting *setting;
    bool gated;
  } operators[2]{};

  // Kept while any session has a kernel of these operators.
  std::shared_ptr<Contexts> shared_contexts() {
    const std::lock_guard lock(mutex);
    auto found = contexts.lock();
    if (!found) contexts = found = std::make_shared<Contexts>(isa, threads);
    return found;
  }
};

const Setting::Operator &own(const OrtCustomOp *op) { return *static_cast<const Setting::Operator *>(op); }

void describe(Setting::Operator &op) {
  op.version = kApiVersion;
  op.GetName = [](const OrtCustomOp *op) { return own(op).gated ? "gated_conv2d" : "conv2d"; };
  op.GetExecutionProviderType = [](const OrtCustomOp *) -> const char * { return nullptr; };
  op.GetInputTypeCount = [](const OrtCustomOp *op) -> size_t { return inputs(own(op).gated); };
  op.GetInputType = [](const OrtCustomOp *, size_t index) {
    const Type type = type_of(Name(index));
    return type == Type::kFloat32 ? kFloat32 : type == Type::kInt32 ? kInt32 : kUint8;
  };
  op.GetInputCharacteristic = [](const OrtCustomOp *, size_t index) {
    return optional(Name(index)) ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  op.GetInputMemoryType = [](const OrtCustomOp *, size_t) { return OrtMemTypeDefault; };
  op.GetOutputTypeCount = [](const OrtCustomOp *op) -> size_t { return own(op).gated ? 2 : 1; };
  op.GetOutputType = [](const OrtCustomOp *, size_t index) { return index == 0 ? kFloat32 : kUint8; };
  op.GetOutputCharacteristic = [](const OrtCustomOp *, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.CreateKernelV2 = [](const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel) {
    return guarded(*api, [&] { *kernel = new Kernel(*api, *info, own(op).gated, own(op).setting->shared_contexts()); });
  };
  op.KernelComputeV2 = [](void *kernel, OrtKernelContext *context) {
    const auto &own = *static_cast<const Kernel *>(kernel);
    return guarded(own.api(), [&] { own.compute(*context); });
  };
  op.KernelDestroy = [](void *kernel) { delete static_cast<Kernel *>(kernel); };
}

// The value of a config entry; empty where there is none.
std::string entry(const OrtApi &api, const OrtSessionOptions *options, const char *key) {
  int found = 0;
  check(api.HasSessionConfigEntry(options, key, &found));
  if (!found) return "";
  size_t size = 0;
  check(api.GetSessionConfigEntry(options, key, nullptr, &size));
  std::string value(size, '\0');
  check(api.GetSessionConfigEntry(options, key, value.data(), &size));
  return value.c_str();  // without the zero at its end
}

// The operators belong to all sessions of the same setting, and stay: the runtime does not say when it is done with them.
void add_operators(const OrtApi &api, OrtSessionOptions *options) {
  const std::string isa = entry(api, options, "fedgate.isa"), wanted = entry(api, options, "fedgate.threads");
  const int32_t threads = wanted.empty() ? 1 : read_threads("fedgate.threads", wanted);
  check_isa(isa);
  static std::mutex mutex;
  static auto *const settings = new std::list<Setting>;
  const std::lock_guard lock(mutex);
  for (Setting &setting : *settings) {
    if (setting.api == &api && setting.threads == threads && setting.isa == isa) {
      return check(api.AddCustomOpDomain(options, setting.domain));
    }
  }
  Setting &setting = settings->emplace_back(&api, threads, isa);
  try {
    check(api.CreateCustomOpDomain("fedgate", &setting.domain));
    for (Setting::Operator &op : setting.operators) {
      op.setting = &setting;
      op.gated = &op == setting.operators;
      describe(op);
      check(api.CustomOpDomain_Add(setting.domain, &op));
    }
  } catch (...) {
    settings->pop_back();
    throw;
  }
  check(api.AddCustomOpDomain(options, setting.domain));
}

}  // namespace
}  // namespace fedgate::onnx

extern "C" FEDGATE_API fedgate::onnx::OrtStatus *RegisterCustomOps(fedgate::onnx::OrtSessionOptions *options,
                                                                   const fedgate::onnx::OrtApiBase *base) {
  using namespace fedgate::onnx;
  if (const OrtApi *api = base->GetApi(kApiVersion)) {
    return guarded(*api, [&] { add_operators(*api, options); });
  }
  const OrtApi *first = base->GetApi(1);  // all runtimes have it, and its CreateStatus
  return guarded(*first, [&] {
    throw std::runtime_error(std::string("ONNX Runtime ") + base->GetVersionString() + " is too old; 1." +
                             std::to_string(kApiVersion) + " is the oldest that can run the kernel's operators");
  });
}
