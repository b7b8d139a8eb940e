package org.fedgate.core

/**
 * numpy's `default_rng(entropy)`, as far as shuffling needs it: so that a phone draws the batches and the held-out
 * examples that `fedgate finetune` draws from the same seed.
 *
 * SeedSequence and PCG64 (XSL-RR, 128 bits of state): M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient
 * Statistically Good Algorithms for Random Number Generation", HMC-CS-2014-0905. entropy: numbers of 0 to 2^63 - 1.
 */
class NumpyRandom(vararg entropy: Long) {
    private var high = 0L
    private var low = 0L
    private var addHigh: Long
    private var addLow: Long
    private var half: Int? = null // the upper half of the last 64 bits, which the next draw takes

    init {
        val words = entropy.flatMap { value ->
            val upper = (value ushr 32).toInt()
            if (upper == 0) listOf(value.toInt()) else listOf(value.toInt(), upper)
        }
        val seed = seedWords(words.toIntArray())
        addHigh = (seed[2] shl 1) or (seed[3] ushr 63)
        addLow = (seed[3] shl 1) or 1
        step()
        add(seed[0], seed[1])
        step()
    }

    /** The values in random order. */
    fun permutation(values: IntArray): IntArray {
        val out = values.copyOf()
        for (i in out.size - 1 downTo 1) {
            val j = upTo(i)
            val kept = out[i]
            out[i] = out[j]
            out[j] = kept
        }
        return out
    }

    /** A whole number of 0 to [most], which is above 0: draws of as many bits are dropped until one fits. */
    private fun upTo(most: Int): Int {
        val mask = -1 ushr Integer.numberOfLeadingZeros(most)
        while (true) {
            val value = next32() and mask
            if (value <= most) return value
        }
    }

    private fun next32(): Int {
        half?.let {
            half = null
            return it
        }
        step()
        val bits = java.lang.Long.rotateRight(high xor low, (high ushr 58).toInt())
        half = (bits ushr 32).toInt()
        return bits.toInt()
    }

    private fun step() {
        val top = upperProduct(low, MULTIPLIER_LOW) + high * MULTIPLIER_LOW + low * MULTIPLIER_HIGH
        low *= MULTIPLIER_LOW
        high = top
        add(addHigh, addLow)
    }

    private fun add(otherHigh: Long, otherLow: Long) {
        low += otherLow
        // unsigned: a sum that is below its part has carried
        val carry = if (low + Long.MIN_VALUE < otherLow + Long.MIN_VALUE) 1 else 0
        high += otherHigh + carry
    }

    private companion object {
        const val MULTIPLIER_HIGH = 2549297995355413924L
        const val MULTIPLIER_LOW = 4865540595714422341L
    }
}

/** The upper 64 bits of an unsigned product. */
private fun upperProduct(a: Long, b: Long): Long {
    val mask = 0xffffffffL
    val a0 = a and mask
    val a1 = a ushr 32
    val b0 = b and mask
    val b1 = b ushr 32
    val middle = a1 * b0 + (a0 * b0 ushr 32)
    val other = a0 * b1 + (middle and mask)
    return a1 * b1 + (middle ushr 32) + (other ushr 32)
}

/** numpy's `SeedSequence(entropy).generate_state(4, uint64)`. */
private fun seedWords(entropy: IntArray): LongArray {
    val pool = IntArray(4)
    var hash = 0x43b0d7e5
    fun mixed(word: Int): Int {
        var value = word xor hash
        hash *= 0x931e8875.toInt()
        value *= hash
        return value xor (value ushr 16)
    }
    fun joined(x: Int, y: Int): Int {
        val value = 0xca01f9dd.toInt() * x - 0x4973f715 * y
        return value xor (value ushr 16)
    }
    for (i in pool.indices) pool[i] = mixed(if (i < entropy.size) entropy[i] else 0)
    for (from in pool.indices) for (to in pool.indices) if (from != to) pool[to] = joined(pool[to], mixed(pool[from]))
    for (word in entropy.drop(pool.size)) for (to in pool.indices) pool[to] = joined(pool[to], mixed(word))
    hash = 0x8b51f9dd.toInt()
    val words = IntArray(8) {
        var value = pool[it % 4] xor hash
        hash *= 0x58f38ded
        value *= hash
        value xor (value ushr 16)
    }
    return LongArray(4) { (words[2 * it].toLong() and 0xffffffffL) or (words[2 * it + 1].toLong() shl 32) }
}
