#include "litert_node.h"

#include <string.h>

#include <stdexcept>
#include <string>

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
  GatedConv conv{index, {}, {}};
  Request &request = conv.request;
  request.gated = options.gated;
  request.stride = options.stride;
  request.relu = options.relu;
  request.pool = options.pool;
  request.residual_stride = options.residual_stride;
  request.residual_offset = options.residual_offset;
  Operands inputs(node.inputs), outputs(node.outputs);
  // the order of a node's inputs: the residual is the last
  for (const Name name : {kX, kWeight, kScale, kShift, kLevel, kInOpen, kGateWeight, kGateBias, kKept, kResidual, kY,
                          kOpen}) {
    bool &present = request.operands[name].present;
    present = belongs(name, request.gated);
    if (name == kInOpen) present = options.masked_input;
    if (name == kResidual) present = options.residual;
    conv.tensors[name] = (name < kY ? inputs : outputs).take(present);
  }
  bool in_place = false;
  for (int32_t i = 0; i < kY; ++i) {
    for (const Name written : {kY, kOpen}) {
      in_place = in_place || (conv.tensors[i] != kAbsent && conv.tensors[i] == conv.tensors[written]);
    }
  }
  if (!inputs.fits() || !outputs.fits() || in_place || conv.tensors[kY] == conv.tensors[kOpen]) {
    throw std::runtime_error(label(index) + "its operands do not fit its attributes");
  }
  return conv;
}

void describe(const TfLiteTensor &tensor, Operand &operand) {
  switch (tensor.type) {
    case kTfLiteFloat32: operand.type = Type::kFloat32; break;
    case kTfLiteInt32: operand.type = Type::kInt32; break;
    case kTfLiteUInt8: operand.type = Type::kUint8; break;
    default: operand.type = Type::kOther;
  }
  operand.rank = tensor.dims ? tensor.dims->size : -1;
  for (int32_t i = 0; i < operand.rank && i < kMostSides; ++i) operand.sides[i] = tensor.dims->data[i];
  operand.bytes = tensor.bytes;
  operand.dense = !tensor.sparsity;
  operand.constant = tensor.allocation_type == kTfLiteMmapRo || tensor.allocation_type == kTfLitePersistentRo;
}

void check_tensors(const TfLiteContext &context, GatedConv &node, Checked &checked) {
  for (int32_t i = 0; i < kNames; ++i) {
    Operand &operand = node.request.operands[i];
    if (!operand.present) continue;
    const Name name = Name(i);
    const std::string who = name_of(name);
    const int32_t index = node.tensors[i];
    if (index < 0 || static_cast<size_t>(index) >= context.tensors_size) refuse(node, (who + " is missing").c_str());
    const TfLiteTensor &tensor = context.tensors[index];
    describe(tensor, operand);
    // memory of a size that is known only when it is computed
    if (tensor.allocation_type == kTfLiteDynamic) refuse(node, (who + " has no fixed size").c_str());
    const bool fixed = (kWeight <= name && name <= kShift) || (kGateWeight <= name && name <= kKept);
    if (!fixed) continue;
    if (tensor.allocation_type != kTfLiteMmapRo) refuse(node, (who + " is not a constant").c_str());
    operand.data = tensor.data;
  }
  if (!check_shapes(node.request, checked)) refuse(node, checked.reason);
}

void refuse(const GatedConv &node, const char *why) { throw std::runtime_error(label(node.index) + why); }

}  // namespace fedgate::litert
