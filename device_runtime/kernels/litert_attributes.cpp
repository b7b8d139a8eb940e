// Layout of a FlexBuffer, all numbers little-endian and 1, 2, 4 or 8 bytes wide:
//
//     [key strings] [n][key offsets: n] [offset to the keys][their width][n][values: n][types: n] [root][type][width]
//                      ^ keys                                               ^ values              ^ root
//
// Offsets point backwards from where they stand. A type's byte holds the type, and in its low two bits a width.
#include "litert_attributes.h"

#include <string.h>

namespace {

constexpr uint8_t kInt = 1, kUint = 2, kMap = 9;

class Bytes {
 public:
  Bytes(const uint8_t *bytes, size_t size) : bytes_(bytes), size_(size) {}

  bool has(size_t at, size_t count) const { return at <= size_ && count <= size_ - at; }

  bool number(size_t at, size_t width, uint64_t &value) const {
    if ((width != 1 && width != 2 && width != 4 && width != 8) || !has(at, width)) return false;
    value = 0;
    for (size_t i = 0; i < width; ++i) value |= static_cast<uint64_t>(bytes_[at + i]) << (8 * i);
    return true;
  }

  // Where the offset that stands at `at` points to.
  bool follow(size_t at, size_t width, size_t &target) const {
    uint64_t offset;
    if (!number(at, width, offset) || offset > at) return false;
    target = at - offset;
    return true;
  }

  bool name(size_t at, char (&name)[sizeof(fedgate_attribute::name)]) const {
    for (size_t i = 0; i < sizeof(name) && has(at + i, 1); ++i) {
      name[i] = static_cast<char>(bytes_[at + i]);
      if (name[i] == 0) return true;
    }
    return false;
  }

  bool value(size_t at, size_t width, uint8_t type, int32_t &value) const {
    uint64_t bits;
    if ((type != kInt && type != kUint) || !number(at, width, bits)) return false;
    const unsigned unused = 64 - 8 * static_cast<unsigned>(width);
    const int64_t wide = type == kInt ? static_cast<int64_t>(bits << unused) >> unused : static_cast<int64_t>(bits);
    value = static_cast<int32_t>(wide);
    return value == wide && !(type == kUint && wide < 0);
  }

 private:
  const uint8_t *bytes_;
  size_t size_;
};

bool read(const uint8_t *data, size_t size, fedgate_attribute *attributes, int32_t most, int32_t &read_count) {
  const Bytes bytes(data, size);
  if (data == nullptr || size < 3) return false;
  const size_t root_width = data[size - 1];
  if (data[size - 2] >> 2 != kMap || root_width > size - 2) return false;
  const size_t width = size_t{1} << (data[size - 2] & 3);
  size_t values, keys;
  if (!bytes.follow(size - 2 - root_width, root_width, values) || values < 3 * width) return false;
  uint64_t count, key_count, key_width;
  if (!bytes.number(values - width, width, count) || !bytes.number(values - 2 * width, width, key_width) ||
      !bytes.follow(values - 3 * width, width, keys)) {
    return false;
  }
  // key_width is looked at before it is used as a distance: number() knows four widths
  if (count > static_cast<uint64_t>(most) || key_width > 8 || keys < key_width ||
      !bytes.number(keys - key_width, key_width, key_count) || key_count != count ||
      !bytes.has(values + count * width, count)) {
    return false;
  }
  for (size_t i = 0; i < count; ++i) {
    fedgate_attribute &attribute = attributes[i];
    size_t name;
    if (!bytes.follow(keys + i * key_width, key_width, name) || !bytes.name(name, attribute.name) ||
        !bytes.value(values + i * width, width, data[values + count * width + i] >> 2, attribute.value)) {
      return false;
    }
    if (i > 0 && strcmp(attributes[i - 1].name, attribute.name) >= 0) return false;
  }
  read_count = static_cast<int32_t>(count);
  return true;
}

}  // namespace

int32_t fedgate_read_attributes(const uint8_t *bytes, size_t size, fedgate_attribute *attributes, int32_t most) {
  int32_t count;
  return most >= 0 && read(bytes, size, attributes, most, count) ? count : -1;
}
