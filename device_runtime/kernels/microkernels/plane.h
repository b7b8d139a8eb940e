// The packed input: a channel, zero-padded, in a form in which every tap of the kernel reads one contiguous run. Row y,
// column x of the output needs, for tap t, the float at offset[t] + y * pitch + x.
//
// Stride 1: the padded plane; a row's right border is the left border of the next row, so pitch is width + 1. With "."
// for a zero, two rows of three pixels:
//
//     . . . .
//     . a b c
//     . d e f      offset[t] = t / 3 * pitch + t % 3
//     . . . .
//     .
//
// Stride 2: the four planes of even and odd rows and columns, one behind the other, each one row and one column larger
// than the output. Row r of a plane of odd rows is row 2r - 1 of the input, of a plane of even rows 2r; the same for
// columns. Four rows of four pixels:
//
//     even, even    even, odd    odd, even    odd, odd
//     a c .         . b d        . . .        . . .
//     i k .         . j l        e g .        . f h
//     . . .         . . .        m o .        . n p
//
// Columns, for small maps, where what lies between the rows would be much of the work: one plane of the output for each
// tap.
//
// 1x1: the pixels that are read, without a border.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fedgate_kernels.h"

namespace fedgate {

struct Plane {
  int32_t height, width;          // of the layer's input
  int32_t out_height, out_width;  // of the convolution's output
  int32_t kernel, stride;
  bool columns;
  int32_t pitch;     // floats from an output row to the next
  size_t size;       // floats of a channel
  int32_t offset[9];
};

// lanes: of the instruction set that will pack and read it.
Plane make_plane(const fedgate_layer &layer, int32_t lanes);

}  // namespace fedgate
