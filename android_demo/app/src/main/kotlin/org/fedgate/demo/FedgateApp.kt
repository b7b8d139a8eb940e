package org.fedgate.demo

import android.app.Application
import android.content.res.AssetManager
import android.os.Build
import android.os.Handler
import android.os.Looper
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import org.fedgate.app.Assets
import org.fedgate.app.Library
import org.fedgate.app.Place
import org.fedgate.app.Task
import org.fedgate.app.Work
import org.fedgate.app.lacksAtomics
import org.fedgate.core.Bundle
import org.fedgate.core.Runtimes
import org.fedgate.core.FedgateException

/** A checked bundle, and by file why a program cannot run here, null where it can. */
class Opened(val bundle: Bundle, val reasons: Map<String, String?>)

private class Packed(private val assets: AssetManager) : Assets {
    override fun list(folder: String): List<String> = (assets.list(folder) ?: emptyArray()).toList()

    override fun open(file: String): InputStream = assets.open(file)
}

/** What the screens share, for as long as the process lives. */
class FedgateApp : Application() {
    private val handler = Handler(Looper.getMainLooper())
    private val main = Executor { handler.post(it) }
    private val worker = thread("work")
    private val aside = thread("files")

    /** The folder that `adb push` reaches; null while there is no shared storage. */
    val shared: File? get() = getExternalFilesDir(null)
    val library by lazy { Library(Packed(assets), filesDir, shared) }

    val listing = Task<Unit, List<Place>>(aside, main)
    val saving = Task<Unit, Unit>(aside, main)
    val bringing = Task<Int, Place>(worker, main) // tells thousandths
    val opening = Task<Unit, Opened>(worker, main)
    val verifying = Task<Unit, List<Map<String, Any?>>>(worker, main)
    val classifying = Task<Unit, Answer>(worker, main)
    val measuring = Task<Int, Map<String, Any?>>(worker, main) // tells thousandths
    val tuning = Task<TuneNote, Map<String, Any?>>(worker, main)

    val phone by lazy { Phone(this) }

    /** The folder of the bundle that is open, or being opened. */
    var chosen: String? = null
        private set

    /** The picture that was classified last. */
    var source: Source? = null

    private fun thread(name: String): Executor = Executors.newSingleThreadExecutor { Thread(it, name) }

    fun list() = listing.start { library.list() }

    fun open(folder: String) = open(Place(File(folder).name, File(folder)))

    fun open(place: Place) {
        if (chosen != place.folder.path) listOf(verifying, classifying, measuring, tuning).forEach { it.clear() }
        chosen = place.folder.path
        opening.start {
            refuseOldCores()
            val bundle = library.open(place)
            Opened(bundle, bundle.manifest.programs.associate { it.file to Runtimes.whyNot(it) })
        }
    }

    /** Throws [FedgateException] on a phone where ExecuTorch would end the process. */
    fun refuseOldCores() {
        val told = try {
            File("/proc/cpuinfo").readText()
        } catch (error: IOException) {
            return
        }
        if (resources.getBoolean(R.bool.needs_atomics) && lacksAtomics(Build.SUPPORTED_ABIS.first(), told)) {
            throw FedgateException(getString(R.string.old_cores))
        }
    }

    /** Work for another machine, which waits for its turn behind what runs here. */
    fun request(work: (Work<Unit>) -> Unit): Task<Unit, Unit> = Task<Unit, Unit>(worker, main).also { it.start(work) }
}
