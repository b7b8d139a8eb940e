#if defined(__x86_64__)
#define LANES 16
#define VECTORS 6
#define TALL 16
#include "microkernels/microkernels.h"

FEDGATE_ISA(kAvx512, "avx512")
#endif
