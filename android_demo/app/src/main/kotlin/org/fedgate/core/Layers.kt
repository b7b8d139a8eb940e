package org.fedgate.core

private const val MOST_CHANNELS = 1 shl 16
private const val MOST_MACS = 1L shl 50

/**
 * One convolution or linear layer, as device_runtime/formats/macs.py has it. kernel and output are (height, width).
 *
 * gate: a mask of its own closes output channels. inputGate: the gated layer whose mask closes input channels; a linear
 * layer after a flatten has C * positions of them. masked: false where the gate only scales and all channels are open.
 */
class Layer(
    val name: String,
    val kind: String,
    val inChannels: Int,
    val outChannels: Int,
    val kernel: List<Int>,
    val output: List<Int>,
    val gate: Boolean,
    val inputGate: String?,
    val masked: Boolean,
) {
    /** Multiply-adds with every channel open and no gate. */
    val denseMacs: Long
        get() = listOf(inChannels, outChannels, kernel[0], kernel[1], output[0], output[1]).fold(1L) { product, size ->
            if (product > MOST_MACS) product else product * size
        }
}

/** The layers of a JSON list, checked. Throws [FedgateException]. */
fun parseLayers(value: Any?, where: String): List<Layer> {
    if (value !is List<*>) throw FedgateException("$where must be a list")
    val seen = LinkedHashMap<String, Layer>()
    value.forEachIndexed { index, item ->
        val layer = parseLayer(Fields(item, "$where, item $index"), "$where, item $index")
        if (layer.name in seen) throw FedgateException("$where names '${layer.name}' twice")
        if (layer.inputGate != null) checkInput(layer, seen[layer.inputGate])
        seen[layer.name] = layer
    }
    return seen.values.toList()
}

private fun checkInput(layer: Layer, source: Layer?) {
    if (source == null || !source.gate) {
        throw FedgateException("layer '${layer.name}': 'input_gate' must name an earlier gated layer")
    }
    val fits = layer.inChannels == source.outChannels ||
        (layer.kind == "linear" && layer.inChannels % source.outChannels == 0)
    if (!fits) {
        val has = "which has ${source.outChannels}"
        throw FedgateException("layer '${layer.name}' reads ${layer.inChannels} channels of '${source.name}', $has")
    }
}

private fun parseLayer(fields: Fields, where: String): Layer {
    val layer = Layer(
        name = fields.text("name"),
        kind = fields.choice("kind", listOf("conv", "linear")),
        inChannels = fields.int("in_channels", 1, 1 shl 24),
        outChannels = fields.int("out_channels", 1, MOST_CHANNELS),
        kernel = fields.ints("kernel", 2, 2, 1, 1 shl 10),
        output = fields.ints("output", 2, 2, 1, 1 shl 14),
        gate = fields.flag("gate"),
        inputGate = if (fields.get("input_gate") == null) null else fields.text("input_gate"),
        masked = fields.flag("masked"),
    )
    val point = listOf(1, 1)
    if (layer.kind == "linear" && (layer.kernel != point || layer.output != point)) {
        throw FedgateException("$where: a linear layer has kernel and output [1, 1]")
    }
    if (layer.denseMacs > MOST_MACS) throw FedgateException("$where: more than 2^50 MACs")
    return layer
}

/** The layers with a mask of their own, in the order of the channels in `open`. */
fun gated(layers: List<Layer>): List<Layer> = layers.filter { it.gate }

/** For each gated layer the columns of `open` that are its own. */
fun maskColumns(layers: List<Layer>): Map<String, IntRange> {
    val columns = LinkedHashMap<String, IntRange>()
    var start = 0
    for (layer in gated(layers)) {
        columns[layer.name] = start until start + layer.outChannels
        start += layer.outChannels
    }
    return columns
}

fun maskWidth(layers: List<Layer>): Int = gated(layers).sumOf { it.outChannels }

/** How many of [channels] a gate keeps: floor(density * channels + 0.5), at least 1 and at most all. */
fun kept(density: Double, channels: Int): Int = minOf(maxOf((density * channels + 0.5).toInt(), 1), channels)

/** MACs by layer of the network without gates. */
fun denseMacs(layers: List<Layer>): Map<String, Long> = layers.associate { it.name to it.denseMacs }

/** MACs by layer, gates included, when every mask keeps `kept(density, C_out)` channels. */
fun nominalMacs(layers: List<Layer>, density: Double): Map<String, Long> {
    fun open(layer: Layer) = if (layer.masked) kept(density, layer.outChannels) else layer.outChannels
    return countMacs(layers, gated(layers).associate { it.name to open(it) })
}

/** MACs by layer, gates included, under one input's masks, 0 or 1 for each gated channel. */
fun executedMacs(layers: List<Layer>, open: ByteArray): Map<String, Long> {
    if (open.size != maskWidth(layers)) {
        throw FedgateException("masks of ${open.size} channels do not fit ${maskWidth(layers)} gated channels")
    }
    return countMacs(layers, openChannels(layers, open).mapValues { it.value.size })
}

/** The open channels of each gated layer, increasing. */
fun openChannels(layers: List<Layer>, open: ByteArray): Map<String, List<Int>> =
    maskColumns(layers).mapValues { (_, own) -> own.filter { open[it].toInt() != 0 }.map { it - own.first } }

private fun countMacs(layers: List<Layer>, openOut: Map<String, Int>): Map<String, Long> {
    val byName = layers.associateBy { it.name }
    return layers.associate { layer ->
        val source = byName[layer.inputGate]
        val openIn = if (source == null) layer.inChannels else
            openOut.getValue(source.name) * (layer.inChannels / source.outChannels)
        val outputs = openOut[layer.name] ?: layer.outChannels
        val each = layer.kernel[0].toLong() * layer.kernel[1] * layer.output[0] * layer.output[1]
        val gate = if (layer.gate) openIn.toLong() * layer.outChannels else 0L
        layer.name to openIn.toLong() * outputs * each + gate
    }
}
