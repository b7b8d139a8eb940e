package org.fedgate.draw

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

private const val CELL = 3f // dp: narrower bars are not told apart

/**
 * Which channels of a layer ran: a bar for each, or for each group of neighbours where they do not fit, whose height is
 * the open share of its group. Closed ones leave a short stump, so that the strip shows how many there are.
 *
 * open: by channel. width, height: of the strip in pixels. dp: pixels of a density-independent pixel.
 */
fun strip(open: BooleanArray, width: Float, height: Float, dp: Float): List<Shape> {
    if (open.isEmpty() || width <= 0f) return emptyList()
    val groups = groups(open, max(1, floor(width / (CELL * dp)).toInt()))
    val step = width / groups.size
    val gap = min(step / 4, dp)
    return groups.flatMapIndexed { index, share ->
        val left = index * step
        val right = left + step - gap
        val stump = Box(left, height - 2 * dp, right, height, Ink.CLOSED)
        if (share == 0f) listOf(stump) else listOf(stump, Box(left, height * (1 - share), right, height, Ink.OPEN))
    }
}

/** The open share of each of at most [most] groups of neighbours, as even as whole numbers allow, larger ones first. */
fun groups(open: BooleanArray, most: Int): FloatArray {
    val count = min(most, open.size)
    val size = open.size / count
    val larger = open.size % count
    var start = 0
    return FloatArray(count) { index ->
        val end = start + size + if (index < larger) 1 else 0
        val share = (start until end).count { open[it] } / (end - start).toFloat()
        start = end
        share
    }
}
