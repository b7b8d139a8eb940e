package org.fedgate.core

import java.io.File

private const val FORMAT = "fedgate-personal"
private const val MOST = Int.MAX_VALUE

/**
 * A bundle's tail after local training, as personal.safetensors holds it (device_runtime/tuning/personal.py). before
 * and after: accuracies of the held-out examples, where there were any.
 */
class Personal(
    val tensors: Map<String, Tensor>,
    val level: Int,
    val epochs: Int,
    val steps: Int,
    val examples: Int,
    val before: Double?,
    val after: Double?,
)

fun writePersonal(file: File, bundle: Bundle, personal: Personal) {
    val meta = mapOf(
        "format" to FORMAT,
        "version" to 1,
        "bundle" to bundle.manifest.digest,
        "run" to bundle.tail().spec.run,
        "trainable" to bundle.manifest.tail!!.trainable,
        "level" to personal.level,
        "epochs" to personal.epochs,
        "steps" to personal.steps,
        "examples" to personal.examples,
        "before" to personal.before,
        "after" to personal.after,
    )
    writeTensors(file, personal.tensors, meta)
}

/** Reads and checks a personal model. Throws [FedgateException] for a file that is damaged or of another bundle. */
fun loadPersonal(file: File, bundle: Bundle): Personal {
    val read = readTensors(file)
    val fields = Fields(read.meta, "the metadata of $file")
    if (fields.get("format") != FORMAT) fields.refuse("format", "'$FORMAT'")
    fields.whole("version", 1, 1)
    if (fields.sha256("bundle") != bundle.manifest.digest) {
        throw FedgateException("$file was made with another bundle than ${bundle.path}")
    }
    val expected = bundle.tail().spec.parameters
    for (name in (expected.keys + read.tensors.keys).sorted()) {
        if (name !in expected) throw FedgateException("$file has an unknown tensor '${printable(name, 100)}'")
        val tensor = read.tensors[name] ?: throw FedgateException("$file lacks tensor '$name'")
        if (tensor.type != DType.F32 || tensor.shape != expected[name] || !tensor.isFinite()) {
            throw FedgateException("$file: '$name' must be finite float32 ${expected[name]}")
        }
    }
    fun accuracy(key: String) = if (fields.get(key) == null) null else fields.number(key, 0.0, 1.0)
    return Personal(
        read.tensors,
        fields.int("level", 0, bundle.manifest.densities.size - 1),
        fields.int("epochs", 0, MOST),
        fields.int("steps", 0, MOST),
        fields.int("examples", 1, MOST),
        accuracy("before"),
        accuracy("after"),
    )
}
