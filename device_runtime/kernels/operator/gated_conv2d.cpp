// The operator: the order of a layer's steps, and what of the channels, rows and memory each of them works on.
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <atomic>

#include "fedgate_kernels.h"
#include "microkernels/isa.h"
#include "microkernels/plane.h"
#include "operator/blocking.h"
#include "operator/checks.h"
#include "operator/context.h"

namespace fedgate {
namespace {

std::atomic<uint64_t> executed_macs{0};

// One call of a layer, its samples one after the other. Arrays lie in the context's scratch memory.
class Execution {
 public:
  Execution(fedgate_context &context, const fedgate_layer &layer, const fedgate_call &call)
      : context_(context),
        layer_(layer),
        call_(call),
        isa_(*context.isa),
        plane_(make_plane(layer, isa_.lanes)),
        blocking_(make_blocking(layer, plane_, context)) {}

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
    loop<&Execution::convolve>(macs / 16, static_cast<size_t>(blocking_.blocks) * blocking_.shares);
  }

 private:
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
    const size_t buffers = context_.threads > 1 ? blocking_.blocks : 1;
    packed_ = take(in * plane_.size + kSlack);
    sums_size_ = out * blocking_.sums_stride + kSlack;
    sums_ = take(buffers * sums_size_);
    unpooled_size_ = layer_.pool == 1 ? 0 : static_cast<size_t>(blocking_.rows) * plane_.out_width + kSlack;
    unpooled_ = take(buffers * blocking_.shares * unpooled_size_);
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
    const size_t shares = blocking_.shares, stride = blocking_.sums_stride;
    const size_t block = i / shares, share = i % shares;
    const int32_t row = static_cast<int32_t>(block) * blocking_.rows;
    const int32_t rows = std::min(blocking_.rows, plane_.out_height - row);
    const size_t buffer = context_.threads > 1 ? block : 0;
    // whole tiles of four channels for each thread
    const size_t fours = (output_count_ + 3) / 4;
    const int32_t begin = static_cast<int32_t>(share * fours / shares * 4);
    const int32_t end = std::min(static_cast<int32_t>((share + 1) * fours / shares * 4), output_count_);
    float *const sums = sums_ + buffer * sums_size_ + begin * stride;
    float *const unpooled = unpooled_ + (buffer * shares + share) * unpooled_size_;
    if (begin < end) {
      const Block b{&plane_, packed_, weight_offset_, input_count_, filters_ + begin, end - begin,
                    row,     rows,    sums,           stride,       blocking_.chunk};
      executed_macs.fetch_add(isa_.convolve(b), std::memory_order_relaxed);
      for (int32_t m = begin; m < end; ++m) finish(outputs_[m], sums + (m - begin) * stride, row, rows, unpooled);
    }
    for (size_t c = share * closed_count_ / shares; c < (share + 1) * closed_count_ / shares; ++c) {
      finish(closed_[c], nullptr, row, rows, unpooled);
    }
  }

  void finish(int32_t o, const float *sums, int32_t row, int32_t rows, float *unpooled) {
    const size_t at = static_cast<size_t>(call_.level) * layer_.out_channels + o;
    const float pi = layer_.gate_weight ? g_[o] : 1.0f;
    const int32_t width = plane_.out_width, pool = layer_.pool;
    float *const y = y_ + (static_cast<size_t>(o) * (plane_.out_height / pool) + row / pool) * (width / pool);
    Epilogue e{};
    e.sums = sums;
    e.pitch = plane_.pitch;
    e.width = width;
    e.rows = rows;
    e.scale = pi * layer_.scale[at];
    e.shift = pi * layer_.shift[at];
    e.relu = layer_.relu;
    e.y = pool == 1 ? y : unpooled;
    const int32_t from = o - layer_.residual_offset;
    if (residual_ && from >= 0 && from < layer_.residual_channels) {
      e.residual_pixel = layer_.residual_stride;
      e.residual_row = static_cast<ptrdiff_t>(layer_.residual_stride) * layer_.residual_width;
      e.residual = residual_ + from * residual_plane() + row * e.residual_row;
    }
    isa_.epilogue(e);
    if (pool == 2) isa_.pool(unpooled, rows, width, y);
  }

  fedgate_context &context_;
  const fedgate_layer &layer_;
  const fedgate_call &call_;
  const Isa &isa_;
  const Plane plane_;
  const Blocking blocking_;

  size_t sums_size_, unpooled_size_;
  float *packed_, *sums_, *unpooled_, *s_, *g_;
  int32_t *inputs_, *weight_offset_, *outputs_, *closed_;
  const float **filters_;
  int32_t input_count_, output_count_, closed_count_;

  const float *x_, *residual_;
  float *y_;
};

}  // namespace
}  // namespace fedgate

using namespace fedgate;

int32_t fedgate_conv2d(fedgate_context *context, const fedgate_layer *layer, const fedgate_call *call) {
  if (!context) return FEDGATE_BAD_CALL;
  if (const fedgate_status status = check_call(layer, call)) return status;
  Execution execution(*context, *layer, *call);
  if (!execution.reserve()) return FEDGATE_NO_MEMORY;
  for (int32_t n = 0; n < call->batch; ++n) execution.sample(n);
  return FEDGATE_OK;
}

uint64_t fedgate_macs(void) { return executed_macs.load(std::memory_order_relaxed); }

void fedgate_reset_macs(void) { executed_macs.store(0, std::memory_order_relaxed); }
