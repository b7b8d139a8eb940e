// Vectors of LANES floats, with the vector extension of GCC and Clang, and their products with the taps of a filter:
// what the microkernels are written in.
//
// A file of an instruction set defines LANES before it includes this.
#pragma once

#include <stdint.h>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

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

}  // namespace
}  // namespace fedgate
