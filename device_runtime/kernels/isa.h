// What one instruction set provides. Each isa_*.cpp fills an Isa from isa_impl.h, compiled with its own flags.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fedgate {

constexpr int kMaxVectors = 6;  // widest register tile, in vectors
constexpr int kMaxLanes = 16;
// Floats that a tile may read or write behind the last real one of a plane or a row of accumulators.
constexpr size_t kSlack = (kMaxVectors + 1) * kMaxLanes;

// A channel's input, zero-padded, in a form in which every tap of the kernel reads one contiguous run:
// row y, column x of the output needs, for tap t, the float at offset[t] + y * pitch + x.
// Stride 1: the padded plane; a row's right border is the left border of the next row, so pitch is width + 1.
// Stride 2: the four planes of even and odd rows and columns, one behind the other.
// Columns, for small maps, where what lies between the rows would be much of the work: one plane of the output for each
// tap.
struct Plane {
  int32_t height, width;          // of the layer's input
  int32_t out_height, out_width;  // of the convolution's output
  int32_t kernel, stride;
  bool columns;
  int32_t pitch;     // floats from an output row to the next
  size_t size;       // floats of a channel
  int32_t offset[9];
};

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
struct Finish {
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
  uint64_t (*block)(const Block &block);  // returns the MACs
  void (*finish)(const Finish &finish);
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

}  // namespace fedgate
