// The gate: what it predicts for each output channel, and the value that its highest channels lie above.
#pragma once

#include <string.h>

#include "microkernels/isa.h"
#include "microkernels/vector.h"

namespace fedgate {
namespace {

// Four rows of W at a time: they are read from end to end, as memory likes it, and g stays in the L1 cache.
template <int R>
inline void predict_rows(const float *s, const int32_t *rows, const float *weight, int32_t out_channels, int32_t begin,
                         int32_t end, float *g) {
  const float *row[R];
  Vec value[R];
  for (int r = 0; r < R; ++r) {
    row[r] = weight + (ptrdiff_t)rows[r] * out_channels;
    value[r] = splat(s[r]);
  }
  int32_t o = begin;
  for (; o + LANES <= end; o += LANES) {
    Vec sum = load(g + o);
    for (int r = 0; r < R; ++r) sum += value[r] * load(row[r] + o);
    store(g + o, sum);
  }
  for (; o < end; ++o) {
    for (int r = 0; r < R; ++r) g[o] += s[r] * row[r][o];
  }
}

void predict(const float *s, const int32_t *rows, int32_t inputs, const float *weight, const float *bias,
             int32_t out_channels, int32_t begin, int32_t end, float *g) {
  for (int32_t o = begin; o < end; ++o) g[o] = bias[o];
  int32_t a = 0;
  for (; a + 4 <= inputs; a += 4) predict_rows<4>(s + a, rows + a, weight, out_channels, begin, end, g);
  for (; a < inputs; ++a) predict_rows<1>(s + a, rows + a, weight, out_channels, begin, end, g);
  for (int32_t o = begin; o < end; ++o) g[o] = positive(g[o]);
}

// Floats that are not negative are ordered as their bits are: the value is found bit by bit, without branching on data.
float largest(const float *values, int32_t n, int32_t k) {
  int32_t found = 0;
  for (int32_t bit = 1 << 30; bit; bit >>= 1) {
    const int32_t candidate = found | bit;
    IntVec counts = {};
    int32_t i = 0, count = 0;
    for (; i + LANES <= n; i += LANES) counts -= (IntVec)load(values + i) >= candidate;
    for (; i < n; ++i) {
      int32_t bits;
      memcpy(&bits, values + i, sizeof bits);
      count += bits >= candidate;
    }
    for (int l = 0; l < LANES; ++l) count += counts[l];
    if (count >= k) found = candidate;
  }
  float value;
  memcpy(&value, &found, sizeof value);
  return value;
}

}  // namespace
}  // namespace fedgate
