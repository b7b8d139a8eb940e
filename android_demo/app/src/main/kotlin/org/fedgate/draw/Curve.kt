package org.fedgate.draw

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.pow

/** One curve: its name for the legend, and its values at x = 1, 2, ...; NaN where there is none. */
class Series(val name: String, val values: DoubleArray, val ink: Ink)

private const val SIZE = 12f // dp, of the words

/**
 * Curves over a common count of steps, with axes, a grid and a legend above.
 *
 * width, height in pixels. text: pixels of a scaled pixel, dp: of a density-independent one. along: what x counts.
 */
fun curves(
    series: List<Series>, along: String, width: Float, height: Float, dp: Float, text: Float, measure: Measure,
): List<Shape> {
    val known = series.flatMap { line -> line.values.filter { it.isFinite() } }
    val count = series.maxOfOrNull { it.values.size } ?: 0
    if (known.isEmpty() || count == 0) return emptyList()
    val ticks = ticks(minOf(0.0, known.min()), known.max())
    val size = SIZE * text
    val left = ticks.maxOf { measure(tickText(it, ticks), size) } + 6 * dp
    val top = size + 10 * dp
    val bottom = height - size - 8 * dp
    val right = width - 4 * dp
    val x = { index: Int -> if (count == 1) (left + right) / 2 else left + (right - left) * index / (count - 1) }
    val y = { value: Double ->
        val share = (value - ticks.first()) / (ticks.last() - ticks.first())
        (bottom - (bottom - top) * share).toFloat()
    }
    val shapes = mutableListOf<Shape>()
    for (tick in ticks) {
        shapes += Line(floatArrayOf(left, y(tick), right, y(tick)), dp, Ink.FAINT)
        shapes += Words(tickText(tick, ticks), left - 6 * dp, y(tick) + size / 3, size, Align.END, Ink.TEXT)
    }
    shapes += Words("1", x(0), height - 2 * dp, size, if (count == 1) Align.MIDDLE else Align.START, Ink.TEXT)
    if (count > 1) shapes += Words("$along $count", right, height - 2 * dp, size, Align.END, Ink.TEXT)
    var start = left
    for (line in series) {
        shapes += Line(floatArrayOf(start, size / 2 + 2 * dp, start + 14 * dp, size / 2 + 2 * dp), 3 * dp, line.ink)
        shapes += Words(line.name, start + 18 * dp, size, size, Align.START, Ink.TEXT)
        start += 18 * dp + measure(line.name, size) + 16 * dp
    }
    return shapes + series.flatMap { line -> pieces(line, x, y, dp) }
}

/** A series as lines, one for each run of values without a gap. */
private fun pieces(line: Series, x: (Int) -> Float, y: (Double) -> Float, dp: Float): List<Shape> {
    val lines = mutableListOf<Shape>()
    val points = mutableListOf<Float>()
    for (index in 0..line.values.size) {
        val value = line.values.getOrElse(index) { Double.NaN }
        if (value.isFinite()) {
            points += x(index)
            points += y(value)
        } else if (points.isNotEmpty()) {
            lines += Line(points.toFloatArray(), 2 * dp, line.ink)
            points.clear()
        }
    }
    return lines
}

/** Three to seven round numbers, evenly spaced, from at or below [low] to at or above [high]. */
fun ticks(low: Double, high: Double): List<Double> {
    val span = max(high - low, max(abs(high), 1e-9) * 1e-3)
    val power = 10.0.pow(floor(log10(span / 3)))
    val step = listOf(1.0, 2.0, 5.0).map { it * power }.last { it <= span / 3 * (1 + 1e-9) }
    val first = floor(low / step + 1e-9).toLong()
    val last = max(ceil(high / step - 1e-9).toLong(), first + 1)
    return (first..last).map { it * step }
}

/** A tick's number with as many decimals as tell it from its neighbour. */
fun tickText(tick: Double, ticks: List<Double>): String {
    val decimals = max(0, -floor(log10(ticks[1] - ticks[0]) + 1e-9).toInt())
    return String.format(java.util.Locale.ROOT, "%.${decimals}f", tick)
}
