package org.fedgate.core

/**
 * A JSON object whose fields are read by type; each method throws [FedgateException] naming [where] and the key.
 *
 * Keys that nobody asks for are ignored, so that a later version may add some.
 */
class Fields(value: Any?, private val where: String) {
    @Suppress("UNCHECKED_CAST")
    val all: Map<String, Any?> = value as? Map<String, Any?> ?: throw FedgateException("$where must be an object")

    fun get(key: String): Any? {
        if (key !in all) throw FedgateException("$where has no '$key'")
        return all[key]
    }

    fun refuse(key: String, must: String): Nothing = throw FedgateException("$where: '$key' must be $must")

    /** A printable text: escape sequences in a label would reach the reader's terminal. */
    fun text(key: String, limit: Int = 200): String {
        val value = get(key)
        if (!isText(value, limit)) refuse(key, "a printable text of 1 to $limit characters")
        return value as String
    }

    fun choice(key: String, known: Collection<String>): String {
        val value = get(key)
        if (value !in known) refuse(key, "one of ${known.joinToString(", ")}")
        return value as String
    }

    fun flag(key: String): Boolean = get(key) as? Boolean ?: refuse(key, "true or false")

    fun whole(key: String, low: Long, high: Long): Long {
        val value = get(key)
        if (!isWhole(value, low, high)) refuse(key, "a whole number from $low to $high")
        return value as Long
    }

    fun int(key: String, low: Int, high: Int): Int = whole(key, low.toLong(), high.toLong()).toInt()

    fun number(key: String, low: Double, high: Double): Double {
        val value = get(key)
        if (!isNumber(value, low, high)) refuse(key, "a number from ${short(low)} to ${short(high)}")
        return (value as Number).toDouble()
    }

    fun items(key: String, low: Int, high: Int): List<Any?> {
        val value = get(key)
        if (value !is List<*> || value.size !in low..high) {
            refuse(key, if (low != high) "a list of $low to $high items" else "a list of $low items")
        }
        return value
    }

    fun ints(key: String, least: Int, most: Int, low: Int, high: Int): List<Int> {
        val value = items(key, least, most)
        if (!value.all { isWhole(it, low.toLong(), high.toLong()) }) refuse(key, "whole numbers from $low to $high")
        return value.map { (it as Long).toInt() }
    }

    fun numbers(key: String, least: Int, most: Int, low: Double, high: Double): List<Double> {
        val value = items(key, least, most)
        if (!value.all { isNumber(it, low, high) }) refuse(key, "numbers from ${short(low)} to ${short(high)}")
        return value.map { (it as Number).toDouble() }
    }

    fun sha256(key: String): String {
        val value = get(key)
        if (value !is String || value.length != 64 || !value.all { it in "0123456789abcdef" }) {
            refuse(key, "a SHA-256 in 64 lower-case hexadecimal digits")
        }
        return value
    }

    private fun short(number: Double): String = pythonFloat(number).removeSuffix(".0")
}

fun isText(value: Any?, limit: Int = 200): Boolean {
    if (value !is String || value.isEmpty() || value.codePointCount(0, value.length) > limit) return false
    var index = 0
    while (index < value.length) {
        val point = value.codePointAt(index)
        if (!isPrintable(point)) return false
        index += Character.charCount(point)
    }
    return true
}

fun isWhole(value: Any?, low: Long, high: Long): Boolean = value is Long && value in low..high

fun isNumber(value: Any?, low: Double, high: Double): Boolean =
    value is Number && value.toDouble() >= low && value.toDouble() <= high
