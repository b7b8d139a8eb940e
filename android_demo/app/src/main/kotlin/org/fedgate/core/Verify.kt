package org.fedgate.core

private const val TOLERANCE = 1e-4 // of gates that are as good as equal
private const val MOST_CLOSE_CALLS = 0.001

/**
 * Runs the programs for inference on the bundle's reference inputs and compares logits and masks, as
 * device_runtime/verify.py does; one row a program, with its fields.
 *
 * Throws [FedgateException] when no program can run here, [UsageException] for an unknown runtime.
 */
fun verify(bundle: Bundle, runtime: String? = null): List<Map<String, Any?>> {
    val programs = matching(bundle, runtime, null, null)
    val reasons = programs.mapNotNull { Runtimes.whyNot(it) }
    if (reasons.size == programs.size) {
        throw FedgateException("nothing to verify: no program can run here: ${reasons.distinct().joinToString("; ")}")
    }
    val reference = bundle.reference()
    val rows = programs.map { program ->
        val reason = Runtimes.whyNot(program)
        if (reason != null) row(program, "skipped", Comparison(), reason) else verifyProgram(bundle, program, reference)
    }
    val others = if (runtime == null) bundle.manifest.programs.filter { it.role !in INFERENCE_ROLES } else emptyList()
    return rows + others.map { row(it, "skipped", Comparison(), "trains, and has no reference outputs") }
}

/** The programs for inference of this runtime and role (null: all); static ones of one level if it is given. */
fun matching(bundle: Bundle, runtime: String?, role: String?, level: Int?): List<Program> {
    if (runtime != null) choose("runtime", runtime, listOf("executorch", "litert", "onnx"))
    if (role != null) choose("role", role, INFERENCE_ROLES)
    val found = bundle.manifest.programs.filter { program ->
        program.role in INFERENCE_ROLES && (runtime == null || runtime == program.runtime) &&
            (role == null || role == program.role) && (level == null || program.level == null || program.level == level)
    }
    if (found.isEmpty()) {
        val has = bundle.manifest.programs.map { "${it.runtime} ${it.role}" }.toSortedSet().joinToString(", ")
        val wanted = listOfNotNull(runtime, role).joinToString(" ").ifEmpty { "inference" }
        throw UsageException("${bundle.path} has no $wanted program; it has: ${has.ifEmpty { "none" }}")
    }
    return found
}

private class Comparison {
    var runs = 0
    var compared = 0
    var largest = 0.0
    var closeCalls = 0
    var decisions = 0
}

private fun row(program: Program, status: String, seen: Comparison, reason: String?): Map<String, Any?> = mapOf(
    "file" to program.file,
    "runtime" to program.runtime,
    "role" to program.role,
    "level" to program.level,
    "status" to status,
    "runs" to seen.runs,
    "compared" to seen.compared,
    "max_error" to if (seen.runs == 0) null else seen.largest,
    "close_calls" to seen.closeCalls,
    "decisions" to seen.decisions,
    "reason" to reason,
)

private fun verifyProgram(bundle: Bundle, program: Program, reference: Reference): Map<String, Any?> {
    val seen = Comparison()
    val faults = ArrayList<String>()
    try {
        Classifier(bundle, program).use { loaded ->
            val only = program.level ?: 0
            for (level in if (program.takesLevel) bundle.manifest.densities.indices else only..only) {
                for (index in 0 until reference.count) {
                    val fault = compare(bundle, loaded, reference, level, index, seen) ?: continue
                    faults.add("input $index at level $level: $fault")
                }
            }
        }
    } catch (error: FedgateException) {
        faults.add(error.message!!)
    }
    if (faults.isEmpty() && seen.closeCalls > MOST_CLOSE_CALLS * seen.decisions) {
        faults.add("${seen.closeCalls} close calls in ${seen.decisions} mask decisions are too many")
    }
    if (faults.isEmpty() && seen.compared == 0) faults.add("no input could be compared to the end")
    return row(program, if (faults.isEmpty()) "ok" else "mismatch", seen, faults.firstOrNull())
}

/** Runs one input; what is wrong, or null. */
private fun compare(
    bundle: Bundle, loaded: Classifier, reference: Reference, level: Int, index: Int, seen: Comparison,
): String? {
    val manifest = bundle.manifest
    val (logits, open) = loaded.run(reference.input(index), level)
    seen.runs++
    if (open != null) {
        seen.decisions += open.size
        val found = compareMasks(
            open,
            reference.open(level, index),
            reference.gate(level, index),
            manifest.layers,
            manifest.densities[level],
        )
        seen.closeCalls += found.closeCalls
        if (found.fault != null || found.closeCalls > 0) return found.fault
    }
    val role = if (manifest.gate == "none") "dense" else loaded.program.role
    val error = relativeError(logits, reference.logits(role, level, index))
    seen.compared++
    seen.largest = maxOf(seen.largest, error)
    return if (error <= loaded.program.tolerance) null else "logits differ by $error of the largest"
}

/** The largest difference over the largest expected logit; infinite where a value is not finite. */
fun relativeError(logits: FloatArray, expected: FloatArray): Double {
    val difference = logits.indices.map { Math.abs(logits[it].toDouble() - expected[it]) }
    if (!difference.all { it.isFinite() }) return Double.MAX_VALUE
    val scale = expected.maxOf { Math.abs(it.toDouble()) }
    return difference.maxOrNull()!! / if (scale == 0.0) 1.0 else scale
}

class MaskDifference(val closeCalls: Int, val fault: String?)

/**
 * Compares one input's masks with the expected ones, whose gate values are [gate]. Only the first layer that differs is
 * judged: what follows it in the network is downstream of another choice. A channel is a close call if its gate lies
 * within 1e-4 of the layer's largest from the value that decided, or from 0.
 */
fun compareMasks(
    open: ByteArray, expected: ByteArray, gate: FloatArray, layers: List<Layer>, density: Double,
): MaskDifference {
    val columns = maskColumns(layers)
    for (layer in gated(layers)) {
        val own = columns.getValue(layer.name)
        if (own.any { open[it].toInt() !in 0..1 }) {
            return MaskDifference(0, "masks of '${layer.name}' hold values other than 0 and 1")
        }
        val wrong = own.filter { open[it] != expected[it] }
        if (wrong.isEmpty()) continue
        val k = if (layer.masked) kept(density, layer.outChannels) else layer.outChannels
        val opened = own.count { open[it].toInt() == 1 }
        if (opened > k) return MaskDifference(0, "'${layer.name}' has $opened channels open, and may have $k")
        val ranked = own.map { gate[it].toDouble() }.sortedDescending()
        val close = TOLERANCE * ranked[0]
        for (channel in wrong) {
            val should = expected[channel].toInt() == 1
            val boundary = ranked.getOrElse(if (should) k else k - 1) { Double.POSITIVE_INFINITY }
            if (Math.abs(gate[channel] - boundary) > close && gate[channel] > close) {
                val name = "channel ${channel - own.first} of '${layer.name}'"
                return MaskDifference(0, "$name should be ${if (should) "open" else "closed"}")
            }
        }
        return MaskDifference(wrong.size, null)
    }
    return MaskDifference(0, null)
}
