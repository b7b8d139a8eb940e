package org.fedgate.core

/**
 * What a fine-tuning is asked to do; names, meanings and defaults are those of `fedgate finetune`.
 *
 * batchSize: null for what the bundle was exported for. validation: the share of each class that is held out to judge
 * by. patience: epochs without a lower loss on it before the training stops. client: the number under which a server
 * knows this device. key: of that client, which signs the update.
 */
data class TunePlan(
    val level: Int,
    val epochs: Int = 10,
    val batchSize: Int? = null,
    val lr: Double = 0.01,
    val lrDecay: Double = 1.0,
    val momentum: Double = 0.9,
    val weightDecay: Double = 5e-4,
    val clipNorm: Double = 1.0,
    val seed: Long = 0,
    val uploadShare: Double = 1.0,
    val validation: Double = 0.2,
    val patience: Int = 3,
    val client: Int = 0,
    val key: ClientKey? = null,
    val skipUnreadable: Boolean = false,
    val threads: Int = 1,
) {
    init {
        inRange("epochs", epochs, 1, 10_000)
        inRange("lr", lr, 1e-12, 1e3)
        inRange("lr-decay", lrDecay, 1e-3, 1.0)
        inRange("momentum", momentum, 0.0, 0.9999)
        inRange("weight-decay", weightDecay, 0.0, 1.0)
        inRange("clip-norm", clipNorm, 0.0, 1e9)
        inRange("seed", seed, 0, Long.MAX_VALUE)
        inRange("upload-share", uploadShare, 0.01, 1.0)
        inRange("validation", validation, 0.0, 0.9)
        inRange("patience", patience, 1, Int.MAX_VALUE)
        inRange("client", client, 0, Int.MAX_VALUE)
        inRange("threads", threads, 1, 1024)
    }

    /** Throws [UsageException] where the key is not of the run that a bundle is from. */
    fun checkRun(run: String) {
        val own = key?.run ?: return
        if (own != run) throw UsageException("the key is of the run $own, and the bundle of the run ${printable(run)}")
    }

    /** Examples of a step. Throws [UsageException] where the programs do not take so many. */
    fun batch(tail: TailInfo): Int {
        val size = batchSize ?: return tail.batchSize
        if (size > tail.batchSize) {
            val most = "the bundle's programs train at once: ${tail.batchSize}"
            throw UsageException("--batch-size $size is more than $most")
        }
        inRange("batch-size", size, 1, tail.batchSize)
        return size
    }

    /** What the result of a training depends on, as JSON: a saved state goes on under the same alone. */
    fun toJson(): Map<String, Any?> = mapOf(
        "level" to level, "epochs" to epochs, "batch_size" to batchSize, "lr" to lr, "lr_decay" to lrDecay,
        "momentum" to momentum, "weight_decay" to weightDecay, "clip_norm" to clipNorm, "seed" to seed,
        "validation" to validation, "patience" to patience,
    )
}

private fun <T : Comparable<T>> inRange(name: String, value: T, low: T, high: T) {
    // written so that NaN, too, is out of range
    if (!(value >= low && value <= high)) throw UsageException("--$name $value is out of range: $low to $high")
}

/** Splits [rows] into (training, validation), both sorted: of each class the same share is held out. */
fun heldOut(labels: IntArray, rows: IntArray, share: Double, seed: Long): Pair<IntArray, IntArray> {
    if (share == 0.0) return Pair(rows, IntArray(0))
    val random = NumpyRandom(seed, 0x5EED)
    val held = rows.map { labels[it] }.toSortedSet().flatMap { label ->
        val own = random.permutation(rows.filter { labels[it] == label }.toIntArray())
        own.take(minOf((share * own.size + 0.5).toInt(), own.size - 1)) // a class of one example stays in the training
    }.toSet()
    return Pair(rows.filter { it !in held }.sorted().toIntArray(), held.sorted().toIntArray())
}

/** An epoch's batches: a random order of the examples cut into even parts of at most [size]. */
fun batches(chosen: IntArray, size: Int, seed: Long, epoch: Int): List<IntArray> {
    val order = NumpyRandom(seed, epoch.toLong()).permutation(chosen)
    val parts = (order.size + size - 1) / size
    var start = 0
    return List(parts) { part ->
        val end = start + order.size / parts + if (part < order.size % parts) 1 else 0
        order.copyOfRange(start, end).also { start = end }
    }
}
