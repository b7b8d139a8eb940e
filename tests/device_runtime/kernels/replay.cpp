// Runs cases from a file and writes what the kernel makes of them to another: replay CASES RESULTS ISA THREADS.
// For compilers, flags and processors that Python itself does not run with. replay.py writes the one and reads the other.
//
// Every array is an allocation of exactly its size, and every case has a context of its own, with scratch memory of
// exactly its size: a sanitizer sees whatever is read or written beyond. Then the case is run again in a context that
// all cases share, where others have left their numbers.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <vector>

#include "fedgate_kernels.h"

static std::atomic<int32_t> allocations{0};

#ifdef COUNT_ALLOCATIONS
// glibc's allocator under other names; all of this process and its libraries come by here.
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *malloc(size_t size) { return ++allocations, __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return ++allocations, __libc_calloc(count, size); }
void *realloc(void *p, size_t size) { return ++allocations, __libc_realloc(p, size); }
void *memalign(size_t alignment, size_t size) { return ++allocations, __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return ++allocations, __libc_memalign(alignment, size); }
int posix_memalign(void **p, size_t alignment, size_t size) {
  return ++allocations, (*p = __libc_memalign(alignment, size)) == nullptr;
}
}
#endif

namespace {

void die(const char *what) {
  fprintf(stderr, "replay: %s\n", what);
  exit(1);
}

template <class T>
std::vector<T> read_array(FILE *file, size_t count) {
  std::vector<T> array(count);
  if (fread(array.data(), sizeof(T), count, file) != count) die("the file of cases ends early");
  return array;
}

template <class T>
void write_array(FILE *file, const T *array, size_t count) {
  if (fwrite(array, sizeof(T), count, file) != count) die("cannot write the results");
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 5) die("usage: replay CASES RESULTS ISA THREADS");
  FILE *cases = fopen(argv[1], "rb"), *results = fopen(argv[2], "wb");
  if (!cases || !results) die("cannot open the files");
  fedgate_context *const shared = fedgate_create(argv[3], atoi(argv[4]));
  if (!shared) die("no such instruction set here");
  const int32_t count = read_array<int32_t>(cases, 1)[0];
  for (int32_t i = 0; i < count; ++i) {
    fedgate_layer l{};
    fedgate_call c{};
    int32_t gated, masked;
    int32_t *const fields[] = {&c.batch, &l.in_channels, &l.out_channels, &l.height, &l.width, &l.kernel, &l.stride,
                               &l.relu, &l.pool, &l.levels, &c.level, &c.nhwc, &l.residual_channels,
                               &l.residual_height, &l.residual_width, &l.residual_stride, &l.residual_offset, &gated,
                               &masked};
    for (int32_t *field : fields) *field = read_array<int32_t>(cases, 1)[0];
    const size_t n = c.batch, in = l.in_channels, out = l.out_channels, rows = l.levels;
    const auto x = read_array<float>(cases, n * in * l.height * l.width);
    const auto weight = read_array<float>(cases, out * in * l.kernel * l.kernel);
    const auto scale = read_array<float>(cases, rows * out), shift = read_array<float>(cases, rows * out);
    const auto gate_weight = read_array<float>(cases, gated ? in * out : 0);
    const auto gate_bias = read_array<float>(cases, gated ? out : 0);
    const auto kept = read_array<int32_t>(cases, gated ? rows : 0);
    const auto in_open = read_array<uint8_t>(cases, masked ? n * in : 0);
    const auto residual = read_array<float>(cases, n * l.residual_channels * l.residual_height * l.residual_width);
    const size_t height = ((l.height - 1) / l.stride + 1) / l.pool, width = ((l.width - 1) / l.stride + 1) / l.pool;
    std::vector<float> first(n * out * height * width, NAN), y(first);
    std::vector<uint8_t> open(n * out, 255);
    l.weight = weight.data();
    l.scale = scale.data();
    l.shift = shift.data();
    l.gate_weight = gated ? gate_weight.data() : nullptr;
    l.gate_bias = gated ? gate_bias.data() : nullptr;
    l.kept = gated ? kept.data() : nullptr;
    c.x = x.data();
    c.in_open = masked ? in_open.data() : nullptr;
    c.residual = l.residual_channels ? residual.data() : nullptr;

    fedgate_context *const own = fedgate_create(argv[3], atoi(argv[4]));
    c.y = first.data();
    int32_t status = fedgate_conv2d(own, &l, &c);
    // the second call of a shape: without an allocation
    c.y = y.data();
    const int32_t before = allocations;
    if (!status) status = fedgate_conv2d(own, &l, &c);
    const int32_t allocated = allocations - before;
    fedgate_destroy(own);
    if (memcmp(first.data(), y.data(), y.size() * sizeof(float))) die("a second call gives other outputs");
    c.open = open.data();
    fedgate_reset_macs();
    if (!status) status = fedgate_conv2d(shared, &l, &c);
    const uint64_t macs = fedgate_macs();
    if (memcmp(first.data(), y.data(), y.size() * sizeof(float))) die("what others left behind changes the outputs");

    write_array(results, &status, 1);
    write_array(results, &allocated, 1);
    write_array(results, &macs, 1);
    write_array(results, y.data(), y.size());
    write_array(results, open.data(), open.size());
  }
  fedgate_destroy(shared);
  fclose(cases);
  if (fclose(results)) die("cannot write the results");
}
