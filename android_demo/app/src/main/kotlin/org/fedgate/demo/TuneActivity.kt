package org.fedgate.demo

import android.content.Intent
import android.net.Uri
import android.os.Bundle as Saved
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.TextView
import java.io.File
import org.fedgate.app.State
import org.fedgate.app.Work
import org.fedgate.app.tunePlan
import org.fedgate.app.tuningFolder
import org.fedgate.core.Pictures
import org.fedgate.core.TuneWatcher
import org.fedgate.core.UsageException
import org.fedgate.core.finetune
import org.fedgate.core.leftOutNote
import org.fedgate.core.readFile
import org.fedgate.draw.Ink
import org.fedgate.draw.Series
import org.fedgate.draw.milliseconds
import org.fedgate.draw.percent
import org.fedgate.draw.thousands

private const val FOLDER = 1
private const val UPDATE = 1
private const val PERSONAL = 2
private const val DATA = "data"

/** How far a fine-tuning is: pictures read, or where the training is; and the epochs so far. */
class TuneNote(val done: Int, val of: Int, val epoch: Int, val loss: Double?, val epochs: List<Map<String, Any?>>)

/** Trains the bundle's tail on pictures by class. */
class TuneActivity : BundleScreen(R.layout.tune) {
    private var opened: Opened? = null
    private var data: Uri? = null

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        data = saved?.getString(DATA)?.let { Uri.parse(it) }
        showFolder()
        part<View>(R.id.folder).setOnClickListener { ask(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), FOLDER) }
        part<View>(R.id.start).setOnClickListener {
            if (app.tuning.state is State.Running) app.tuning.cancel() else train()
        }
        part<View>(R.id.save_update).setOnClickListener { save(file("update")?.name.orEmpty(), BINARY, UPDATE) }
        part<View>(R.id.save_personal).setOnClickListener { save(file("personal")?.name.orEmpty(), BINARY, PERSONAL) }
    }

    override fun onSaveInstanceState(out: Saved) {
        super.onSaveInstanceState(out)
        data?.let { out.putString(DATA, it.toString()) }
    }

    override fun arrived(code: Int, data: Intent) {
        val uri = data.data ?: return
        try {
            contentResolver.takePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)
        } catch (error: SecurityException) {
            // whoever keeps it lends it only for as long as the app runs
        }
        this.data = uri
        showFolder()
    }

    private fun showFolder() {
        data?.let { part<TextView>(R.id.data).text = DocumentTree(contentResolver, it, cacheDir).name }
    }

    override fun ready(opened: Opened) {
        this.opened = opened
        val running = { state: State.Running<TuneNote> -> show(state.note, state.stopping) }
        follow(app.tuning, part<Button>(R.id.start), R.string.train, running) { show(it) }
    }

    override fun onStop() {
        app.tuning.unwatch(this)
        super.onStop()
    }

    private fun train() {
        val bundle = opened?.bundle ?: return
        val uri = data ?: return failed(getString(R.string.no_folder))
        val plan = try {
            tunePlan(bundle.manifest.defaultLevel, typed(R.id.epochs), typed(R.id.rate), typed(R.id.client))
        } catch (error: UsageException) {
            return failed(error.message.orEmpty())
        } ?: return failed(getString(R.string.no_number))
        part<View>(R.id.result).visibility = View.GONE
        part<View>(R.id.chart).visibility = View.GONE
        val tree = DocumentTree(contentResolver, uri, cacheDir)
        app.tuning.start { work ->
            val examples = Pictures(tree, bundle.manifest, app.phone) { work.cancelled }
            val out = tuningFolder(filesDir, bundle, examples, plan)
            finetune(bundle, examples, out, plan, Notes(work), { work.cancelled })
        }
    }

    /** A line for each kind of thing in the folder that was not used. */
    private fun leftOut(found: Map<String, Any?>): List<String> {
        val unreadable = (found["unreadable"] as List<*>).map { "$it" }
        val lines = (found["left_out"] as List<*>).map { "$it" }
        return if (unreadable.isEmpty()) lines else lines + leftOutNote("cannot be read", unreadable)
    }

    private fun typed(field: Int): String = part<EditText>(field).text.toString()

    /** Tells the screen what the core's watcher hears. */
    private class Notes(private val work: Work<TuneNote>) : TuneWatcher {
        private var epochs = emptyList<Map<String, Any?>>()

        override fun images(done: Int, of: Int) = work.tell(TuneNote(done, of, 0, null, epochs))

        override fun step(epoch: Int, step: Int, loss: Double) = work.tell(TuneNote(step, 0, epoch + 1, loss, epochs))

        override fun epoch(row: Map<String, Any?>) {
            epochs = epochs + row
        }
    }

    private fun show(note: TuneNote?, stopping: Boolean) {
        val loss = note?.loss
        when {
            stopping -> busy(getString(R.string.stopping))
            note == null -> busy(getString(R.string.reading))
            loss == null -> busy(getString(R.string.pictures_read, note.done, note.of), note.done, note.of)
            else -> busy(getString(R.string.training, note.epoch, note.done, loss))
        }
        if (note != null) chart(note.epochs)
    }

    @Suppress("UNCHECKED_CAST")
    private fun show(found: Map<String, Any?>) {
        idle(leftOut(found).joinToString("\n"))
        chart(found["epochs"] as List<Map<String, Any?>>)
        part<View>(R.id.result).visibility = View.VISIBLE
        part<TextView>(R.id.notes).text = (found["notes"] as List<*>).joinToString("\n")
        fun accuracy(key: String) = (found[key] as Double?)?.let { percent(it) } ?: getString(R.string.not_held_out)
        rows(
            R.id.rows,
            listOf(
                getString(R.string.before) to accuracy("before"),
                getString(R.string.after) to accuracy("after"),
                getString(R.string.held_out) to "${found["validation_examples"]}",
                getString(R.string.trained_on) to "${found["examples"]}",
                getString(R.string.best_epoch) to "${found["best_epoch"]}",
                getString(R.string.steps) to "${found["steps"]}",
                getString(R.string.step_time) to ((found["step_ms"] as Double?)?.let { milliseconds(it) } ?: ""),
                getString(R.string.update_size) to
                    getString(R.string.bytes, thousands((found["update_bytes"] as Number).toDouble())),
            ),
        )
    }

    private fun chart(epochs: List<Map<String, Any?>>) {
        val view = part<ChartView>(R.id.chart)
        view.visibility = if (epochs.isEmpty()) View.GONE else View.VISIBLE
        if (epochs.isEmpty()) return
        fun line(name: Int, key: String, ink: Ink) =
            Series(getString(name), DoubleArray(epochs.size) { epochs[it][key] as Double? ?: Double.NaN }, ink)
        val lines = listOf(
            line(R.string.loss, "loss", Ink.FIRST), line(R.string.loss_held_out, "validation_loss", Ink.SECOND),
        )
        val spoken = lines.filter { it.values.last().isFinite() }.joinToString(". ") { line ->
            getString(R.string.loss_says, line.name, line.values.first(), line.values.last(), line.values.size)
        }
        view.showCurves(lines.filter { line -> line.values.any { it.isFinite() } }, getString(R.string.epoch), spoken)
    }

    private fun file(key: String): File? = (app.tuning.state as? State.Done)?.let { File(it.result[key] as String) }

    override fun content(code: Int): (() -> ByteArray)? =
        file(if (code == UPDATE) "update" else "personal")?.let { file -> { readFile(file) } }

    private companion object {
        const val BINARY = "application/octet-stream"
    }
}
