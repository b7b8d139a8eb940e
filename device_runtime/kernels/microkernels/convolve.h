// The convolution of a block of rows: tiles of M output channels by V vectors of pixels, whose sums stay in registers.
//
// A file of an instruction set defines VECTORS, the widest tile, and TALL, the output channels of a tile that is one
// vector wide.
#pragma once

#include "microkernels/isa.h"
#include "microkernels/vector.h"

namespace fedgate {
namespace {

enum Kind { kPoint, kRows, kTable };  // 1x1; 3x3 at stride 1; 3x3 with a table of offsets

template <int M, int V, int I, int W>
inline void tap(Vec (&sum)[M][V], const Taps *w, const float *x) {
  Vec pixels[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) pixels[v] = load(x + v * LANES);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[m][v] = w[m].template multiply_add<W>(sum[m][v], pixels[v]);
  }
}

// One row of three taps. The third row begins a float early where four are read, so as not to leave the weights.
template <int M, int V, int ROW>
inline void row_of_taps(Vec (&sum)[M][V], const float *const *filters, int32_t offset, const float *x0, const float *x1,
                        const float *x2) {
  constexpr int early = kTapsReadFour && ROW == 2 ? 1 : 0;
  const float *first[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) first[m] = filters[m] + offset + 3 * ROW - early;
  // a plain array of Taps would need a default constructor
  alignas(Taps) unsigned char space[M * sizeof(Taps)];
  Taps *w = reinterpret_cast<Taps *>(space);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) w[m] = Taps(first[m]);
  tap<M, V, 0, 0 + early>(sum, w, x0);
  tap<M, V, 1, 1 + early>(sum, w, x1);
  tap<M, V, 2, 2 + early>(sum, w, x2);
}

// Filters of more bytes than this come from far away, and the next tile's are fetched while one works. They are read in
// pieces wherever inputs are closed, which the processor's own prefetching follows badly.
constexpr size_t kFarBytes = 512 << 10;

// sums[M][V vectors] += over inputs [begin, end) and all taps. x: the tile's first
// pixel in the first packed channel. next: the filters to fetch meanwhile, or NULL.
template <int M, int V, Kind K>
void tile(const Block &b, const float *x, int32_t begin, int32_t end, const float *const *filters_,
          const float *const *next, float *sums) {
  const float *filters[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) filters[m] = filters_[m];
  Vec sum[M][V];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[m][v] = begin == 0 ? Vec{} : load(sums + m * b.sums_stride + v * LANES);
  }
  const size_t size = b.plane->size;
  const int32_t pitch = b.plane->pitch;
  const int32_t *const table = b.plane->offset;
  const float *p = x + begin * size;
  for (int32_t a = begin; a < end; ++a, p += size) {
    const int32_t o = b.weight_offset[a];
    if (K != kPoint && next) {  // into the L2 cache: in the L1 they would drive out what this tile reads
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        __builtin_prefetch(next[m] + o, 0, 2);
        __builtin_prefetch(next[m] + o + 8, 0, 2);
      }
    }
    if constexpr (K == kPoint) {
      Vec pixels[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) pixels[v] = load(p + v * LANES);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec w = splat(filters[m][o]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[m][v] += w * pixels[v];
      }
    } else if constexpr (K == kRows) {
      row_of_taps<M, V, 0>(sum, filters, o, p, p + 1, p + 2);
      row_of_taps<M, V, 1>(sum, filters, o, p + pitch, p + pitch + 1, p + pitch + 2);
      row_of_taps<M, V, 2>(sum, filters, o, p + 2 * pitch, p + 2 * pitch + 1, p + 2 * pitch + 2);
    } else {
      row_of_taps<M, V, 0>(sum, filters, o, p + table[0], p + table[1], p + table[2]);
      row_of_taps<M, V, 1>(sum, filters, o, p + table[3], p + table[4], p + table[5]);
      row_of_taps<M, V, 2>(sum, filters, o, p + table[6], p + table[7], p + table[8]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(sums + m * b.sums_stride + v * LANES, sum[m][v]);
  }
}

// All output channels of a tile V vectors wide.
template <int V, Kind K>
void column(const Block &b, const float *x, int32_t begin, int32_t end, bool far, float *sums) {
  int32_t m = 0;
  auto run = [&]<int M>() {
    const float *const *filters = b.filters + m;
    tile<M, V, K>(b, x, begin, end, filters, far && m + 2 * M <= b.outputs ? filters + M : nullptr,
                  sums + m * b.sums_stride);
    m += M;
  };
  if constexpr (V == 1) {
    while (m + TALL <= b.outputs) run.template operator()<TALL>();
  }
  while (m + 4 <= b.outputs) run.template operator()<4>();
  if (m + 2 <= b.outputs) run.template operator()<2>();
  if (m < b.outputs) run.template operator()<1>();
}

template <Kind K>
void columns(const Block &b) {
  // up to the last pixel of the last row: what lies between the rows is computed along, and not stored
  const int32_t run = (b.rows - 1) * b.plane->pitch + b.plane->out_width;
  const int32_t vectors = (run + LANES - 1) / LANES;
  const float *x = b.packed + (size_t)b.row * b.plane->pitch;
  const bool far = (size_t)b.inputs * b.outputs * 9 * sizeof(float) > kFarBytes;
  int32_t begin = 0;
  do {
    const int32_t end = b.inputs - begin > b.chunk + b.chunk / 2 ? begin + b.chunk : b.inputs;
    for (int32_t v = 0, left = (vectors + VECTORS - 1) / VECTORS; v < vectors; --left) {
      const int32_t wide = (vectors - v + left - 1) / left;
      const float *p = x + v * LANES;
      float *sums = b.sums + v * LANES;
      switch (wide) {
        case 1: column<1, K>(b, p, begin, end, far && v == 0, sums); break;
        case 2: column<2, K>(b, p, begin, end, far && v == 0, sums); break;
        case 3: column<3, K>(b, p, begin, end, far && v == 0, sums); break;
#if VECTORS > 3
        case 4: column<4, K>(b, p, begin, end, far && v == 0, sums); break;
        case 5: column<5, K>(b, p, begin, end, far && v == 0, sums); break;
        case 6: column<6, K>(b, p, begin, end, far && v == 0, sums); break;
#endif
      }
      v += wide;
    }
    begin = end;
  } while (begin < b.inputs);
}

uint64_t convolve(const Block &b) {
  const Plane &plane = *b.plane;
  if (plane.kernel == 1) {
    columns<kPoint>(b);
  } else if (plane.stride == 1 && !plane.columns) {
    columns<kRows>(b);
  } else {
    columns<kTable>(b);
  }
  return (uint64_t)b.inputs * b.outputs * plane.kernel * plane.kernel * b.rows * plane.out_width;
}

}  // namespace
}  // namespace fedgate
