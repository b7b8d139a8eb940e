// The part of ONNX Runtime's C interface that a library of custom operators needs; its wheels carry no headers.
//
// As in include/onnxruntime/core/session/onnxruntime_c_api.h of ONNX Runtime 1.16. OrtApi is a table of functions that
// every later version has extended only at its end, which the runtime itself asserts; a runtime hands it out to who asks
// for its version or an older one. OrtCustomOp says by its first field how much of it may be read.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fedgate::onnx {

static_assert(sizeof(void *) == 8, "the ONNX Runtime operators are for 64-bit processors");

// The first one in which an operator can be refused: CreateKernelV2 and KernelComputeV2 return a status.
inline constexpr uint32_t kApiVersion = 16;

enum OrtErrorCode : int32_t { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum ONNXTensorElementDataType : int32_t { kFloat32 = 1, kUint8 = 2, kInt32 = 6 };
enum OrtCustomOpInputOutputCharacteristic : int32_t { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };
enum OrtMemType : int32_t { OrtMemTypeDefault = 0 };

struct OrtStatus;  // a null pointer: success
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtCustomOp;

// The names end in the index of the first function that they stand for.
struct OrtApi {
  OrtStatus *(*CreateStatus)(OrtErrorCode code, const char *message);
  void *unused_1[25];
  OrtStatus *(*CreateCustomOpDomain)(const char *name, OrtCustomOpDomain **domain);
  OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *domain, const OrtCustomOp *op);
  OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *options, OrtCustomOpDomain *domain);
  void *unused_29[22];
  OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **data);
  void *unused_52[8];
  OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *info, ONNXTensorElementDataType *type);
  OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *info, size_t *count);
  OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *info, int64_t *sides, size_t count);
  void *unused_63[2];
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value, OrtTensorTypeAndShapeInfo **info);
  void *unused_66[20];
  OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *info, const char *name, int64_t *value);
  void *unused_87[3];
  OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *context, size_t index, const OrtValue **value);
  OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *context, size_t index, const int64_t *sides, size_t count,
                                        OrtValue **value);
  void *unused_92;
  void (*ReleaseStatus)(OrtStatus *status);
  void *unused_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *info);
  void *unused_100[137];
  OrtStatus *(*HasSessionConfigEntry)(const OrtSessionOptions *options, const char *key, int *found);
  OrtStatus *(*GetSessionConfigEntry)(const OrtSessionOptions *options, const char *key, char *value, size_t *size);
  void *unused_239[5];
  OrtStatus *(*KernelInfo_GetNodeName)(const OrtKernelInfo *info, char *name, size_t *size);
  void *unused_245[4];
  OrtStatus *(*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo *info, size_t index, int *constant,
                                                  const OrtValue **value);
};
#define FEDGATE_ORT_INDEX(member, index) static_assert(offsetof(OrtApi, member) == (index) * sizeof(void *))
FEDGATE_ORT_INDEX(CreateStatus, 0);
FEDGATE_ORT_INDEX(CreateCustomOpDomain, 26);
FEDGATE_ORT_INDEX(CustomOpDomain_Add, 27);
FEDGATE_ORT_INDEX(AddCustomOpDomain, 28);
FEDGATE_ORT_INDEX(GetTensorMutableData, 51);
FEDGATE_ORT_INDEX(GetTensorElementType, 60);
FEDGATE_ORT_INDEX(GetDimensionsCount, 61);
FEDGATE_ORT_INDEX(GetDimensions, 62);
FEDGATE_ORT_INDEX(GetTensorTypeAndShape, 65);
FEDGATE_ORT_INDEX(KernelInfoGetAttribute_int64, 86);
FEDGATE_ORT_INDEX(KernelContext_GetInput, 90);
FEDGATE_ORT_INDEX(KernelContext_GetOutput, 91);
FEDGATE_ORT_INDEX(ReleaseStatus, 93);
FEDGATE_ORT_INDEX(ReleaseTensorTypeAndShapeInfo, 99);
FEDGATE_ORT_INDEX(HasSessionConfigEntry, 237);
FEDGATE_ORT_INDEX(GetSessionConfigEntry, 238);
FEDGATE_ORT_INDEX(KernelInfo_GetNodeName, 244);
FEDGATE_ORT_INDEX(KernelInfoGetConstantInput_tensor, 249);
#undef FEDGATE_ORT_INDEX

struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);  // null for a version that the runtime does not have
  const char *(*GetVersionString)();
};

struct OrtCustomOp {
  uint32_t version;
  void *CreateKernel;
  const char *(*GetName)(const OrtCustomOp *op);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *op);  // null: the CPU's
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp *op);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *op);
  void *KernelCompute;
  void (*KernelDestroy)(void *kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp *op, size_t index);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp *op, size_t index);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp *op, size_t index);
  void *variadic[4];  // asked for where a characteristic is variadic
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *context);
  void *younger[16];
};
static_assert(offsetof(OrtCustomOp, GetName) == 16 && offsetof(OrtCustomOp, GetInputType) == 32);
static_assert(offsetof(OrtCustomOp, KernelDestroy) == 72 && offsetof(OrtCustomOp, GetInputMemoryType) == 96);
static_assert(offsetof(OrtCustomOp, CreateKernelV2) == 136 && offsetof(OrtCustomOp, KernelComputeV2) == 144);

}  // namespace fedgate::onnx
