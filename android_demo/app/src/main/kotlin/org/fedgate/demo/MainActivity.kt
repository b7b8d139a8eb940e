package org.fedgate.demo

import android.content.Intent
import android.os.Bundle as Saved
import android.view.View
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import org.fedgate.app.Place
import org.fedgate.app.State
import org.fedgate.core.Manifest
import org.fedgate.core.Program
import org.fedgate.core.denseMacs
import org.fedgate.core.verify
import org.fedgate.draw.percent
import org.fedgate.draw.thousands

private const val FOLDER = 1

/** Which bundle, and what is inside. */
class MainActivity : Screen(R.layout.main) {
    private val places by lazy { part<RadioGroup>(R.id.bundles) }

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        part<TextView>(R.id.hint).text = getString(R.string.no_bundles, app.shared)
        part<View>(R.id.add).setOnClickListener { ask(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), FOLDER) }
        part<View>(R.id.verify).setOnClickListener {
            (app.opening.state as? State.Done)?.let { opened -> app.verifying.start { verify(opened.result.bundle) } }
        }
        start(R.id.classify, ClassifyActivity::class.java)
        start(R.id.benchmark, BenchActivity::class.java)
        start(R.id.finetune, TuneActivity::class.java)
    }

    private fun start(button: Int, screen: Class<out BundleScreen>) =
        part<View>(button).setOnClickListener {
            (app.opening.state as? State.Done)?.let { startActivity(BundleScreen.intent(this, screen, it.result.bundle)) }
        }

    override fun onStart() {
        super.onStart()
        app.listing.watch(this) { state ->
            when (state) {
                is State.Done -> list(state.result)
                is State.Failed -> failed(state.message)
                else -> Unit
            }
        }
        app.bringing.watch(this) { state ->
            when (state) {
                is State.Running -> busy(getString(R.string.copying), state.note ?: 0, 1000)
                is State.Failed -> failed(state.message).also { app.bringing.clear() }
                is State.Done -> {
                    app.open(state.result)
                    app.list()
                    app.bringing.clear()
                }
                else -> Unit
            }
        }
        app.opening.watch(this) { state ->
            if (app.bringing.state is State.Idle) {
                when (state) {
                    is State.Running -> busy(getString(R.string.checking))
                    is State.Failed -> failed(state.message)
                    else -> idle()
                }
            }
            part<View>(R.id.opened).visibility = if (state is State.Done) View.VISIBLE else View.GONE
            if (state is State.Done) show(state.result)
        }
        app.verifying.watch(this) { state ->
            when (state) {
                is State.Running -> busy(getString(R.string.verifying))
                is State.Failed -> failed(state.message)
                is State.Done -> verified(state.result)
                is State.Idle -> Unit
            }
        }
        app.list()
    }

    override fun onStop() {
        app.listing.unwatch(this)
        app.verifying.unwatch(this)
        app.bringing.unwatch(this)
        app.opening.unwatch(this)
        super.onStop()
    }

    override fun arrived(code: Int, data: Intent) {
        val tree = DocumentTree(contentResolver, data.data ?: return, cacheDir)
        app.bringing.start { work ->
            app.library.bring(tree, { work.tell((1000 * it).toInt()) }, { work.cancelled })
        }
    }

    private fun list(found: List<Place>) {
        part<View>(R.id.hint).visibility = if (found.isEmpty()) View.VISIBLE else View.GONE
        places.removeAllViews()
        places.setOnCheckedChangeListener(null)
        for (place in found) {
            val button = RadioButton(this)
            button.id = View.generateViewId()
            button.text = place.name
            button.minHeight = resources.getDimensionPixelSize(R.dimen.touch)
            button.tag = place
            places.addView(button)
            if (place.folder.path == app.chosen) button.isChecked = true
        }
        places.setOnCheckedChangeListener { group, id ->
            app.open(group.part<View>(id).tag as Place)
        }
    }

    private fun show(opened: Opened) {
        val manifest = opened.bundle.manifest
        part<View>(R.id.finetune).isEnabled = manifest.tail != null
        rows(R.id.facts, facts(manifest))
        rows(R.id.programs, manifest.programs.map { it.file to about(it, opened.reasons[it.file]) })
    }

    private fun verified(rows: List<Map<String, Any?>>) {
        idle()
        rows(R.id.programs, rows.map { row ->
            val reason = row["reason"]
            "${row["file"]}" to when (row["status"]) {
                "ok" -> getString(R.string.verified, row["compared"], row["max_error"])
                "skipped" -> getString(R.string.skipped, reason)
                else -> getString(R.string.mismatch, reason)
            }
        })
    }

    private fun facts(manifest: Manifest): List<Pair<String, String>> {
        val (_, channels, height, width) = manifest.shape
        val levels = manifest.densities.mapIndexed { index, density ->
            if (index == manifest.defaultLevel) getString(R.string.default_level, percent(density)) else percent(density)
        }
        val tail = manifest.tail
        return listOf(
            getString(R.string.model) to manifest.model,
            getString(R.string.gate) to manifest.gate,
            getString(R.string.dataset) to manifest.dataset,
            getString(R.string.input) to getString(R.string.input_says, channels, height, width),
            getString(R.string.labels) to manifest.labels.joinToString(", "),
            getString(R.string.densities) to levels.joinToString(", "),
            getString(R.string.dense_macs) to thousands(denseMacs(manifest.layers).values.sum().toDouble()),
            getString(R.string.trains) to (tail?.trainable ?: getString(R.string.nothing)),
        ) + manifest.training.map { (key, value) -> key.replace('_', ' ') to value.toString() }
    }

    private fun about(program: Program, reason: String?): String {
        val size = getString(R.string.bytes, thousands(program.bytes.toDouble()))
        return listOf(program.runtime, program.role, size, reason ?: getString(R.string.runs)).joinToString("\n")
    }
}
