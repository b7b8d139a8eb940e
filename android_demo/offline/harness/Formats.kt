package org.fedgate.harness

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.fedgate.core.ArgbPicture
import org.fedgate.core.FedgateException
import org.fedgate.core.FileTree
import org.fedgate.core.IndexTree
import org.fedgate.core.NumpyRandom
import org.fedgate.core.batches
import org.fedgate.core.canonicalJson
import org.fedgate.core.checkSize
import org.fedgate.core.executedMacs
import org.fedgate.core.heldOut
import org.fedgate.core.hex
import org.fedgate.core.loadBundle
import org.fedgate.core.medianInterval
import org.fedgate.core.nominalMacs
import org.fedgate.core.pack
import org.fedgate.core.parseJson
import org.fedgate.core.parseManifest
import org.fedgate.core.percentile
import org.fedgate.core.pixelsOf
import org.fedgate.core.readTensors
import org.fedgate.core.scan
import org.fedgate.core.tensorsHash
import org.fedgate.core.unhex
import org.fedgate.core.upright

/** REQUESTS: a file of JSON lines, [what, arguments...]; prints the answers, errors as {"refused": why}. */
object Formats {
    @JvmStatic
    fun main(arguments: Array<String>) {
        for (line in File(arguments[0]).readLines()) {
            val request = parseJson(line.toByteArray(), "the request") as List<*>
            val found = try {
                answer(request[0] as String, request.drop(1))
            } catch (error: FedgateException) {
                mapOf("refused" to error.message, "status" to error.status)
            }
            println(canonicalJson(found))
        }
    }

    private fun answer(what: String, rest: List<Any?>): Any? = when (what) {
        "json" -> canonicalJson(parseJson(unhex(rest[0] as String), "it"))
        "tensors" -> readTensors(File(rest[0] as String)).let { file ->
            File(rest[1] as String).writeBytes(pack(file.tensors, file.meta))
            tensorsHash(file.tensors)
        }
        "bundle" -> loadBundle(File(rest[0] as String)).let { bundle ->
            bundle.reference()
            bundle.salience()
            if (bundle.manifest.tail != null) bundle.tail()
            bundle.manifest.digest
        }
        "size" -> rest.map { (it as Long).toInt() }.let { (width, height) -> checkSize(width, height, "it") }.let { null }
        "decoded" -> {
            val manifest = parseManifest(File(rest[0] as String).readBytes())
            hex(pixelsOf(JvmDevice().decode(File(rest[1] as String), "it"), manifest))
        }
        "scan" -> {
            val names = rest[1] as List<*>?
            val place = File(rest[0] as String)
            val tree = if (names == null) FileTree(place) else IndexTree("it", names.map { it as String }, place)
            val found = scan(tree, { it in (rest[2] as List<*>) })
            val classes = found.classes.mapValues { (_, all) -> all.mapValues { (_, own) -> own.map { it.path } } }
            mapOf("classes" to classes, "notes" to found.notes)
        }
        "macs" -> loadBundle(File(rest[0] as String)).manifest.let { manifest ->
            val masks = (rest[1] as List<*>).map { unhex(it as String) }
            mapOf(
                "executed" to masks.map { executedMacs(manifest.layers, it) },
                "nominal" to manifest.densities.map { nominalMacs(manifest.layers, it) },
            )
        }
        "picture" -> {
            val manifest = parseManifest(File(rest[0] as String).readBytes())
            val bytes = ByteBuffer.wrap(File(rest[1] as String).readBytes())
            val pixels = bytes.order(ByteOrder.LITTLE_ENDIAN).asIntBuffer()
            val argb = IntArray(pixels.remaining()).also { pixels.get(it) }
            val (width, height, orientation) = rest.drop(2).map { (it as Long).toInt() }
            hex(pixelsOf(upright(ArgbPicture(width, height, argb), orientation), manifest))
        }
        "statistics" -> (rest[0] as List<*>).map { (it as Number).toDouble() }.toDoubleArray().let { values ->
            val interval = medianInterval(values)
            val percentiles = listOf(0.0, 10.0, 50.0, 90.0, 99.0, 100.0).map { percentile(values, it) }
            percentiles + listOf(interval.middle, interval.low, interval.high)
        }
        "permutations" -> {
            val random = NumpyRandom(*(rest[0] as List<*>).map { it as Long }.toLongArray())
            (rest[1] as List<*>).map { n -> random.permutation(IntArray((n as Long).toInt()) { it }).asList() }
        }
        "batches" -> {
            val (n, size, seed, epoch) = rest.map { it as Long }
            batches(IntArray(n.toInt()) { it }, size.toInt(), seed, epoch.toInt()).map { it.asList() }
        }
        "held out" -> {
            val labels = (rest[0] as List<*>).map { (it as Long).toInt() }.toIntArray()
            val rows = labels.indices.toList().toIntArray()
            val (chosen, held) = heldOut(labels, rows, rest[1] as Double, rest[2] as Long)
            listOf(chosen.asList(), held.asList())
        }
        else -> throw IllegalArgumentException(what)
    }
}
