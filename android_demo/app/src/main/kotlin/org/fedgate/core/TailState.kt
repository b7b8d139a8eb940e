package org.fedgate.core

private val ARRAYS = listOf("touched", "opened", "strength", "sums")
private val COUNTS = listOf("epoch", "batch", "steps", "samples")

/**
 * Where a local training stands: all that it needs to go on to the same result after an interruption. A step makes a
 * new one; the arrays are read-only.
 *
 * parameters, momentum: float32 by name. epoch, batch: those done, batches of the present epoch. steps: of all epochs.
 * touched: by channel of the whole network's masks whether any batch opened it. Of the present epoch: opened, strength
 * (how often and how strongly each channel), samples, and sums of loss and correct answers.
 */
class TailState(
    val parameters: Map<String, Tensor>,
    val momentum: Map<String, Tensor>,
    val touched: ByteArray,
    val opened: LongArray,
    val strength: DoubleArray,
    val sums: DoubleArray = DoubleArray(2),
    val epoch: Int = 0,
    val batch: Int = 0,
    val steps: Int = 0,
    val samples: Int = 0,
) {
    /** Mean over the samples of the present epoch, as they were trained on. */
    val loss: Double get() = sums[0] / maxOf(1, samples)
    val accuracy: Double get() = sums[1] / maxOf(1, samples)

    /** The state as an epoch begins: records and sums are of one epoch each. */
    fun newEpoch() = TailState(
        parameters, momentum, touched, LongArray(opened.size), DoubleArray(strength.size),
        DoubleArray(2), epoch, 0, steps, 0,
    )

    fun epochDone() =
        TailState(parameters, momentum, touched, opened, strength, sums, epoch + 1, 0, steps, samples)

    fun tensors(prefix: String): Map<String, Tensor> {
        val own = mapOf(
            "touched" to Tensor.bytes(listOf(touched.size), touched),
            "opened" to Tensor.of(listOf(opened.size), opened),
            "strength" to Tensor.of(listOf(strength.size), strength),
            "sums" to Tensor.of(listOf(2), sums),
        )
        return own.mapKeys { prefix + it.key } + parameters.mapKeys { "${prefix}parameters/${it.key}" } +
            momentum.mapKeys { "${prefix}momentum/${it.key}" }
    }

    fun counts(): Map<String, Int> = COUNTS.zip(listOf(epoch, batch, steps, samples)).toMap()

    companion object {
        fun initial(parameters: Map<String, Tensor>, channels: Int): TailState {
            val still = parameters.mapValues { Tensor.of(it.value.shape, FloatArray(it.value.floats.size)) }
            return TailState(parameters, still, ByteArray(channels), LongArray(channels), DoubleArray(channels))
        }

        /** The inverse of [tensors] and [counts]. Throws [FedgateException] for a file that lacks some. */
        fun read(file: TensorFile, counts: Any?, prefix: String, like: TailState): TailState {
            val numbers = Fields(counts, "the saved state of the fine-tuning")
            fun tensor(name: String, expected: Tensor): Tensor {
                val found = file.tensors[prefix + name]
                if (found == null || found.type != expected.type || found.shape != expected.shape) {
                    throw FedgateException("the saved state of the fine-tuning lacks $name: remove it and start again")
                }
                return found
            }
            val own = like.tensors("")
            val arrays = ARRAYS.associateWith { tensor(it, own.getValue(it)) }
            fun named(kind: String) = like.parameters.mapValues { (name, value) -> tensor("$kind/$name", value) }
            val (epoch, batch, steps, samples) = COUNTS.map { numbers.int(it, 0, Int.MAX_VALUE) }
            return TailState(
                named("parameters"),
                named("momentum"),
                arrays.getValue("touched").bytes,
                arrays.getValue("opened").longs,
                arrays.getValue("strength").doubles,
                arrays.getValue("sums").doubles,
                epoch, batch, steps, samples,
            )
        }
    }
}
