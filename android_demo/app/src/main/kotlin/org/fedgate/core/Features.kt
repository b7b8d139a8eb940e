package org.fedgate.core

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val SYNC = 64 // images whose work a killed process may lose

/**
 * What a frozen trunk makes of each example, worked out once and kept on disk, so that memory does not grow with the
 * data: features.bin (n of float32 features), open.bin (n of the trunk's masks), done.bin (n bytes: 0 to be done, 1
 * done, 2 cannot be read), and features.json, what they were made from.
 *
 * A folder of another [key] is begun anew. Throws [FedgateException] where the disk is full.
 */
class Features(
    private val folder: File, key: Map<String, Any?>, count: Int, private val shape: List<Int>, private val width: Int,
) : Closeable {
    private val rowBytes = count(shape) * 4
    private val files = HashMap<String, RandomAccessFile>()
    private val pending = ArrayList<Pair<Int, Int>>()

    /** Of each example 0, [DONE] or [UNREADABLE]. */
    val done: ByteArray

    /** Of all rows on disk. */
    val bytes: Long = count.toLong() * (rowBytes + width + 1)

    init {
        makeFolder(folder)
        val text = canonicalJson(key + mapOf("count" to count, "shape" to shape, "width" to width)).toByteArray()
        val marker = File(folder, "features.json")
        val fits = marker.isFile && readFile(marker).contentEquals(text)
        if (!fits) {
            marker.delete()
            val free = folder.usableSpace
            if (bytes > free) {
                val needed = "the features need ${bytes / 1_000_000} MB"
                throw FedgateException("$needed in $folder, where ${free / 1_000_000} MB are free")
            }
        }
        disk(folder) {
            for ((name, size) in listOf("features" to rowBytes, "open" to width, "done" to 1)) {
                val file = RandomAccessFile(File(folder, "$name.bin"), "rw")
                files[name] = file
                if (!fits) file.setLength(0)
                file.setLength(size.toLong() * count)
            }
        }
        if (!fits) writeFile(marker, text)
        done = read("done", 0, count)
    }

    /** Keeps one example's features and masks; it counts as done from the next [sync] on. */
    fun put(index: Int, features: FloatArray, open: ByteArray) {
        val row = ByteArray(rowBytes)
        ByteBuffer.wrap(row).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(features)
        disk(folder) {
            write("features", index.toLong() * rowBytes, row)
            write("open", index.toLong() * width, open)
        }
        mark(index, DONE)
    }

    fun mark(index: Int, state: Int) {
        pending.add(index to state)
        done[index] = state.toByte()
        if (pending.size >= SYNC) sync()
    }

    /** Flushes what was put; only then is it marked, so that a power cut cannot leave marks without rows. */
    fun sync() = disk(folder) {
        files.getValue("features").fd.sync()
        files.getValue("open").fd.sync()
        for ((index, state) in pending) write("done", index.toLong(), byteArrayOf(state.toByte()))
        files.getValue("done").fd.sync()
        pending.clear()
    }

    /** Features float32 (rows, *shape) of some examples in a batch of [size], filled up with zeros. */
    fun features(rows: IntArray, size: Int): Tensor {
        val out = FloatArray(size * count(shape))
        rows.forEachIndexed { i, row ->
            val bytes = ByteBuffer.wrap(read("features", row.toLong() * rowBytes, rowBytes))
            bytes.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(out, i * count(shape), count(shape))
        }
        return Tensor.of(listOf(size) + shape, out)
    }

    /** Masks of the trunk uint8 (size, width) of some examples, filled up with zeros. */
    fun open(rows: IntArray, size: Int): Tensor {
        val out = ByteArray(size * width)
        rows.forEachIndexed { i, row -> read("open", row.toLong() * width, width).copyInto(out, i * width) }
        return Tensor.bytes(listOf(size, width), out)
    }

    override fun close() {
        try {
            if (pending.isNotEmpty()) sync()
        } catch (_: FedgateException) {
            // what is not marked is worked out again
        }
        for (file in files.values) file.close()
    }

    private fun write(name: String, at: Long, data: ByteArray) {
        val file = files.getValue(name)
        file.seek(at)
        file.write(data)
    }

    private fun read(name: String, at: Long, size: Int): ByteArray {
        val data = ByteArray(size)
        val file = files.getValue(name)
        try {
            file.seek(at)
            file.readFully(data)
        } catch (error: IOException) {
            throw FedgateException("$folder is damaged: remove it and start again", error)
        }
        return data
    }

    companion object {
        const val DONE = 1
        const val UNREADABLE = 2
    }
}
