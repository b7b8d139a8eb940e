#include "microkernels/plane.h"

namespace fedgate {
namespace {

// Up to this many pixels of the output, a plane for each tap costs less than the zeros between the rows.
constexpr int32_t kColumnPixels = 36;

}  // namespace

Plane make_plane(const fedgate_layer &layer, int32_t lanes) {
  Plane p{};
  p.height = layer.height;
  p.width = layer.width;
  p.out_height = (layer.height - 1) / layer.stride + 1;
  p.out_width = (layer.width - 1) / layer.stride + 1;
  p.kernel = layer.kernel;
  p.stride = layer.stride;
  if (layer.kernel == 1) {
    p.pitch = p.out_width;
    p.size = static_cast<size_t>(p.out_height) * p.pitch;
    return p;
  }
  const int32_t pixels = p.out_height * p.out_width, run = pixels + p.out_height - 1;
  auto vectors = [&](int32_t floats) { return (floats + lanes - 1) / lanes; };
  if (pixels <= kColumnPixels && vectors(pixels) < vectors(run)) {
    const int32_t tap = vectors(pixels) * lanes;
    p.columns = true;
    p.pitch = p.out_width;
    p.size = static_cast<size_t>(9) * tap;
    for (int t = 0; t < 9; ++t) p.offset[t] = t * tap;
  } else if (layer.stride == 1) {
    p.pitch = p.width + 1;
    p.size = static_cast<size_t>(p.height + 2) * p.pitch + 1;
    for (int t = 0; t < 9; ++t) p.offset[t] = t / 3 * p.pitch + t % 3;
  } else {
    p.pitch = p.out_width + 1;
    const int32_t quarter = (p.out_height + 1) * p.pitch;
    p.size = 4 * static_cast<size_t>(quarter);
    for (int t = 0; t < 9; ++t) {
      const int ky = t / 3, kx = t % 3;
      p.offset[t] = ((ky != 1) * 2 + (kx != 1)) * quarter + (ky == 2) * p.pitch + (kx == 2);
    }
  }
  return p;
}

}  // namespace fedgate
