// Packing: a channel of the input into the form that the tiles read (plane.h), and the sum of it that the gate needs.
#pragma once

#include <string.h>

#include "microkernels/isa.h"
#include "microkernels/vector.h"

namespace fedgate {
namespace {

// Copy n floats; both sides may be touched up to a vector behind them when `loose`.
inline void copy_row(float *to, const float *from, int32_t n, bool loose) {
  int32_t i = 0;
#pragma GCC unroll 4
  for (; i + LANES <= n; i += LANES) store(to + i, load(from + i));
  if (i == n) return;
  if (loose) {
    store(to + i, load(from + i));
  } else {
    for (; i < n; ++i) to[i] = from[i];
  }
}

float sum_of_magnitudes(const float *x, int32_t n) {
  Vec sum[4] = {};
  int32_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    for (int v = 0; v < 4; ++v) sum[v] += magnitude(load(x + i + v * LANES));
  }
  for (; i + LANES <= n; i += LANES) sum[0] += magnitude(load(x + i));
  float rest = 0;
  for (; i < n; ++i) rest += magnitude(x[i]);
  return reduce((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

inline void zero(float *p, int32_t n) { memset(p, 0, n * sizeof(float)); }

// For each tap the pixels that the output's pixels meet it with.
void pack_columns(const Plane &plane, const Source &source, float *packed) {
  const ptrdiff_t row = (ptrdiff_t)plane.width * source.pixel;
  for (int32_t t = 0; t < 9; ++t) {
    float *to = packed + plane.offset[t];
    for (int32_t oy = 0; oy < plane.out_height; ++oy) {
      const int32_t y = oy * plane.stride + t / 3 - 1;
      if (y < 0 || y >= plane.height) {
        for (int32_t ox = 0; ox < plane.out_width; ++ox) *to++ = 0;
        continue;
      }
      int32_t x = t % 3 - 1;
      for (int32_t ox = 0; ox < plane.out_width; ++ox, x += plane.stride) {
        *to++ = x < 0 || x >= plane.width ? 0 : source.x[y * row + x * source.pixel];
      }
    }
  }
}

float pack(const Plane &plane, const Source &source, float *packed) {
  const int32_t height = plane.height, width = plane.width, pitch = plane.pitch;
  const float *x = source.x;
  const float *const x_end = x + (ptrdiff_t)height * width;
  const bool planar = source.pixel == 1;
  float sum = 0;
  if (!source.wants_sum) {
    // an ungated 1x1 convolution at stride 2 leaves most of its input alone
  } else if (planar) {
    sum = sum_of_magnitudes(x, height * width);
  } else {
    for (int32_t i = 0; i < height * width; ++i) sum += magnitude(x[i * source.pixel]);
  }
  if (plane.columns) {
    pack_columns(plane, source, packed);
    return sum;
  }
  if (plane.stride == 1) {
    const int32_t border = plane.kernel / 2;
    float *to = packed;
    if (border) {
      zero(to, pitch + 1);
      to += pitch;
    }
    for (int32_t y = 0; y < height; ++y, to += pitch) {
      if (border) to[0] = 0;
      if (planar) {
        // what is written behind a row is the next row's, and written after it
        copy_row(to + border, x, width, x + width + LANES <= x_end);
        x += width;
      } else {
        for (int32_t i = 0; i < width; ++i, x += source.pixel) to[border + i] = *x;
      }
    }
    zero(to, (int32_t)(packed + plane.size - to));
    return sum;
  }
  if (plane.kernel == 1) {
    for (int32_t y = 0; y < plane.out_height; ++y) {
      const float *row = x + (ptrdiff_t)2 * y * width * source.pixel;
      for (int32_t i = 0; i < plane.out_width; ++i) packed[y * pitch + i] = row[2 * i * source.pixel];
    }
    zero(packed + plane.out_height * pitch, (int32_t)(plane.size - (size_t)plane.out_height * pitch));
    return sum;
  }
  // stride 2: row r of an odd plane is input row 2r - 1, of an even one 2r; the same for columns
  const size_t quarter = plane.size / 4;
  for (int32_t odd = 0; odd < 2; ++odd) {
    float *even_columns = packed + 2 * odd * quarter, *odd_columns = even_columns + quarter;
    for (int32_t r = 0; r < plane.out_height + 1; ++r, even_columns += pitch, odd_columns += pitch) {
      const int32_t y = 2 * r - odd;
      if (y < 0 || y >= height) {
        zero(even_columns, pitch);
        zero(odd_columns, pitch);
        continue;
      }
      const float *row = x + (ptrdiff_t)y * width * source.pixel;
      odd_columns[0] = 0;
      int32_t i = 0;
      for (; 2 * i + 1 < width; ++i) {
        even_columns[i] = row[2 * i * source.pixel];
        odd_columns[i + 1] = row[(2 * i + 1) * source.pixel];
      }
      if (2 * i < width) {
        even_columns[i] = row[2 * i * source.pixel];
        if (i + 1 < pitch) odd_columns[i + 1] = 0;
      }
      even_columns[pitch - 1] = 0;
    }
  }
  return sum;
}

}  // namespace
}  // namespace fedgate
