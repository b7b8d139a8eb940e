// What follows the convolution: norm, residual and ReLU in one pass over an output channel's rows, and 2x2 pooling.
#pragma once

#include "microkernels/isa.h"
#include "microkernels/vector.h"

namespace fedgate {
namespace {

// One row to y; `loose` as in copy_row.
template <bool SUMS, bool RESIDUAL>
inline void epilogue_row(const Epilogue &e, const float *sums, const float *residual, float *y, bool loose) {
  const Vec scale = splat(e.scale), shift = splat(e.shift);
  const int32_t whole = loose ? e.width : e.width - (LANES - 1);
  int32_t i = 0;
#pragma GCC unroll 4
  for (; i < whole; i += LANES) {
    Vec v = {};
    if (SUMS) v = load(sums + i) * scale + shift;
    if (RESIDUAL) v += load(residual + i);
    store(y + i, e.relu ? positive(v) : v);
  }
  for (; i < e.width; ++i) {
    float v = SUMS ? sums[i] * e.scale + e.shift : 0.0f;
    if (RESIDUAL) v += residual[i];
    y[i] = e.relu ? positive(v) : v;
  }
}

template <bool SUMS, bool RESIDUAL>
void epilogue_rows(const Epilogue &e) {
  float *const end = e.y + (ptrdiff_t)e.rows * e.width;
  float *y = e.y;
  for (int32_t r = 0; r < e.rows; ++r, y += e.width) {
    const float *sums = SUMS ? e.sums + (ptrdiff_t)r * e.pitch : nullptr;
    const float *residual = RESIDUAL ? e.residual + r * e.residual_row : nullptr;
    const ptrdiff_t vectors = (e.width + LANES - 1) / LANES;
    epilogue_row<SUMS, RESIDUAL>(e, sums, residual, y, y + vectors * LANES <= end);
  }
}

void epilogue(const Epilogue &e) {
  if (e.residual && e.residual_pixel != 1) {
    for (int32_t r = 0; r < e.rows; ++r) {
      for (int32_t i = 0; i < e.width; ++i) {
        float v = e.sums ? e.sums[(ptrdiff_t)r * e.pitch + i] * e.scale + e.shift : 0.0f;
        v += e.residual[r * e.residual_row + i * e.residual_pixel];
        e.y[(ptrdiff_t)r * e.width + i] = e.relu ? positive(v) : v;
      }
    }
  } else if (e.sums) {
    e.residual ? epilogue_rows<true, true>(e) : epilogue_rows<true, false>(e);
  } else {
    e.residual ? epilogue_rows<false, true>(e) : epilogue_rows<false, false>(e);
  }
}

void pool(const float *x, int32_t rows, int32_t width, float *y) {
  const int32_t half = width / 2;
  for (int32_t r = 0; r + 1 < rows; r += 2, x += 2 * width, y += half) {
    for (int32_t i = 0; i < half; ++i) {
      const float a = x[2 * i] > x[2 * i + 1] ? x[2 * i] : x[2 * i + 1];
      const float b = x[width + 2 * i] > x[width + 2 * i + 1] ? x[width + 2 * i] : x[width + 2 * i + 1];
      y[i] = a > b ? a : b;
    }
  }
}

}  // namespace
}  // namespace fedgate
