// The loops of the kernel, written once for all instruction sets with the vector extension of GCC and Clang.
//
// An isa_*.cpp defines, before it includes this file: LANES, the floats of a vector; VECTORS, the widest tile; and
// TALL, the output channels of a tile that is one vector wide. Everything here has internal linkage, and nothing of
// the standard library is used: a function that two such files shared would be linked once, with one file's flags.
#include <string.h>

#include "isa.h"

namespace fedgate {
namespace {

typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vec load(const float *p) { return *reinterpret_cast<const Vec *>(p); }
inline void store(float *p, Vec v) { *reinterpret_cast<Vec *>(p) = v; }
inline Vec splat(float value) { return value - Vec{}; }
inline Vec magnitude(Vec v) { return (Vec)((IntVec)v & 0x7fffffff); }
inline Vec positive(Vec v) { return v > 0.0f ? v : Vec{}; }  // NaN becomes 0, as in comparisons with it
inline float magnitude(float v) { return __builtin_fabsf(v); }
inline float positive(float v) { return v > 0.0f ? v : 0.0f; }
inline float reduce(Vec v) {
  float sum = 0;
  for (int i = 0; i < LANES; ++i) sum += v[i];
  return sum;
}

// Three taps of a filter, each to be multiplied with a vector of pixels.
#if defined(__aarch64__)
}  // namespace
}  // namespace fedgate
#include <arm_neon.h>
namespace fedgate {
namespace {
struct Taps {
  float32x4_t w;
  explicit Taps(const float *p) : w(vld1q_f32(p)) {}
  template <int I>
  Vec multiply_add(Vec sum, Vec x) const {
    return (Vec)vfmaq_laneq_f32((float32x4_t)sum, (float32x4_t)x, w, I);
  }
};
constexpr bool kTapsReadFour = true;
#else
struct Taps {
  const float *p;
  explicit Taps(const float *p) : p(p) {}
  template <int I>
  Vec multiply_add(Vec sum, Vec x) const {
    return sum + splat(p[I]) * x;
  }
};
constexpr bool kTapsReadFour = false;
#endif

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

uint64_t block(const Block &b) {
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

// One row: n values to y; `loose` as in copy_row.
template <bool SUMS, bool RESIDUAL>
inline void finish_row(const Finish &f, const float *sums, const float *residual, float *y, bool loose) {
  const Vec scale = splat(f.scale), shift = splat(f.shift);
  const int32_t whole = loose ? f.width : f.width - (LANES - 1);
  int32_t i = 0;
#pragma GCC unroll 4
  for (; i < whole; i += LANES) {
    Vec v = {};
    if (SUMS) v = load(sums + i) * scale + shift;
    if (RESIDUAL) v += load(residual + i);
    store(y + i, f.relu ? positive(v) : v);
  }
  for (; i < f.width; ++i) {
    float v = SUMS ? sums[i] * f.scale + f.shift : 0.0f;
    if (RESIDUAL) v += residual[i];
    y[i] = f.relu ? positive(v) : v;
  }
}

template <bool SUMS, bool RESIDUAL>
void finish_rows(const Finish &f) {
  float *const end = f.y + (ptrdiff_t)f.rows * f.width;
  float *y = f.y;
  for (int32_t r = 0; r < f.rows; ++r, y += f.width) {
    const float *sums = SUMS ? f.sums + (ptrdiff_t)r * f.pitch : nullptr;
    const float *residual = RESIDUAL ? f.residual + r * f.residual_row : nullptr;
    const ptrdiff_t vectors = (f.width + LANES - 1) / LANES;
    finish_row<SUMS, RESIDUAL>(f, sums, residual, y, y + vectors * LANES <= end);
  }
}

void finish(const Finish &f) {
  if (f.residual && f.residual_pixel != 1) {
    for (int32_t r = 0; r < f.rows; ++r) {
      for (int32_t i = 0; i < f.width; ++i) {
        float v = f.sums ? f.sums[(ptrdiff_t)r * f.pitch + i] * f.scale + f.shift : 0.0f;
        v += f.residual[r * f.residual_row + i * f.residual_pixel];
        f.y[(ptrdiff_t)r * f.width + i] = f.relu ? positive(v) : v;
      }
    }
  } else if (f.sums) {
    f.residual ? finish_rows<true, true>(f) : finish_rows<true, false>(f);
  } else {
    f.residual ? finish_rows<false, true>(f) : finish_rows<false, false>(f);
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

#define FEDGATE_ISA(variable, label) \
  namespace fedgate {               \
  extern const Isa variable = {label, LANES, pack, predict, largest, block, finish, pool}; \
  }
