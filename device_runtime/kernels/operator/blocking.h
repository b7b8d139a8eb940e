// How a layer's output is cut into blocks, which fit the caches and are shared out among the threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fedgate_kernels.h"
#include "microkernels/plane.h"

namespace fedgate {

struct Blocking {
  int32_t rows, blocks;  // rows of a block, and blocks
  int32_t shares;        // of the output channels in a block
  int32_t chunk;         // input channels at a time
  size_t sums_stride;    // floats from an output channel's sums to the next one's
};

Blocking make_blocking(const fedgate_layer &layer, const Plane &plane, const fedgate_context &context);

}  // namespace fedgate
