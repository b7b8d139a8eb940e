package org.fedgate.app

import java.io.File
import java.io.InputStream
import org.fedgate.core.disk

/** A file or folder in a [Tree]; id is what the tree itself calls it. */
class Entry(val name: String, val id: String, val folder: Boolean)

/** A folder that another app keeps and the user chose. Reading it takes time and may fail: `FedgateException`. */
interface Tree {
    val name: String

    /** What lies in a folder of the tree, or in the tree itself, by name. */
    fun list(folder: Entry? = null): List<Entry>

    fun open(file: Entry): InputStream
}

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
