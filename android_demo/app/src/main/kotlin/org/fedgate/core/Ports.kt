package org.fedgate.core

const val MOMENTUM = "momentum/"
const val TRUNK_OPEN = "trunk/open"
val HYPERPARAMETERS = listOf("lr", "momentum", "weight_decay", "clip_norm")
private val PORT_TYPES = mapOf("float32" to DType.F32, "int32" to DType.I32, "int64" to DType.I64, "uint8" to DType.U8)

/** One input or output of a program; layout is "NCHW" or "NHWC" for images and null otherwise. */
data class Port(val name: String, val shape: List<Int>, val type: DType = DType.F32, val layout: String? = null)

/** What a bundle's programs train. layers: names, the last of the network's; features: shape of one example's. */
class TailInfo(val trainable: String, val layers: List<String>, val features: List<Int>, val batchSize: Int) {
    fun trunk(all: List<Layer>): List<Layer> = all.dropLast(layers.size)

    fun tail(all: List<Layer>): List<Layer> = all.takeLast(layers.size)
}

/** The checked ports of a program's manifest entry. */
fun parsePorts(fields: Fields, key: String): List<Port> {
    val ports = fields.items(key, 1, 10_000).map { item ->
        val port = Fields(item, "manifest.json: an item of '$key'")
        val layout = port.get("layout")
        Port(
            name = port.text("name"),
            shape = port.ints("shape", 0, 8, 1, Int.MAX_VALUE),
            type = PORT_TYPES.getValue(port.choice("dtype", PORT_TYPES.keys)),
            layout = if (layout == null) null else port.choice("layout", listOf("NCHW", "NHWC")),
        )
    }
    if (ports.map { it.name }.toSet().size != ports.size) fields.refuse(key, "a list of different names")
    return ports
}

/** The checked "tail" of a manifest; null where a bundle trains nothing. */
fun parseTailInfo(value: Any?, layers: List<Layer>): TailInfo? {
    if (value == null) return null
    val fields = Fields(value, "manifest.json: 'tail'")
    val names = fields.items("layers", 1, maxOf(1, layers.size))
    val last = layers.takeLast(names.size).map { it.name }
    if (names != last) fields.refuse("layers", "the last of the network's layers")
    return TailInfo(
        trainable = fields.choice("trainable", listOf("head", "last-stage")),
        layers = names.map { it as String },
        features = fields.ints("features", 1, 3, 1, 1 shl 24),
        batchSize = fields.int("batch_size", 1, 1 shl 16),
    )
}

/** Throws [FedgateException] unless a program has the ports of its role (device_runtime/formats/ports.py has the table). */
fun checkPorts(program: Program, manifest: Manifest) {
    val (inputs, outputs) = signature(program, manifest)
    if (program.inputs != inputs || program.outputs != outputs) {
        throw FedgateException("manifest.json: the inputs or outputs of ${program.file} do not fit its role")
    }
}

private fun signature(program: Program, manifest: Manifest): Pair<List<Port>, List<Port>> {
    val tail = manifest.tail
    val level = if (manifest.gate != "none") listOf(Port("level", listOf(1), DType.I32)) else emptyList()
    val logits = listOf(Port("logits", listOf(1, manifest.labels.size)))
    val image = listOf(imagePort(program.inputs[0], manifest.shape))
    when (program.role) {
        "dense", "static" -> return image to logits
        "masked", "skip" -> return image + level to logits + masks("open", manifest.layers, 1)
    }
    if (tail == null) throw FedgateException("manifest.json has no 'tail', which ${program.file} needs")
    val trunkLayers = tail.trunk(manifest.layers)
    val tailLayers = tail.tail(manifest.layers)
    val features = listOf(Port("features", listOf(1) + tail.features))
    if (program.role == "trunk") return image + level to features + masks("open", trunkLayers, 1)
    val own = parameters(program)
    if (program.role == "tail") return own + features + level to logits + masks("open", tailLayers, 1)
    val size = tail.batchSize
    val momenta = own.map { Port(MOMENTUM + it.name, it.shape) }
    val readsMasks = program.inputs.any { it.name == TRUNK_OPEN }
    val trunkOpen = if (readsMasks) masks(TRUNK_OPEN, trunkLayers, size) else emptyList()
    val images = listOf(Port("features", listOf(size) + tail.features)) + trunkOpen
    val batch = images + Port("labels", listOf(size), DType.I32)
    val width = maskWidth(tailLayers)
    val counts = if (width > 0) listOf("opened", "strength").map { Port(it, listOf(width)) } else emptyList()
    val inputs = momenta + batch + Port("weights", listOf(size)) + level + HYPERPARAMETERS.map { Port(it, listOf(1)) }
    val results = listOf(Port("loss", listOf(1)), Port("correct", listOf(1))) + counts
    if (program.role == "train-module") return inputs to results + momenta
    return own + inputs to own + momenta + results
}

private fun imagePort(port: Port, shape: List<Int>): Port {
    val (_, channels, height, width) = shape
    if (port.layout == "NHWC") return Port("image", listOf(1, height, width, channels), DType.F32, "NHWC")
    return Port("image", shape, DType.F32, "NCHW")
}

private fun masks(name: String, layers: List<Layer>, count: Int): List<Port> {
    val width = maskWidth(layers)
    return if (width > 0) listOf(Port(name, listOf(count, width), DType.U8)) else emptyList()
}

/**
 * The parameters of a program of the tail: its inputs in front of the momenta, or of the features. A train-module takes
 * momenta alone, and has the parameters that these are of.
 */
fun parameters(program: Program): List<Port> {
    val module = program.role == "train-module"
    val end = program.inputs.indexOfFirst {
        if (module) !it.name.startsWith(MOMENTUM) else it.name == "features" || it.name.startsWith(MOMENTUM)
    }
    val own = program.inputs.take(maxOf(0, end)).map { Port(it.name.removePrefix(MOMENTUM), it.shape) }
    if (own.isEmpty() || own.any { '.' !in it.name }) {
        throw FedgateException("manifest.json: the inputs of ${program.file} do not begin with a tail's parameters")
    }
    return own
}
