package org.fedgate.harness

import java.io.File
import java.io.InputStream
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import org.fedgate.app.Assets
import org.fedgate.app.Library
import org.fedgate.app.Place
import org.fedgate.app.State
import org.fedgate.app.Task
import org.fedgate.app.Work
import org.fedgate.app.asFile
import org.fedgate.app.lacksAtomics
import org.fedgate.app.tunePlan
import org.fedgate.app.tuningFolder
import org.fedgate.core.FedgateException
import org.fedgate.core.FileTree
import org.fedgate.core.Pictures
import org.fedgate.core.Tree
import org.fedgate.core.TreeEntry
import org.fedgate.core.canonicalJson
import org.fedgate.core.loadBundle

/** A folder as a tree that another app keeps: its files are copied to [cache] to be decoded. */
class FolderTree(private val root: File, private val cache: File) : Tree {
    private val files = FileTree(root)
    override val name: String get() = root.name

    override fun list(folder: TreeEntry?): List<TreeEntry> = files.list(folder)

    override fun open(file: TreeEntry): InputStream = files.open(file)

    override fun <T> withFile(file: TreeEntry, use: (File) -> T): T = asFile(cache, open(file), use)
}

/** A folder as the files that an app was built with. */
class FolderAssets(private val root: File) : Assets {
    override fun list(folder: String): List<String> = File(root, folder).list().orEmpty().toList()

    override fun open(file: String): InputStream = File(root, file).inputStream()
}

/** What the screens do, without screens; each prints one JSON document. */
object AppParts {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val rest = arguments.drop(1).map { File(it) }
        val told = when (arguments[0]) {
            "task" -> tasks()
            "list" -> Library(FolderAssets(rest[0]), rest[1], rest[2]).list().map { listOf(it.name, it.folder.path) }
            "unpack" -> unpack(Library(FolderAssets(rest[0]), rest[1], null))
            "bring" -> bring(Library(FolderAssets(rest[1]), rest[1], null), rest[0], arguments.getOrNull(3)?.toInt())
            "cores" -> lacksAtomics(arguments[1], File(arguments[2]).readText())
            "pictures" -> pictures(rest[0], rest[1], rest[2])
            else -> throw IllegalArgumentException(arguments[0])
        }
        println(canonicalJson(told))
    }

    private fun unpack(library: Library): List<Any?> {
        val times = List(2) { library.list().map { library.open(it).path.lastModified() } }
        return listOf(library.list().map { library.open(it).manifest.model }, times[0] == times[1])
    }

    private fun bring(library: Library, from: File, stopAfter: Int?): Any? {
        val shares = mutableListOf<Double>()
        return try {
            val place: Place = library.bring(FolderTree(from, from), { shares += it }) { shares.size == stopAfter }
            mapOf("name" to place.name, "digest" to library.open(place).manifest.digest, "first" to shares.first())
        } catch (error: FedgateException) {
            error.message
        }
    }

    private fun pictures(folder: File, data: File, work: File): Any? = try {
        val bundle = loadBundle(folder)
        val found = Pictures(FolderTree(data, work), bundle.manifest, JvmDevice())
        val plan = tunePlan(0, "3", "0.01", "5")!!
        val place = tuningFolder(work, bundle, found, plan)
        place.mkdirs()
        File(place, "work").mkdirs()
        val again = tuningFolder(work, bundle, found, plan)
        val kept = again == place && File(place, "work").exists()
        File(place, "personal.safetensors").writeText("")
        tuningFolder(work, bundle, found, plan)
        mapOf(
            "names" to found.names,
            "labels" to found.labels.toList(),
            "digest" to found.digest,
            "left out" to found.leftOut,
            "pixels" to found.pixels(0).map { it.toInt() and 255 },
            "left" to work.list().orEmpty().filter { it.startsWith("picture") },
            "kept" to kept,
            "anew" to !place.exists(),
            "client" to plan.client,
            "no numbers" to (tunePlan(0, "3", "x", "5") == null),
            "key" to tunePlan(0, "3", "0.01", " fedgate-key:1:run:8:${"0a".repeat(32)}\n")!!.run { listOf(client, key!!.run) },
            "no key" to try { tunePlan(0, "3", "0.01", "fedgate-key:1:run:8:0a") } catch (error: FedgateException) { error.message },
        )
    } catch (error: FedgateException) {
        error.message
    }

    /** The main thread is a queue here, which is emptied when the worker has nothing to do. */
    private fun tasks(): Any? {
        val queue = ArrayDeque<Runnable>()
        val main = Executor { synchronized(queue) { queue.addLast(it) } }
        val worker = Executors.newSingleThreadExecutor()
        val task = Task<Int, String>(worker, main)
        val seen = mutableListOf<String>()
        val screen = Any()
        fun settle() {
            worker.submit {}.get()
            while (true) (synchronized(queue) { queue.removeFirstOrNull() } ?: break).run()
        }
        fun run(name: String, work: (Work<Int>) -> String) {
            seen += name
            task.start(work)
            settle()
        }
        task.watch(screen) { seen += described(it) }
        run("notes") { work ->
            for (note in 1..1000) work.tell(note)
            "end"
        }
        val next = Any()
        seen += "next screen"
        task.watch(next) { seen += "next " + described(it) }
        task.unwatch(screen)
        run("refused") { throw FedgateException("no such file") }
        run("broken") { throw IllegalStateException("oh") }
        run("large") { throw OutOfMemoryError() }
        seen += "cancelled"
        val begun = CountDownLatch(1)
        task.start { work ->
            begun.countDown()
            while (!work.cancelled) Thread.sleep(1)
            throw FedgateException("stopped")
        }
        begun.await()
        task.cancel()
        settle()
        seen += "overtaken"
        task.start { work ->
            while (!work.cancelled) Thread.sleep(1)
            "the first"
        }
        task.start { "the second" }
        settle()
        task.unwatch(next)
        run("unwatched") { "unseen" }
        return seen + described(task.state)
    }

    private fun described(state: State<Int, String>): String = when (state) {
        is State.Idle -> "idle"
        is State.Running -> "running ${state.note}" + if (state.stopping) ", stopping" else ""
        is State.Done -> "done: ${state.result}"
        is State.Failed -> "failed: ${state.message}"
    }
}
