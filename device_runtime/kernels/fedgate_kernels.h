/* The gated convolution as one call: plain C, no exceptions across it, no allocation after the first call of a shape.
 *
 * For each sample (notation of fedgate.train.network.gates):
 *
 *     s = mean_HW(|x|)                      of the input channels that are open
 *     g = relu(W s + b)
 *     channel i is open when rank_i < k and g_i > 0;  pi_i = g_i where open, else 0
 *     y = pool(relu(pi * (scale * conv(x) + shift) + residual))
 *
 * A closed output channel is not computed and a closed input channel is not read, whatever it holds: what is skipped
 * depends on the masks alone. Without a gate pi is 1 for all channels. All arrays are float32 unless it says otherwise,
 * contiguous, and borrowed.
 */
#ifndef FEDGATE_KERNELS_H
#define FEDGATE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FEDGATE_API __attribute__((visibility("default")))
#else
#define FEDGATE_API
#endif

/* One layer. Output: height = (height - 1) / stride + 1, the same for width; pooling halves both, rounding down. */
typedef struct fedgate_layer {
  int32_t in_channels, out_channels;
  int32_t height, width;      /* of the input */
  int32_t kernel;             /* 1 or 3, square; zero padding of kernel / 2 */
  int32_t stride;             /* 1 or 2 */
  int32_t relu;               /* 0 or 1 */
  int32_t pool;               /* 1: none; 2: 2x2 maximum, stride 2 */
  int32_t levels;             /* rows of scale, shift and kept; at least 1 */
  int32_t residual_channels;  /* 0: no residual */
  int32_t residual_height, residual_width;
  int32_t residual_stride;    /* the residual is read at every residual_stride-th row and column (option A of ResNet) */
  int32_t residual_offset;    /* its channel 0 is added to this output channel; outside its channels nothing is added */
  const float *weight;        /* (out_channels, in_channels, kernel, kernel) */
  const float *scale, *shift; /* (levels, out_channels) */
  const float *gate_weight;   /* W transposed: (in_channels, out_channels); NULL: no gate */
  const float *gate_bias;     /* (out_channels) */
  const int32_t *kept;        /* (levels): k of each level */
} fedgate_layer;

/* One call of a layer. */
typedef struct fedgate_call {
  int32_t batch;
  int32_t nhwc;            /* 0: x is (batch, channels, height, width); 1: x is (batch, height, width, channels) */
  int32_t level;           /* 0 .. levels - 1 */
  const float *x;
  const uint8_t *in_open;  /* (batch, in_channels), 0 or 1; NULL: all open. Closed channels count as zeros. */
  const float *residual;   /* (batch, residual_channels, residual_height, residual_width), or NULL */
  float *y;                /* (batch, out_channels, height', width'); may not overlap an input */
  uint8_t *open;           /* (batch, out_channels), or NULL */
} fedgate_call;

enum fedgate_status {
  FEDGATE_OK = 0,
  FEDGATE_BAD_LAYER = 1,   /* a size, kernel, stride or pointer of the layer that is not supported */
  FEDGATE_BAD_CALL = 2,    /* a level or batch out of range, or a pointer missing */
  FEDGATE_NO_MEMORY = 3,
};

/* Runs task(argument, i) for i in 0 .. count - 1, on up to its number of threads, and returns when all are done. */
typedef void (*fedgate_parallel)(void *pool, void (*task)(void *argument, size_t i), void *argument, size_t count);

/* Scratch memory, instruction set and threads; used by one call at a time. */
typedef struct fedgate_context fedgate_context;

/* isa: a name of fedgate_isas, or NULL for the best one here. threads: of a pool of the context's own, 1 for none.
 * Returns NULL for an isa that this processor does not have, or when memory runs out. */
FEDGATE_API fedgate_context *fedgate_create(const char *isa, int32_t threads);
/* The same with a thread pool that exists already. */
FEDGATE_API fedgate_context *fedgate_create_with_pool(const char *isa, int32_t threads, fedgate_parallel run,
                                                      void *pool);
FEDGATE_API void fedgate_destroy(fedgate_context *context);
FEDGATE_API const char *fedgate_isa(const fedgate_context *context);

FEDGATE_API int32_t fedgate_conv2d(fedgate_context *context, const fedgate_layer *layer, const fedgate_call *call);
/* Why the layer is refused, or NULL. Its pointers are not looked at. */
FEDGATE_API const char *fedgate_refused(const fedgate_layer *layer);

/* The instruction sets that this processor has of those compiled in, best first, separated by spaces. */
FEDGATE_API const char *fedgate_isas(void);
/* MACs executed by all contexts of this library since the last reset: convolutions and gates. */
FEDGATE_API uint64_t fedgate_macs(void);
FEDGATE_API void fedgate_reset_macs(void);

#ifdef __cplusplus
}
#endif
#endif
