package org.fedgate.draw

import java.util.Locale

/** A time with three digits: 0.051 ms, 4.21 ms, 318 ms. */
fun milliseconds(value: Double): String = "${digits(value)} ms"

/** A count of multiply-adds or bytes with three digits and its prefix: 760 k, 1.79 M. */
fun thousands(value: Double): String {
    var rest = value
    for (prefix in listOf("", " k", " M", " G")) {
        if (rest < 999.5) return (if (prefix.isEmpty()) "%.0f".format(Locale.ROOT, rest) else digits(rest)) + prefix
        rest /= 1000
    }
    return digits(rest) + " T"
}

/** A share as a percentage, with a decimal unless it is whole. */
fun percent(share: Double): String = "%.1f".format(Locale.ROOT, share * 100).removeSuffix(".0") + " %"

private fun digits(value: Double): String {
    val decimals = if (value < 0.9995) 3 else if (value < 9.995) 2 else if (value < 99.95) 1 else 0
    return "%.${decimals}f".format(Locale.ROOT, value)
}
