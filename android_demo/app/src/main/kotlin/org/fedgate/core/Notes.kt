package org.fedgate.core

import java.math.BigDecimal
import java.math.RoundingMode

private const val NAMED_CLASSES = 10 // in one line
private const val WORST_LOSS = 0.1 // of the accuracy on other classes, before a line warns of it

/** What became of the classes that no held-out image shows, judged on the bundle's reference images. */
class Others(val set: ReferenceSet, val before: Double, val after: Double) {
    fun toJson(): Map<String, Any?> = mapOf(
        "images" to set.labels.size,
        "classes" to set.classes,
        "labelled" to set.labelled,
        "before" to before,
        "after" to after,
    )
}

/**
 * What a fine-tuning on few classes has to tell, in the lines of device_runtime/tuning/notes.py. absent: classes without
 * images to train on; unseen: those that no held-out image shows.
 */
fun notes(manifest: Manifest, absent: List<Int>, unseen: List<Int>, others: Others?): List<String> {
    val labels = manifest.labels
    val lines = ArrayList<String>()
    fun named(classes: List<Int>): String {
        val more = if (classes.size > NAMED_CLASSES) " and ${classes.size - NAMED_CLASSES} more" else ""
        return classes.take(NAMED_CLASSES).joinToString(", ") { labels[it] } + more
    }
    if (absent.isNotEmpty()) lines += "no images of ${named(absent)}: their logits' parameters stay as they are"
    val held = labels.indices - unseen.toSet()
    if (held.size == 1 && labels.size > 1) {
        lines += "the held-out images are all of ${labels[held[0]]}: accuracy on them does not tell what else is known"
    } else if (held.isNotEmpty() && unseen.size > absent.size) {
        val few = named(unseen - absent.toSet())
        lines += "no held-out images of $few: accuracy on the held-out images does not tell of them"
    }
    if (others != null) {
        lines += referenceNotes(others, absent.size, unseen.size, manifest.tail!!.trainable)
    } else if (absent.isNotEmpty()) {
        lines += "the bundle has no reference images of these classes: what the training took from them is not known"
    }
    return lines
}

private fun referenceNotes(others: Others, absent: Int, unseen: Int, trainable: String): List<String> {
    val which = if (unseen == absent) "absent here" else "that no held-out image shows"
    val covered = if (others.set.classes < unseen) " of ${others.set.classes} of these $unseen classes" else ""
    val told = "${percent(others.before)} before, ${percent(others.after)} after"
    val count = others.set.labels.size
    val images = "$count image${if (count == 1) "" else "s"}$covered"
    val lines = arrayListOf("accuracy on the bundle's reference images, of the classes $which ($images): $told")
    if (!others.set.labelled) {
        lines += "these reference images have no labels: what the untuned network says of them counts as right; " +
            "a bundle that is exported anew has labels"
    }
    val lost = others.before - others.after
    if (lost > WORST_LOSS) {
        val head = if (trainable == "head") "" else ", or a bundle exported with --trainable head"
        lines += "warning: the training unlearned other classes, ${rounded(100 * lost, 0)} points of their accuracy: " +
            "add images of them, or take a lower --lr, fewer --epochs$head"
    }
    return lines
}

private fun percent(share: Double) = "${rounded(share * 100, 1)}%"

/** As Python's format rounds. */
private fun rounded(value: Double, places: Int): String =
    BigDecimal(value).setScale(places, RoundingMode.HALF_EVEN).toPlainString()
