package org.fedgate.core

private const val FORMAT = "fedgate-bundle"
private const val VERSION = 2L
private const val LARGEST = 1L shl 40
private val RUNTIMES = listOf("executorch", "litert", "onnx")
private val ROLES = listOf("dense", "masked", "skip", "static", "trunk", "tail", "train", "train-module")
private val PRECISIONS = listOf("fp32", "int8")
private val REQUIRED_FILES = listOf("reference.safetensors", "salience.safetensors")
private val FITS = listOf("crop") // the rules by which pictures become pixels: Pictures.kt
private val WHITE = listOf(255L, 255L, 255L)
const val TAIL_FILE = "tail.safetensors"

/**
 * One program file. level is set for role "static" alone: the one density it was made for. tolerance: how far its
 * outputs may be from the references, over the largest of them.
 */
class Program(
    val file: String,
    val runtime: String,
    val role: String,
    val precision: String,
    val tolerance: Double,
    val level: Int?,
    val inputs: List<Port>,
    val outputs: List<Port>,
    val needsKernel: Boolean,
    val kernelLayers: List<String>,
    val sha256: String,
    val bytes: Long,
) {
    val takesLevel: Boolean get() = inputs.any { it.name == "level" }

    /** Whether ratios are to this program of a runtime. */
    val isBaseline: Boolean get() = role == "dense" && precision == "fp32"

    /** The name of the file that holds a train-module's parameters; null for other roles. */
    val weights: String? get() = if (role == "train-module") "${file.substringBeforeLast('.', "")}.ptd" else null
}

/** A file that a manifest lists. */
class Listed(val sha256: String, val bytes: Long)

/**
 * A checked manifest, version 2; the schema stands in device_runtime/formats/manifest.py. shape is (1, C, H, W);
 * background RGB, where pictures are transparent.
 */
class Manifest(
    val model: String,
    val gate: String,
    val width: Double,
    val dataset: String,
    val labels: List<String>,
    val shape: List<Int>,
    val mean: List<Double>,
    val std: List<Double>,
    val background: List<Int>,
    val densities: List<Double>,
    val defaultLevel: Int,
    val layers: List<Layer>,
    val training: Map<String, Any?>,
    val masks: String,
    val tail: TailInfo?,
    val programs: List<Program>,
    val files: Map<String, Listed>,
    val digest: String,
)

/** Checks the bytes of a manifest.json. Throws [FedgateException] for anything that is not exactly as written. */
fun parseManifest(data: ByteArray): Manifest {
    val value = parseJson(data, "manifest.json")
    val fields = Fields(value, "manifest.json")
    if (fields.get("format") != FORMAT) fields.refuse("format", "'$FORMAT'")
    if (fields.get("version") != VERSION) {
        val found = printable(canonicalJson(fields.get("version")), 40)
        throw FedgateException("manifest.json has format version $found; this fedgate reads $VERSION")
    }
    // The spelling is compared too: the digest alone would not see a changed space or the case of an escape.
    val digest = sha256(canonicalJson(fields.all - "digest").toByteArray())
    if (fields.sha256("digest") != digest || !data.contentEquals((indentedJson(value) + "\n").toByteArray())) {
        throw FedgateException("manifest.json was changed after it was written: its digest does not match")
    }
    return manifest(Fields(mapOf("masks" to "global", "tail" to null) + fields.all, "manifest.json"))
}

private fun manifest(fields: Fields): Manifest {
    val given = Fields(fields.get("input"), "manifest.json: 'input'")
    val input = Fields(mapOf("fit" to FITS.first(), "background" to WHITE) + given.all, "manifest.json: 'input'")
    val shape = input.ints("shape", 4, 4, 1, 1 shl 14)
    if (shape[0] != 1 || shape[1] > 1024) input.refuse("shape", "[1, channels, height, width]")
    input.choice("layout", listOf("NCHW"))
    input.choice("fit", FITS)
    val labels = fields.items("labels", 1, 100_000)
    if (!labels.all { isText(it) }) fields.refuse("labels", "printable texts")
    val densities = fields.numbers("densities", 1, 64, 1e-6, 1.0)
    if (densities.toSet().size != densities.size) fields.refuse("densities", "distinct")
    val layers = parseLayers(fields.get("layers"), "manifest.json: 'layers'")
    val gate = fields.text("gate")
    if ((gate == "none") != gated(layers).isEmpty()) {
        throw FedgateException("manifest.json: gate 'none' goes with no gated layer, any other with some")
    }
    if (gate == "none" && densities != listOf(1.0)) fields.refuse("densities", "[1.0] for gate 'none'")
    val programs = fields.items("programs", 0, 1000).mapIndexed { index, item ->
        parseProgram(Fields(item, "manifest.json: program $index"), densities.size)
    }
    val manifest = Manifest(
        model = fields.text("model"),
        gate = gate,
        width = fields.number("width", 1e-6, 1e6),
        dataset = fields.text("dataset"),
        labels = labels.map { it as String },
        shape = shape,
        mean = input.numbers("mean", shape[1], shape[1], -1e6, 1e6),
        std = input.numbers("std", shape[1], shape[1], 1e-6, 1e6),
        background = input.ints("background", 3, 3, 0, 255),
        densities = densities,
        defaultLevel = fields.int("default_level", 0, densities.size - 1),
        layers = layers,
        training = parseTraining(fields.get("training")),
        masks = fields.text("masks"),
        tail = parseTailInfo(fields.get("tail"), layers),
        programs = programs,
        files = parseFiles(fields.get("files")),
        digest = fields.sha256("digest"),
    )
    check(manifest)
    return manifest
}

private fun check(manifest: Manifest) {
    for (program in manifest.programs) {
        if (manifest.gate == "none" && program.role in listOf("masked", "skip", "static")) {
            throw FedgateException("manifest.json: gate 'none' has no ${program.role} program (${program.file})")
        }
        checkPorts(program, manifest)
        checkKernel(program, manifest)
        val weights = program.weights
        if (weights != null && (program.runtime != "executorch" || weights !in manifest.files)) {
            throw FedgateException("manifest.json: ${program.file} is for executorch and needs the file $weights")
        }
    }
    val names = manifest.programs.map { it.file } + manifest.files.keys
    val kinds = manifest.programs.map { listOf(it.runtime, it.role, it.precision, it.level, it.needsKernel) }
    if (names.toSet().size != names.size || kinds.toSet().size != kinds.size) {
        val twice = "a file, or a runtime's program of one role, precision and level, twice"
        throw FedgateException("manifest.json lists $twice")
    }
    if ((manifest.tail == null) != (TAIL_FILE !in manifest.files)) {
        throw FedgateException("manifest.json: 'tail' goes with a file $TAIL_FILE")
    }
}

private fun parseTraining(value: Any?): Map<String, Any?> {
    val fields = Fields(value, "manifest.json: 'training'")
    for ((key, item) in fields.all) {
        val scalar = item == null || item is Boolean || isText(item, 2000) || isNumber(item, -1e300, 1e300)
        if (!isText(key) || !scalar) {
            throw FedgateException("manifest.json: 'training' has '${printable(key)}', which is not a plain scalar")
        }
    }
    return fields.all
}

private fun parseProgram(fields: Fields, levels: Int): Program {
    val role = fields.choice("role", ROLES)
    val level = if (role == "static") fields.int("level", 0, levels - 1) else null
    if (role != "static" && fields.get("level") != null) fields.refuse("level", "null for role '$role'")
    val layers = fields.items("kernel_layers", 0, 10_000)
    if (!layers.all { it is String }) fields.refuse("kernel_layers", "names of layers")
    return Program(
        file = plainName(fields.get("file")),
        runtime = fields.choice("runtime", RUNTIMES),
        role = role,
        precision = fields.choice("precision", PRECISIONS),
        tolerance = fields.number("tolerance", 0.0, 1.0),
        level = level,
        inputs = parsePorts(fields, "inputs"),
        outputs = parsePorts(fields, "outputs"),
        needsKernel = fields.flag("needs_kernel"),
        kernelLayers = layers.map { it as String },
        sha256 = fields.sha256("sha256"),
        bytes = fields.whole("bytes", 0, LARGEST),
    )
}

private fun checkKernel(program: Program, manifest: Manifest) {
    val known = manifest.layers.filter { it.kind == "conv" }.map { it.name }.toSet()
    val listed = program.kernelLayers
    if (!known.containsAll(listed) || listed.toSet().size != listed.size) {
        throw FedgateException("manifest.json: 'kernel_layers' of ${program.file} must name convolutions, each once")
    }
    val needed = when (program.role) {
        "skip" -> true
        "trunk" -> program.needsKernel
        else -> false
    }
    if (listed.isNotEmpty() != program.needsKernel || needed != program.needsKernel) {
        val what = "${program.file} is a ${program.role} program"
        throw FedgateException("manifest.json: $what: only 'skip' needs the kernel")
    }
}

private fun parseFiles(value: Any?): Map<String, Listed> {
    val all = (value as? Map<*, *>)?.mapKeys { it.key as String }
    if (all == null || !all.keys.containsAll(REQUIRED_FILES)) {
        throw FedgateException("manifest.json: 'files' must list ${REQUIRED_FILES.joinToString(" and ")}")
    }
    return all.entries.associate { (name, item) ->
        val entry = Fields(item, "manifest.json: file '${printable(name)}'")
        plainName(name) to Listed(entry.sha256("sha256"), entry.whole("bytes", 0, LARGEST))
    }
}

/** The name of a file inside a bundle: letters, digits, '.', '_' and '-', not starting with a dot or a dash. */
fun plainName(name: Any?): String {
    if (name is String && name != "manifest.json") {
        val drive = name.length > 1 && name[1] == ':' && name[0].lowercaseChar() in 'a'..'z'
        if ('/' in name || '\\' in name || name == ".." || drive) {
            throw FedgateException("manifest names '${printable(name)}', which is outside the bundle")
        }
        if (isPlainName(name)) return name
    }
    throw FedgateException("manifest names the file '${printable(name.toString())}'; a plain file name is needed")
}

/** Whether a name is 1 to 100 ASCII letters, digits, '_', '.' and '-', of which the last two do not come first. */
internal fun isPlainName(name: String): Boolean {
    fun letter(c: Char) = c in 'a'..'z' || c in 'A'..'Z' || c in '0'..'9' || c == '_'
    return name.length in 1..100 && letter(name[0]) && name.all { letter(it) || it == '.' || it == '-' }
}
