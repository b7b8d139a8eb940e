// Many short loops, one after the other, of as many indices as can be: every index must run once, while its loop runs.
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "pool.h"

namespace {

struct Loop {
  std::vector<int> runs;  // of each index; not atomic, so that a sanitizer sees two threads at one
};

void task(void *argument, size_t i) {
  // long enough that the others get here in time for the next index, and not for all of them the same
  for (volatile size_t wait = i * 41 % 64 * 16; wait != 0; wait = wait - 1) {
  }
  ++static_cast<Loop *>(argument)->runs[i];
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const int threads = atoi(argv[1]), loops = atoi(argv[2]);
  unsigned random = 1;
  fedgate::Pool *pool = nullptr;
  for (int n = 0; n < loops; ++n) {
    if (n % 500 == 0) {  // some pools end while their workers wait, and some before these have looked for work
      delete pool;
      pool = new fedgate::Pool(threads);
      if (n % 1000 == 0) {
        delete pool;
        pool = new fedgate::Pool(threads);
      }
    }
    random = random * 1664525 + 1013904223;
    // the memory of a loop that has returned is gone
    auto *loop = new Loop{std::vector<int>(random >> 28)};
    pool->run(task, loop, loop->runs.size());
    for (int runs : loop->runs) {
      if (runs != 1) {
        fprintf(stderr, "an index of loop %d ran %d times\n", n, runs);
        return 1;
      }
    }
    delete loop;
  }
  delete pool;
}
