package org.fedgate.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Bundle as Saved
import android.view.MenuItem
import android.view.View
import android.view.ViewGroup
import android.view.WindowManager
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import java.io.FileNotFoundException
import java.io.IOException
import org.fedgate.app.State
import org.fedgate.app.Task
import org.fedgate.core.Bundle
import org.fedgate.core.FedgateException

private const val FOLDER = "folder"
private const val SAVE = 100

/** What the screens have in common: rows of facts, a line that says what happens, and saving to a file. */
abstract class Screen(private val layout: Int) : Activity() {
    protected val app get() = application as FedgateApp
    private val progress by lazy { part<ProgressBar>(R.id.progress) }
    private val message by lazy { part<TextView>(R.id.message) }

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        setContentView(layout)
    }

    /** Shows that nothing runs; text: what there is to say. */
    protected fun idle(text: String = "") {
        progress.visibility = View.GONE
        say(text, false)
        window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    /** Shows that something runs, with the screen on: a phone that sleeps stops what runs. of: 0 where unknown. */
    protected fun busy(text: String, done: Int = 0, of: Int = 0) {
        progress.visibility = View.VISIBLE
        progress.isIndeterminate = of == 0
        progress.max = of
        progress.progress = done
        say(text, false)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    protected fun failed(text: String) {
        idle()
        say(text, true)
    }

    private fun say(text: String, wrong: Boolean) {
        message.setTextColor(getColor(if (wrong) R.color.warning else R.color.words))
        if (message.text.toString() != text) message.text = text // TalkBack reads each change
    }

    /** Fills a column of rows: a name and its value each. */
    protected fun rows(column: Int, facts: List<Pair<String, String>>) {
        val parent = part<ViewGroup>(column)
        parent.removeAllViews()
        for ((name, value) in facts) {
            val row = layoutInflater.inflate(R.layout.row_fact, parent, false)
            row.part<TextView>(R.id.name).text = name
            row.part<TextView>(R.id.value).text = value
            parent.addView(row)
        }
    }

    /** Fills a list to choose from, and keeps what was chosen before a rotation. */
    protected fun choices(spinner: Int, names: List<String>, chosen: Int) {
        val view = part<Spinner>(spinner)
        if (view.adapter != null) return
        val adapter = ArrayAdapter(this, android.R.layout.simple_spinner_item, names)
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        view.adapter = adapter
        view.setSelection(chosen)
    }

    /** Starts another app's screen; what comes back arrives at [arrived]. */
    protected fun ask(intent: Intent, code: Int) {
        try {
            @Suppress("DEPRECATION") // its successor is AndroidX's
            startActivityForResult(intent, code)
        } catch (error: ActivityNotFoundException) {
            failed(getString(R.string.no_app))
        }
    }

    /** Lets the user choose a file for what [content] returns for this code. */
    protected fun save(name: String, type: String, code: Int) {
        val intent = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
        ask(intent.setType(type).putExtra(Intent.EXTRA_TITLE, name), SAVE + code)
    }

    /** What is to be saved, made in the background; null where it is not there any more. */
    protected open fun content(code: Int): (() -> ByteArray)? = null

    /** What another app's screen came back with. */
    protected open fun arrived(code: Int, data: Intent) = Unit

    @Deprecated("its successor is AndroidX's")
    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        if (result != RESULT_OK || data == null) return
        if (code < SAVE) return arrived(code, data)
        val bytes = content(code - SAVE) ?: return failed(getString(R.string.nothing_to_save))
        val uri = data.data ?: return
        app.saving.start { write(uri, bytes()) }
    }

    private fun write(uri: Uri, bytes: ByteArray) {
        try {
            contentResolver.openOutputStream(uri, "wt")?.use { it.write(bytes) } ?: throw FileNotFoundException()
        } catch (error: IOException) {
            throw FedgateException("cannot save it there: ${error.message ?: "that app took nothing"}", error)
        } catch (error: SecurityException) {
            throw FedgateException("cannot save it there: that app refuses", error)
        }
    }

    override fun onStart() {
        super.onStart()
        app.saving.watch(this) { state ->
            when (state) {
                is State.Done -> idle(getString(R.string.saved))
                is State.Failed -> failed(state.message)
                else -> return@watch
            }
            app.saving.clear()
        }
    }

    override fun onStop() {
        app.saving.unwatch(this)
        super.onStop()
    }
}

/** A screen of one bundle, which is opened again where the process was ended meanwhile. */
abstract class BundleScreen(layout: Int) : Screen(layout) {
    private val folder: String get() = intent.getStringExtra(FOLDER).orEmpty()

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        actionBar?.setDisplayHomeAsUpEnabled(true)
        actionBar?.subtitle = folder.substringAfterLast('/')
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        if (item.itemId != android.R.id.home) return super.onOptionsItemSelected(item)
        finish()
        return true
    }

    override fun onStart() {
        super.onStart()
        app.opening.watch(this) { state ->
            when {
                state is State.Done && state.result.bundle.path.path == folder -> ready(state.result)
                state is State.Done || state is State.Idle -> app.open(folder)
                state is State.Failed -> failed(state.message)
                else -> busy(getString(R.string.opening))
            }
        }
    }

    /** Shows how [task] is, which [button] starts and stops; [start]: what the button says while nothing runs. */
    protected fun <N, R> follow(
        task: Task<N, R>, button: Button, start: Int, running: (State.Running<N>) -> Unit, done: (R) -> Unit,
    ) = task.watch(this) { state ->
        button.setText(if (state is State.Running) R.string.stop else start)
        when (state) {
            is State.Running -> running(state)
            is State.Failed -> failed(state.message)
            is State.Done -> done(state.result)
            is State.Idle -> idle()
        }
    }

    /** The bundle is there; called after each start of the screen. */
    protected abstract fun ready(opened: Opened)

    override fun onStop() {
        app.opening.unwatch(this)
        super.onStop()
    }

    companion object {
        /** What starts a screen with a bundle. */
        fun intent(from: Activity, screen: Class<out BundleScreen>, bundle: Bundle): Intent =
            Intent(from, screen).putExtra(FOLDER, bundle.path.path)
    }
}
