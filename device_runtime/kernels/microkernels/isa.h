// What one instruction set provides: its microkernels, and what each is called with. Each of avx2.cpp, avx512.cpp,
// generic.cpp and neon.cpp fills an Isa from microkernels.h, compiled with its own flags. They share this header and
// plane.h with files of no such flags, so neither defines a function (microkernels.h says why).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "microkernels/plane.h"

namespace fedgate {

constexpr int kMaxVectors = 6;  // widest register tile, in vectors
constexpr int kMaxLanes = 16;
// Floats that a tile may read or write behind the last real one of a plane or a row of accumulators.
constexpr size_t kSlack = (kMaxVectors + 1) * kMaxLanes;

// One source channel -> its Plane; returns the sum of |x|, or 0 where nobody wants it.
struct Source {
  const float *x;
  ptrdiff_t pixel;  // floats between neighbouring pixels: 1 when planar, C when NHWC
  bool wants_sum;
};

// A block of rows of the output, for some of the open output channels.
struct Block {
  const Plane *plane;
  const float *packed;           // [inputs][plane.size]
  const int32_t *weight_offset;  // [inputs] floats from a filter's start to the kernel of that input channel
  int32_t inputs;
  const float *const *filters;   // [outputs]
  int32_t outputs;
  int32_t row, rows;
  float *sums;                   // [outputs][sums_stride], rows at plane.pitch
  size_t sums_stride;
  int32_t chunk;                 // input channels at a time, so that what a tile reads of them stays in a near cache
};

// One output channel's rows: sums -> y.
struct Epilogue {
  const float *sums;  // rows at pitch, or NULL for a closed channel
  int32_t pitch, width, rows;
  float scale, shift;
  int32_t relu;
  const float *residual;  // of the first row, or NULL
  ptrdiff_t residual_row, residual_pixel;
  float *y;  // contiguous rows
};

struct Isa {
  const char *name;
  int32_t lanes;
  float (*pack)(const Plane &plane, const Source &source, float *packed);
  // g[o] = relu(bias[o] + sum over a of s[a] * weight[rows[a] * out_channels + o]), o from `begin` to `end`
  void (*predict)(const float *s, const int32_t *rows, int32_t inputs, const float *weight, const float *bias,
                  int32_t out_channels, int32_t begin, int32_t end, float *g);
  // the k-th largest of n values that are not negative, k from 1 to n
  float (*largest)(const float *values, int32_t n, int32_t k);
  uint64_t (*convolve)(const Block &block);  // returns the MACs
  void (*epilogue)(const Epilogue &epilogue);
  // 2x2 maximum at stride 2 of contiguous rows; a last odd row or column is left out
  void (*pool)(const float *x, int32_t rows, int32_t width, float *y);
};

extern const Isa kGeneric;
#if defined(__x86_64__)
extern const Isa kAvx2;
extern const Isa kAvx512;
#elif defined(__aarch64__)
extern const Isa kNeon;
#endif

// Of those that this processor has: the one of a name, or the best for NULL; NULL when there is none.
const Isa *find_isa(const char *name);

}  // namespace fedgate
