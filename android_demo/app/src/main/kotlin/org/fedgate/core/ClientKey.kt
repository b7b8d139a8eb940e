package org.fedgate.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

private val MAGIC = "fedgate1".toByteArray()
private val TEXT = Regex("fedgate-key:1:([0-9A-Za-z_-]{1,64}):([0-9]{1,10}):([0-9a-f]{64})")

/**
 * The key of a client in a run, as `fedgate key` makes it, and the trailer that it puts behind an update
 * (device_runtime/formats/signed.py).
 */
class ClientKey private constructor(val run: String, val client: Int, private val secret: ByteArray) {
    /** A signed file of an update's bytes. */
    fun sign(blob: ByteArray): ByteArray {
        val number = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(client.toLong()).array()
        val signed = blob + number
        val mac = Mac.getInstance("HmacSHA256").apply { init(SecretKeySpec(secret, algorithm)) }
        return signed + mac.doFinal(signed) + MAGIC
    }

    companion object {
        /** Whether a text is meant to be a key. */
        fun isMeant(text: String) = text.trim().startsWith("fedgate-key:")

        /** The key that a line of text is. Throws [UsageException] for others. */
        fun parse(text: String): ClientKey {
            val (run, client, secret) = TEXT.matchEntire(text.trim())?.destructured
                ?: throw UsageException("this is no key of a client: fedgate key RUN --client N makes one")
            val number = client.toLong()
            if (number > Int.MAX_VALUE) throw UsageException("the key's client $client is out of range")
            return ClientKey(run, number.toInt(), unhex(secret))
        }
    }
}
