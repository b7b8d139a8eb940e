"""The codecs of updates: what a name means on the wire. The choices of options come from here too.

    fp32  "values" float32: the values themselves
    fp16  "values" float16: differences to the base that sender and receiver hold
    int8  "values" int8 of -127 to 127, and "scales" float32, one for each index of the first axis of a slice, for the
          slices of two or more dimensions: difference = value * scale; "vectors" float16: differences of the others
    int4  the same with values of -7 to 7, two in a byte of uint8, the first in its lowest bits; a part is value + 8,
          and that of nothing (behind the last) 8

Slices follow one another in the order of their names, each row-major; the base of what has none is 0. In a codec of
`BITS` a scale is the row's largest difference / the largest value, and rounding is stochastic (up with the probability
of the remainder), so that what a codec loses has mean 0: D. Alistarh et al., "QSGD: Communication-Efficient SGD via
Gradient Quantization and Encoding", NeurIPS 2017, section 3.1.
"""

BITS = {"int8": 8, "int4": 4}  # of an entry of what has two or more dimensions
CODECS = ("fp32", "fp16", *BITS)
IN_WORDS = f"fp32 (weights), {', '.join(CODECS[1:-1])} or {CODECS[-1]} (differences)"
