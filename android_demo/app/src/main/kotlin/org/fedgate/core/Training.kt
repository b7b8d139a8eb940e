package org.fedgate.core

import java.io.File

private const val SAVED = "training.safetensors"
private const val SAVE_SECONDS = 20.0 // of training that a killed process may lose

/** What a caller may show while it waits. */
interface TuneWatcher {
    /** The trunk has run on [done] of [of] images. */
    fun images(done: Int, of: Int) {}

    /** A step of this epoch, from 0, is over; steps count from 1. */
    fun step(epoch: Int, step: Int, loss: Double) {}

    /** An epoch is over: epoch (from 1), loss, accuracy, validation_loss and validation_accuracy or null. */
    fun epoch(row: Map<String, Any?>) {}
}

/** Accuracy, and mean cross-entropy. */
class Score(val accuracy: Double, val loss: Double)

/** A training so far. best: the state after the epoch with the lowest loss that it is judged by, or the last one. */
class Progress(val state: TailState, val best: TailState, val epochs: List<Map<String, Any?>>, val before: Score?) {
    /** From 1; null before the first has ended. */
    fun bestEpoch(): Int? {
        if (epochs.isEmpty()) return null
        val losses = epochs.map { (it["judged_loss"] ?: it["validation_loss"]) as Double? ?: return epochs.size }
        return losses.indexOf(losses.minOrNull()) + 1
    }

    fun done(plan: TunePlan, judged: Boolean): Boolean {
        val stalled = judged && epochs.size - (bestEpoch() ?: 0) >= plan.patience
        return epochs.size == plan.epochs || (epochs.isNotEmpty() && stalled)
    }
}

/**
 * What a training learns from. chosen, held: rows of [features] and [labels]. still: by name of a parameter the rows of
 * it, and of its momentum, that no step moves.
 */
class TrainingSet(
    val features: Features,
    val labels: IntArray,
    val chosen: IntArray,
    val held: IntArray,
    val still: Map<String, List<Int>> = emptyMap(),
)

/**
 * How good parameters are: held, on the held-out rows, and others, on reference images of classes that these lack.
 * Where [both] an epoch is judged by the mean of the two losses.
 */
class Judged(val held: Score?, val others: Score?, private val both: Boolean) {
    /** What an epoch's row has of it. */
    fun row(): Map<String, Any?> {
        val row = mapOf("validation_loss" to held?.loss, "validation_accuracy" to held?.accuracy)
        if (others == null) return row
        val own = row + mapOf("reference_loss" to others.loss, "reference_accuracy" to others.accuracy)
        if (held == null || !both) return own
        return own + mapOf("judged_loss" to (held.loss + others.loss) / 2)
    }
}

/**
 * Trains until the plan's epochs are over, or `patience` epochs brought no lower loss.
 *
 * key: all that the result depends on; what [folder] holds of the same key is continued, and of another refused. Stops
 * when [cancelled] says so, with the state saved. judge: parameters -> how good they are.
 */
fun runTraining(
    trainer: Trainer,
    set: TrainingSet,
    batchSize: Int,
    plan: TunePlan,
    start: TailState,
    folder: File,
    key: Map<String, Any?>,
    watcher: TuneWatcher,
    cancelled: () -> Boolean,
    judge: (Map<String, Tensor>) -> Judged,
): Progress {
    val judged = set.held.isNotEmpty()
    var now = saved(folder, key, start) ?: Progress(start, start, emptyList(), judge(start.parameters).held)
    var last = System.nanoTime()
    var failed: FedgateException? = null
    try {
        while (!now.done(plan, judged)) {
            val parts = batches(set.chosen, batchSize, plan.seed, now.state.epoch)
            if (now.state.batch == 0) now = Progress(now.state.newEpoch(), now.best, now.epochs, now.before)
            for (rows in parts.drop(now.state.batch)) {
                if (cancelled()) throw stopped()
                val before = now.state
                val state = trainStep(trainer, set, rows, plan, before)
                val loss = state.sums[0] - before.sums[0]
                now = if (state.batch < parts.size) Progress(state, now.best, now.epochs, now.before)
                else afterEpoch(now, state.epochDone(), judge(state.parameters))
                if (System.nanoTime() - last > SAVE_SECONDS * 1e9) {
                    save(folder, key, now)
                    last = System.nanoTime()
                }
                watcher.step(before.epoch, state.steps, loss / rows.size)
            }
            watcher.epoch(now.epochs.last())
        }
    } catch (error: FedgateException) {
        failed = error
    }
    try {
        save(folder, key, now)
    } catch (error: FedgateException) {
        throw failed ?: error
    }
    if (failed != null) throw failed
    return now
}

/** What ends a fine-tuning that the user stopped. */
internal fun stopped() = CancelledException("the fine-tuning was stopped; the same one goes on where it was")

private fun afterEpoch(now: Progress, state: TailState, judged: Judged): Progress {
    val row = mapOf(
        "epoch" to state.epoch,
        "loss" to state.loss,
        "accuracy" to state.accuracy,
    ) + judged.row()
    val next = Progress(state, now.best, now.epochs + row, now.before)
    return if (next.bestEpoch() == next.epochs.size) Progress(state, state, next.epochs, now.before) else next
}

private fun save(folder: File, key: Map<String, Any?>, now: Progress) {
    val before = now.before?.let { mapOf("accuracy" to it.accuracy, "loss" to it.loss) }
    val counts = mapOf("state" to now.state.counts(), "best" to now.best.counts())
    val meta = counts + mapOf("key" to key, "epochs" to now.epochs, "before" to before)
    writeTensors(File(folder, SAVED), now.state.tensors("state/") + now.best.tensors("best/"), meta)
}

private fun saved(folder: File, key: Map<String, Any?>, like: TailState): Progress? {
    val file = File(folder, SAVED)
    if (!file.isFile) return null
    val read = readTensors(file)
    if (canonicalJson(read.meta["key"]) != canonicalJson(key)) {
        val old = read.meta["key"] as? Map<*, *> ?: emptyMap<String, Any?>()
        val other = key.keys.filter { canonicalJson(old[it]) != canonicalJson(key[it]) }.sorted().joinToString(", ")
        throw UsageException(
            "${folder.parent} holds an unfinished fine-tuning of another $other: " +
                "go on with what it began with, or choose another place"
        )
    }
    val fields = Fields(read.meta, "the saved state of the fine-tuning")
    val rows = fields.items("epochs", 0, 10_000).map { savedRow(Fields(it, "an epoch of the saved fine-tuning")) }
    val before = fields.get("before")?.let { Fields(it, "the score of the saved fine-tuning") }
    return Progress(
        TailState.read(read, fields.get("state"), "state/", like),
        TailState.read(read, fields.get("best"), "best/", like),
        rows,
        before?.let { Score(it.number("accuracy", 0.0, 1.0), it.number("loss", 0.0, Double.MAX_VALUE)) },
    )
}

private fun savedRow(fields: Fields): Map<String, Any?> {
    fun number(key: String) = if (fields.get(key) == null) null else fields.number(key, 0.0, Double.MAX_VALUE)
    val always = listOf("loss", "accuracy", "validation_loss", "validation_accuracy")
    val others = listOf("reference_loss", "reference_accuracy", "judged_loss").filter { it in fields.all }
    val numbers = (always + others).associateWith { number(it) }
    return mapOf("epoch" to fields.int("epoch", 1, 10_000)) + numbers
}

/** Accuracy and mean cross-entropy of logits against labels. */
fun score(logits: List<FloatArray>, labels: List<Int>): Score {
    var right = 0
    var loss = 0.0
    logits.forEachIndexed { i, row ->
        val largest = row.maxOrNull()!!.toDouble()
        if (row.indexOfFirst { it.toDouble() == largest } == labels[i]) right++
        loss += Math.log(row.sumOf { Math.exp(it - largest) }) - (row[labels[i]] - largest)
    }
    return Score(right.toDouble() / labels.size, loss / labels.size)
}
