#include "litert_node.h"

#include <string.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "litert_attributes.h"

namespace fedgate::litert {
namespace {

constexpr int32_t kMostAttributes = 16;

std::string label(int32_t index) { return std::string(kName) + " (node " + std::to_string(index) + "): "; }

// The tensors that a node lists, taken one after the other.
class Operands {
 public:
  explicit Operands(const TfLiteIntArray *array) : array_(array) {}

  int32_t take(bool present = true) {
    if (!present) return kAbsent;
    const int32_t index = array_ && next_ < array_->size ? array_->data[next_] : kAbsent;
    ++next_;
    missing_ = missing_ || index < 0;
    return index;
  }
  // Whether what was taken is all that there is.
  bool fits() const { return array_ && next_ == array_->size && !missing_; }

 private:
  const TfLiteIntArray *array_;
  int32_t next_ = 0;
  bool missing_ = false;
};

struct Options {
  int32_t stride = kAbsent, relu = kAbsent, pool = kAbsent, masked_input = kAbsent, gated = kAbsent;
  int32_t residual = kAbsent, residual_stride = kAbsent, residual_offset = kAbsent;
};

Options read_options(const TfLiteNode &node, const TfLiteRegistration &registration, const std::string &who) {
  const uint8_t *bytes;
  size_t size;
  if (registration.builtin_code == kTfLiteBuiltinStablehloComposite) {
    const auto *params = static_cast<const TfLiteStablehloCompositeParams *>(node.builtin_data);
    bytes = params->attributes;
    size = params->attributes_size;
  } else {
    bytes = static_cast<const uint8_t *>(node.custom_initial_data);
    size = node.custom_initial_data_size < 0 ? 0 : static_cast<size_t>(node.custom_initial_data_size);
  }
  fedgate_attribute attributes[kMostAttributes];
  const int32_t count = fedgate_read_attributes(bytes, size, attributes, kMostAttributes);
  if (count < 0) throw std::runtime_error(who + "its attributes are not a map of names to integers");
  Options options;
  const struct {
    const char *name;
    int32_t &value;
    int32_t most;
  } known[] = {
      {"gated", options.gated, 1},
      {"masked_input", options.masked_input, 1},
      {"pool", options.pool, INT32_MAX},
      {"relu", options.relu, INT32_MAX},
      {"residual", options.residual, 1},
      {"residual_offset", options.residual_offset, INT32_MAX},
      {"residual_stride", options.residual_stride, INT32_MAX},
      {"stride", options.stride, INT32_MAX},
  };
  for (int32_t i = 0; i < count; ++i) {
    bool found = false;
    for (const auto &k : known) {
      if (strcmp(k.name, attributes[i].name) != 0) continue;
      found = 0 <= attributes[i].value && attributes[i].value <= k.most;
      k.value = attributes[i].value;
    }
    if (!found) {
      throw std::runtime_error(who + "attribute '" + attributes[i].name + "' = " + std::to_string(attributes[i].value) +
                               " is not known to this version");
    }
  }
  for (const auto &k : known) {
    if (k.value == kAbsent) throw std::runtime_error(who + "attribute '" + k.name + "' is missing");
  }
  return options;
}

// Tensors of a node as the file declares them, each looked at before it is used.
class Tensors {
 public:
  Tensors(const TfLiteContext &context, int32_t node) : context_(context), node_(node) {}

  [[noreturn]] void refuse(const std::string &why) const { throw std::runtime_error(label(node_) + why); }

  // dims[i] of a tensor with `rank` dimensions.
  int32_t size(int32_t tensor, const char *what, int32_t rank, int32_t i) const {
    const TfLiteIntArray *dims = get(tensor, what).dims;
    if (!dims || dims->size != rank || dims->data[i] < 1) refuse(std::string(what) + " has " + text(dims));
    return dims->data[i];
  }

  void check(int32_t tensor, const char *what, TfLiteType type, std::initializer_list<int32_t> shape) const {
    const TfLiteTensor &t = get(tensor, what);
    const size_t item = type == kTfLiteUInt8 ? 1 : 4;
    bool good = t.type == type && t.dims && t.dims->size == static_cast<int32_t>(shape.size());
    size_t bytes = item;
    for (size_t i = 0; good && i < shape.size(); ++i) {
      const int32_t side = t.dims->data[i];
      good = side == shape.begin()[i] && side > 0 && !__builtin_mul_overflow(bytes, static_cast<size_t>(side), &bytes);
    }
    if (!good || t.bytes != bytes || t.sparsity || t.allocation_type == kTfLiteDynamic) {
      std::string expected;
      for (const int32_t side : shape) expected += (expected.empty() ? "" : ", ") + std::to_string(side);
      const char *type_name = type == kTfLiteFloat32 ? "float32" : type == kTfLiteInt32 ? "int32" : "uint8";
      refuse(std::string(what) + " is type " + std::to_string(t.type) + ", " + text(t.dims) + ", " +
             std::to_string(t.bytes) + " bytes, not a dense " + type_name + " of shape [" + expected + "]");
    }
  }

  template <typename T>
  const T *constant(int32_t tensor, const char *what, std::initializer_list<int32_t> shape) const {
    check(tensor, what, std::is_same_v<T, float> ? kTfLiteFloat32 : kTfLiteInt32, shape);
    const TfLiteTensor &t = get(tensor, what);
    if (t.allocation_type != kTfLiteMmapRo || !t.data) refuse(std::string(what) + " is not a constant");
    if (reinterpret_cast<uintptr_t>(t.data) % alignof(T) != 0) refuse(std::string(what) + " is not aligned");
    return static_cast<const T *>(t.data);
  }

 private:
  const TfLiteTensor &get(int32_t tensor, const char *what) const {
    if (tensor < 0 || static_cast<size_t>(tensor) >= context_.tensors_size) refuse(std::string(what) + " is missing");
    return context_.tensors[tensor];
  }

  static std::string text(const TfLiteIntArray *dims) {
    if (!dims) return "no shape";
    std::string sides;
    for (int32_t i = 0; i < dims->size && i < 8; ++i) sides += (i ? ", " : "") + std::to_string(dims->data[i]);
    return "shape [" + sides + "]";
  }

  const TfLiteContext &context_;
  int32_t node_;
};

}  // namespace

bool is_ours(const TfLiteNode &node, const TfLiteRegistration &registration) {
  const char *name = nullptr;
  if (registration.builtin_code == kTfLiteBuiltinStablehloComposite) {
    const auto *params = static_cast<const TfLiteStablehloCompositeParams *>(node.builtin_data);
    if (params) name = params->name;
  } else if (registration.builtin_code == kTfLiteBuiltinCustom) {
    name = registration.custom_name;
  }
  return name && strcmp(name, kName) == 0;
}

GatedConv read_node(const TfLiteNode &node, const TfLiteRegistration &registration, int32_t index) {
  const Options options = read_options(node, registration, label(index));
  GatedConv conv{};
  conv.index = index;
  conv.stride = options.stride;
  conv.relu = options.relu;
  conv.pool = options.pool;
  conv.residual_stride = options.residual_stride;
  conv.residual_offset = options.residual_offset;
  Operands inputs(node.inputs), outputs(node.outputs);
  conv.x = inputs.take();
  conv.weight = inputs.take();
  conv.scale = inputs.take();
  conv.shift = inputs.take();
  conv.level = inputs.take();
  conv.in_open = inputs.take(options.masked_input);
  conv.gate_weight = inputs.take(options.gated);
  conv.gate_bias = inputs.take(options.gated);
  conv.kept = inputs.take(options.gated);
  conv.residual = inputs.take(options.residual);
  conv.y = outputs.take();
  conv.open = outputs.take(options.gated);
  const bool in_place =
      conv.y == conv.x || conv.y == conv.residual || (conv.open != kAbsent && conv.open == conv.in_open);
  if (!inputs.fits() || !outputs.fits() || in_place) {
    throw std::runtime_error(label(index) + "its operands do not fit its attributes");
  }
  return conv;
}

void check_tensors(const TfLiteContext &context, const GatedConv &node, fedgate_layer &layer, fedgate_call &call) {
  const Tensors tensors(context, node.index);
  layer = {};
  call = {};
  call.batch = tensors.size(node.x, "x", 4, 0);
  layer.in_channels = tensors.size(node.x, "x", 4, 1);
  layer.height = tensors.size(node.x, "x", 4, 2);
  layer.width = tensors.size(node.x, "x", 4, 3);
  layer.out_channels = tensors.size(node.weight, "weight", 4, 0);
  layer.kernel = tensors.size(node.weight, "weight", 4, 2);
  layer.levels = tensors.size(node.scale, "scale", 2, 0);
  layer.stride = node.stride;
  layer.relu = node.relu;
  layer.pool = node.pool;
  if (node.residual != kAbsent) {
    layer.residual_channels = tensors.size(node.residual, "residual", 4, 1);
    layer.residual_height = tensors.size(node.residual, "residual", 4, 2);
    layer.residual_width = tensors.size(node.residual, "residual", 4, 3);
    layer.residual_stride = node.residual_stride;
    layer.residual_offset = node.residual_offset;
  }
  if (const char *reason = fedgate_refused(&layer)) tensors.refuse(reason);

  const int32_t batch = call.batch, in = layer.in_channels, out = layer.out_channels, levels = layer.levels;
  const int32_t height = ((layer.height - 1) / layer.stride + 1) / layer.pool;
  const int32_t width = ((layer.width - 1) / layer.stride + 1) / layer.pool;
  tensors.check(node.x, "x", kTfLiteFloat32, {batch, in, layer.height, layer.width});
  layer.weight = tensors.constant<float>(node.weight, "weight", {out, in, layer.kernel, layer.kernel});
  layer.scale = tensors.constant<float>(node.scale, "scale", {levels, out});
  layer.shift = tensors.constant<float>(node.shift, "shift", {levels, out});
  tensors.check(node.level, "level", kTfLiteInt32, {1});
  if (node.in_open != kAbsent) tensors.check(node.in_open, "in_open", kTfLiteUInt8, {batch, in});
  if (node.gate_weight != kAbsent) {
    layer.gate_weight = tensors.constant<float>(node.gate_weight, "gate_weight", {in, out});
    layer.gate_bias = tensors.constant<float>(node.gate_bias, "gate_bias", {out});
    layer.kept = tensors.constant<int32_t>(node.kept, "kept", {levels});
    tensors.check(node.open, "open", kTfLiteUInt8, {batch, out});
  }
  if (node.residual != kAbsent) {
    tensors.check(node.residual, "residual", kTfLiteFloat32,
                  {batch, layer.residual_channels, layer.residual_height, layer.residual_width});
  }
  tensors.check(node.y, "y", kTfLiteFloat32, {batch, out, height, width});
}

}  // namespace fedgate::litert
