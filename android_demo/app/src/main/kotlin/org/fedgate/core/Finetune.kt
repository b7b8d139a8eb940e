package org.fedgate.core

import java.io.File

private const val PERSONAL = "personal.safetensors"
private const val WORK = "work"
private const val NAMED = 5 // unreadable images in one error

/**
 * Fine-tunes a bundle's tail on labelled images; writes personal.safetensors and an update, which a federated run with
 * --inbox takes, into the folder [out], and returns the JSON document of `fedgate finetune`.
 *
 * The same call goes on where a stopped or killed one was, and ends with the same bytes. Throws [CancelledException]
 * when [cancelled] says so, [UsageException] for an [out] that is taken, [FedgateException] for the rest.
 */
fun finetune(
    bundle: Bundle,
    examples: Examples,
    out: File,
    plan: TunePlan,
    watcher: TuneWatcher = object : TuneWatcher {},
    cancelled: () -> Boolean = { false },
): Map<String, Any?> {
    val work = File(out, WORK)
    if (File(out, PERSONAL).exists()) throw UsageException("$out holds a finished fine-tuning: choose another place")
    if (out.exists() && !work.isDirectory && (!out.isDirectory || out.list().orEmpty().isNotEmpty())) {
        throw UsageException("$out exists and is no fine-tuning: choose another place")
    }
    val tail = bundle.tail()
    val info = bundle.manifest.tail!!
    val batch = plan.batch(info)
    plan.checkRun(tail.spec.run)
    makeFolder(work)
    TailPrograms(bundle, plan.threads).use { programs ->
        openFeatures(bundle, programs, examples, plan.level, work).use { features ->
            val bad = runTrunk(bundle, programs, examples, features, plan, watcher, cancelled)
            val readable = features.done.indices.filter { features.done[it].toInt() == Features.DONE }.toIntArray()
            val (chosen, held) = heldOut(examples.labels, readable, plan.validation, plan.seed)
            val start = programs.trainer.parameters.mapValues { tail.tensors.getValue(it.key) }
            val state = TailState.initial(start, maskWidth(bundle.manifest.layers))
            val classes = bundle.manifest.labels.size
            val absent = missingClasses(examples.labels, chosen, classes)
            val unseen = missingClasses(examples.labels, held, classes)
            val reference = referenceSet(bundle, programs, start, unseen, plan.level)
            val known = reference?.score(programs, start, plan.level)
            val key = plan.toJson() + mapOf(
                "bundle" to bundle.manifest.digest,
                "program" to programs.trainer.program.sha256,
                "trunk" to programs.trunk.program.sha256,
                "data" to examples.digest,
                "left_out" to bad.size,
            )
            val still = logitRows(bundle.manifest, programs.trainer.parameters, absent)
            val set = TrainingSet(features, examples.labels, chosen, held, still)
            val clock = Clock(watcher)
            val judge = { parameters: Map<String, Tensor> ->
                clock.pause()
                val own = if (held.isEmpty()) null else {
                    score(
                        held.map { programs.logits(parameters, features.features(intArrayOf(it), 1), plan.level) },
                        held.map { examples.labels[it] },
                    )
                }
                val others = reference?.score(programs, parameters, plan.level)
                // the loss on one class alone falls while the others are unlearned
                Judged(own, others, absent.isNotEmpty() && unseen.size == classes - 1).also { clock.start() }
            }
            val done = runTraining(programs.trainer, set, batch, plan, state, work, key, clock, cancelled, judge)
            val after = done.epochs[done.bestEpoch()!! - 1]["reference_accuracy"] as Double?
            val others = reference?.let { Others(it, known!!.accuracy, after!!) }
            fun named(some: List<Int>) = some.map { bundle.manifest.labels[it] }
            return write(bundle, tail, programs, plan, out, done, chosen.size, held.size) + mapOf(
                "absent" to named(absent),
                "unseen" to named(unseen),
                "reference" to others?.toJson(),
                "notes" to notes(bundle.manifest, absent, unseen, others),
                "unreadable" to bad,
                "left_out" to examples.leftOut,
                "step_ms" to clock.milliseconds(),
                "feature_bytes" to features.bytes,
                "peak_rss_mb" to peakRssMb(),
            )
        }
    }
}

/** Writes the results, personal.safetensors last: with it the fine-tuning is finished. */
private fun write(
    bundle: Bundle,
    tail: Tail,
    programs: TailPrograms,
    plan: TunePlan,
    out: File,
    done: Progress,
    examples: Int,
    held: Int,
): Map<String, Any?> {
    val info = bundle.manifest.tail!!
    val update = File(out, "update-client-${plan.client}.safetensors")
    val blob = encodeUpdate(tailUpdate(bundle, tail, done.best, plan, examples), tail.spec)
    val file = plan.key?.sign(blob) ?: blob
    writeFile(update, file)
    val best = done.bestEpoch()!!
    val after = done.epochs[best - 1]["validation_accuracy"] as Double?
    val tensors = tail.spec.parameters.mapValues { tail.tensors.getValue(it.key) } + done.best.parameters
    val personal = Personal(tensors, plan.level, best, done.best.steps, examples, done.before?.accuracy, after)
    writePersonal(File(out, PERSONAL), bundle, personal)
    File(out, WORK).deleteRecursively()
    return mapOf(
        "bundle" to "${bundle.path}",
        "runtime" to "executorch",
        "trunk" to programs.trunk.program.file,
        "trainable" to info.trainable,
        "density" to bundle.manifest.densities[plan.level],
        "examples" to examples,
        "validation_examples" to held,
        "before" to done.before?.accuracy,
        "after" to after,
        "best_epoch" to best,
        "epochs" to done.epochs,
        "steps" to done.best.steps,
        "update_bytes" to file.size,
        "run_trains_it" to (bundle.manifest.training["trainable"] == info.trainable),
        "personal" to "${File(out, PERSONAL)}",
        "update" to "$update",
    )
}

/** Passes on what happens, and measures what a step of this process takes, without judging. */
private class Clock(private val next: TuneWatcher) : TuneWatcher {
    private var steps = 0
    private var spent = 0L
    private var from = System.nanoTime()

    fun pause() {
        spent += System.nanoTime() - from
    }

    fun start() {
        from = System.nanoTime()
    }

    fun milliseconds(): Double? = if (steps == 0) null else spent / 1e6 / steps

    override fun step(epoch: Int, step: Int, loss: Double) {
        pause()
        steps++
        next.step(epoch, step, loss)
        start()
    }

    override fun epoch(row: Map<String, Any?>) = next.epoch(row)
}

private fun openFeatures(bundle: Bundle, programs: TailPrograms, examples: Examples, level: Int, work: File): Features {
    val info = bundle.manifest.tail!!
    val key = mapOf(
        "bundle" to bundle.manifest.digest,
        "trunk" to programs.trunk.program.sha256,
        "level" to level,
        "data" to examples.digest,
    )
    val width = maskWidth(info.trunk(bundle.manifest.layers))
    return Features(work, key, examples.labels.size, info.features, width)
}

/** Runs the trunk on every example that has no features yet; the names of those that cannot be read. */
private fun runTrunk(
    bundle: Bundle,
    programs: TailPrograms,
    examples: Examples,
    features: Features,
    plan: TunePlan,
    watcher: TuneWatcher,
    cancelled: () -> Boolean,
): List<String> {
    val count = examples.labels.size
    val bad = ArrayList<String>()
    var reason: String? = null
    for (index in 0 until count) {
        if (cancelled()) throw stopped()
        if (features.done[index].toInt() != Features.DONE) {
            val pixels = try {
                examples.pixels(index)
            } catch (error: FedgateException) {
                bad.add(examples.names[index])
                reason = reason ?: error.message
                null
            }
            if (pixels == null) {
                features.mark(index, Features.UNREADABLE)
            } else {
                val (row, open) = programs.features(normalise(pixels, bundle.manifest), plan.level)
                features.put(index, row, open)
            }
        }
        watcher.images(index + 1, count)
    }
    features.sync()
    if (bad.size == count) {
        throw FedgateException("none of the $count images of ${examples.source} can be read: $reason")
    }
    if (bad.isNotEmpty() && !plan.skipUnreadable) {
        val more = if (bad.size > NAMED) " and ${bad.size - NAMED} more" else ""
        throw FedgateException(
            "${bad.size} of the $count images of ${examples.source} cannot be read: " +
                "${bad.take(NAMED).joinToString(", ")}$more; remove them, or leave them out with --skip-unreadable"
        )
    }
    return bad
}

/** The update that a trained tail becomes. */
private fun tailUpdate(bundle: Bundle, tail: Tail, trained: TailState, plan: TunePlan, examples: Int): Update {
    val columns = maskColumns(bundle.manifest.layers)
    val values = tail.spec.parameters.mapValues { tail.tensors.getValue(it.key) } + trained.parameters
    val opened = columns.mapValues { (_, own) -> LongArray(own.count()) { trained.opened[own.first + it] } }
    val strength = columns.mapValues { (_, own) -> DoubleArray(own.count()) { trained.strength[own.first + it] } } +
        trunkStrength(bundle, opened, plan.level)
    val touched = columns.mapValues { (_, own) -> BooleanArray(own.count()) { trained.touched[own.first + it] > 0 } }
    return Update(
        client = plan.client,
        examples = examples,
        localSteps = trained.steps,
        level = plan.level,
        samples = if (columns.isEmpty()) 0 else trained.samples.toLong(),
        channels = sentChannels(touched, strength, plan.uploadShare),
        values = values.mapValues { it.value.floats },
        opened = opened,
        strength = strength,
    )
}

/**
 * How strongly the trunk's channels were opened. A trunk program says which were open and not how far: each opening
 * counts with the mean strength of that channel in the bundle's record.
 */
private fun trunkStrength(bundle: Bundle, opened: Map<String, LongArray>, level: Int): Map<String, DoubleArray> {
    val record = bundle.salience()["global"]
    val trunk = bundle.manifest.tail!!.trunk(bundle.manifest.layers)
    return gated(trunk).associate { layer ->
        val from = level * layer.outChannels
        val times = record?.opened?.getValue(layer.name)
        val sums = record?.strength?.getValue(layer.name)
        layer.name to DoubleArray(layer.outChannels) { c ->
            val before = times?.get(from + c) ?: 0L
            val mean = if (sums != null && before > 0) sums[from + c] / before else 1.0
            opened.getValue(layer.name)[c] * mean
        }
    }
}
