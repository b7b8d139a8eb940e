package org.fedgate.core

import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val KEY = "fedgate"
private const val MOST_HEADER = 100_000_000L

// The order in which the safetensors library lays out tensors: wide dtypes first, so that each begins aligned.
private val LAYOUT = listOf(
    DType.I64, DType.F64, DType.F32, DType.U32, DType.I32, DType.F16, DType.U16, DType.I8, DType.U8,
)

/** The tensors, sorted by name, and the metadata object of a tensor file. */
class TensorFile(val tensors: Map<String, Tensor>, val meta: Map<String, Any?>)

/** Reads a tensor file; see [unpack]. */
fun readTensors(file: File): TensorFile = unpack(readFile(file), "$file")

/** [pack] to a file, atomically. */
fun writeTensors(file: File, tensors: Map<String, Tensor>, meta: Map<String, Any?>) =
    writeFile(file, pack(tensors, meta))

/** One safetensors blob whose metadata has the one key "fedgate": the bytes that Python's `tensors.pack` gives. */
fun pack(tensors: Map<String, Tensor>, meta: Map<String, Any?>): ByteArray {
    val byType = compareBy<String> { LAYOUT.indexOf(tensors.getValue(it).type) }
    val order = tensors.keys.sortedWith(byType.then(BY_CODE_POINT))
    val header = StringBuilder("{\"__metadata__\":{\"$KEY\":${quoted(canonicalJson(meta), ascii = false)}}")
    var at = 0L
    for (name in order) {
        val tensor = tensors.getValue(name)
        val end = at + count(tensor.shape).toLong() * tensor.type.size
        header.append(",${quoted(name, ascii = false)}:{\"dtype\":\"${tensor.type}\",\"shape\":[${tensor.shape.joinToString(",")}]")
        header.append(",\"data_offsets\":[$at,$end]}")
        at = end
    }
    val text = header.append('}').toString().toByteArray()
    val padded = (text.size + 7) / 8 * 8
    val out = ByteArrayOutputStream()
    out.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(padded.toLong()).array())
    out.write(text)
    repeat(padded - text.size) { out.write(' '.code) }
    for (name in order) out.write(tensors.getValue(name).littleEndian())
    return out.toByteArray()
}

/**
 * The tensors and the metadata of a blob by [pack], or by fedgate on another machine.
 *
 * Throws [FedgateException], naming [where], for anything else: truncated, overlapping or unused bytes, wrong sizes, an
 * unknown dtype, no metadata. Nothing is allocated by a size that the blob merely claims.
 */
fun unpack(blob: ByteArray, where: String): TensorFile {
    try {
        return parsed(blob)
    } catch (error: FedgateException) {
        throw FedgateException("$where is not a fedgate tensor file: ${error.message}")
    }
}

private class Entry(val name: String, val type: DType, val shape: List<Int>, val start: Long, val end: Long)

private fun parsed(blob: ByteArray): TensorFile {
    if (blob.size < 8) throw FedgateException("it is too short for a header")
    val length = ByteBuffer.wrap(blob).order(ByteOrder.LITTLE_ENDIAN).getLong(0)
    if (length < 0 || length > MOST_HEADER || length > blob.size - 8) throw FedgateException("its header is cut off")
    val data = 8 + length.toInt()
    val header = Fields(parseJson(blob.copyOfRange(8, data), "its header"), "its header")
    val room = (blob.size - data).toLong()
    val entries = header.all.filterKeys { it != "__metadata__" }.map { (name, value) -> entry(name, value) }
    var end = 0L
    for (entry in entries.sortedWith(compareBy({ it.start }, { it.end }))) {
        if (entry.start != end) throw FedgateException("tensor '${printable(entry.name)}' does not follow another")
        end = entry.end
    }
    if (end != room) throw FedgateException("its tensors have $end bytes, and $room follow its header")
    val tensors = LinkedHashMap<String, Tensor>()
    for (entry in entries.sortedWith { a, b -> BY_CODE_POINT.compare(a.name, b.name) }) {
        tensors[entry.name] = Tensor.read(entry.type, entry.shape, blob, data + entry.start.toInt())
    }
    return TensorFile(tensors, metadata(header))
}

private fun entry(name: String, value: Any?): Entry {
    val shown = printable(name, 100)
    val fields = Fields(value, "tensor '$shown'")
    val code = fields.get("dtype")
    val type = DType.values().firstOrNull { it.name == code }
        ?: throw FedgateException("tensor '$shown' has a dtype which is not read")
    val shape = fields.ints("shape", 0, 64, 0, Int.MAX_VALUE)
    val offsets = fields.items("data_offsets", 2, 2)
    if (!offsets.all { isWhole(it, 0, Long.MAX_VALUE) }) fields.refuse("data_offsets", "two whole numbers")
    val (start, end) = offsets.map { it as Long }
    var size = type.size.toLong()
    for (side in shape) {
        if (side != 0 && size > Long.MAX_VALUE / side) throw FedgateException("tensor '$shown' is too large")
        size *= side
    }
    if (end < start || end - start != size) {
        throw FedgateException("tensor '$shown' does not have the bytes of its shape")
    }
    return Entry(name, type, shape, start, end)
}

private fun metadata(header: Fields): Map<String, Any?> {
    val own = header.all["__metadata__"] as? Map<*, *>
    if (own != null && !own.values.all { it is String }) throw FedgateException("its metadata holds what is no text")
    val text = own?.get(KEY) as? String ?: throw FedgateException("its metadata has no '$KEY'")
    return Fields(parseJson(text.toByteArray(), "its metadata"), "its metadata").all
}
