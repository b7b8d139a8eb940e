#if defined(__x86_64__)
#define LANES 8
#define VECTORS 3
#define TALL 8
#include "microkernels/microkernels.h"

FEDGATE_ISA(kAvx2, "avx2")
#endif
