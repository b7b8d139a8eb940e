#include "operator/blocking.h"

#include <algorithm>

#include "microkernels/isa.h"
#include "operator/context.h"

namespace fedgate {
namespace {

// Rows of accumulators and of packed input of one block together, in bytes: half of a small L2 cache.
constexpr size_t kBlockBytes = 256 << 10;
// What a tile reads of the packed input at a time. More than an L1 cache holds: that filters are read in longer
// stretches, from wherever they are, was worth more on VGG-16 (24, 48, 72 and 160 KiB tried).
constexpr size_t kTileBytes = 72 << 10;

}  // namespace

// As many rows at a time as keep accumulators and input in the L2 cache, and a block or more for each thread where the
// map is large enough to be cut; where it is not, the threads share the output channels.
Blocking make_blocking(const fedgate_layer &layer, const Plane &plane, const fedgate_context &context) {
  Blocking b{};
  const int32_t height = plane.out_height, threads = context.threads;
  const size_t row_bytes = static_cast<size_t>(layer.in_channels + layer.out_channels) * plane.pitch * 4;
  b.rows = static_cast<int32_t>(std::clamp<size_t>(kBlockBytes / row_bytes, 4, 1 << 12));
  b.rows = std::min(b.rows, height);
  if (threads > 1 && height >= 8 * threads) {
    const int32_t share = (height + threads - 1) / threads;
    const int32_t blocks = (share + b.rows - 1) / b.rows * threads;
    b.rows = (height + blocks - 1) / blocks;
  }
  if (layer.pool == 2) b.rows += b.rows % 2;
  b.blocks = (height + b.rows - 1) / b.rows;
  b.shares = b.blocks < threads ? threads : 1;
  // cache lines that a tile three vectors wide touches in three rows of a channel
  const size_t line = (context.isa->lanes * 3 * 4 + 63) / 64 * 64 + 64;
  b.chunk = layer.kernel == 1 ? 256 : static_cast<int32_t>(kTileBytes / (3 * line));
  b.sums_stride = round_up(static_cast<size_t>(b.rows) * plane.pitch + kMaxLanes);
  return b;
}

}  // namespace fedgate
