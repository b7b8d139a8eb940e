#include "onnx_kernel.h"

#include <stdexcept>

namespace fedgate::onnx {

Context Contexts::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Context context = std::move(idle_.back());
      idle_.pop_back();
      return context;
    }
  }
  return make_context(isa_, threads_);
}

void Contexts::put_back(Context context) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(context));
}

Kernel::Kernel(const OrtApi &api, const OrtKernelInfo &info, bool gated, std::shared_ptr<Contexts> contexts)
    : api_(api), contexts_(std::move(contexts)) {
  request_.gated = gated;
  size_t size = 0;
  check(api_.KernelInfo_GetNodeName(&info, nullptr, &size));
  name_.resize(size);
  check(api_.KernelInfo_GetNodeName(&info, name_.data(), &size));
  name_ = name_.c_str();  // without the zero at its end
  const struct {
    const char *name;
    int64_t &value;
  } attributes[] = {
      {"stride", request_.stride},
      {"relu", request_.relu},
      {"pool", request_.pool},
      {"residual_stride", request_.residual_stride},
      {"residual_offset", request_.residual_offset},
  };
  for (const auto &attribute : attributes) {
    if (OrtStatus *status = api_.KernelInfoGetAttribute_int64(&info, attribute.name, &attribute.value)) {
      api_.ReleaseStatus(status);
      refuse(std::string("attribute '") + attribute.name + "' is missing, or no integer");
    }
  }
  for (const Name name : {kWeight, kScale, kShift, kGateWeight, kGateBias, kKept}) {
    if (!belongs(name, gated)) continue;
    int constant = 0;
    const OrtValue *value = nullptr;
    check(api_.KernelInfoGetConstantInput_tensor(&info, name, &constant, &value));
    if (!constant || !value) refuse(std::string(name_of(name)) + " is not a constant");
    describe(value, request_.operands[name]);
    request_.operands[name].data = nullptr;
  }
  Checked checked;
  if (!check_constants(request_, checked)) refuse(checked.reason);
}

void Kernel::compute(OrtKernelContext &context) const {
  Request request = request_;
  for (size_t i = 0; i < inputs(request.gated); ++i) {
    Operand &operand = request.operands[i];
    const OrtValue *value = nullptr;
    check(api_.KernelContext_GetInput(&context, i, &value));
    if (operand.present && value) {  // a constant, which stays as it was described
      check(api_.GetTensorMutableData(const_cast<OrtValue *>(value), &operand.data));
    } else if (value) {
      describe(value, operand);
    }
  }
  Checked checked;
  if (!check_inputs(request, checked)) refuse(checked.reason);
  output(context, 0, checked, request.operands[kY]);
  if (request.gated) output(context, 1, checked, request.operands[kOpen]);
  if (!check_shapes(request, checked) || !attach_data(request, checked)) refuse(checked.reason);

  Context own = contexts_->take();
  const int32_t status = fedgate_conv2d(own.get(), &checked.layer, &checked.call);
  contexts_->put_back(std::move(own));
  if (status == FEDGATE_NO_MEMORY) throw std::bad_alloc();
  if (status != FEDGATE_OK) refuse("failed with " + std::to_string(status));
}

void Kernel::refuse(const std::string &why) const {
  throw std::runtime_error(std::string("fedgate.") + (request_.gated ? "gated_conv2d" : "conv2d") + " '" + name_ +
                           "': " + why);
}

void Kernel::describe(const OrtValue *value, Operand &operand) const {
  OrtTensorTypeAndShapeInfo *made = nullptr;
  check(api_.GetTensorTypeAndShape(value, &made));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo *)> info(
      made, api_.ReleaseTensorTypeAndShapeInfo);
  ONNXTensorElementDataType type{};
  size_t rank = 0;
  check(api_.GetTensorElementType(info.get(), &type));
  check(api_.GetDimensionsCount(info.get(), &rank));
  if (rank <= kMostSides) check(api_.GetDimensions(info.get(), operand.sides, rank));
  operand.present = true;
  operand.type = type == kFloat32 ? Type::kFloat32 : type == kInt32 ? Type::kInt32 : type == kUint8 ? Type::kUint8
                                                                                                    : Type::kOther;
  operand.rank = static_cast<int64_t>(rank);
  check(api_.GetTensorMutableData(const_cast<OrtValue *>(value), &operand.data));
}

// Has the runtime allocate an output.
void Kernel::output(OrtKernelContext &context, size_t index, const Checked &checked, Operand &operand) const {
  const int64_t batch = checked.call.batch, channels = checked.layer.out_channels;
  int32_t height, width;
  output_sides(checked.layer, height, width);
  const int64_t sides[] = {batch, channels, height, width};
  OrtValue *value = nullptr;
  check(api_.KernelContext_GetOutput(&context, index, sides, index == 0 ? 4 : 2, &value));
  if (!value) refuse("an output is missing");
  describe(value, operand);
}

}  // namespace fedgate::onnx
