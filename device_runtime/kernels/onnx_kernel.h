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

#include "onnx_abi.h"
#include "operands.h"
#include "options.h"

namespace fedgate::onnx {

// Inputs are in the order of fedgate::Name, as in export/gated_conv2d.py; the last three are gated_conv2d's.
inline size_t inputs(bool gated) { return gated ? kY : kGateWeight; }

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

class Kernel {
 public:
  // Throws std::runtime_error for attributes that are missing or out of range, and constants that do not fit.
  Kernel(const OrtApi &api, const OrtKernelInfo &info, bool gated, std::shared_ptr<Contexts> contexts);
  // Throws std::runtime_error for tensors that do not fit. May be called by several threads at once.
  void compute(OrtKernelContext &context) const;
  const OrtApi &api() const { return api_; }

 private:
  [[noreturn]] void refuse(const std::string &why) const;
  void describe(const OrtValue *value, Operand &operand) const;
  void output(OrtKernelContext &context, size_t index, const Checked &checked, Operand &operand) const;

  const OrtApi &api_;
  const std::shared_ptr<Contexts> contexts_;
  std::string name_;
  Request request_;  // the attributes, and the constants without their data
};

}  // namespace fedgate::onnx
