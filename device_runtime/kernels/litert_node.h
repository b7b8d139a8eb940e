// A node of a file: its options and which tensors it reads and writes, checked before anything is computed.
#pragma once

#include "fedgate_kernels.h"
#include "litert_abi.h"

namespace fedgate::litert {

inline constexpr char kName[] = "fedgate.gated_conv2d";
inline constexpr int32_t kAbsent = -1;

// Indices of tensors, or kAbsent.
struct GatedConv {
  int32_t index;  // of the node, for messages
  int32_t stride, relu, pool, residual_stride, residual_offset;
  int32_t x, weight, scale, shift, level, in_open = kAbsent;
  int32_t gate_weight = kAbsent, gate_bias = kAbsent, kept = kAbsent, residual = kAbsent;
  int32_t y, open = kAbsent;
};

// A composite or a custom operator of our name.
bool is_ours(const TfLiteNode &node, const TfLiteRegistration &registration);

// Throws std::runtime_error for attributes, or a number of tensors, that are not understood.
GatedConv read_node(const TfLiteNode &node, const TfLiteRegistration &registration, int32_t index);

// The layer and what a call needs of a node whose tensors fit; the call's pointers are left out.
// Throws std::runtime_error for tensors that do not.
void check_tensors(const TfLiteContext &context, const GatedConv &node, fedgate_layer &layer, fedgate_call &call);

}  // namespace fedgate::litert
