package org.fedgate.app

import java.io.File
import java.security.MessageDigest
import org.fedgate.core.CancelledException
import org.fedgate.core.Device
import org.fedgate.core.Examples
import org.fedgate.core.FedgateException
import org.fedgate.core.Manifest
import org.fedgate.core.choose
import org.fedgate.core.disk
import org.fedgate.core.hex
import org.fedgate.core.pixelsOf
import org.fedgate.core.printable

/**
 * The labelled pictures of a tree, CLASS/PICTURE; each class is a label of the bundle. Making it reads
 * every file once, for the digest, under which an interrupted fine-tuning knows its pictures again.
 */
class TreePictures(
    private val tree: Tree,
    private val manifest: Manifest,
    private val device: Device,
    private val cache: File,
    stop: () -> Boolean,
) : Examples {
    override val source = tree.name
    override val names: List<String>
    override val labels: IntArray
    override val digest: String
    private val files: List<Entry>

    init {
        val folders = tree.list().filter { it.folder && !it.name.startsWith(".") }
        for (folder in folders) choose("class of $source", folder.name, manifest.labels)
        val found = folders.flatMap { folder ->
            tree.list(folder).filter { !it.folder && !it.name.startsWith(".") }.map { folder.name to it }
        }
        if (found.isEmpty()) throw FedgateException("$source holds no pictures by class: they are looked for as CLASS/PICTURE")
        files = found.map { it.second }
        names = found.map { (label, file) -> printable("$label/${file.name}") }
        labels = IntArray(found.size) { manifest.labels.indexOf(found[it].first) }
        val all = MessageDigest.getInstance("SHA-256")
        for ((label, file) in found) {
            if (stop()) throw CancelledException("stopped")
            all.update("$label/${file.name}".toByteArray())
            all.update(0)
            all.update(sha256(file))
        }
        digest = hex(all.digest())
    }

    private fun sha256(file: Entry): ByteArray {
        val digest = MessageDigest.getInstance("SHA-256")
        val piece = ByteArray(1 shl 16)
        disk(File(cache, file.name)) {
            tree.open(file).use { stream ->
                while (true) {
                    val count = stream.read(piece)
                    if (count < 0) break
                    digest.update(piece, 0, count)
                }
            }
        }
        return digest.digest()
    }

    override fun pixels(index: Int): ByteArray = asFile(cache, tree.open(files[index])) { file ->
        pixelsOf(device.decode(file), manifest, names[index])
    }
}
