// The two options that choose a context: what the runtimes' sides of the kernel ask alike.
#pragma once

#include <stdint.h>

#include <charconv>
#include <new>
#include <stdexcept>
#include <string>

#include "owned_context.h"

namespace fedgate {

inline constexpr int32_t kMostThreads = 256;

// isa: empty for the best here; one that was checked.
inline Context make_context(const std::string &isa, int32_t threads) {
  Context context(fedgate_create(isa.empty() ? nullptr : isa.c_str(), threads));
  if (!context) throw std::bad_alloc();
  return context;
}

// The value of the option that is called `name`.
inline int32_t read_threads(const std::string &name, const std::string &value) {
  const char *const last = value.data() + value.size();
  int32_t threads = 0;
  const auto [end, error] = std::from_chars(value.data(), last, threads);
  if (error != std::errc() || end != last || threads < 1 || threads > kMostThreads) {
    throw std::runtime_error(name + " must be from 1 to " + std::to_string(kMostThreads) + ", not '" + value + "'");
  }
  return threads;
}

inline void check_isa(const std::string &isa) {
  if (!Context(fedgate_create(isa.empty() ? nullptr : isa.c_str(), 1))) {
    throw std::runtime_error("no instruction set '" + isa + "' here; there are " + fedgate_isas());
  }
}

}  // namespace fedgate
