package org.fedgate.core

import java.io.File

private const val LABELLED_IMAGE = "labelled/image"
private const val LABELLED_LABEL = "labelled/label"

/**
 * Inputs float32 (n, C, H, W), normalised, and what programs must return for them; see device_runtime/formats/records.py.
 *
 * labelled: other images, uint8 (m, C, H, W), and labels, the class of each; null in bundles without them.
 */
class Reference(
    val image: Tensor, private val outputs: Map<String, Tensor>, private val labelled: Tensor?, val labels: List<Int>?,
) {
    val count: Int get() = image.shape[0]

    /** One labelled image, uint8 (H, W, C). */
    fun pixels(index: Int): ByteArray {
        val (_, channels, height, width) = labelled!!.shape
        val plane = height * width
        val from = index * channels * plane
        return ByteArray(channels * plane) { labelled.bytes[from + it % channels * plane + it / channels] }
    }

    /** One input, float32 (1, C, H, W). */
    fun input(index: Int): Tensor {
        val size = count(image.shape.drop(1))
        val pixels = image.floats.copyOfRange(index * size, (index + 1) * size)
        return Tensor.of(listOf(1) + image.shape.drop(1), pixels)
    }

    /** The logits that a program of this role must return for an input at this level. */
    fun logits(role: String, level: Int?, index: Int): FloatArray {
        val kind = if (role == "static") "static" else "masked"
        return row(if (role == "dense") "dense/logits" else "$kind/$level/logits", index) as FloatArray
    }

    /** The masks, one byte for each gated channel. */
    fun open(level: Int, index: Int): ByteArray = row("masked/$level/open", index) as ByteArray

    /** The values of the gates. */
    fun gate(level: Int, index: Int): FloatArray = row("masked/$level/gate", index) as FloatArray

    private fun row(name: String, index: Int): Any {
        val tensor = outputs[name] ?: throw FedgateException("reference.safetensors has no '$name'")
        val width = tensor.shape[1]
        val from = index * width
        return if (tensor.type == DType.U8) tensor.bytes.copyOfRange(from, from + width)
        else tensor.floats.copyOfRange(from, from + width)
    }
}

/** One scope's record: by layer opened and strength, row-major (levels, C_out); samples by level. */
class Salience(val opened: Map<String, LongArray>, val strength: Map<String, DoubleArray>, val samples: LongArray)

/** Reads and checks a reference file. Throws [FedgateException] for missing, misshapen or non-finite tensors. */
fun loadReference(file: File, manifest: Manifest): Reference {
    val tensors = readRecord(file, "fedgate-reference")
    val image = tensors["image"]
    if (image == null || image.shape.size != 4 || image.shape[0] == 0) {
        throw FedgateException("$file has no reference images")
    }
    val count = image.shape[0]
    val width = maskWidth(manifest.layers)
    checkTensor(file, "image", image, DType.F32, listOf(count) + manifest.shape.drop(1))
    val kinds = mapOf("logits" to manifest.labels.size, "open" to width, "gate" to width)
    val needed = HashSet<String>()
    for (program in manifest.programs) {
        if (program.role == "dense") needed.add("dense/logits")
        if (program.role == "static") needed.add("static/${program.level}/logits")
    }
    if (width > 0) for (level in manifest.densities.indices) for (kind in kinds.keys) needed.add("masked/$level/$kind")
    val known = tensors.keys.filter { it.substringAfterLast('/') in kinds }
    for (name in (needed + known).sorted()) {
        val tensor = tensors[name] ?: throw FedgateException("$file has no '${printable(name)}'")
        val kind = name.substringAfterLast('/')
        val type = if (kind == "open") DType.U8 else DType.F32
        checkTensor(file, name, tensor, type, listOf(count, kinds.getValue(kind)))
        if (kind == "open" && tensor.bytes.any { it.toInt() !in 0..1 }) {
            throw FedgateException("$file: '${printable(name)}' must hold only 0 and 1")
        }
        if (kind == "gate" && tensor.floats.any { it < 0 }) {
            throw FedgateException("$file: '${printable(name)}' must not be negative")
        }
    }
    val labels = checkLabelled(file, tensors, manifest)
    return Reference(image, tensors - "image", tensors[LABELLED_IMAGE], labels)
}

/** The classes of the labelled images, or null where there are none. */
private fun checkLabelled(file: File, tensors: Map<String, Tensor>, manifest: Manifest): List<Int>? {
    if (LABELLED_IMAGE !in tensors && LABELLED_LABEL !in tensors) return null
    val (images, labels) = listOf(LABELLED_IMAGE, LABELLED_LABEL).map { name ->
        tensors[name]?.takeIf { it.shape.isNotEmpty() } ?: throw FedgateException("$file has no '$name'")
    }
    val count = images.shape[0]
    checkTensor(file, LABELLED_IMAGE, images, DType.U8, listOf(count) + manifest.shape.drop(1))
    checkTensor(file, LABELLED_LABEL, labels, DType.I64, listOf(count))
    val classes = manifest.labels.size
    if (labels.longs.any { it !in 0 until classes }) {
        throw FedgateException("$file: '$LABELLED_LABEL' must be below $classes, the number of classes")
    }
    return labels.longs.map { it.toInt() }
}

/** Reads and checks a salience file: the record of every scope in it. Throws [FedgateException]. */
fun loadSalience(file: File, manifest: Manifest): Map<String, Salience> {
    val tensors = LinkedHashMap(readRecord(file, "fedgate-salience"))
    val levels = manifest.densities.size
    val records = LinkedHashMap<String, Salience>()
    for (scope in tensors.keys.filter { it.endsWith("/samples") }.map { it.removeSuffix("/samples") }.sorted()) {
        val samples = tensors.remove("$scope/samples")!!
        checkTensor(file, "$scope/samples", samples, DType.I64, listOf(levels))
        val opened = LinkedHashMap<String, LongArray>()
        val strength = LinkedHashMap<String, DoubleArray>()
        for (layer in gated(manifest.layers)) {
            val shape = listOf(levels, layer.outChannels)
            val times = take(file, tensors, "$scope/opened/${layer.name}", DType.I64, shape).longs
            val sums = take(file, tensors, "$scope/strength/${layer.name}", DType.F64, shape).doubles
            if (times.any { it < 0 } || sums.any { it < 0 }) {
                throw FedgateException("$file: '$scope' must not be negative for ${layer.name}")
            }
            if (times.indices.any { times[it] > samples.longs[it / layer.outChannels] }) {
                throw FedgateException("$file: '$scope' opened ${layer.name} more often than it had samples")
            }
            opened[layer.name] = times
            strength[layer.name] = sums
        }
        records[scope] = Salience(opened, strength, samples.longs)
    }
    for (program in manifest.programs) {
        val level = program.level ?: continue
        if ((records[manifest.masks]?.samples?.get(level) ?: 0L) == 0L) {
            throw FedgateException("$file has no record of '${manifest.masks}', whose masks ${program.file} has")
        }
    }
    tensors.keys.firstOrNull()?.let {
        throw FedgateException("$file: '${printable(it)}' belongs to no layer or scope")
    }
    return records
}

private fun take(file: File, tensors: MutableMap<String, Tensor>, name: String, type: DType, shape: List<Int>): Tensor {
    val tensor = tensors.remove(name) ?: throw FedgateException("$file has no '${printable(name)}'")
    checkTensor(file, name, tensor, type, shape)
    return tensor
}

private fun readRecord(file: File, format: String): Map<String, Tensor> {
    val read = readTensors(file)
    if (read.meta["format"] != format || read.meta["version"] != 1L) {
        throw FedgateException("$file is not a $format of version 1")
    }
    return read.tensors
}

private fun checkTensor(file: File, name: String, tensor: Tensor, type: DType, shape: List<Int>) {
    val shown = printable(name, 100)
    if (tensor.type != type || tensor.shape != shape) {
        throw FedgateException("$file: '$shown' is $tensor, not ${type.python} $shape")
    }
    if (!tensor.isFinite()) throw FedgateException("$file: '$shown' holds values that are not finite")
}
