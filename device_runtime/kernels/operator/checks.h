// Which layers and calls are refused.
#pragma once

#include "fedgate_kernels.h"

namespace fedgate {

// The status of a call that is refused, or FEDGATE_OK. Arrays are taken to be as large as the layer says.
fedgate_status check_call(const fedgate_layer *layer, const fedgate_call *call);

}  // namespace fedgate
