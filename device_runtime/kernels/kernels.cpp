// The C interface: checks, scratch memory, the choice of an instruction set, and the order of a layer's steps.
#include "fedgate_kernels.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <utility>

#include "isa.h"
#include "pool.h"

namespace fedgate {
namespace {

// Sizes of what a layer within these bounds needs, in bytes, stay below 2^50.
static_assert(sizeof(size_t) == 8, "sizes of arrays are computed without a look at overflow");
constexpr int32_t kMostChannels = 1 << 16;
constexpr int32_t kMostPixels = 1 << 12;  // of a side
// Rows of accumulators and of packed input of one block together, in bytes: half of a small L2 cache.
constexpr size_t kBlockBytes = 256 << 10;
// What a tile reads of the packed input at a time. More than an L1 cache holds: that filters are read in longer
// stretches, from wherever they are, was worth more on VGG-16 (24, 48, 72 and 160 KiB tried).
constexpr size_t kTileBytes = 72 << 10;
// A loop of less work than this (floats copied, or MACs / 16) is not worth sharing out.
constexpr size_t kShareWork = 4096;

std::atomic<uint64_t> executed_macs{0};

struct Choice {
  const Isa *isa;
  bool (*present)();
};

const Choice kChoices[] = {
#if defined(__x86_64__)
    {&kAvx512, [] { return __builtin_cpu_supports("avx512f") != 0; }},
    {&kAvx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#elif defined(__aarch64__)
    {&kNeon, [] { return true; }},
#endif
    {&kGeneric, [] { return true; }},
};

const Isa *find_isa(const char *name) {
  for (const Choice &choice : kChoices) {
    if (choice.present() && (name == nullptr || strcmp(name, choice.isa->name) == 0)) return choice.isa;
  }
  return nullptr;
}

// Up to this many pixels of the output, a plane for each tap costs less than the zeros between the rows.
constexpr int32_t kColumnPixels = 36;

Plane make_plane(const fedgate_layer &layer, const Isa &isa) {
  Plane p{};
  p.height = layer.height;
  p.width = layer.width;
  p.out_height = (layer.height - 1) / layer.stride + 1;
  p.out_width = (layer.width - 1) / layer.stride + 1;
  p.kernel = layer.kernel;
  p.stride = layer.stride;
  if (layer.kernel == 1) {
    p.pitch = p.out_width;
    p.size = static_cast<size_t>(p.out_height) * p.pitch;
    return p;
  }
  const int32_t pixels = p.out_height * p.out_width, run = pixels + p.out_height - 1;
  auto vectors = [&](int32_t floats) { return (floats + isa.lanes - 1) / isa.lanes; };
  if (pixels <= kColumnPixels && vectors(pixels) < vectors(run)) {
    const int32_t tap = vectors(pixels) * isa.lanes;
    p.columns = true;
    p.pitch = p.out_width;
    p.size = static_cast<size_t>(9) * tap;
    for (int t = 0; t < 9; ++t) p.offset[t] = t * tap;
  } else if (layer.stride == 1) {
    p.pitch = p.width + 1;
    p.size = static_cast<size_t>(p.height + 2) * p.pitch + 1;
    for (int t = 0; t < 9; ++t) p.offset[t] = t / 3 * p.pitch + t % 3;
  } else {
    p.pitch = p.out_width + 1;
    const int32_t quarter = (p.out_height + 1) * p.pitch;
    p.size = 4 * static_cast<size_t>(quarter);
    for (int t = 0; t < 9; ++t) {
      const int ky = t / 3, kx = t % 3;
      p.offset[t] = ((ky != 1) * 2 + (kx != 1)) * quarter + (ky == 2) * p.pitch + (kx == 2);
    }
  }
  return p;
}

const char *refused(const fedgate_layer &l) {
  auto within = [](int32_t value, int32_t least, int32_t most) { return least <= value && value <= most; };
  if (!within(l.in_channels, 1, kMostChannels) || !within(l.out_channels, 1, kMostChannels)) {
    return "channels must be from 1 to 65536";
  }
  if (!within(l.height, 1, kMostPixels) || !within(l.width, 1, kMostPixels)) return "sides must be from 1 to 4096";
  if (l.kernel != 1 && l.kernel != 3) return "kernels must be 1x1 or 3x3";
  if (l.stride != 1 && l.stride != 2) return "strides must be 1 or 2";
  if (l.relu != 0 && l.relu != 1) return "relu must be 0 or 1";
  if (l.levels < 1) return "there must be a level";
  const int32_t height = (l.height - 1) / l.stride + 1, width = (l.width - 1) / l.stride + 1;
  if (l.pool != 1 && l.pool != 2) return "pooling must be 1 or 2";
  if (l.pool == 2 && (height < 2 || width < 2)) return "there is nothing to pool";
  if (l.residual_channels != 0) {
    if (!within(l.residual_channels, 1, kMostChannels) || !within(l.residual_stride, 1, 64) ||
        !within(l.residual_height, 1, kMostPixels) || !within(l.residual_width, 1, kMostPixels) ||
        !within(l.residual_offset, 0, kMostChannels)) {
      return "the residual's sizes are out of range";
    }
    if ((l.residual_height - 1) / l.residual_stride + 1 != height ||
        (l.residual_width - 1) / l.residual_stride + 1 != width ||
        l.residual_offset + l.residual_channels > l.out_channels) {
      return "the residual does not have the output's shape";
    }
  }
  return nullptr;
}

size_t round_up(size_t value) { return (value + kMaxLanes - 1) / kMaxLanes * kMaxLanes; }

}  // namespace
}  // namespace fedgate

using namespace fedgate;

struct fedgate_context {
  const Isa *isa;
  int32_t threads;
  fedgate_parallel run;
  void *pool;
  std::unique_ptr<void, void (*)(void *)> own{nullptr, nullptr};
  float *scratch = nullptr;
  size_t capacity = 0;  // floats

  ~fedgate_context() { free(scratch); }

  bool reserve(size_t floats) {
    if (floats <= capacity) return true;
    free(std::exchange(scratch, nullptr));
    capacity = 0;
    void *memory = nullptr;  // aligned_alloc came to Android with version 9
    if (posix_memalign(&memory, 64, round_up(floats) * sizeof(float)) != 0) return false;
    scratch = static_cast<float *>(memory);
    // what a vector reads behind a row is never used, but a denormal there would be slow
    memset(scratch, 0, round_up(floats) * sizeof(float));
    capacity = floats;
    return true;
  }

  void loop(size_t work, size_t count, void (*task)(void *, size_t), void *argument) {
    if (threads > 1 && count > 1 && work >= kShareWork) {
      run(pool, task, argument, count);
    } else {
      for (size_t i = 0; i < count; ++i) task(argument, i);
    }
  }
};

namespace {

// One call of a layer, its samples one after the other. Arrays lie in the context's scratch memory.
class Execution {
 public:
  Execution(fedgate_context &context, const fedgate_layer &layer, const fedgate_call &call)
      : context_(context), layer_(layer), call_(call), isa_(*context.isa), plane_(make_plane(layer, *context.isa)) {
    cut();
  }

  bool reserve() {
    if (!context_.reserve(place(nullptr))) return false;
    place(context_.scratch);
    return true;
  }

  void sample(int32_t n) {
    const size_t positions = static_cast<size_t>(layer_.height) * layer_.width;
    const size_t outputs = static_cast<size_t>(plane_.out_height / layer_.pool) * (plane_.out_width / layer_.pool);
    x_ = call_.x + n * positions * layer_.in_channels;
    y_ = call_.y + n * outputs * layer_.out_channels;
    residual_ = nullptr;
    if (layer_.residual_channels) {
      residual_ = call_.residual + static_cast<size_t>(n) * layer_.residual_channels * residual_plane();
    }
    list_inputs(call_.in_open ? call_.in_open + static_cast<size_t>(n) * layer_.in_channels : nullptr);
    const size_t packs = std::min<size_t>(input_count_, 4 * context_.threads);
    loop<&Execution::pack>(input_count_ * positions, packs);
    if (layer_.gate_weight) loop<&Execution::predict>(input_count_ * layer_.out_channels / 16, context_.threads);
    list_outputs(call_.open ? call_.open + static_cast<size_t>(n) * layer_.out_channels : nullptr);
    const size_t macs = plane_.size * input_count_ * output_count_ * layer_.kernel * layer_.kernel;
    loop<&Execution::convolve>(macs / 16, static_cast<size_t>(blocks_) * shares_);
  }

 private:
  // As many rows at a time as keep accumulators and input in the L2 cache, and a block or more for each thread where
  // the map is large enough to be cut; where it is not, the threads share the output channels.
  void cut() {
    const int32_t height = plane_.out_height, threads = context_.threads;
    const size_t row_bytes = static_cast<size_t>(layer_.in_channels + layer_.out_channels) * plane_.pitch * 4;
    rows_ = static_cast<int32_t>(std::clamp<size_t>(kBlockBytes / row_bytes, 4, 1 << 12));
    rows_ = std::min(rows_, height);
    if (threads > 1 && height >= 8 * threads) {
      const int32_t share = (height + threads - 1) / threads;
      const int32_t blocks = (share + rows_ - 1) / rows_ * threads;
      rows_ = (height + blocks - 1) / blocks;
    }
    if (layer_.pool == 2) rows_ += rows_ % 2;
    blocks_ = (height + rows_ - 1) / rows_;
    shares_ = blocks_ < threads ? threads : 1;
    // cache lines that a tile three vectors wide touches in three rows of a channel
    const size_t line = (isa_.lanes * 3 * 4 + 63) / 64 * 64 + 64;
    chunk_ = layer_.kernel == 1 ? 256 : static_cast<int32_t>(kTileBytes / (3 * line));
    sums_stride_ = round_up(static_cast<size_t>(rows_) * plane_.pitch + kMaxLanes);
  }

  // Lay out the scratch memory from `base`, or only measure it: floats.
  size_t place(float *base) {
    size_t used = 0;
    auto take = [&](size_t floats) {
      float *p = base ? base + used : nullptr;
      used += round_up(floats);
      return p;
    };
    const size_t in = layer_.in_channels, out = layer_.out_channels;
    // one thread works through the blocks with the same memory; several must not meet
    const size_t buffers = context_.threads > 1 ? blocks_ : 1;
    packed_ = take(in * plane_.size + kSlack);
    sums_size_ = out * sums_stride_ + kSlack;
    sums_ = take(buffers * sums_size_);
    unpooled_size_ = layer_.pool == 1 ? 0 : static_cast<size_t>(rows_) * plane_.out_width + kSlack;
    unpooled_ = take(buffers * shares_ * unpooled_size_);
    s_ = take(in);
    g_ = take(out);
    inputs_ = reinterpret_cast<int32_t *>(take(in));
    weight_offset_ = reinterpret_cast<int32_t *>(take(in));
    outputs_ = reinterpret_cast<int32_t *>(take(out));
    closed_ = reinterpret_cast<int32_t *>(take(out));
    filters_ = reinterpret_cast<const float **>(take(out * sizeof(float *) / sizeof(float)));
    return used;
  }

  size_t residual_plane() const { return static_cast<size_t>(layer_.residual_height) * layer_.residual_width; }

  template <void (Execution::*Step)(size_t i, size_t count)>
  void loop(size_t work, size_t count) {
    struct Argument {
      Execution *self;
      size_t count;
    } argument{this, count};
    context_.loop(
        work, count,
        [](void *p, size_t i) {
          auto *a = static_cast<Argument *>(p);
          (a->self->*Step)(i, a->count);
        },
        &argument);
  }

  void list_inputs(const uint8_t *open) {
    const int32_t taps = layer_.kernel * layer_.kernel;
    input_count_ = 0;
    for (int32_t c = 0; c < layer_.in_channels; ++c) {
      if (open && !open[c]) continue;
      inputs_[input_count_] = c;
      weight_offset_[input_count_++] = c * taps;
    }
  }

  void pack(size_t i, size_t count) {
    const ptrdiff_t positions = static_cast<ptrdiff_t>(layer_.height) * layer_.width;
    for (size_t a = i * input_count_ / count; a < (i + 1) * input_count_ / count; ++a) {
      const ptrdiff_t channel = inputs_[a];
      const bool sum = layer_.gate_weight != nullptr;
      const Source source = call_.nhwc ? Source{x_ + channel, layer_.in_channels, sum}
                                       : Source{x_ + channel * positions, 1, sum};
      s_[a] = isa_.pack(plane_, source, packed_ + a * plane_.size) / static_cast<float>(positions);
    }
  }

  void predict(size_t i, size_t count) {
    const size_t groups = (layer_.out_channels + kMaxLanes - 1) / kMaxLanes;
    const size_t begin = i * groups / count * kMaxLanes;
    const size_t end = std::min<size_t>((i + 1) * groups / count * kMaxLanes, layer_.out_channels);
    isa_.predict(s_, inputs_, input_count_, layer_.gate_weight, layer_.gate_bias, layer_.out_channels,
                 static_cast<int32_t>(begin), static_cast<int32_t>(end), g_);
  }

  // The masks. The k highest are those above the k-th value, and of those equal to it the first ones.
  void list_outputs(uint8_t *open) {
    const int32_t channels = layer_.out_channels;
    output_count_ = closed_count_ = 0;
    float least = 0;
    int32_t equals = channels;  // how many of the channels at `least` are still to be opened
    if (layer_.gate_weight) {
      const int32_t k = std::clamp(layer_.kept[call_.level], 0, channels);
      if (k < channels) {
        // the k + 1st value is closed for sure, if it is below all of the k before it
        least = isa_.largest(g_, channels, k + 1);
        equals = k - static_cast<int32_t>(std::count_if(g_, g_ + channels, [&](float g) { return g > least; }));
      }
      executed_macs.fetch_add(static_cast<uint64_t>(input_count_) * channels, std::memory_order_relaxed);
    }
    for (int32_t o = 0; o < channels; ++o) {
      bool is_open = true;
      if (layer_.gate_weight) {
        is_open = g_[o] > least || (g_[o] == least && equals-- > 0);
        is_open = is_open && g_[o] > 0.0f;
      }
      if (open) open[o] = is_open;
      if (is_open) {
        outputs_[output_count_] = o;
        filters_[output_count_++] =
            layer_.weight + static_cast<size_t>(o) * layer_.in_channels * layer_.kernel * layer_.kernel;
      } else {
        closed_[closed_count_++] = o;
      }
    }
  }

  // A block of rows for a share of the open channels, and the same rows of as many closed ones.
  void convolve(size_t i, size_t) {
    const size_t block = i / shares_, share = i % shares_;
    const int32_t row = static_cast<int32_t>(block) * rows_, rows = std::min(rows_, plane_.out_height - row);
    const size_t buffer = context_.threads > 1 ? block : 0;
    // whole tiles of four channels for each thread
    const size_t fours = (output_count_ + 3) / 4;
    const int32_t begin = static_cast<int32_t>(share * fours / shares_ * 4);
    const int32_t end = std::min(static_cast<int32_t>((share + 1) * fours / shares_ * 4), output_count_);
    float *const sums = sums_ + buffer * sums_size_ + begin * sums_stride_;
    float *const unpooled = unpooled_ + (buffer * shares_ + share) * unpooled_size_;
    if (begin < end) {
      const Block b{&plane_, packed_, weight_offset_, input_count_, filters_ + begin, end - begin,
                    row,     rows,    sums,           sums_stride_, chunk_};
      executed_macs.fetch_add(isa_.block(b), std::memory_order_relaxed);
      for (int32_t m = begin; m < end; ++m) finish(outputs_[m], sums + (m - begin) * sums_stride_, row, rows, unpooled);
    }
    for (size_t c = share * closed_count_ / shares_; c < (share + 1) * closed_count_ / shares_; ++c) {
      finish(closed_[c], nullptr, row, rows, unpooled);
    }
  }

  void finish(int32_t o, const float *sums, int32_t row, int32_t rows, float *unpooled) {
    const size_t at = static_cast<size_t>(call_.level) * layer_.out_channels + o;
    const float pi = layer_.gate_weight ? g_[o] : 1.0f;
    const int32_t width = plane_.out_width, pool = layer_.pool;
    float *const y = y_ + (static_cast<size_t>(o) * (plane_.out_height / pool) + row / pool) * (width / pool);
    Finish f{};
    f.sums = sums;
    f.pitch = plane_.pitch;
    f.width = width;
    f.rows = rows;
    f.scale = pi * layer_.scale[at];
    f.shift = pi * layer_.shift[at];
    f.relu = layer_.relu;
    f.y = pool == 1 ? y : unpooled;
    const int32_t from = o - layer_.residual_offset;
    if (residual_ && from >= 0 && from < layer_.residual_channels) {
      f.residual_pixel = layer_.residual_stride;
      f.residual_row = static_cast<ptrdiff_t>(layer_.residual_stride) * layer_.residual_width;
      f.residual = residual_ + from * residual_plane() + row * f.residual_row;
    }
    isa_.finish(f);
    if (pool == 2) isa_.pool(unpooled, rows, width, y);
  }

  fedgate_context &context_;
  const fedgate_layer &layer_;
  const fedgate_call &call_;
  const Isa &isa_;
  const Plane plane_;

  int32_t rows_, blocks_;  // rows of a block, and blocks
  int32_t shares_;         // of the output channels in a block
  int32_t chunk_;
  size_t sums_stride_, sums_size_, unpooled_size_;

  float *packed_, *sums_, *unpooled_, *s_, *g_;
  int32_t *inputs_, *weight_offset_, *outputs_, *closed_;
  const float **filters_;
  int32_t input_count_, output_count_, closed_count_;

  const float *x_, *residual_;
  float *y_;
};

bool call_is_bad(const fedgate_layer &layer, const fedgate_call &call) {
  return call.batch < 0 || call.level < 0 || call.level >= layer.levels || !call.x || !call.y ||
         (layer.residual_channels != 0 && !call.residual);
}

}  // namespace

void fedgate::keep_pool(fedgate_context *context, void *pool, void (*destroy)(void *)) {
  context->own = {pool, destroy};
}

extern "C" {

fedgate_context *fedgate_create_with_pool(const char *isa, int32_t threads, fedgate_parallel run, void *pool) {
  const Isa *found = find_isa(isa);
  if (!found || threads < 1) return nullptr;
  auto *context = new (std::nothrow) fedgate_context();
  if (!context) return nullptr;
  context->isa = found;
  context->threads = threads;
  context->run = run;
  context->pool = pool;
  return context;
}

void fedgate_destroy(fedgate_context *context) { delete context; }

const char *fedgate_isa(const fedgate_context *context) { return context->isa->name; }

const char *fedgate_refused(const fedgate_layer *layer) { return refused(*layer); }

int32_t fedgate_conv2d(fedgate_context *context, const fedgate_layer *layer, const fedgate_call *call) {
  if (!context || !layer || !call) return FEDGATE_BAD_CALL;
  if (refused(*layer) || !layer->weight || !layer->scale || !layer->shift ||
      (layer->gate_weight && (!layer->gate_bias || !layer->kept))) {
    return FEDGATE_BAD_LAYER;
  }
  if (call_is_bad(*layer, *call)) return FEDGATE_BAD_CALL;
  Execution execution(*context, *layer, *call);
  if (!execution.reserve()) return FEDGATE_NO_MEMORY;
  for (int32_t n = 0; n < call->batch; ++n) execution.sample(n);
  return FEDGATE_OK;
}

const char *fedgate_isas(void) {
  static char names[64];
  static const bool filled = [] {
    for (const Choice &choice : kChoices) {
      if (!choice.present()) continue;
      if (names[0]) strcat(names, " ");
      strcat(names, choice.isa->name);
    }
    return true;
  }();
  (void)filled;
  return names;
}

uint64_t fedgate_macs(void) { return executed_macs.load(std::memory_order_relaxed); }

void fedgate_reset_macs(void) { executed_macs.store(0, std::memory_order_relaxed); }

}  // extern "C"
