// A node of gated_conv2d or conv2d in a session of ONNX Runtime.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "fedgate_kernels.h"
#include "onnx_abi.h"
#include "options.h"

namespace fedgate::onnx {

// The order of the arguments in export/gated_conv2d.py; the last three are gated_conv2d's.
enum Input : size_t {
  kX, kWeight, kScale, kShift, kLevel, kInOpen, kResidual, kPlainInputs,
  kGateWeight = kPlainInputs, kGateBias, kKept, kGatedInputs,
};
struct InputFacts {
  const char *name;
  ONNXTensorElementDataType type;
  bool optional;
};
inline constexpr InputFacts kInputs[kGatedInputs] = {
    {"x", kFloat32, false},
    {"weight", kFloat32, false},
    {"scale", kFloat32, false},
    {"shift", kFloat32, false},
    {"level", kInt32, false},
    {"in_open", kUint8, true},
    {"residual", kFloat32, true},
    {"gate_weight", kFloat32, false},
    {"gate_bias", kFloat32, false},
    {"kept", kInt32, false},
};

// A status of the runtime's own, on its way back to it.
struct Refused {
  OrtStatus *status;
};
inline void check(OrtStatus *status) {
  if (status) throw Refused{status};
}

// Nothing is thrown through the runtime, which is C.
template <typename Body>
OrtStatus *guarded(const OrtApi &api, Body body) {
  try {
    body();
    return nullptr;
  } catch (const Refused &refused) {
    return refused.status;
  } catch (const std::bad_alloc &) {
    return api.CreateStatus(ORT_FAIL, "fedgate: out of memory");
  } catch (const std::exception &error) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (...) {
    return api.CreateStatus(ORT_FAIL, "fedgate: unknown error");
  }
}

// Scratch memory and threads, shared by the layers of sessions, so that they stay few and in the caches. A context
// works for one call at a time; there are as many as there ever were calls at once.
class Contexts {
 public:
  Contexts(std::string isa, int32_t threads) : isa_(std::move(isa)), threads_(threads) {}
  Context take();
  void put_back(Context context);

 private:
  const std::string isa_;  // empty: the best
  const int32_t threads_;
  std::mutex mutex_;
  std::vector<Context> idle_;
};

struct Tensor;

class Kernel {
 public:
  // Throws std::runtime_error for attributes that are missing or out of range, and constants that do not fit.
  Kernel(const OrtApi &api, const OrtKernelInfo &info, bool gated, std::shared_ptr<Contexts> contexts);
  // Throws std::runtime_error for tensors that do not fit. May be called by several threads at once.
  void compute(OrtKernelContext &context) const;
  const OrtApi &api() const { return api_; }

 private:
  [[noreturn]] void refuse(const std::string &why) const;
  Tensor constant(const OrtKernelInfo &info, Input input) const;
  Tensor describe(Input input, const OrtValue *value) const;
  void expect(const Tensor &tensor, std::initializer_list<int64_t> sides) const;
  int32_t side(const Tensor &tensor, size_t rank, size_t dimension) const;
  const OrtValue *input(const OrtKernelContext &context, Input input) const;
  template <typename T>
  T *data(Input input, const OrtValue *value) const;
  template <typename T>
  T *output(OrtKernelContext &context, size_t index, std::initializer_list<int64_t> sides) const;

  const OrtApi &api_;
  const bool gated_;
  const std::shared_ptr<Contexts> contexts_;
  std::string name_;
  fedgate_layer layer_{};  // what the attributes and the constants say, without pointers
};

}  // namespace fedgate::onnx
