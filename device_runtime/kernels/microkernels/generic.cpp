#define LANES 4
#define VECTORS 3
#define TALL 8
#include "microkernels/microkernels.h"

FEDGATE_ISA(kGeneric, "generic")
