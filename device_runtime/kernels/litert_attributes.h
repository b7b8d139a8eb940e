/* A node's attributes: a FlexBuffer (https://flatbuffers.dev/flexbuffers) that holds one flat map of names to integers.
 * The bytes come from a file and are not trusted: what is not such a map is refused, and nothing outside is read. */
#ifndef FEDGATE_LITERT_ATTRIBUTES_H
#define FEDGATE_LITERT_ATTRIBUTES_H

#include "fedgate_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fedgate_attribute {
  char name[24]; /* ends with a zero */
  int32_t value;
} fedgate_attribute;

/* Fills in up to `most` attributes in the order of their names. Returns how many there are; -1: refused. */
FEDGATE_API int32_t fedgate_read_attributes(const uint8_t *bytes, size_t size, fedgate_attribute *attributes,
                                            int32_t most);

#ifdef __cplusplus
}
#endif
#endif
