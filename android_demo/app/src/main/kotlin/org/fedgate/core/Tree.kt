package org.fedgate.core

import java.io.File
import java.io.IOException
import java.io.InputStream

/** What an entry of a [Tree] is. NOWHERE: a link to nothing; NEITHER: a device, a pipe. */
enum class Kind { FOLDER, FILE, NOWHERE, NEITHER }

/** Something in a [Tree]; id is what the tree itself calls it. */
class TreeEntry(val name: String, val id: String, val kind: Kind) {
    val folder: Boolean get() = kind == Kind.FOLDER
}

/** A folder, which may lie in another app. Reading it takes time and may fail: [FedgateException]. */
interface Tree {
    val name: String

    /** What lies in a folder of the tree, or in the tree itself, by name. */
    fun list(folder: TreeEntry? = null): List<TreeEntry>

    fun open(file: TreeEntry): InputStream

    /** Runs [use] with a file's content where decoders can read it twice. */
    fun <T> withFile(file: TreeEntry, use: (File) -> T): T

    /** The same for two entries that are one folder. */
    fun identity(folder: TreeEntry): String = folder.id
}

/** A folder of this process's own files; links are followed. */
class FileTree(private val root: File) : Tree {
    override val name get() = "$root"

    override fun list(folder: TreeEntry?): List<TreeEntry> {
        val place = folder?.let { File(it.id) } ?: root
        val found = place.listFiles() ?: throw FedgateException("cannot read $place: it cannot be listed")
        val entries = found.map { TreeEntry(it.name, it.path, kind(it)) }
        return entries.sortedWith { a, b -> BY_CODE_POINT.compare(a.name, b.name) }
    }

    override fun open(file: TreeEntry): InputStream = try {
        File(file.id).inputStream()
    } catch (error: IOException) {
        throw FedgateException("cannot read ${file.id}: ${reason(error, File(file.id))}", error)
    }

    override fun <T> withFile(file: TreeEntry, use: (File) -> T): T = use(File(file.id))

    override fun identity(folder: TreeEntry): String = try {
        File(folder.id).canonicalPath
    } catch (error: IOException) {
        throw FedgateException("cannot read ${folder.id}: ${reason(error, File(folder.id))}", error)
    }

    private fun kind(file: File) = when {
        file.isDirectory -> Kind.FOLDER
        file.isFile -> Kind.FILE
        file.exists() -> Kind.NEITHER
        else -> Kind.NOWHERE
    }
}

/** Files that lie under their numbers in [names], a list of their paths, in the folder [place]. */
class IndexTree(override val name: String, names: List<String>, place: File) : Tree {
    private val folders = HashMap<String, MutableList<TreeEntry>>()

    init {
        folders[""] = ArrayList()
        names.forEachIndexed { number, path ->
            val parts = path.split('/').filter { it.isNotEmpty() }
            if (parts.isEmpty()) throw FedgateException("$name: file $number has no name")
            var above = ""
            for (part in parts.dropLast(1)) {
                val id = "$above/$part"
                if (id !in folders) {
                    folders[id] = ArrayList()
                    folders.getValue(above).add(TreeEntry(part, id, Kind.FOLDER))
                }
                above = id
            }
            folders.getValue(above).add(TreeEntry(parts.last(), "${File(place, "$number")}", Kind.FILE))
        }
        for (entries in folders.values) entries.sortWith { a, b -> BY_CODE_POINT.compare(a.name, b.name) }
    }

    private val files = FileTree(place)

    override fun list(folder: TreeEntry?): List<TreeEntry> = folders.getValue(folder?.id ?: "")

    override fun open(file: TreeEntry): InputStream = files.open(file)

    override fun <T> withFile(file: TreeEntry, use: (File) -> T): T = files.withFile(file, use)
}
