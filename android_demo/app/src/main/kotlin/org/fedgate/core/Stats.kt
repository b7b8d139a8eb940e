package org.fedgate.core

import java.math.BigInteger

/** A median, or a ratio, and the interval that covers the true one with at least 95 %. */
class Interval(val middle: Double, val low: Double, val high: Double)

/** The q-th percentile (0 to 100) with linear interpolation between order statistics, as numpy's default. */
fun percentile(values: DoubleArray, q: Double): Double {
    val ranked = values.sortedArray()
    val place = q / 100 * (ranked.size - 1)
    val low = Math.floor(place).toInt()
    val high = minOf(low + 1, ranked.size - 1)
    val share = place - low
    val step = ranked[high] - ranked[low]
    // numpy's own form, which is exact at both ends
    return if (share >= 0.5) ranked[high] - step * (1 - share) else ranked[low] + step * share
}

fun median(values: DoubleArray): Double {
    val ranked = values.sortedArray()
    val half = ranked.size / 2
    return if (ranked.size % 2 == 1) ranked[half] else (ranked[half - 1] + ranked[half]) / 2
}

/**
 * The median and order statistics around it; the same numbers as device_runtime/bench/stats.py.
 *
 * The number of values below the true median is binomial(n, 1/2), whatever their distribution. Fewer than six values
 * cannot give 95 %, and then the ends are the extremes.
 */
fun medianInterval(values: DoubleArray): Interval {
    val ranked = values.sortedArray()
    val n = ranked.size
    val all = BigInteger.ONE.shiftLeft(n)
    var rank = 0
    var choices = BigInteger.ONE // n over rank
    var tail = BigInteger.ONE
    while (tail.multiply(BigInteger.valueOf(40)) <= all) {
        choices = choices.multiply(BigInteger.valueOf((n - rank).toLong())).divide(BigInteger.valueOf(rank + 1L))
        rank++
        tail = tail.add(choices)
    }
    val low = maxOf(rank - 1, 0)
    return Interval(median(ranked), ranked[low], ranked[n - 1 - low])
}

/** Median over rounds of times / baseline, with its interval: paired, because a device's speed drifts. */
fun pairedRatio(times: DoubleArray, baseline: DoubleArray): Interval =
    medianInterval(DoubleArray(times.size) { times[it] / baseline[it] })
