#include "operands.h"

#include <stdarg.h>
#include <stdio.h>

#include <initializer_list>

namespace fedgate {
namespace {

struct Facts {
  const char *name;
  Type type;
};

constexpr Facts kFacts[kNames] = {
    {"x", Type::kFloat32},          {"weight", Type::kFloat32},      {"scale", Type::kFloat32},
    {"shift", Type::kFloat32},      {"level", Type::kInt32},         {"in_open", Type::kUint8},
    {"residual", Type::kFloat32},   {"gate_weight", Type::kFloat32}, {"gate_bias", Type::kFloat32},
    {"kept", Type::kInt32},         {"y", Type::kFloat32},           {"open", Type::kUint8},
};

const char *text(Type type) {
  switch (type) {
    case Type::kFloat32: return "float32";
    case Type::kInt32: return "int32";
    case Type::kUint8: return "uint8";
    default: return "another type";
  }
}

size_t item(Type type) { return type == Type::kUint8 ? 1 : 4; }

// "[1, 2, 3]"; of a higher rank "of rank 5"
struct Shape {
  char text[104];

  Shape(const int64_t *sides, int64_t rank) {
    if (rank > kMostSides) {
      snprintf(text, sizeof(text), "rank %lld", static_cast<long long>(rank));
      return;
    }
    int at = snprintf(text, sizeof(text), "shape [");
    for (int64_t i = 0; i < rank; ++i) {
      at += snprintf(text + at, sizeof(text) - at, "%s%lld", i ? ", " : "", static_cast<long long>(sides[i]));
    }
    snprintf(text + at, sizeof(text) - at, "]");
  }
};

__attribute__((format(printf, 2, 3))) bool refuse(Checked &checked, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(checked.reason, sizeof(checked.reason), format, arguments);
  va_end(arguments);
  return false;
}

bool refuse_operand(const Request &request, Checked &checked, Name name) {
  const Operand &operand = request.operands[name];
  return refuse(checked, "%s is %s of %s", name_of(name), text(operand.type), Shape(operand.sides, operand.rank).text);
}

// The operands that a call has, and no others.
bool check_presence(const Request &request, Checked &checked, Name begin, Name end) {
  for (int32_t i = begin; i < end; ++i) {
    const Name name = Name(i);
    const bool present = request.operands[i].present;
    if (!present && belongs(name, request.gated) && !optional(name)) return refuse(checked, "%s is missing", name_of(name));
    if (present && !belongs(name, request.gated)) return refuse(checked, "%s goes with a gate", name_of(name));
  }
  return true;
}

// A side of an operand with `rank` sides, at least 1.
bool read_side(const Request &request, Checked &checked, Name name, int64_t rank, int32_t dimension, int32_t &side) {
  const Operand &operand = request.operands[name];
  const int64_t found = operand.rank == rank ? operand.sides[dimension] : 0;
  if (found < 1 || found > INT32_MAX) return refuse_operand(request, checked, name);
  side = static_cast<int32_t>(found);
  return true;
}

bool check_operand(const Request &request, Checked &checked, Name name, std::initializer_list<int64_t> sides) {
  const Operand &operand = request.operands[name];
  const Type type = kFacts[name].type;
  bool good = operand.type == type && operand.rank == static_cast<int64_t>(sides.size());
  size_t bytes = item(type);
  for (size_t i = 0; good && i < sides.size(); ++i) {
    const int64_t side = sides.begin()[i];
    good = operand.sides[i] == side && side > 0 && !__builtin_mul_overflow(bytes, static_cast<size_t>(side), &bytes);
  }
  // no object is larger, and differences of pointers into it must be numbers
  if (!good || bytes > static_cast<size_t>(PTRDIFF_MAX)) {
    refuse_operand(request, checked, name);
    const Shape found(operand.sides, operand.rank), wanted(sides.begin(), static_cast<int64_t>(sides.size()));
    return refuse(checked, "%s is %s of %s, not %s of %s", name_of(name), text(operand.type), found.text, text(type),
                  wanted.text);
  }
  if (!operand.dense) return refuse(checked, "%s does not lie row by row without gaps", name_of(name));
  if (operand.bytes != kNotSaid && operand.bytes != bytes) {
    return refuse(checked, "%s has %zu bytes, not %zu", name_of(name), operand.bytes, bytes);
  }
  if (operand.constant && (name == kY || name == kOpen)) return refuse(checked, "%s is a constant", name_of(name));
  checked.bytes[name] = bytes;
  return true;
}

bool check_attributes(const Request &request, Checked &checked) {
  fedgate_layer &layer = checked.layer;
  const struct {
    const char *name;
    int64_t value;
    int32_t &field;
  } attributes[] = {
      {"stride", request.stride, layer.stride},
      {"relu", request.relu, layer.relu},
      {"pool", request.pool, layer.pool},
      {"residual_stride", request.residual_stride, layer.residual_stride},
      {"residual_offset", request.residual_offset, layer.residual_offset},
  };
  for (const auto &attribute : attributes) {
    if (attribute.value < 0 || attribute.value > INT32_MAX) {
      return refuse(checked, "%s = %lld is out of range", attribute.name, static_cast<long long>(attribute.value));
    }
    attribute.field = static_cast<int32_t>(attribute.value);
  }
  return true;
}

bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
  const uintptr_t from = reinterpret_cast<uintptr_t>(a), other = reinterpret_cast<uintptr_t>(b);
  return from < other + b_bytes && other < from + a_bytes;
}

}  // namespace

const char *name_of(Name name) { return kFacts[name].name; }
Type type_of(Name name) { return kFacts[name].type; }

void output_sides(const fedgate_layer &layer, int32_t &height, int32_t &width) {
  height = ((layer.height - 1) / layer.stride + 1) / layer.pool;
  width = ((layer.width - 1) / layer.stride + 1) / layer.pool;
}

bool check_constants(const Request &request, Checked &checked) {
  checked = {};
  fedgate_layer &layer = checked.layer;
  if (!check_attributes(request, checked) || !check_presence(request, checked, kWeight, kLevel) ||
      !check_presence(request, checked, kGateWeight, kY) ||
      !read_side(request, checked, kWeight, 4, 0, layer.out_channels) ||
      !read_side(request, checked, kWeight, 4, 1, layer.in_channels) ||
      !read_side(request, checked, kWeight, 4, 2, layer.kernel) ||
      !read_side(request, checked, kScale, 2, 0, layer.levels)) {
    return false;
  }
  const int64_t out = layer.out_channels, in = layer.in_channels, kernel = layer.kernel, levels = layer.levels;
  return check_operand(request, checked, kWeight, {out, in, kernel, kernel}) &&
         check_operand(request, checked, kScale, {levels, out}) &&
         check_operand(request, checked, kShift, {levels, out}) &&
         (!request.gated || (check_operand(request, checked, kGateWeight, {in, out}) &&
                             check_operand(request, checked, kGateBias, {out}) &&
                             check_operand(request, checked, kKept, {levels})));
}

bool check_inputs(const Request &request, Checked &checked) {
  if (!check_constants(request, checked) || !check_presence(request, checked, kX, kY)) return false;
  fedgate_layer &layer = checked.layer;
  fedgate_call &call = checked.call;
  if (!read_side(request, checked, kX, 4, 0, call.batch) || !read_side(request, checked, kX, 4, 2, layer.height) ||
      !read_side(request, checked, kX, 4, 3, layer.width)) {
    return false;
  }
  if (!request.operands[kResidual].present) {
    layer.residual_stride = layer.residual_offset = 0;
  } else if (!read_side(request, checked, kResidual, 4, 1, layer.residual_channels) ||
             !read_side(request, checked, kResidual, 4, 2, layer.residual_height) ||
             !read_side(request, checked, kResidual, 4, 3, layer.residual_width)) {
    return false;
  }
  if (const char *reason = fedgate_refused(&layer)) return refuse(checked, "%s", reason);
  const int64_t batch = call.batch, in = layer.in_channels;
  return check_operand(request, checked, kX, {batch, in, layer.height, layer.width}) &&
         check_operand(request, checked, kLevel, {1}) &&
         (!request.operands[kInOpen].present || check_operand(request, checked, kInOpen, {batch, in})) &&
         (!request.operands[kResidual].present ||
          check_operand(request, checked, kResidual,
                        {batch, layer.residual_channels, layer.residual_height, layer.residual_width}));
}

bool check_shapes(const Request &request, Checked &checked) {
  if (!check_inputs(request, checked) || !check_presence(request, checked, kY, kNames)) return false;
  const int64_t batch = checked.call.batch, out = checked.layer.out_channels;
  int32_t height, width;
  output_sides(checked.layer, height, width);
  return check_operand(request, checked, kY, {batch, out, height, width}) &&
         (!request.gated || check_operand(request, checked, kOpen, {batch, out}));
}

bool attach_data(const Request &request, Checked &checked) {
  const Operand *const operands = request.operands;
  for (int32_t i = 0; i < kNames; ++i) {
    if (!operands[i].present) continue;
    if (!operands[i].data) return refuse(checked, "%s has no memory", name_of(Name(i)));
    if (reinterpret_cast<uintptr_t>(operands[i].data) % item(kFacts[i].type) != 0) {
      return refuse(checked, "%s is not aligned in memory", name_of(Name(i)));
    }
  }
  for (const Name written : {kY, kOpen}) {
    for (int32_t i = 0; operands[written].present && i < written; ++i) {
      if (operands[i].present &&
          overlap(operands[written].data, checked.bytes[written], operands[i].data, checked.bytes[i])) {
        return refuse(checked, "%s would be written over %s", name_of(written), name_of(Name(i)));
      }
    }
  }
  const auto floats = [&](Name name) { return static_cast<float *>(operands[name].data); };
  const auto bytes = [&](Name name) { return static_cast<uint8_t *>(operands[name].data); };
  fedgate_layer &layer = checked.layer;
  fedgate_call &call = checked.call;
  call.level = *static_cast<const int32_t *>(operands[kLevel].data);
  if (call.level < 0 || call.level >= layer.levels) {
    return refuse(checked, "level %d is not one of 0 to %d", static_cast<int>(call.level), layer.levels - 1);
  }
  if (operands[kInOpen].present) {
    uint8_t bits = 0;
    for (size_t i = 0; i < checked.bytes[kInOpen]; ++i) bits |= bytes(kInOpen)[i];
    if (bits > 1) return refuse(checked, "in_open holds values other than 0 and 1");
  }
  layer.weight = floats(kWeight);
  layer.scale = floats(kScale);
  layer.shift = floats(kShift);
  layer.gate_weight = floats(kGateWeight);
  layer.gate_bias = floats(kGateBias);
  layer.kept = static_cast<const int32_t *>(operands[kKept].data);
  call.x = floats(kX);
  call.in_open = bytes(kInOpen);
  call.residual = floats(kResidual);
  call.y = floats(kY);
  call.open = bytes(kOpen);
  return true;
}

}  // namespace fedgate
