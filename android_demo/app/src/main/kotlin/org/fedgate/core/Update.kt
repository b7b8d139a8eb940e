package org.fedgate.core

/**
 * A client's result of one round. channels: by gated layer those between which values are sent, increasing. values:
 * whole parameters by name. opened, strength: by gated layer one number a channel, of the one level that was trained.
 */
class Update(
    val client: Int,
    val examples: Int,
    val localSteps: Int,
    val level: Int,
    val samples: Long,
    val channels: Map<String, List<Int>>,
    val values: Map<String, FloatArray>,
    val opened: Map<String, LongArray>,
    val strength: Map<String, DoubleArray>,
)

/** The blob that fedgate's server takes (device_runtime/formats/update.py, version 2, codec fp32). */
fun encodeUpdate(update: Update, spec: UpdateSpec): ByteArray {
    val layers = spec.channels.keys.sortedWith(BY_CODE_POINT)
    val samples = List(spec.levels) { if (it == update.level) update.samples else 0L }
    // a level without samples has no row in the record
    val recorded = if (update.samples > 0) layers else emptyList()
    val kept = layers.flatMap { update.channels.getValue(it) }
    val sizes = layers.map { update.channels.getValue(it).size }.toIntArray()
    val opened = recorded.flatMap { update.opened.getValue(it).asList() }
    val strength = recorded.flatMap { update.strength.getValue(it).asList() }
    val slices = spec.sent(listOf(update.level)).map { spec.slice(it, update.values.getValue(it), update.channels) }
    val values = FloatArray(slices.sumOf { it.size })
    var at = 0
    for (slice in slices) {
        slice.copyInto(values, at)
        at += slice.size
    }
    val tensors = mapOf(
        "counts" to Tensor(DType.U32, listOf(layers.size), sizes),
        "channels" to Tensor(DType.U16, listOf(kept.size), ShortArray(kept.size) { kept[it].toShort() }),
        "values" to Tensor.of(listOf(values.size), values),
        "opened" to counts(opened, update.samples),
        "strength" to Tensor.of(listOf(strength.size), FloatArray(strength.size) { strength[it].toFloat() }),
    )
    val meta = mapOf(
        "format" to "fedgate-update",
        "version" to 2,
        "run" to spec.run,
        "base_round" to spec.baseRound,
        "base_hash" to spec.baseHash,
        "client" to update.client,
        "examples" to update.examples,
        "local_steps" to update.localSteps,
        "codec" to "fp32",
        "samples" to samples,
        "levels" to listOf(update.level),
    )
    return pack(tensors, meta)
}

/** Counts in the smallest type that holds [most]. */
private fun counts(values: List<Long>, most: Long): Tensor = when {
    most <= 0xff -> Tensor(DType.U8, listOf(values.size), ByteArray(values.size) { values[it].toByte() })
    most <= 0xffff -> Tensor(DType.U16, listOf(values.size), ShortArray(values.size) { values[it].toShort() })
    else -> Tensor(DType.U32, listOf(values.size), IntArray(values.size) { values[it].toInt() })
}

/**
 * By layer the channels that a client sends: those that its training opened.
 *
 * share: below 1 only the strongest of them, the fewest whose share of the layer's strength reaches it; among equals
 * the lower index.
 */
fun sentChannels(
    touched: Map<String, BooleanArray>, strength: Map<String, DoubleArray>, share: Double,
): Map<String, List<Int>> = touched.mapValues { (layer, mask) ->
    if (share >= 1) mask.indices.filter { mask[it] } else strongest(strength.getValue(layer), share)
}

private fun strongest(strength: DoubleArray, share: Double): List<Int> {
    val order = strength.indices.sortedByDescending { strength[it] }
    val sums = DoubleArray(order.size)
    order.forEachIndexed { i, channel -> sums[i] = strength[channel] + if (i > 0) sums[i - 1] else 0.0 }
    if (sums.isEmpty() || sums.last() <= 0) return emptyList()
    val enough = sums.indexOfFirst { it >= share * sums.last() }
    return order.take(enough + 1).sorted()
}
