#include "operator/checks.h"

#include <stddef.h>

namespace fedgate {
namespace {

// Sizes of what a layer within these bounds needs, in bytes, stay below 2^50.
static_assert(sizeof(size_t) == 8, "sizes of arrays are computed without a look at overflow");
constexpr int32_t kMostChannels = 1 << 16;
constexpr int32_t kMostPixels = 1 << 12;  // of a side

const char *refused(const fedgate_layer &l) {
  auto within = [](int32_t value, int32_t least, int32_t most) { return least <= value && value <= most; };
  if (!within(l.in_channels, 1, kMostChannels) || !within(l.out_channels, 1, kMostChannels)) {
    return "channels must be from 1 to 65536";
  }
  if (!within(l.height, 1, kMostPixels) || !within(l.width, 1, kMostPixels)) return "sides must be from 1 to 4096";
  if (l.kernel != 1 && l.kernel != 3) return "kernels must be 1x1 or 3x3";
  if (l.stride != 1 && l.stride != 2) return "strides must be 1 or 2";
  if (l.relu != 0 && l.relu != 1) return "relu must be 0 or 1";
  if (l.levels < 1) return "there must be a level";
  const int32_t height = (l.height - 1) / l.stride + 1, width = (l.width - 1) / l.stride + 1;
  if (l.pool != 1 && l.pool != 2) return "pooling must be 1 or 2";
  if (l.pool == 2 && (height < 2 || width < 2)) return "there is nothing to pool";
  if (l.residual_channels != 0) {
    if (!within(l.residual_channels, 1, kMostChannels) || !within(l.residual_stride, 1, 64) ||
        !within(l.residual_height, 1, kMostPixels) || !within(l.residual_width, 1, kMostPixels) ||
        !within(l.residual_offset, 0, kMostChannels)) {
      return "the residual's sizes are out of range";
    }
    if ((l.residual_height - 1) / l.residual_stride + 1 != height ||
        (l.residual_width - 1) / l.residual_stride + 1 != width ||
        l.residual_offset + l.residual_channels > l.out_channels) {
      return "the residual does not have the output's shape";
    }
  }
  return nullptr;
}

bool lacks_arrays(const fedgate_layer &layer) {
  return !layer.weight || !layer.scale || !layer.shift || (layer.gate_weight && (!layer.gate_bias || !layer.kept));
}

bool call_is_bad(const fedgate_layer &layer, const fedgate_call &call) {
  return call.batch < 0 || call.level < 0 || call.level >= layer.levels || !call.x || !call.y ||
         (layer.residual_channels != 0 && !call.residual);
}

}  // namespace

fedgate_status check_call(const fedgate_layer *layer, const fedgate_call *call) {
  if (!layer || !call) return FEDGATE_BAD_CALL;
  if (refused(*layer) || lacks_arrays(*layer)) return FEDGATE_BAD_LAYER;
  return call_is_bad(*layer, *call) ? FEDGATE_BAD_CALL : FEDGATE_OK;
}

}  // namespace fedgate

const char *fedgate_refused(const fedgate_layer *layer) { return fedgate::refused(*layer); }
