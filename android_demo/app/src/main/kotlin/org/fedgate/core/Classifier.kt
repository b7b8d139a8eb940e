package org.fedgate.core

import java.io.Closeable

val INFERENCE_ROLES = listOf("dense", "masked", "skip", "static")

/** What one layer did for an input: which of its channels were open. */
class LayerMask(val name: String, val channels: Int, val open: BooleanArray)

/** A network's answer. probabilities: in the order of the labels. layers: empty for a program without masks. */
class Prediction(
    val label: String,
    val probability: Double,
    val probabilities: DoubleArray,
    val logits: FloatArray,
    val open: ByteArray?,
    val askedMacs: Long,
    val executedMacs: Long,
    val denseMacs: Long,
    val layers: List<LayerMask>,
    val milliseconds: Double,
)

/** A program for inference, ready to run one image at a time. Close it. Throws [FedgateException] if it cannot load. */
class Classifier(private val bundle: Bundle, val program: Program, threads: Int = 1) : Closeable {
    private val loaded = LoadedProgram(bundle, program, threads)

    /** Sets the input of the next [invoke]: a normalised image float32 (1, C, H, W), at a level of the bundle. */
    fun prepare(image: Tensor, level: Int) {
        if (level !in bundle.manifest.densities.indices) throw UsageException("the bundle has no level $level")
        val fixed = program.level
        if (fixed != null && fixed != level) {
            throw UsageException("${program.file} is a static program and cannot run level $level")
        }
        val port = program.inputs[0]
        val values = mapOf("image" to if (port.layout == "NHWC") channelsLast(image, port.shape) else image)
        val levels = if (program.takesLevel) mapOf("level" to Tensor.of(listOf(1), intArrayOf(level))) else emptyMap()
        loaded.prepare(values + levels)
    }

    fun invoke() = loaded.invoke()

    /** Logits, and masks, one byte for each gated channel, or null, of the last [invoke]. */
    fun outputs(): Pair<FloatArray, ByteArray?> {
        val found = loaded.outputs()
        return Pair(found.getValue("logits").floats, found["open"]?.bytes)
    }

    fun run(image: Tensor, level: Int): Pair<FloatArray, ByteArray?> {
        prepare(image, level)
        invoke()
        return outputs()
    }

    fun classify(image: Tensor, level: Int): Prediction {
        prepare(image, level)
        val start = System.nanoTime()
        invoke()
        val milliseconds = (System.nanoTime() - start) / 1e6
        val (logits, open) = outputs()
        return describe(bundle.manifest, program, level, logits, open, milliseconds)
    }

    override fun close() = loaded.close()
}

/** The [Prediction] that logits and masks are. */
fun describe(
    manifest: Manifest,
    program: Program,
    level: Int,
    logits: FloatArray,
    open: ByteArray?,
    milliseconds: Double,
): Prediction {
    val probabilities = softmax(logits)
    var top = 0
    for (i in probabilities.indices) if (probabilities[i] > probabilities[top]) top = i
    val masks = if (open == null) null else listOf(open)
    val layers = if (open == null) emptyList() else maskColumns(manifest.layers).map { (name, columns) ->
        LayerMask(name, columns.count(), BooleanArray(columns.count()) { open[columns.first + it].toInt() != 0 })
    }
    return Prediction(
        label = manifest.labels[top],
        probability = probabilities[top],
        probabilities = probabilities,
        logits = logits,
        open = open,
        askedMacs = askedMacs(manifest, program, level, masks),
        executedMacs = executedMacs(manifest, program, level, masks),
        denseMacs = manifest.layers.sumOf { it.denseMacs },
        layers = layers,
        milliseconds = milliseconds,
    )
}

fun softmax(logits: FloatArray): DoubleArray {
    val largest = logits.maxOrNull() ?: 0f
    val powers = DoubleArray(logits.size) { Math.exp(logits[it].toDouble() - largest) }
    val sum = powers.sum()
    return DoubleArray(powers.size) { powers[it] / sum }
}

/** MACs that the method asks for: the mean over the masks that occurred, else nominal, else dense. */
fun askedMacs(manifest: Manifest, program: Program, level: Int, masks: List<ByteArray>?): Long = when {
    masks != null -> Math.rint(masks.map { executedMacs(manifest.layers, it).values.sum() }.average()).toLong()
    program.role == "static" -> nominalMacs(manifest.layers, manifest.densities[level]).values.sum()
    else -> manifest.layers.sumOf { it.denseMacs }
}

/** MACs that an inference computes: stock operators compute every channel, whatever the masks say. */
fun executedMacs(manifest: Manifest, program: Program, level: Int, masks: List<ByteArray>?): Long {
    if (!program.takesLevel || masks == null) return askedMacs(manifest, program, level, masks)
    val everything = executedMacs(manifest.layers, ByteArray(maskWidth(manifest.layers)) { 1 })
    val stock = everything.filterKeys { it !in program.kernelLayers }.values.sum()
    val kernel = masks.map { mask ->
        val asked = executedMacs(manifest.layers, mask)
        program.kernelLayers.sumOf { asked.getValue(it) }
    }
    return Math.rint(kernel.average() + stock).toLong()
}

/** A planar image as (1, H, W, C) of this shape. */
private fun channelsLast(image: Tensor, shape: List<Int>): Tensor {
    val (_, height, width, channels) = shape
    val plane = height * width
    return Tensor.of(shape, FloatArray(plane * channels) { image.floats[it % channels * plane + it / channels] })
}
