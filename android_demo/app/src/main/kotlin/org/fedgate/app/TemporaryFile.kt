package org.fedgate.app

import java.io.File
import java.io.InputStream
import org.fedgate.core.disk

/** Runs [use] with what [source] holds as a file, which decoders can read twice; it is gone afterwards. */
fun <T> asFile(cache: File, source: InputStream, use: (File) -> T): T {
    val file = File.createTempFile("picture", null, cache)
    try {
        disk(file) { source.use { from -> file.outputStream().use { from.copyTo(it) } } }
        return use(file)
    } finally {
        file.delete()
    }
}
