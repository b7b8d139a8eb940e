package org.fedgate.core

import java.io.IOException
import java.text.Normalizer
import java.util.Locale

private val SPLITS = mapOf("train" to "train", "test" to "test") +
    listOf("val", "valid", "validation").associateWith { "validation" }
private val SYSTEM = setOf("__MACOSX", "@eaDir", "\$RECYCLE.BIN") // what systems put beside pictures
private const val MOST_ENTRIES = 2_000_000 // links can make a small tree endless
private const val MOST_DEPTH = 1000
private const val NAMED = 10 // files in one note

private const val HIDDEN = "hidden, or a system's own"
private const val NO_PICTURE = "no pictures"
private const val NOWHERE = "links that lead nowhere"
private const val NO_FILE = "neither files nor folders"
private const val NO_CLASS = "outside any class"
private const val EMPTY = "classes without a picture"

/** A picture that [scan] found, by its path in the tree. */
class Scanned(val path: String, val file: TreeEntry)

/**
 * The pictures of a tree, as device_runtime/pictures/folders.py finds them: DIR/CLASS/.../PICTURE, or
 * DIR/SPLIT/CLASS/.../PICTURE where a top folder is called train. Class names are in Unicode's NFC.
 *
 * classes: split -> class -> its pictures, sorted; of a folder without splits the one split is "train". notes: a line
 * for each reason why something is left out.
 */
class Scan(val classes: Map<String, Map<String, List<Scanned>>>, val notes: List<String>)

/** The line that tells of files or folders that are not used: how many, and the first of them by name. */
fun leftOutNote(reason: String, paths: List<String>): String {
    val more = "%,d more (%,d in all)".format(Locale.ROOT, paths.size - NAMED, paths.size)
    val shown = paths.take(NAMED).joinToString(", ") { printable(it) }
    return "left out, $reason: $shown${if (paths.size > NAMED) " and $more" else ""}"
}

/**
 * Looks through a tree; only files with odd names are opened. decodable: whether this device decodes a format.
 *
 * Throws [UsageException] for top folders that could be splits or classes, [FedgateException] for links that lead back,
 * for what cannot be read, and when [stop] says so.
 */
fun scan(tree: Tree, decodable: (String) -> Boolean, stop: () -> Boolean = { false }): Scan =
    Walker(tree, decodable, stop).scan()

private class Walker(
    private val tree: Tree, private val decodable: (String) -> Boolean, private val stop: () -> Boolean,
) {
    private val leftOut = LinkedHashMap<String, MutableList<String>>()
    private var seen = 0

    fun scan(): Scan {
        val found = splits().mapValues { (_, top) -> classes(top) }
        return Scan(found, leftOut.map { (reason, paths) -> leftOutNote(reason, paths) })
    }

    /** The classes of a split, which lies in a folder of the tree or, where that is null, in the tree itself. */
    private fun classes(top: TreeEntry?): Map<String, List<Scanned>> {
        val found = HashMap<String, MutableList<Scanned>>()
        for (entry in list(top)) {
            val path = if (top == null) entry.name else "${top.name}/${entry.name}"
            if (!entry.folder || isHidden(entry.name)) {
                if (isPicture(entry, path)) leaveOut(NO_CLASS, path)
                continue
            }
            val pictures = pictures(entry, path)
            if (pictures.isEmpty()) leaveOut(EMPTY, path)
            else found.getOrPut(className(entry.name)) { ArrayList() }.addAll(pictures)
        }
        val sorted = LinkedHashMap<String, List<Scanned>>()
        for (name in found.keys.sortedWith(BY_CODE_POINT)) {
            sorted[name] = found.getValue(name).sortedWith { a, b -> BY_CODE_POINT.compare(a.path, b.path) }
        }
        return sorted
    }

    private fun className(folder: String): String {
        val name = escaped(Normalizer.normalize(folder, Normalizer.Form.NFC))
        if (name.codePointCount(0, name.length) <= 200) return name
        val start = name.substring(0, name.offsetByCodePoints(0, 40))
        throw UsageException("${tree.name}: the class folder '$start...' has a name of more than 200 letters: rename it")
    }

    /** Split -> its folder, which is null, the tree itself, where the top folders are classes. */
    private fun splits(): Map<String, TreeEntry?> {
        val top = list(null)
        val folders = top.filter { it.folder && !isHidden(it.name) }
        val splits = LinkedHashMap<String, TreeEntry>()
        for (folder in folders) {
            val split = SPLITS[folder.name.lowercase()] ?: continue
            val other = splits.put(split, folder) ?: continue
            val both = "'${other.name}' and '${folder.name}' are both the $split split"
            throw UsageException("${tree.name}: $both: make them one folder")
        }
        if (splits.isEmpty()) return mapOf("train" to null)
        val train = splits["train"]
        if (train == null) {
            val could = "'${splits.values.first().name}' could be a split or a class"
            throw UsageException("${tree.name}: $could: put a folder 'train' beside it, or rename it")
        }
        for (folder in folders - splits.values) {
            if (pictures(folder, folder.name).isNotEmpty()) {
                val beside = "the class '${printable(folder.name)}' lies beside '${train.name}'"
                throw UsageException(
                    "${tree.name}: $beside: move it into that split, or rename the folder, as none of the classes " +
                        "may be called train, test, val, valid or validation",
                )
            }
            leaveOut(EMPTY, folder.name)
        }
        for (entry in top - folders) if (isPicture(entry, entry.name)) leaveOut(NO_CLASS, entry.name)
        return splits
    }

    private class Waiting(val folder: TreeEntry, val path: String, val above: Waiting?, val identity: String) {
        val depth: Int = (above?.depth ?: 0) + 1
    }

    /** The pictures below a folder, at any depth. */
    private fun pictures(top: TreeEntry, path: String): List<Scanned> {
        val found = ArrayList<Scanned>()
        val waiting = arrayListOf(Waiting(top, path, null, tree.identity(top)))
        while (waiting.isNotEmpty()) {
            val here = waiting.removeAt(waiting.size - 1)
            val where = "${tree.name}/${printable(here.path)}"
            if (generateSequence(here.above) { it.above }.any { it.identity == here.identity }) {
                throw FedgateException("$where is a link back to a folder that it lies in: remove it")
            }
            if (here.depth > MOST_DEPTH) throw FedgateException("$where lies more than $MOST_DEPTH folders deep")
            for (entry in list(here.folder)) {
                val below = "${here.path}/${entry.name}"
                if (entry.folder && !isHidden(entry.name)) {
                    waiting.add(Waiting(entry, below, here, tree.identity(entry)))
                } else if (isPicture(entry, below)) {
                    found.add(Scanned(below, entry))
                }
            }
        }
        return found
    }

    /** Whether an entry is a picture that can be decoded here; if not, it is noted with its reason. */
    private fun isPicture(entry: TreeEntry, path: String): Boolean {
        val why = when {
            isHidden(entry.name) -> HIDDEN
            entry.kind == Kind.NOWHERE -> NOWHERE
            entry.kind != Kind.FILE -> NO_FILE
            else -> {
                val format = pictureFormat(entry.name, decodable) { head(entry, it) }
                if (format == null) NO_PICTURE else if (decodable(format)) null else "$format cannot be decoded here"
            }
        }
        if (why != null) leaveOut(why, path)
        return why == null
    }

    private fun leaveOut(reason: String, path: String) {
        leftOut.getOrPut(reason) { ArrayList() }.add(path)
    }

    private fun list(folder: TreeEntry?): List<TreeEntry> {
        if (stop()) throw CancelledException("stopped")
        val found = tree.list(folder)
        seen += found.size
        if (seen > MOST_ENTRIES) {
            val most = "%,d".format(Locale.ROOT, MOST_ENTRIES)
            throw FedgateException("${tree.name} holds more than $most files and folders, links followed")
        }
        return found
    }

    /** The first [size] bytes of a file; none where they cannot be read, which decoding then says. */
    private fun head(file: TreeEntry, size: Int): ByteArray {
        val bytes = ByteArray(size)
        var count = 0
        try {
            tree.open(file).use { stream ->
                while (count < size) {
                    val more = stream.read(bytes, count, size - count)
                    if (more < 0) break
                    count += more
                }
            }
        } catch (_: IOException) {
        } catch (_: FedgateException) {
        }
        return bytes.copyOf(count)
    }

    private fun isHidden(name: String): Boolean = name.startsWith(".") || name in SYSTEM
}
