package org.fedgate.core

import java.io.Closeable

/** The loaded programs that train a bundle's tail. Close them. */
class TailPrograms(private val bundle: Bundle, threads: Int) : Closeable {
    val trunk: LoadedProgram
    val trainer: Trainer
    private val tail: LoadedProgram

    init {
        bundle.tail() // says it where a bundle has nothing to train
        val opened = ArrayList<Closeable>()
        try {
            tail = LoadedProgram(bundle, only("tail"), threads).also { opened.add(it) }
            val modules = bundle.manifest.programs.filter { it.role == "train-module" }
            trainer = if (modules.isNotEmpty()) ModuleTrainer(bundle, modules[0])
            else FunctionalTrainer(bundle, only("train"), threads)
            opened.add(trainer)
            trunk = openTrunk(threads)
        } catch (error: FedgateException) {
            for (program in opened) program.close()
            throw error
        }
    }

    private fun usable(role: String): List<Program> {
        val found = bundle.manifest.programs.filter { it.runtime == "executorch" && it.role == role }
        if (found.isEmpty()) throw UsageException("${bundle.path} has no $role program for executorch")
        return found.filter { Runtimes.whyNot(it) == null }
    }

    private fun only(role: String): Program =
        usable(role).firstOrNull() ?: throw FedgateException("no $role program of ${bundle.path} can run here")

    /** The trunk that skips channels, where it loads, else the one that masks them. */
    private fun openTrunk(threads: Int): LoadedProgram {
        val usable = usable("trunk").sortedBy { !it.needsKernel }
        for (program in usable.dropLast(1)) {
            try {
                return LoadedProgram(bundle, program, threads)
            } catch (_: FedgateException) {
                continue // the next one does the same
            }
        }
        val last = usable.lastOrNull() ?: throw FedgateException("no trunk program of ${bundle.path} can run here")
        return LoadedProgram(bundle, last, threads)
    }

    /** One image -> features and masks of the trunk, one byte for each of its gated channels. */
    fun features(image: Tensor, level: Int): Pair<FloatArray, ByteArray> {
        val found = trunk.call(mapOf("image" to image, "level" to Tensor.of(listOf(1), intArrayOf(level))))
        val features = found.getValue("features")
        if (!features.isFinite()) throw FedgateException("${trunk.program.file} returned features that are not finite")
        return Pair(features.floats, found["open"]?.bytes ?: ByteArray(0))
    }

    /** Logits of one example's features, (1, ...), with these parameters. */
    fun logits(parameters: Map<String, Tensor>, features: Tensor, level: Int): FloatArray {
        val given = mapOf("features" to features, "level" to Tensor.of(listOf(1), intArrayOf(level)))
        return tail.call(parameters + given).getValue("logits").floats
    }

    override fun close() {
        trunk.close()
        tail.close()
        trainer.close()
    }
}
