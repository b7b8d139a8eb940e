// An owned context.
#pragma once

#include <memory>

#include "fedgate_kernels.h"

namespace fedgate {

struct DestroyContext {
  void operator()(fedgate_context *context) const { fedgate_destroy(context); }
};
using Context = std::unique_ptr<fedgate_context, DestroyContext>;

}  // namespace fedgate
