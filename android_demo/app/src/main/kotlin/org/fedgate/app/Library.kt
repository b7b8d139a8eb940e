package org.fedgate.app

import java.io.File
import java.io.IOException
import java.io.InputStream
import org.fedgate.core.Bundle
import org.fedgate.core.CancelledException
import org.fedgate.core.FedgateException
import org.fedgate.core.Tree
import org.fedgate.core.disk
import org.fedgate.core.loadBundle
import org.fedgate.core.makeFolder
import org.fedgate.core.parseManifest
import org.fedgate.core.plainName
import org.fedgate.core.printable
import org.fedgate.core.readFile

private const val ASSETS = "bundles"
private const val MANIFEST = "manifest.json"
private const val LARGEST_MANIFEST = 1L shl 24

/** The files that the app was built with. */
interface Assets {
    /** The names of what lies in a folder; empty where there is none. */
    fun list(folder: String): List<String>

    fun open(file: String): InputStream
}

/** Where a bundle is: a folder of this app, or its assets, out of which it is copied when it is opened. */
class Place(val name: String, val folder: File, val asset: String? = null)

/**
 * The bundles that the app can open: those in its assets, those pushed into its folder on shared storage, and those
 * that the user brought from elsewhere. Every method takes time.
 *
 * own: the app's private folder. shared: its folder that `adb push` reaches, null while there is no such storage.
 */
class Library(private val assets: Assets, private val own: File, private val shared: File?) {
    private val brought = File(own, "bundles")

    /** Every bundle, by name; where two have the same, the one brought last hides that of the assets. */
    fun list(): List<Place> {
        val packed = assets.list(ASSETS).map { Place(it, File(own, "assets/$it"), "$ASSETS/$it") }
        val folders = listOfNotNull(shared, brought).flatMap { it.listFiles().orEmpty().toList() }
        val found = folders.filter { !it.name.startsWith("part-") && File(it, MANIFEST).isFile }.map { Place(it.name, it) }
        return (packed + found).associateBy { it.name }.values.sortedBy { it.name }
    }

    /** Checks every file of a bundle. Throws [FedgateException]. */
    fun open(place: Place): Bundle {
        if (place.asset != null) unpack(place.asset, place.folder)
        return loadBundle(place.folder)
    }

    /**
     * Copies a bundle out of a tree of documents, whole or not at all: the files that its manifest lists, and no more
     * of each than it says. told: the share that is copied. Throws [FedgateException], also when [cancelled] says so.
     */
    fun bring(tree: Tree, told: (Double) -> Unit, cancelled: () -> Boolean): Place {
        val there = tree.list().filter { !it.folder }.associateBy { it.name }
        val manifest = there[MANIFEST]
            ?: throw FedgateException("${tree.name} is not a bundle: it has no $MANIFEST")
        val name = plainName(tree.name.replace(Regex("[^A-Za-z0-9._-]"), "-").trimStart('.', '-').ifEmpty { "bundle" })
        return whole(File(brought, name)) { part ->
            copy(tree.open(manifest), File(part, MANIFEST), LARGEST_MANIFEST)
            val parsed = parseManifest(readFile(File(part, MANIFEST)))
            val sizes = parsed.programs.associate { it.file to it.bytes } + parsed.files.mapValues { it.value.bytes }
            val total = sizes.values.sum()
            if (part.usableSpace < total) {
                throw FedgateException("no space for ${tree.name}: it has $total bytes, and ${part.usableSpace} are free")
            }
            var done = 0L
            for ((file, bytes) in sizes) {
                if (cancelled()) throw CancelledException("stopped")
                told(done.toDouble() / maxOf(total, 1))
                val entry = there[file] ?: throw FedgateException("${tree.name} has no $file, which its manifest names")
                copy(tree.open(entry), File(part, file), bytes)
                done += bytes
            }
            loadBundle(part)
        }
    }

    private fun unpack(asset: String, folder: File) {
        val stamp = try {
            assets.open("$asset/$MANIFEST").use { it.readBytes() }
        } catch (error: IOException) {
            throw FedgateException("the app's own ${asset.substringAfter('/')} is not a bundle: it has no $MANIFEST", error)
        }
        val unpacked = File(folder, MANIFEST)
        if (unpacked.isFile && readFile(unpacked).contentEquals(stamp)) return
        whole(folder) { part ->
            for (file in assets.list(asset)) {
                copy(assets.open("$asset/$file"), File(part, file), Long.MAX_VALUE)
            }
        }
    }

    /** Fills a folder beside [folder], which then takes its place. */
    private fun whole(folder: File, fill: (File) -> Unit): Place {
        val part = File(folder.parentFile, "part-${folder.name}")
        part.deleteRecursively()
        makeFolder(part)
        try {
            fill(part)
            folder.deleteRecursively()
            if (!part.renameTo(folder)) throw FedgateException("cannot write $folder: it cannot be renamed")
        } finally {
            part.deleteRecursively()
        }
        return Place(folder.name, folder)
    }

    private fun copy(from: InputStream, to: File, most: Long) = from.use { source ->
        disk(to) {
            to.outputStream().use { target ->
                val piece = ByteArray(1 shl 16)
                var left = most
                while (true) {
                    val count = source.read(piece)
                    if (count < 0) break
                    left -= count
                    if (left < 0) throw FedgateException("${printable(to.name)} is larger than its manifest says")
                    target.write(piece, 0, count)
                }
            }
        }
    }
}
