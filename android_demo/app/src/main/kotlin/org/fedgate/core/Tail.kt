package org.fedgate.core

import java.io.File

private const val FORMAT = "fedgate-tail"
private const val MOST = 2147483647L

/** The tail's tensors by name, float32, read-only; and what the receiver of an update to it expects. */
class Tail(val tensors: Map<String, Tensor>, val spec: UpdateSpec)

/** Reads and checks a tail file (device_runtime/formats/tail.py). Throws [FedgateException] for what does not fit. */
fun loadTail(file: File, manifest: Manifest): Tail {
    val read = readTensors(file)
    val fields = Fields(read.meta, "$file: the metadata")
    if (fields.get("format") != FORMAT || fields.get("version") != 1L) {
        throw FedgateException("$file is not a $FORMAT of version 1")
    }
    for ((name, tensor) in read.tensors) {
        if (tensor.type != DType.F32 || !tensor.isFinite()) {
            throw FedgateException("$file: '${printable(name, 100)}' is not finite float32")
        }
    }
    val spec = parseSpec(fields, read.tensors, manifest)
    for (program in manifest.programs.filter { it.role in listOf("tail", "train", "train-module") }) {
        for (port in parameters(program)) {
            if (spec.parameters[port.name] != port.shape) {
                throw FedgateException("$file has no parameter '${port.name}' of ${port.shape} (${program.file})")
            }
        }
    }
    return Tail(read.tensors, spec)
}

private fun parseSpec(fields: Fields, tensors: Map<String, Tensor>, manifest: Manifest): UpdateSpec {
    val channels = gated(manifest.layers).associate { it.name to it.outChannels }
    if (fields.get("channels") != channels.mapValues { it.value.toLong() }) {
        fields.refuse("channels", "those of the manifest's gated layers")
    }
    val levels = manifest.densities.size
    val shapes = named(fields, "parameters")
    for ((name, shape) in shapes) {
        if (name !in tensors || shape != tensors.getValue(name).shape.map { it.toLong() }) {
            fields.refuse("parameters", "tensors of the file, with their shapes")
        }
    }
    val parameters = shapes.mapValues { tensors.getValue(it.key).shape }
    val axes = named(fields, "axes")
    if (axes.keys != shapes.keys || !parameters.all { (name, shape) -> axesFit(axes[name], shape, channels) }) {
        fields.refuse("axes", "gated layers or null, one for each dimension of each parameter")
    }
    val levelOf = named(fields, "level_of")
    if (!shapes.keys.containsAll(levelOf.keys) || !levelOf.values.all { isWhole(it, 0, levels - 1L) }) {
        fields.refuse("level_of", "levels of parameters")
    }
    val control = fields.items("control", 0, shapes.size)
    if (!control.all { it in shapes } || control.toSet().size != control.size) {
        fields.refuse("control", "parameters, each once")
    }
    fields.int("levels", levels, levels)
    return UpdateSpec(
        parameters = parameters,
        axes = axes.mapValues { (_, value) -> (value as List<*>).map { it as String? } },
        channels = channels,
        levels = levels,
        run = fields.text("run"),
        baseRound = fields.whole("base_round", 0, MOST),
        baseHash = fields.sha256("base_hash"),
        levelOf = levelOf.mapValues { (it.value as Long).toInt() },
        control = control.map { it as String },
    )
}

private fun named(fields: Fields, key: String): Map<String, Any?> {
    val value = fields.get(key)
    if (value !is Map<*, *> || !value.keys.all { isText(it, 1000) }) fields.refuse(key, "an object with names")
    return value.mapKeys { it.key as String }
}

private fun axesFit(axes: Any?, shape: List<Int>, channels: Map<String, Int>): Boolean =
    axes is List<*> && axes.size == shape.size && axes.withIndex().all { (i, axis) ->
        axis == null || (axis is String && axis in channels && shape[i] % channels.getValue(axis) == 0)
    }
