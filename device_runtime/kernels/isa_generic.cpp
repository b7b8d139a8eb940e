#define LANES 4
#define VECTORS 3
#define TALL 8
#include "isa_impl.h"

FEDGATE_ISA(kGeneric, "generic")
