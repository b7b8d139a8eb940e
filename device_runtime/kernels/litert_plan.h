// Where the tensors that lie between the layers of a partition go: one block of memory, reused as it becomes free.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <vector>

namespace fedgate::litert {

// A tensor from the step that writes it to the last one that reads it.
struct Span {
  size_t bytes;
  int32_t first, last;
  size_t offset = 0;  // what plan_memory finds
};

// Places spans so that none shares memory with another of the same steps; returns the bytes needed for all.
size_t plan_memory(std::vector<Span> &spans);

}  // namespace fedgate::litert
