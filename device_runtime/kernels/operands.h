// One call of the operator as a runtime hands it over, and the one place that says whether it is made.
//
// What a program file says of a tensor is not trusted: each runtime's side only copies it into an Operand, and here it
// is looked at before anything is read. No exceptions, and nothing of the standard library: Android's build has neither.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fedgate_kernels.h"

namespace fedgate {

enum Name : int32_t {
  kX, kWeight, kScale, kShift, kLevel, kInOpen, kResidual, kGateWeight, kGateBias, kKept,
  kY, kOpen,
  kNames,
};
const char *name_of(Name name);
// The operands of a call with a gate and of one without; in_open and residual may be left out.
inline bool belongs(Name name, bool gated) {
  return gated || !(name == kGateWeight || name == kGateBias || name == kKept || name == kOpen);
}
inline bool optional(Name name) { return name == kInOpen || name == kResidual; }

enum class Type : uint8_t { kOther, kFloat32, kInt32, kUint8 };
Type type_of(Name name);

inline constexpr int32_t kMostSides = 4;
inline constexpr size_t kNotSaid = SIZE_MAX;

struct Operand {
  bool present = false;
  Type type = Type::kOther;
  int64_t rank = 0;
  int64_t sides[kMostSides] = {};  // the first ones, where there are more
  size_t bytes = kNotSaid;         // of the tensor's memory, where its runtime says
  bool dense = true;               // row by row without gaps
  bool constant = false;           // memory that must not be written
  void *data = nullptr;            // looked at by attach_data alone
};

struct Request {
  bool gated = false;
  int64_t stride = 0, relu = 0, pool = 0, residual_stride = 0, residual_offset = 0;
  Operand operands[kNames];
};

// What the kernel is called with, and how many bytes of each operand it touches.
struct Checked {
  fedgate_layer layer;
  fedgate_call call;
  size_t bytes[kNames];
  char reason[240];  // of a refusal
};

// All of these return whether the request is accepted; `checked` then says what it came to, or else why it is refused.

// The attributes and the operands that are constants of a program: weights, norms and gate.
bool check_constants(const Request &request, Checked &checked);
// Those, and the types and shapes of all that is read: what outputs must be, follows.
bool check_inputs(const Request &request, Checked &checked);
// Those, and the types and shapes of all operands. The pointers of layer and call are left out.
bool check_shapes(const Request &request, Checked &checked);
// Height and width of y, of a layer whose inputs were accepted.
void output_sides(const fedgate_layer &layer, int32_t &height, int32_t &width);
// Behind check_shapes, when all have their memory: that there is some, that nothing is written over what is read, and
// that level and masks hold what they may. Fills in the pointers.
bool attach_data(const Request &request, Checked &checked);

}  // namespace fedgate
