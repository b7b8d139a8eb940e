#include "litert_plan.h"

#include <algorithm>

namespace fedgate::litert {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

// The largest first, each into the lowest gap that is free in all of its steps.
size_t plan_memory(std::vector<Span> &spans) {
  std::vector<Span *> order, placed;
  for (Span &span : spans) order.push_back(&span);
  std::stable_sort(order.begin(), order.end(), [](const Span *a, const Span *b) { return a->bytes > b->bytes; });
  size_t total = 0;
  for (Span *span : order) {
    size_t offset = 0;
    for (const Span *other : placed) {  // from low offsets to high ones
      if (other->last < span->first || span->last < other->first) continue;
      if (offset + aligned(span->bytes) <= other->offset) break;
      offset = std::max(offset, other->offset + aligned(other->bytes));
    }
    span->offset = offset;
    const auto above = [](const Span *a, const Span *b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), span, above), span);
    total = std::max(total, offset + aligned(span->bytes));
  }
  return total;
}

}  // namespace fedgate::litert
