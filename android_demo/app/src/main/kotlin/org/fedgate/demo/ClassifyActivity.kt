package org.fedgate.demo

import android.content.Intent
import android.graphics.Bitmap
import android.net.Uri
import android.os.Bundle as Saved
import android.provider.MediaStore
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ImageView
import android.widget.Spinner
import android.widget.TextView
import org.fedgate.app.State
import org.fedgate.app.asFile
import org.fedgate.core.Bundle
import org.fedgate.core.Classifier
import org.fedgate.core.Manifest
import org.fedgate.core.Prediction
import org.fedgate.core.Program
import org.fedgate.core.Tensor
import org.fedgate.core.inputOf
import org.fedgate.core.matching
import org.fedgate.draw.milliseconds
import org.fedgate.draw.percent
import org.fedgate.draw.thousands

private const val GALLERY = 1
private const val CAMERA = 2
private const val SHOWN = 5 // classes

/** A picture that can be classified again, by another program or at another density. */
sealed class Source {
    class Chosen(val uri: Uri) : Source()

    class Taken(val bitmap: Bitmap) : Source()

    class Reference(val index: Int) : Source()
}

/** What was classified, how, and the answer. */
class Answer(val source: Source, val shown: Bitmap, val program: Program, val level: Int, val prediction: Prediction)

/** Which class, and which channels of each layer ran for it. */
class ClassifyActivity : BundleScreen(R.layout.classify) {
    private var opened: Opened? = null
    private var programs = emptyList<Program>()

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        part<View>(R.id.gallery).setOnClickListener {
            ask(Intent(Intent.ACTION_GET_CONTENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*"), GALLERY)
        }
        part<View>(R.id.camera).setOnClickListener { ask(Intent(MediaStore.ACTION_IMAGE_CAPTURE), CAMERA) }
        part<View>(R.id.reference).setOnClickListener {
            val last = app.source as? Source.Reference
            classify(Source.Reference(if (last == null) 0 else last.index + 1))
        }
    }

    override fun ready(opened: Opened) {
        this.opened = opened
        val manifest = opened.bundle.manifest
        programs = matching(opened.bundle, null, null, null).filter { opened.reasons[it.file] == null }
        if (programs.isEmpty()) return failed(getString(R.string.no_program))
        val last = (app.classifying.state as? State.Done)?.result
        choices(R.id.program, programs.map { named(manifest, it) }, maxOf(programs.indexOf(last?.program), 0))
        choices(R.id.level, manifest.densities.map { percent(it) }, last?.level ?: manifest.defaultLevel)
        for (spinner in listOf(R.id.program, R.id.level)) {
            part<Spinner>(spinner).onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
                override fun onItemSelected(parent: AdapterView<*>, view: View?, position: Int, id: Long) = chosen()

                override fun onNothingSelected(parent: AdapterView<*>) = Unit
            }
        }
        app.classifying.watch(this) { state ->
            when (state) {
                is State.Running -> busy(getString(R.string.classifying))
                is State.Failed -> failed(state.message)
                is State.Done -> if (asked(state.result)) show(manifest, state.result) else classify(state.result.source)
                is State.Idle -> idle()
            }
        }
        // a picture that came while the bundle was not open yet, or was looked at with another bundle
        if (app.classifying.state is State.Idle) app.source?.let { classify(it) }
    }

    override fun onStop() {
        app.classifying.unwatch(this)
        super.onStop()
    }

    private fun named(manifest: Manifest, program: Program): String {
        val level = program.level ?: return program.role
        return getString(R.string.static_at, program.role, percent(manifest.densities[level]))
    }

    private val program: Program get() = programs[part<Spinner>(R.id.program).selectedItemPosition.coerceAtLeast(0)]

    /** Programs without levels have their own, or none, which is the default one to the core. */
    private val level: Int
        get() = when {
            program.takesLevel -> part<Spinner>(R.id.level).selectedItemPosition.coerceAtLeast(0)
            else -> program.level ?: opened!!.bundle.manifest.defaultLevel
        }

    /** A program or density was chosen, by the user or by the system when it restores the screen. */
    private fun chosen() {
        part<View>(R.id.level_row).visibility = if (program.takesLevel) View.VISIBLE else View.GONE
        val last = (app.classifying.state as? State.Done)?.result ?: return
        if (!asked(last)) classify(last.source)
    }

    /** Whether an answer is one of the program and density that are chosen now. */
    private fun asked(answer: Answer): Boolean = answer.program === program && answer.level == level

    override fun arrived(code: Int, data: Intent) {
        if (code == GALLERY) data.data?.let { classify(Source.Chosen(it)) }
        @Suppress("DEPRECATION") // its successor is newer than minSdk
        if (code == CAMERA) (data.extras?.get("data") as? Bitmap)?.let { classify(Source.Taken(it)) }
    }

    private fun classify(source: Source) {
        app.source = source
        val bundle = opened?.bundle ?: return // `ready` goes on with it
        if (programs.isEmpty()) return
        val (program, level) = Pair(program, level)
        app.classifying.start {
            val (shown, input) = read(bundle, source)
            Classifier(bundle, program).use { model ->
                model.run(input, level) // the first one is slower
                Answer(source, shown, program, level, model.classify(input, level))
            }
        }
    }

    private fun read(bundle: Bundle, source: Source): Pair<Bitmap, Tensor> = when (source) {
        is Source.Taken -> Pair(source.bitmap, inputOf(BitmapPicture(source.bitmap), bundle.manifest))
        is Source.Chosen -> asFile(cacheDir, openShared(contentResolver, source.uri)) { file ->
            val name = getString(R.string.your_file)
            val input = decode(file, name).use { inputOf(it, bundle.manifest) }
            Pair(shown(file, name), input)
        }
        is Source.Reference -> {
            val reference = bundle.reference()
            val input = reference.input(source.index % reference.count)
            Pair(seen(bundle.manifest, input), input)
        }
    }

    /** A normalised image (1, C, H, W) as a picture. */
    private fun seen(manifest: Manifest, image: Tensor): Bitmap {
        val (_, channels, height, width) = manifest.shape
        val plane = height * width
        val pixels = IntArray(plane) { place ->
            val (red, green, blue) = List(3) {
                val channel = if (channels == 3) it else 0
                val value = image.floats[channel * plane + place] * manifest.std[channel] + manifest.mean[channel]
                (value * 255).toInt().coerceIn(0, 255)
            }
            (255 shl 24) or (red shl 16) or (green shl 8) or blue
        }
        return Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
    }

    private fun show(manifest: Manifest, answer: Answer) {
        val found = answer.prediction
        idle()
        part<View>(R.id.result).visibility = View.VISIBLE
        val picture = part<ImageView>(R.id.picture)
        picture.setImageBitmap(answer.shown)
        picture.contentDescription = getString(R.string.picture_says, found.label)
        part<TextView>(R.id.answer).text = getString(R.string.answer, found.label, percent(found.probability))
        val best = found.probabilities.indices.sortedByDescending { found.probabilities[it] }.take(SHOWN)
        rows(R.id.probabilities, best.map { manifest.labels[it] to percent(found.probabilities[it]) })
        rows(
            R.id.macs,
            listOf(
                getString(R.string.macs_executed) to macs(found.executedMacs, found.denseMacs),
                getString(R.string.macs_asked) to macs(found.askedMacs, found.denseMacs),
                getString(R.string.dense_macs) to thousands(found.denseMacs.toDouble()),
                getString(R.string.time) to milliseconds(found.milliseconds),
            ),
        )
        part<View>(R.id.no_channels).visibility = if (found.layers.isEmpty()) View.VISIBLE else View.GONE
        val layers = part<ViewGroup>(R.id.layers)
        layers.removeAllViews()
        for (layer in found.layers) {
            val row = layoutInflater.inflate(R.layout.row_layer, layers, false)
            row.part<TextView>(R.id.name).text =
                getString(R.string.layer_says, layer.name, layer.open.count { it }, layer.channels)
            row.part<StripView>(R.id.strip).show(layer.name, layer.open)
            layers.addView(row)
        }
    }

    private fun macs(count: Long, dense: Long): String =
        getString(R.string.of_dense, thousands(count.toDouble()), percent(count.toDouble() / dense))
}
