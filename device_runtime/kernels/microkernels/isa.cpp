// The instruction sets compiled in, and which of them this processor has.
#include "microkernels/isa.h"

#include <string.h>

#include "fedgate_kernels.h"

namespace fedgate {
namespace {

struct Choice {
  const Isa *isa;
  bool (*present)();
};

const Choice kChoices[] = {
#if defined(__x86_64__)
    {&kAvx512, [] { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"); }},
    {&kAvx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#elif defined(__aarch64__)
    {&kNeon, [] { return true; }},
#endif
    {&kGeneric, [] { return true; }},
};

}  // namespace

const Isa *find_isa(const char *name) {
  for (const Choice &choice : kChoices) {
    if (choice.present() && (name == nullptr || strcmp(name, choice.isa->name) == 0)) return choice.isa;
  }
  return nullptr;
}

}  // namespace fedgate

const char *fedgate_isas(void) {
  static char names[64];
  static const bool filled = [] {
    for (const fedgate::Choice &choice : fedgate::kChoices) {
      if (!choice.present()) continue;
      if (names[0]) strcat(names, " ");
      strcat(names, choice.isa->name);
    }
    return true;
  }();
  (void)filled;
  return names;
}
