// The microkernels, written once for all instruction sets. Each of avx2.cpp, avx512.cpp, generic.cpp and neon.cpp is
// compiled with flags of its own, and says how wide vectors and tiles are before it includes this.
//
// Everything in these headers has internal linkage, and nothing of the standard library is used: a function that two
// such files shared would be linked once, with one file's flags, and then run on processors that do not have them.
#pragma once

#include "microkernels/convolve.h"
#include "microkernels/pack.h"
#include "microkernels/gate.h"
#include "microkernels/epilogue.h"

#define FEDGATE_ISA(variable, label) \
  namespace fedgate {               \
  extern const Isa variable = {label, LANES, pack, predict, largest, convolve, epilogue, pool}; \
  }
