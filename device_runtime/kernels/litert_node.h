// A node of a file: its options and which tensors it reads and writes, checked before anything is computed.
#pragma once

#include "litert_abi.h"
#include "operands.h"

namespace fedgate::litert {

inline constexpr char kName[] = "fedgate.gated_conv2d";
inline constexpr int32_t kAbsent = -1;

struct GatedConv {
  int32_t index;     // of the node, for messages
  Request request;   // with the attributes, and which operands there are
  int32_t tensors[kNames];  // indices, or kAbsent
};

// A composite or a custom operator of our name.
bool is_ours(const TfLiteNode &node, const TfLiteRegistration &registration);

// Throws std::runtime_error for attributes, or a number of tensors, that are not understood.
GatedConv read_node(const TfLiteNode &node, const TfLiteRegistration &registration, int32_t index);

// Copies what the runtime says of a tensor.
void describe(const TfLiteTensor &tensor, Operand &operand);

// Fills in the operands of a node. Throws std::runtime_error for tensors that do not fit, and constants that are none.
void check_tensors(const TfLiteContext &context, GatedConv &node, Checked &checked);

[[noreturn]] void refuse(const GatedConv &node, const char *why);

}  // namespace fedgate::litert
