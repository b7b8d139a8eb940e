package org.fedgate.core

/** The classes, in order, that none of these rows has. */
fun missingClasses(labels: IntArray, rows: IntArray, classes: Int): List<Int> {
    val present = rows.map { labels[it] }.toSet()
    return (0 until classes).filter { it !in present }
}

/**
 * By name of each parameter of the last layer that has a row for each class: the rows of [classes].
 *
 * Every image of another class pushes their logits down, which on few classes soon unlearns them; see
 * device_runtime/tuning/absent.py.
 */
fun logitRows(manifest: Manifest, parameters: Map<String, List<Int>>, classes: List<Int>): Map<String, List<Int>> {
    if (classes.isEmpty()) return emptyMap()
    val last = "${manifest.layers.last().name}."
    val own = parameters.filter { (name, shape) -> name.startsWith(last) && shape.first() == manifest.labels.size }
    return own.mapValues { classes }
}

/** A tensor after a step, with some rows as they were before it. */
internal fun but(after: Tensor, before: Tensor, rows: List<Int>?): Tensor {
    if (rows == null) return after
    val values = after.floats.copyOf()
    val width = values.size / after.shape[0]
    for (row in rows) System.arraycopy(before.floats, row * width, values, row * width, width)
    return Tensor.of(after.shape, values)
}

/**
 * Images of the bundle, as its trunk left them: features (1, ...) each. labelled: whether the labels are true, or the
 * answers of the untuned network.
 */
class ReferenceSet(val features: List<Tensor>, val labels: List<Int>, val labelled: Boolean) {
    /** How many classes it has images of. */
    val classes: Int = labels.distinct().size

    fun score(programs: TailPrograms, parameters: Tensors, level: Int): Score =
        score(features.map { programs.logits(parameters, it, level) }, labels)
}

/** The bundle's reference images of some classes; null where it has none. parameters: of the untuned tail. */
fun referenceSet(
    bundle: Bundle, programs: TailPrograms, parameters: Tensors, classes: List<Int>, level: Int,
): ReferenceSet? {
    if (classes.isEmpty()) return null
    val reference = bundle.reference()
    val shape = listOf(1) + bundle.manifest.tail!!.features
    fun features(image: Tensor) = Tensor.of(shape, programs.features(image, level).first)
    val labels = reference.labels
    if (labels != null) {
        val chosen = labels.indices.filter { labels[it] in classes }
        val images = chosen.map { features(normalise(reference.pixels(it), bundle.manifest)) }
        return if (chosen.isEmpty()) null else ReferenceSet(images, chosen.map { labels[it] }, true)
    }
    val answered = (0 until reference.count).map { index ->
        val found = features(reference.input(index))
        val logits = programs.logits(parameters, found, level)
        Pair(found, logits.indices.maxByOrNull { logits[it] }!!)
    }.filter { it.second in classes }
    return if (answered.isEmpty()) null else ReferenceSet(answered.map { it.first }, answered.map { it.second }, false)
}
