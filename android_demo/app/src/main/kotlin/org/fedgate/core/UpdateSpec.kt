package org.fedgate.core

/**
 * What the receiver of an update expects, by name (device_runtime/formats/update_spec.py): shapes and axes of parameters, C of
 * gated layers, and the base. An axis is the gated layer whose channels index a dimension, or null; a dimension of d
 * entries behind C channels holds d / C entries a channel.
 */
class UpdateSpec(
    val parameters: Map<String, List<Int>>,
    val axes: Map<String, List<String?>>,
    val channels: Map<String, Int>,
    val levels: Int,
    val run: String,
    val baseRound: Long,
    val baseHash: String,
    val levelOf: Map<String, Int>,
    val control: List<String>,
) {
    /** The parameters that a client sends which trained these levels, in the order in which they are sent. */
    fun sent(trained: List<Int>): List<String> =
        parameters.keys.sortedWith(BY_CODE_POINT).filter { levelOf[it] == null || levelOf[it] in trained }

    /** The part of a parameter between kept channels, row-major. kept: channels by gated layer, increasing. */
    fun slice(name: String, values: FloatArray, kept: Map<String, List<Int>>): FloatArray {
        val shape = parameters.getValue(name)
        val rows = shape.indices.map { side -> entries(shape[side], axes.getValue(name)[side], kept) }
        val out = FloatArray(rows.fold(1) { n, row -> n * row.size })
        var at = 0
        fun walk(side: Int, offset: Int) {
            if (side == rows.size) {
                out[at++] = values[offset]
            } else {
                for (index in rows[side]) walk(side + 1, offset * shape[side] + index)
            }
        }
        walk(0, 0)
        return out
    }

    private fun entries(size: Int, axis: String?, kept: Map<String, List<Int>>): IntArray {
        if (axis == null) return IntArray(size) { it }
        val each = size / channels.getValue(axis)
        return kept.getValue(axis).flatMap { channel -> List(each) { channel * each + it } }.toIntArray()
    }
}
