package org.fedgate.harness

import java.io.File
import java.util.Random
import org.fedgate.core.DType
import org.fedgate.core.FedgateException
import org.fedgate.core.canonicalJson
import org.fedgate.core.indentedJson
import org.fedgate.core.parseJson
import org.fedgate.core.parseManifest
import org.fedgate.core.sha256
import org.fedgate.core.unpack

/**
 * BUNDLE SEED COUNT: reads COUNT damaged copies of a bundle's manifest and tensor files; prints how many were read and
 * how many refused. Anything but the one declared exception ends it. Half of the manifests get a digest that fits.
 */
object Fuzz {
    private var read = 0
    private var refused = 0

    @JvmStatic
    fun main(arguments: Array<String>) {
        val folder = File(arguments[0])
        val random = Random(arguments[1].toLong())
        val files = folder.listFiles()!!.filter { it.name.endsWith(".safetensors") }.map { it.readBytes() }
        val manifest = File(folder, "manifest.json").readBytes()
        val tree = parseJson(manifest, "it")
        repeat(arguments[2].toInt()) {
            attempt { unpack(damaged(shortened(files[random.nextInt(files.size)]), random), "it") }
            attempt { parseManifest(damaged(manifest, random)) }
            attempt { parseManifest(signed(changed(tree, random))) }
            attempt { parseJson(damaged(manifest, random), "it") }
        }
        println("$read $refused")
    }

    private fun attempt(parse: () -> Any?) {
        try {
            parse()
            read++
        } catch (error: FedgateException) {
            check(error.message!!.none { it < ' ' }) { error.message!! }
            refused++
        }
    }

    /** The header and some of the data: damage to the middle of the data changes nothing that is parsed. */
    private fun shortened(data: ByteArray): ByteArray = data.copyOf(minOf(data.size, 4096))

    private fun damaged(data: ByteArray, random: Random): ByteArray {
        var out = data.copyOf()
        repeat(1 + random.nextInt(3)) {
            val at = random.nextInt(out.size)
            when (random.nextInt(5)) {
                0 -> out[at] = random.nextInt(256).toByte()
                1 -> out[at] = "0123456789-.eE\"{}[],:\\u \u0000".random(random).code.toByte()
                2 -> out = out.copyOf(maxOf(1, at))
                3 -> out = out.copyOfRange(0, at) + out.copyOfRange(at, minOf(out.size, at + random.nextInt(64))) +
                    out.copyOfRange(at, out.size)
                else -> for (i in 0 until minOf(8, out.size)) out[i] = (random.nextInt(9) - 1).toByte()
            }
        }
        return out
    }

    private fun String.random(random: Random): Char = this[random.nextInt(length)]

    /** A JSON value with one place in it replaced, removed or doubled. */
    private fun changed(value: Any?, random: Random): Any? {
        val odd = listOf(
            null, true, -1L, 0L, 1L shl 40, Long.MAX_VALUE, 1e300, -0.5, "", "../x", "x\u0007y", "a".repeat(300),
            emptyList<Any>(), emptyMap<String, Any>(), listOf(1L, 1L, 1L, 1L), DType.F32.name,
        )
        if (random.nextInt(12) == 0) return odd[random.nextInt(odd.size)]
        return when (value) {
            is Map<*, *> -> if (value.isEmpty()) value else {
                val key = value.keys.elementAt(random.nextInt(value.size)) as String
                val rest = value.entries.associate { it.key as String to it.value }
                if (random.nextInt(20) == 0) rest - key else rest + (key to changed(value[key], random))
            }
            is List<*> -> if (value.isEmpty()) value else {
                val at = random.nextInt(value.size)
                val other = changed(value[at], random)
                val rest = value.mapIndexed { i, item -> if (i == at) other else item }
                if (random.nextInt(10) == 0) rest + other else rest
            }
            else -> odd[random.nextInt(odd.size)]
        }
    }

    private fun signed(value: Any?): ByteArray {
        if (value !is Map<*, *>) return canonicalJson(value).toByteArray()
        val body = value.entries.associate { it.key as String to it.value } - "digest"
        return (indentedJson(body + ("digest" to sha256(canonicalJson(body).toByteArray()))) + "\n").toByteArray()
    }
}
