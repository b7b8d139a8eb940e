package org.fedgate.core

private const val PRECISION = 22 // bits behind the point of a weight, as Pillow has it for 8-bit pixels
private const val SUPPORT = 2.0 // pixels on either side that a new one is made of, before they are scaled

/** Resizes lines of [size] bytes to [newSize] as Pillow's BICUBIC does: antialiased, in fixed point, in 8 bits. */
internal class Resampling(private val size: Int, private val newSize: Int) {
    private val firsts = IntArray(newSize) // of each new pixel the first old one of those that make it
    private val weights = Array(newSize) { IntArray(0) }

    init {
        val scale = size.toDouble() / newSize
        val stretch = maxOf(scale, 1.0)
        for (index in 0 until newSize) {
            val center = (index + 0.5) * scale
            val first = maxOf((center - SUPPORT * stretch + 0.5).toInt(), 0)
            val end = minOf((center + SUPPORT * stretch + 0.5).toInt(), size)
            val raw = DoubleArray(end - first) { bicubic((it + first - center + 0.5) * (1.0 / stretch)) }
            var total = 0.0
            for (value in raw) total += value
            firsts[index] = first
            weights[index] = IntArray(raw.size) { fixed(if (total != 0.0) raw[it] / total else raw[it]) }
        }
    }

    /**
     * Resizes [lines] neighbouring lines: the first begins at [from] of [source] and has a pixel every [step] bytes,
     * and goes to [to] of [target] with a pixel every [newStep].
     */
    fun resize(source: ByteArray, from: Int, step: Int, target: ByteArray, to: Int, newStep: Int, lines: Int) {
        for (line in 0 until lines) for (index in 0 until newSize) {
            val at = to + line + index * newStep
            // Pillow, too, does not resize a picture that has its size: weights would only round.
            target[at] =
                if (size == newSize) source[from + line + index * step] else pixel(source, from + line, step, index)
        }
    }

    private fun pixel(source: ByteArray, from: Int, step: Int, index: Int): Byte {
        val own = weights[index]
        var sum = 1 shl (PRECISION - 1)
        var place = from + firsts[index] * step
        for (weight in own) {
            sum += (source[place].toInt() and 255) * weight
            place += step
        }
        return (sum shr PRECISION).coerceIn(0, 255).toByte()
    }

    /** Rounded half away from zero. */
    private fun fixed(weight: Double): Int = (weight * (1 shl PRECISION) + if (weight < 0) -0.5 else 0.5).toInt()
}

/** Keys' cubic convolution kernel with a = -0.5 (IEEE TASSP 29(6), 1981), computed in Pillow's order. */
private fun bicubic(at: Double): Double {
    val x = Math.abs(at)
    return when {
        x < 1 -> ((A + 2) * x - (A + 3)) * x * x + 1
        x < 2 -> (((x - 5) * x + 8) * x - 4) * A
        else -> 0.0
    }
}

private const val A = -0.5
