#if defined(__aarch64__)
#define LANES 4
#define VECTORS 5
#define TALL 16
#include "microkernels/microkernels.h"

FEDGATE_ISA(kNeon, "neon")
#endif
