package org.fedgate.demo

import android.content.Intent
import android.os.Bundle as Saved
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import org.fedgate.app.State
import org.fedgate.core.BenchOptions
import org.fedgate.core.bench
import org.fedgate.core.indentedJson
import org.fedgate.draw.Bar
import org.fedgate.draw.milliseconds
import org.fedgate.draw.percent
import org.fedgate.draw.thousands

private const val JSON = 1
private const val MOST_SECONDS = 3600

/** How long the bundle's programs take, in turn, and what the phone did meanwhile. */
class BenchActivity : BundleScreen(R.layout.bench) {
    private var opened: Opened? = null

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        part<View>(R.id.start).setOnClickListener {
            if (app.measuring.state is State.Running) app.measuring.cancel() else measure()
        }
        part<View>(R.id.save).setOnClickListener { save("fedgate-bench.json", "application/json", JSON) }
        part<View>(R.id.share).setOnClickListener {
            json()?.let { text ->
                val send = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, text)
                startActivity(Intent.createChooser(send, getString(R.string.share_json)))
            }
        }
    }

    override fun ready(opened: Opened) {
        this.opened = opened
        val manifest = opened.bundle.manifest
        choices(R.id.level, manifest.densities.map { percent(it) }, manifest.defaultLevel)
        choices(R.id.threads, (1..Runtime.getRuntime().availableProcessors()).map { "$it" }, 0)
        val running = { state: State.Running<Int> ->
            val text = getString(if (state.stopping) R.string.stopping else R.string.measuring)
            busy(text, state.note ?: 0, 1000)
        }
        follow(app.measuring, part<Button>(R.id.start), R.string.measure, running, ::show)
    }

    override fun onStop() {
        app.measuring.unwatch(this)
        super.onStop()
    }

    private fun measure() {
        val bundle = opened?.bundle ?: return
        val seconds = part<EditText>(R.id.seconds).text.toString().toIntOrNull() ?: 0
        if (seconds !in 1..MOST_SECONDS) return failed(getString(R.string.seconds_range, MOST_SECONDS))
        val options = BenchOptions(
            threads = part<Spinner>(R.id.threads).selectedItemPosition + 1,
            level = part<Spinner>(R.id.level).selectedItemPosition,
            seconds = seconds.toDouble(),
        )
        app.measuring.start { work ->
            bench(bundle, options, app.phone, { work.tell((it * 1000).toInt()) }, { work.cancelled })
        }
    }

    private fun show(found: Map<String, Any?>) {
        idle()
        part<View>(R.id.result).visibility = View.VISIBLE
        val rows = objects(found["rows"])
        val bars = rows.map { Bar(role(it), it["p50_ms"] as Double, it["p90_ms"] as Double, times(it)) }
        part<ChartView>(R.id.chart).showBars(bars, bars.joinToString(". ") { "${it.name}: ${it.words}" })
        rows(R.id.rows, rows.map { role(it) to work(it) })
        rows(R.id.phone, (found["machine"] as Map<*, *>).filterValues { it != null }.map { "${it.key}" to "${it.value}" })
        val skipped = objects(found["skipped"]).map { "${it["program"]}: ${it["reason"]}" }
        part<TextView>(R.id.warnings).text = ((found["warnings"] as List<*>) + skipped).joinToString("\n")
    }

    private fun objects(list: Any?) = (list as List<*>).map { it as Map<*, *> }

    private fun role(row: Map<*, *>): String {
        val density = row["density"] as Double? ?: return "${row["role"]}"
        return getString(R.string.static_at, "${row["role"]}", percent(density))
    }

    private fun times(row: Map<*, *>): String =
        getString(R.string.times, milliseconds(row["p50_ms"] as Double), milliseconds(row["p90_ms"] as Double))

    private fun work(row: Map<*, *>): String {
        val macs = thousands((row["executed_macs"] as Number).toDouble())
        val ratio = row["ratio_to_dense"] as Double? ?: return getString(R.string.macs_alone, macs)
        return getString(R.string.macs_and_ratio, macs, percent(ratio))
    }

    private fun json(): String? = (app.measuring.state as? State.Done)?.let { indentedJson(it.result) + "\n" }

    override fun content(code: Int): (() -> ByteArray)? = json()?.let { text -> { text.toByteArray() } }
}
