package org.fedgate.core

import java.math.BigDecimal
import java.math.BigInteger
import java.math.MathContext
import java.math.RoundingMode

/** The one spelling of a JSON value that hashes are made of: sorted keys, no spaces, ASCII; Python's, byte for byte. */
fun canonicalJson(value: Any?): String = StringBuilder().also { JsonWriter(it, null).write(value, 0) }.toString()

/** As Python's `json.dumps(value, sort_keys=True, indent=1)`: how a manifest is written. */
fun indentedJson(value: Any?): String = StringBuilder().also { JsonWriter(it, " ").write(value, 0) }.toString()

private class JsonWriter(private val out: StringBuilder, private val indent: String?) {
    fun write(value: Any?, depth: Int) {
        when (value) {
            null -> out.append("null")
            is Boolean, is Int, is Long, is BigInteger -> out.append(value)
            is Double -> out.append(pythonFloat(value))
            is Float -> out.append(pythonFloat(value.toDouble()))
            is String -> out.append(quoted(value, ascii = true))
            is List<*> -> group('[', ']', value, depth) { write(it, depth + 1) }
            is Map<*, *> -> group('{', '}', value.keys.map { it as String }.sortedWith(BY_CODE_POINT), depth) {
                out.append(quoted(it, ascii = true))
                out.append(if (indent == null) ":" else ": ")
                write(value[it], depth + 1)
            }
            else -> throw FedgateException("this cannot be written as JSON: ${value.javaClass.simpleName}")
        }
    }

    private fun <T> group(open: Char, close: Char, items: List<T>, depth: Int, each: (T) -> Unit) {
        out.append(open)
        items.forEachIndexed { index, item ->
            if (index > 0) out.append(',')
            line(depth + 1)
            each(item)
        }
        if (items.isNotEmpty()) line(depth)
        out.append(close)
    }

    private fun line(depth: Int) {
        if (indent != null) {
            out.append('\n')
            repeat(depth) { out.append(indent) }
        }
    }
}

/** A text as JSON. ascii: as Python's `json.dumps` spells it; else only what must be escaped is. */
internal fun quoted(text: String, ascii: Boolean): String {
    val out = StringBuilder("\"")
    for (c in text) {
        when (c) {
            '"' -> out.append("\\\"")
            '\\' -> out.append("\\\\")
            '\n' -> out.append("\\n")
            '\r' -> out.append("\\r")
            '\t' -> out.append("\\t")
            '\b' -> out.append("\\b")
            '\u000c' -> out.append("\\f")
            else -> if (c < ' ' || (ascii && c > '~')) out.append("\\u").append(hex4(c.code)) else out.append(c)
        }
    }
    return out.append('"').toString()
}

/** Python's order of texts: UTF-16, which Kotlin compares, puts surrogates before U+E000 to U+FFFF. */
val BY_CODE_POINT: Comparator<String> = Comparator { a, b ->
    var i = 0
    while (i < a.length && i < b.length && a[i] == b[i]) i++
    when {
        i == a.length || i == b.length -> a.length - b.length
        a[i].isSurrogate() != b[i].isSurrogate() -> if (a[i].isSurrogate()) 1 else -1
        else -> a[i] - b[i]
    }
}

/**
 * Python's `repr` of a float: the shortest digits that read back as the same number, and of those the nearest.
 *
 * Not Java's own text: before JDK 19, and on Android, it is not always the shortest. Throws for NaN and infinities.
 */
fun pythonFloat(value: Double): String {
    if (value.isNaN() || value.isInfinite()) throw FedgateException("this cannot be written as JSON: $value")
    if (value == 0.0) return if (1 / value < 0) "-0.0" else "0.0"
    val short = shortest(BigDecimal(Math.abs(value)), Math.abs(value)).stripTrailingZeros()
    val digits = short.unscaledValue().toString()
    val exponent = digits.length - 1 - short.scale()
    val body = when {
        exponent < -4 || exponent >= 16 -> {
            val mantissa = if (digits.length == 1) digits else digits[0] + "." + digits.substring(1)
            mantissa + (if (exponent < 0) "e-" else "e+") + Math.abs(exponent).toString().padStart(2, '0')
        }
        exponent < 0 -> "0." + "0".repeat(-exponent - 1) + digits
        digits.length <= exponent + 1 -> digits + "0".repeat(exponent + 1 - digits.length) + ".0"
        else -> digits.substring(0, exponent + 1) + "." + digits.substring(exponent + 1)
    }
    return if (value < 0) "-$body" else body
}

private fun shortest(exact: BigDecimal, value: Double): BigDecimal {
    for (precision in 1..17) {
        // the nearest, but below a power of two it may belong to another number, and its neighbour not
        val near = listOf(RoundingMode.HALF_EVEN, RoundingMode.FLOOR, RoundingMode.CEILING)
            .map { exact.round(MathContext(precision, it)) }
        val fitting = near.filter { it.toDouble() == value }
        if (fitting.isNotEmpty()) return fitting.minByOrNull { it.subtract(exact).abs() }!!
    }
    return exact
}
