package org.fedgate.core

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** The bytes of a file; [FedgateException] if it cannot be read. */
fun readFile(file: File): ByteArray {
    try {
        return file.readBytes()
    } catch (error: IOException) {
        throw FedgateException("cannot read $file: ${reason(error, file)}", error)
    } catch (error: OutOfMemoryError) {
        throw FedgateException("cannot read $file: it does not fit into memory")
    }
}

/** Writes [data] so that [file] holds either its old content or all of the new one, also after a power cut. */
fun writeFile(file: File, data: ByteArray) {
    val part = File(file.parentFile, ".${file.name}.part")
    disk(file) {
        try {
            FileOutputStream(part).use { stream ->
                stream.write(data)
                stream.fd.sync()
            }
            if (!part.renameTo(file)) throw IOException("it cannot be renamed")
        } finally {
            part.delete()
        }
    }
}

/** Runs what writes [place]; an error of the disk, no space above all, becomes a [FedgateException]. */
inline fun <T> disk(place: File, write: () -> T): T {
    try {
        return write()
    } catch (error: IOException) {
        throw FedgateException("cannot write $place: ${reason(error, place)}", error)
    }
}

/** What the system says of an error, without the path, which the message has already. */
fun reason(error: IOException, file: File): String {
    val said = (error.message ?: error.javaClass.simpleName).removePrefix("$file").trim(' ', ':', '(', ')')
    return when {
        "ENOSPC" in said || "No space left" in said -> "the disk is full"
        said.isEmpty() -> error.javaClass.simpleName
        else -> printable(said)
    }
}

/** Throws unless [folder] is there or can be made. */
fun makeFolder(folder: File) {
    if (!folder.isDirectory && !folder.mkdirs()) throw FedgateException("cannot write $folder: it cannot be made")
}

fun sha256(data: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(data))

/** The SHA-256 of a file, read a piece at a time. */
fun sha256File(file: File): String = sha256("$file") { file.inputStream() }

/** The SHA-256 of what [open] gives, read a piece at a time. [name] is for messages. */
fun sha256(name: String, open: () -> InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    try {
        open().use { stream ->
            val piece = ByteArray(1 shl 16)
            while (true) {
                val count = stream.read(piece)
                if (count < 0) break
                digest.update(piece, 0, count)
            }
        }
    } catch (error: IOException) {
        throw FedgateException("cannot read ${printable(name)}: ${reason(error, File(name))}", error)
    }
    return hex(digest.digest())
}

fun hex(bytes: ByteArray): String {
    val digits = "0123456789abcdef"
    val out = StringBuilder(bytes.size * 2)
    for (byte in bytes) out.append(digits[(byte.toInt() shr 4) and 15]).append(digits[byte.toInt() and 15])
    return out.toString()
}

fun unhex(text: String): ByteArray =
    ByteArray(text.length / 2) { text.substring(2 * it, 2 * it + 2).toInt(16).toByte() }
