package org.fedgate.core

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor as RuntimeTensor

private const val HEAD = 40 // bytes: flatbuffer offset, identifier, extended header

/** The ExecuTorch library of this process, and the kernel's operators in it. */
object Runtimes {
    /** Loads the library that registers the kernel's operators; throws where there is none. Set it before first use. */
    @Volatile
    var kernelLoader: () -> Unit = { System.loadLibrary("fedgate_ops") }

    private val withoutKernel: String? by lazy {
        try {
            Class.forName("org.pytorch.executorch.Module") // its own library has to be there first
            kernelLoader()
            null
        } catch (error: Throwable) {
            "needs the channel-skipping kernel, which this build of ExecuTorch does not load" +
                ": ${printable(error.message ?: error.javaClass.simpleName, 160)}"
        }
    }

    /** Why this program cannot run in this process, or null if it can. */
    fun whyNot(program: Program): String? = when {
        program.runtime != "executorch" -> "needs ${program.runtime}; an Android app runs executorch programs alone"
        program.needsKernel -> withoutKernel
        else -> null
    }
}

/** A program in memory: arrays in and out, by the names of its ports. Images are float32 (1, C, H, W). */
class LoadedProgram(bundle: Bundle, val program: Program, threads: Int = 1) : Closeable {
    private val module: Module
    private var inputs = emptyArray<EValue>()
    private var results = emptyArray<EValue>()

    init {
        Runtimes.whyNot(program)?.let { throw FedgateException("cannot run ${program.file}: it $it") }
        checkProgram(bundle.file(program.file))
        module = runtimeErrors("executorch refuses to load ${program.file}") {
            // read, not mapped: a program that writes where its constants lie would end the app at a read-only page
            Module.load(bundle.file(program.file).path, Module.LOAD_MODE_FILE, threads).also { loaded ->
                try {
                    loaded.loadMethod("forward")
                } catch (error: Throwable) {
                    loaded.destroy()
                    throw error
                }
            }
        }
    }

    /** Runs once. Throws [UsageException] for arrays that do not fit, [FedgateException] when the runtime fails. */
    fun call(values: Map<String, Tensor>): Map<String, Tensor> {
        prepare(values)
        invoke()
        return outputs()
    }

    /** Sets the inputs of the next [invoke], which a benchmark times alone. */
    fun prepare(values: Map<String, Tensor>) {
        inputs = runtimeInputs(program, values)
    }

    fun invoke() {
        results = runtimeErrors("executorch failed to run ${program.file}") { module.forward(*inputs) }
    }

    /** Copies of what the last [invoke] returned. */
    fun outputs(): Map<String, Tensor> = namedOutputs(program, results)

    override fun close() = module.destroy()
}

/**
 * Throws unless a file begins as an ExecuTorch program does and has the length that it says: what is behind a fitting
 * hash may still be no program, and native code is not where to find that out.
 */
internal fun checkProgram(file: File) {
    val head = ByteArray(HEAD)
    val read = try {
        file.inputStream().use { it.read(head) }
    } catch (error: IOException) {
        throw FedgateException("cannot read $file: ${reason(error, file)}", error)
    }
    val whole = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN)
    val text = String(head, 0, 12, Charsets.ISO_8859_1)
    val refuses = "executorch refuses to load ${file.name}"
    if (read < HEAD || !text.startsWith("ET", 4)) throw FedgateException("$refuses: it is no ExecuTorch program")
    // an extended header: its length, then the sizes of the program, and where its segments begin and how long they are
    if (!text.startsWith("eh", 8)) return
    val program = whole.getLong(16)
    val segments = whole.getLong(24)
    val data = if (whole.getInt(12) >= 32) whole.getLong(32) else 0L
    val size = file.length()
    if (program !in 0..size || segments !in 0..size || data !in 0..size - segments) {
        throw FedgateException("$refuses: it is cut off, or damaged")
    }
}

/** The inputs of a program in its order. Throws [UsageException] for arrays that do not fit. */
internal fun runtimeInputs(program: Program, values: Map<String, Tensor>) = Array(program.inputs.size) { index ->
    val port = program.inputs[index]
    val value = values[port.name]
    if (value == null || value.type != port.type || value.shape != port.shape) {
        val takes = "takes ${port.type.python} ${port.shape} for '${port.name}'"
        throw UsageException("${program.file} $takes, and got ${value ?: "nothing"}")
    }
    EValue.from(toRuntime(value))
}

/** Copies of a program's results by the names of its ports. Throws [FedgateException] for others. */
internal fun namedOutputs(program: Program, results: Array<EValue>): Map<String, Tensor> {
    if (results.size != program.outputs.size) {
        throw FedgateException("${program.file} returned ${results.size} results, not ${program.outputs.size}")
    }
    val found = LinkedHashMap<String, Tensor>()
    program.outputs.forEachIndexed { index, port ->
        val tensor = runtimeErrors("${program.file} returned something else for '${port.name}'") {
            fromRuntime(results[index].toTensor(), port.type)
        }
        if (tensor.shape != port.shape) {
            val other = "its manifest says ${port.shape}"
            throw FedgateException("${program.file} returned $tensor for '${port.name}'; $other")
        }
        found[port.name] = tensor
    }
    return found
}

/** Runs [work]; whatever the runtime throws becomes one [FedgateException] that begins with [what]. */
internal inline fun <T> runtimeErrors(what: String, work: () -> T): T {
    try {
        return work()
    } catch (error: RuntimeException) {
        throw FedgateException("$what: ${runtimeReason(error)}", error)
    } catch (error: LinkageError) {
        throw FedgateException("$what: ExecuTorch's library is not there: ${printable(error.toString(), 200)}", error)
    } catch (error: OutOfMemoryError) {
        throw FedgateException("$what: there is not enough memory")
    }
}

/** The operators that are missing, where they are the reason, which ExecuTorch only writes to its log. */
internal fun runtimeReason(error: RuntimeException): String {
    val said = error.message ?: error.javaClass.simpleName
    val lines = said.lines() + try {
        Module.readLogBufferStatic().orEmpty().toList()
    } catch (_: Throwable) {
        emptyList<String>()
    }
    val missing = lines.filter { "Missing operator:" in it }
        .map { it.substringAfter("Missing operator:").trim().substringAfterLast(' ') }.distinct()
    if (missing.isNotEmpty()) return printable("it has no ${missing.joinToString(", ")}")
    return printable(said.lines().map { it.trim() }.filter { it.isNotEmpty() }.joinToString(" "))
}

internal fun toRuntime(tensor: Tensor): RuntimeTensor {
    val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
    return when (tensor.type) {
        DType.F32 -> RuntimeTensor.fromBlob(tensor.floats, shape)
        DType.I32 -> RuntimeTensor.fromBlob(tensor.ints, shape)
        DType.I64 -> RuntimeTensor.fromBlob(tensor.longs, shape)
        DType.U8 -> RuntimeTensor.fromBlobUnsigned(tensor.bytes, shape)
        else -> throw UsageException("no program takes ${tensor.type.python}")
    }
}

internal fun fromRuntime(tensor: RuntimeTensor, type: DType): Tensor {
    val shape = tensor.shape().map { it.toInt() }
    val data: Any = when (type) {
        DType.F32 -> tensor.dataAsFloatArray
        DType.I32 -> tensor.dataAsIntArray
        DType.I64 -> tensor.dataAsLongArray
        else -> tensor.dataAsUnsignedByteArray
    }
    return Tensor(type, shape, data)
}
