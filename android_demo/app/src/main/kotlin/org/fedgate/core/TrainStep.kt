package org.fedgate.core

import java.io.Closeable

/** Tensors by name. */
typealias Tensors = Map<String, Tensor>

/** What a step trains on: rows of a whole batch, of which those with weight 0 only fill it. trunkOpen: (B, width). */
class Batch(val features: Tensor, val trunkOpen: Tensor, val labels: IntArray, val weights: FloatArray)

/** The numbers of a step of SGD with momentum; a clipNorm of 0 clips nothing. */
class Numbers(val level: Int, val lr: Double, val momentum: Double, val weightDecay: Double, val clipNorm: Double)

/** What a step gave. opened, strength: by channel of the tail's gated layers. */
class Step(
    val parameters: Map<String, Tensor>,
    val momentum: Map<String, Tensor>,
    val loss: Double,
    val correct: Double,
    val opened: FloatArray,
    val strength: FloatArray,
)

/** How a tail is trained here: by [program]. */
abstract class Trainer(val program: Program) : Closeable {
    /** Shapes by name of what trains. */
    val parameters: Map<String, List<Int>> = parameters(program).associate { it.name to it.shape }

    /** Examples that a step takes. */
    val batchSize: Int = program.inputs.first { it.name == "labels" }.shape[0]

    /**
     * One step; the arrays given are left as they are. still: by name of a parameter the rows of it, and of its
     * momentum, that do not move. Throws [FedgateException] when the runtime fails.
     */
    abstract fun step(
        parameters: Tensors, momentum: Tensors, batch: Batch, numbers: Numbers, still: Map<String, List<Int>>,
    ): Step
}

/** The tail after one more step, on some rows of [set]. Throws [FedgateException] when the loss is no number. */
fun trainStep(trainer: Trainer, set: TrainingSet, rows: IntArray, plan: TunePlan, state: TailState): TailState {
    val size = trainer.batchSize
    val batch = Batch(
        set.features.features(rows, size),
        set.features.open(rows, size),
        IntArray(size) { if (it < rows.size) set.labels[rows[it]] else 0 },
        FloatArray(size) { if (it < rows.size) 1f else 0f },
    )
    val lr = plan.lr * Math.pow(plan.lrDecay, state.epoch.toDouble())
    val numbers = Numbers(plan.level, lr, plan.momentum, plan.weightDecay, plan.clipNorm)
    val step = trainer.step(state.parameters, state.momentum, batch, numbers, set.still)
    if (!step.loss.isFinite()) {
        throw FedgateException("the training diverged in step ${state.steps + 1}: its loss is ${step.loss}; lower --lr")
    }
    // the masks of the trunk come first, those of the tail behind them
    val width = batch.trunkOpen.shape[1]
    val opened = LongArray(width + step.opened.size)
    for (row in rows.indices) for (c in 0 until width) opened[c] += batch.trunkOpen.bytes[row * width + c].toLong()
    for (c in step.opened.indices) opened[width + c] = Math.rint(step.opened[c].toDouble()).toLong()
    return TailState(
        step.parameters,
        step.momentum,
        ByteArray(opened.size) { if (opened[it] > 0) 1 else state.touched[it] },
        LongArray(opened.size) { state.opened[it] + opened[it] },
        DoubleArray(opened.size) { state.strength[it] + if (it < width) 0.0 else step.strength[it - width].toDouble() },
        doubleArrayOf(state.sums[0] + step.loss * rows.size, state.sums[1] + step.correct),
        state.epoch,
        state.batch + 1,
        state.steps + 1,
        state.samples + rows.size,
    )
}
