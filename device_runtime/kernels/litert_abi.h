// The part of TensorFlow Lite's C interface that an external delegate needs; its wheels carry no headers.
//
// Field for field as in tensorflow/lite/core/c/common.h and builtin_op_data.h of TensorFlow 2.14, which LiteRT 2.3
// (tflite/core/c/common.h) has extended only at the ends. Structures that the runtime owns stop behind the last field
// used, unless they lie in an array; those that the runtime reads from us end with zeros in place of younger fields.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fedgate::litert {

// Larger registrations than the runtime's may be passed by value where such arguments are passed in memory of their
// own, which no 32-bit ARM does.
static_assert(sizeof(void *) == 8, "the LiteRT delegate is for 64-bit processors");

enum TfLiteStatus : int32_t { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType : int32_t { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3 };
enum TfLiteAllocationType : int32_t { kTfLiteMmapRo = 1, kTfLiteDynamic = 4, kTfLitePersistentRo = 5 };
enum : int64_t { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };
// tensorflow/lite/builtin_ops.h. 2.14 does not know composites and refuses files that have one.
enum : int32_t { kTfLiteBuiltinCustom = 32, kTfLiteBuiltinStablehloComposite = 206 };

struct TfLiteIntArray {
  int32_t size;
  int32_t data[];
};

// context->tensors is an array of these.
struct TfLiteTensor {
  TfLiteType type;
  void *data;
  TfLiteIntArray *dims;
  float scale;  // TfLiteQuantizationParams
  int32_t zero_point;
  TfLiteAllocationType allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int32_t buffer_handle;
  bool data_is_stale;
  bool is_variable;
  int32_t quantization_type;  // TfLiteQuantization
  void *quantization_params;
  void *sparsity;
  const TfLiteIntArray *dims_signature;
};
static_assert(offsetof(TfLiteTensor, data) == 8 && offsetof(TfLiteTensor, dims) == 16);
static_assert(offsetof(TfLiteTensor, allocation_type) == 32 && offsetof(TfLiteTensor, bytes) == 40);
static_assert(offsetof(TfLiteTensor, name) == 56 && offsetof(TfLiteTensor, sparsity) == 96);
static_assert(sizeof(TfLiteTensor) == 112);

struct TfLiteNode {
  TfLiteIntArray *inputs;
  TfLiteIntArray *outputs;
  TfLiteIntArray *intermediates;
  TfLiteIntArray *temporaries;
  void *user_data;
  void *builtin_data;
  const void *custom_initial_data;
  int32_t custom_initial_data_size;
};
static_assert(offsetof(TfLiteNode, builtin_data) == 40 && offsetof(TfLiteNode, custom_initial_data_size) == 56);

struct TfLiteContext;
struct TfLiteDelegate;

// Passed by value. Behind async_kernel 2.3 has inplace_operator; zero there means that nothing may be shared.
struct TfLiteRegistration {
  void *(*init)(TfLiteContext *context, const char *buffer, size_t length);
  void (*free)(TfLiteContext *context, void *buffer);
  TfLiteStatus (*prepare)(TfLiteContext *context, TfLiteNode *node);
  TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
  const char *(*profiling_string)(const TfLiteContext *context, const TfLiteNode *node);
  int32_t builtin_code;
  const char *custom_name;
  int32_t version;
  void *registration_external;
  void *async_kernel;
  uint64_t younger[4];
};
static_assert(offsetof(TfLiteRegistration, builtin_code) == 40 && offsetof(TfLiteRegistration, custom_name) == 48);
static_assert(offsetof(TfLiteRegistration, async_kernel) == 72 && offsetof(TfLiteRegistration, younger) == 80);

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext *context, TfLiteIntArray **plan);
  TfLiteTensor *tensors;
  void *impl_;
  void *ResizeTensor;
  void (*ReportError)(TfLiteContext *context, const char *format, ...);
  void *AddTensors;
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext *context, int32_t index, TfLiteNode **node,
                                         TfLiteRegistration **registration);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *context, TfLiteRegistration registration,
                                                        const TfLiteIntArray *nodes, TfLiteDelegate *delegate);
};
static_assert(offsetof(TfLiteContext, ReplaceNodeSubsetsWithDelegateKernels) == 64);

// What a delegate kernel's init gets as its buffer.
struct TfLiteDelegateParams {
  TfLiteDelegate *delegate;
  TfLiteIntArray *nodes_to_replace;
  TfLiteIntArray *input_tensors;
  TfLiteIntArray *output_tensors;
};

struct TfLiteDelegate {
  void *data_;
  TfLiteStatus (*Prepare)(TfLiteContext *context, TfLiteDelegate *delegate);
  void *CopyFromBufferHandle;
  void *CopyToBufferHandle;
  void *FreeBufferHandle;
  int64_t flags;
  void *opaque_delegate_builder;
  uint64_t younger[4];
};
static_assert(offsetof(TfLiteDelegate, flags) == 40 && offsetof(TfLiteDelegate, younger) == 56);

// The builtin_data of a composite; between subgraph_index and attributes some versions have an int32_t version.
struct TfLiteStablehloCompositeParams {
  const char *name;
  int32_t subgraph_index;
  const uint8_t *attributes;
  size_t attributes_size;
};
static_assert(offsetof(TfLiteStablehloCompositeParams, attributes) == 16);

}  // namespace fedgate::litert
