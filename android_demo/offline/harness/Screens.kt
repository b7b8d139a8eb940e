package org.fedgate.harness

import java.io.File
import org.fedgate.core.BenchOptions
import org.fedgate.core.Bundle
import org.fedgate.core.Classifier
import org.fedgate.core.Runtimes
import org.fedgate.core.TunePlan
import org.fedgate.core.bench
import org.fedgate.core.canonicalJson
import org.fedgate.core.finetune
import org.fedgate.core.loadBundle
import org.fedgate.core.loadExamples
import org.fedgate.core.matching
import org.fedgate.draw.Bar
import org.fedgate.draw.Ink
import org.fedgate.draw.Series
import org.fedgate.draw.bars
import org.fedgate.draw.curves
import org.fedgate.draw.milliseconds
import org.fedgate.draw.percent
import org.fedgate.draw.strip
import org.fedgate.draw.thousands

private const val WIDTH = 328f // dp: a phone's 360 less the page's padding

/** BUNDLE PICTURES WORK KERNEL: what the app's screens show of a real run, as JSON; shapes at 1 pixel a dp. */
object Screens {
    @JvmStatic
    fun main(arguments: Array<String>) {
        Runtimes.kernelLoader = { System.load(arguments[3]) }
        val bundle = loadBundle(File(arguments[0]))
        val shown = mapOf(
            "classify" to classify(bundle),
            "bench" to measured(bundle),
            "tune" to tuned(bundle, File(arguments[1]), File(arguments[2])),
        )
        println(canonicalJson(shown))
    }

    private fun classify(bundle: Bundle): Map<String, Any?> {
        val manifest = bundle.manifest
        val program = matching(bundle, "executorch", "skip", null).single()
        val image = bundle.reference().input(0)
        val found = Classifier(bundle, program).use { model ->
            model.run(image, manifest.defaultLevel)
            model.classify(image, manifest.defaultLevel)
        }
        fun share(count: Long) =
            listOf("of_dense", thousands(count.toDouble()), percent(count.toDouble() / found.denseMacs))
        val best = found.probabilities.indices.sortedByDescending { found.probabilities[it] }.take(5)
        return mapOf(
            "program" to program.role,
            "level" to percent(manifest.densities[manifest.defaultLevel]),
            "answer" to listOf("answer", found.label, percent(found.probability)),
            "probabilities" to best.map { listOf(manifest.labels[it], percent(found.probabilities[it])) },
            "macs" to listOf(
                listOf("macs_executed", share(found.executedMacs)),
                listOf("macs_asked", share(found.askedMacs)),
                listOf("dense_macs", thousands(found.denseMacs.toDouble())),
                listOf("time", milliseconds(found.milliseconds)),
            ),
            "layers" to found.layers.map { layer ->
                val says = listOf("layer_says", layer.name, layer.open.count { it }, layer.channels)
                mapOf("name" to says, "strip" to strip(layer.open, WIDTH, 24f, 1f).map { told(it) })
            },
            "image" to image.floats.toList(),
        )
    }

    private fun measured(bundle: Bundle): Map<String, Any?> {
        val found = bench(bundle, BenchOptions(seconds = 10.0), JvmDevice())
        val rows = (found["rows"] as List<*>).map { it as Map<*, *> }
        fun role(row: Map<*, *>): Any =
            (row["density"] as Double?)?.let { listOf("static_at", row["role"], percent(it)) } ?: row["role"]!!
        val charted = rows.map { row ->
            val (p50, p90) = listOf("p50_ms", "p90_ms").map { row[it] as Double }
            val density = row["density"] as Double?
            val name = if (density == null) "${row["role"]}" else "${row["role"]} at ${percent(density)}"
            Bar(name, p50, p90, "${milliseconds(p50)}, p90 ${milliseconds(p90)}")
        }
        return mapOf(
            "chart" to bars(charted, WIDTH, 1f, 1f).map { told(it) },
            "rows" to rows.map { row ->
                val macs = thousands((row["executed_macs"] as Number).toDouble())
                val ratio = row["ratio_to_dense"] as Double?
                listOf(role(row), if (ratio == null) listOf("macs_alone", macs) else listOf("macs_and_ratio", macs, percent(ratio)))
            },
            "phone" to (found["machine"] as Map<*, *>).filterValues { it != null }.map { listOf("${it.key}", "${it.value}") },
            "warnings" to found["warnings"],
        )
    }

    private fun tuned(bundle: Bundle, data: File, work: File): Map<String, Any?> {
        val examples = loadExamples(data, bundle.manifest, JvmDevice())
        val plan = TunePlan(level = bundle.manifest.defaultLevel, epochs = 10)
        val found = finetune(bundle, examples, work, plan)
        val epochs = (found["epochs"] as List<*>).map { it as Map<*, *> }
        fun line(name: String, key: String, ink: Ink) =
            Series(name, DoubleArray(epochs.size) { epochs[it][key] as Double? ?: Double.NaN }, ink)
        val lines = listOf(line("training loss", "loss", Ink.FIRST), line("held-out loss", "validation_loss", Ink.SECOND))
        val chart = curves(lines, "epoch", WIDTH, 200f, 1f, 1f) { text, size -> 0.53f * size * text.length }
        return mapOf(
            "chart" to chart.map { told(it) },
            "notes" to found["notes"],
            "rows" to listOf(
                listOf("before", percent(found["before"] as Double)),
                listOf("after", percent(found["after"] as Double)),
                listOf("held_out", "${found["validation_examples"]}"),
                listOf("trained_on", "${found["examples"]}"),
                listOf("best_epoch", "${found["best_epoch"]}"),
                listOf("steps", "${found["steps"]}"),
                listOf("step_time", milliseconds(found["step_ms"] as Double)),
                listOf("update_size", listOf("bytes", thousands((found["update_bytes"] as Number).toDouble()))),
            ),
        )
    }
}
