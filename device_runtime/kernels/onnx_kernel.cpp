#include "onnx_kernel.h"

#include <initializer_list>
#include <stdexcept>

namespace fedgate::onnx {
namespace {

constexpr size_t kMostSides = 4;

std::string text(const int64_t *sides, size_t rank) {
  std::string all;
  for (size_t i = 0; i < rank; ++i) all += (i ? ", " : "") + std::to_string(sides[i]);
  return "[" + all + "]";
}

}  // namespace

// The type and shape of an input.
struct Tensor {
  Input input;
  ONNXTensorElementDataType type;
  size_t rank;
  int64_t sides[kMostSides];

  std::string text() const {
    const std::string shape = rank > kMostSides ? "of rank " + std::to_string(rank)
                                                : "of shape " + onnx::text(sides, rank);
    return std::string(kInputs[input].name) + " is of type " + std::to_string(type) + " and " + shape;
  }
};

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
    : api_(api), gated_(gated), contexts_(std::move(contexts)) {
  size_t size = 0;
  check(api_.KernelInfo_GetNodeName(&info, nullptr, &size));
  name_.resize(size);
  check(api_.KernelInfo_GetNodeName(&info, name_.data(), &size));
  name_ = name_.c_str();  // without the zero at its end
  const struct {
    const char *name;
    int32_t &value;
  } attributes[] = {
      {"stride", layer_.stride},
      {"relu", layer_.relu},
      {"pool", layer_.pool},
      {"residual_stride", layer_.residual_stride},
      {"residual_offset", layer_.residual_offset},
  };
  for (const auto &attribute : attributes) {
    int64_t value;
    if (OrtStatus *status = api_.KernelInfoGetAttribute_int64(&info, attribute.name, &value)) {
      api_.ReleaseStatus(status);
      refuse(std::string("attribute '") + attribute.name + "' is missing, or no integer");
    }
    if (value < 0 || value > INT32_MAX) {
      refuse(std::string("attribute '") + attribute.name + "' = " + std::to_string(value) + " is out of range");
    }
    attribute.value = static_cast<int32_t>(value);
  }
  const Tensor weight = constant(info, kWeight), scale = constant(info, kScale), shift = constant(info, kShift);
  const int32_t out = layer_.out_channels = side(weight, 4, 0), in = layer_.in_channels = side(weight, 4, 1);
  layer_.kernel = side(weight, 4, 2);
  layer_.levels = side(scale, 2, 0);
  expect(weight, {out, in, layer_.kernel, layer_.kernel});
  expect(scale, {layer_.levels, out});
  expect(shift, {layer_.levels, out});
  if (!gated_) return;
  expect(constant(info, kGateWeight), {in, out});
  expect(constant(info, kGateBias), {out});
  expect(constant(info, kKept), {layer_.levels});
}

void Kernel::compute(OrtKernelContext &context) const {
  const OrtValue *values[kGatedInputs]{};
  for (size_t i = 0; i < (gated_ ? kGatedInputs : kPlainInputs); ++i) values[i] = input(context, Input(i));
  const Tensor x = describe(kX, values[kX]);
  fedgate_layer layer = layer_;
  fedgate_call call{};
  call.batch = side(x, 4, 0);
  layer.height = side(x, 4, 2);
  layer.width = side(x, 4, 3);
  expect(x, {call.batch, layer.in_channels, layer.height, layer.width});
  if (values[kResidual]) {
    const Tensor residual = describe(kResidual, values[kResidual]);
    layer.residual_channels = side(residual, 4, 1);
    layer.residual_height = side(residual, 4, 2);
    layer.residual_width = side(residual, 4, 3);
    expect(residual, {call.batch, layer.residual_channels, layer.residual_height, layer.residual_width});
  } else {
    layer.residual_stride = layer.residual_offset = 0;
  }
  if (const char *reason = fedgate_refused(&layer)) refuse(reason);
  expect(describe(kLevel, values[kLevel]), {1});
  if (values[kInOpen]) expect(describe(kInOpen, values[kInOpen]), {call.batch, layer.in_channels});

  call.x = data<float>(kX, values[kX]);
  call.residual = data<float>(kResidual, values[kResidual]);
  call.in_open = data<uint8_t>(kInOpen, values[kInOpen]);
  call.level = *data<int32_t>(kLevel, values[kLevel]);
  if (call.level < 0 || call.level >= layer.levels) {
    refuse("level " + std::to_string(call.level) + " is not one of 0 to " + std::to_string(layer.levels - 1));
  }
  layer.weight = data<float>(kWeight, values[kWeight]);
  layer.scale = data<float>(kScale, values[kScale]);
  layer.shift = data<float>(kShift, values[kShift]);
  if (gated_) {
    layer.gate_weight = data<float>(kGateWeight, values[kGateWeight]);
    layer.gate_bias = data<float>(kGateBias, values[kGateBias]);
    layer.kept = data<int32_t>(kKept, values[kKept]);
    call.open = output<uint8_t>(context, 1, {call.batch, layer.out_channels});
  }
  const int32_t height = ((layer.height - 1) / layer.stride + 1) / layer.pool;
  const int32_t width = ((layer.width - 1) / layer.stride + 1) / layer.pool;
  call.y = output<float>(context, 0, {call.batch, layer.out_channels, height, width});

  Context own = contexts_->take();
  const int32_t status = fedgate_conv2d(own.get(), &layer, &call);
  contexts_->put_back(std::move(own));
  if (status == FEDGATE_NO_MEMORY) throw std::bad_alloc();
  if (status != FEDGATE_OK) refuse("failed with " + std::to_string(status));
}

void Kernel::refuse(const std::string &why) const {
  throw std::runtime_error(std::string("fedgate.") + (gated_ ? "gated_conv2d" : "conv2d") + " '" + name_ + "': " + why);
}

Tensor Kernel::constant(const OrtKernelInfo &info, Input input) const {
  int constant = 0;
  const OrtValue *value = nullptr;
  check(api_.KernelInfoGetConstantInput_tensor(&info, input, &constant, &value));
  if (!constant || !value) refuse(std::string(kInputs[input].name) + " is not a constant");
  return describe(input, value);
}

Tensor Kernel::describe(Input input, const OrtValue *value) const {
  OrtTensorTypeAndShapeInfo *made = nullptr;
  check(api_.GetTensorTypeAndShape(value, &made));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo *)> info(
      made, api_.ReleaseTensorTypeAndShapeInfo);
  Tensor tensor{input, {}, 0, {}};
  check(api_.GetTensorElementType(info.get(), &tensor.type));
  check(api_.GetDimensionsCount(info.get(), &tensor.rank));
  if (tensor.rank <= kMostSides) check(api_.GetDimensions(info.get(), tensor.sides, tensor.rank));
  return tensor;
}

// Refuses a tensor that is not of its input's type, or of another shape.
void Kernel::expect(const Tensor &tensor, std::initializer_list<int64_t> sides) const {
  bool good = tensor.type == kInputs[tensor.input].type && tensor.rank == sides.size();
  for (size_t i = 0; good && i < sides.size(); ++i) good = tensor.sides[i] == sides.begin()[i];
  if (!good) refuse(tensor.text() + ", not of shape " + text(sides.begin(), sides.size()));
}

int32_t Kernel::side(const Tensor &tensor, size_t rank, size_t dimension) const {
  const int64_t found = tensor.rank == rank ? tensor.sides[dimension] : 0;
  if (found < 1 || found > INT32_MAX) refuse(tensor.text());
  return static_cast<int32_t>(found);
}

// The tensor of an input; null for an optional one that is left out.
const OrtValue *Kernel::input(const OrtKernelContext &context, Input input) const {
  const OrtValue *value = nullptr;
  check(api_.KernelContext_GetInput(&context, input, &value));
  if (!value && !kInputs[input].optional) refuse(std::string(kInputs[input].name) + " is missing");
  return value;
}

template <typename T>
T *Kernel::data(Input input, const OrtValue *value) const {
  void *found = nullptr;
  if (!value) return nullptr;
  check(api_.GetTensorMutableData(const_cast<OrtValue *>(value), &found));
  if (!found || reinterpret_cast<uintptr_t>(found) % alignof(T) != 0) {
    refuse(std::string(kInputs[input].name) + " has no memory that could be used");
  }
  return static_cast<T *>(found);
}

template <typename T>
T *Kernel::output(OrtKernelContext &context, size_t index, std::initializer_list<int64_t> sides) const {
  OrtValue *value = nullptr;
  void *found = nullptr;
  check(api_.KernelContext_GetOutput(&context, index, sides.begin(), sides.size(), &value));
  if (value) check(api_.GetTensorMutableData(value, &found));
  if (!found) refuse("an output has no memory");
  return static_cast<T *>(found);
}

}  // namespace fedgate::onnx
