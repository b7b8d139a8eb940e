package org.fedgate.harness

import java.io.File
import org.fedgate.core.Classifier
import org.fedgate.core.Runtimes
import org.fedgate.core.Tensor
import org.fedgate.core.loadBundle
import org.fedgate.core.writeTensors

/** BUNDLE OUT [KERNEL]: what each program gives for each reference input and level, "FILE/LEVEL/logits" and "/open". */
object Outputs {
    @JvmStatic
    fun main(arguments: Array<String>) {
        arguments.getOrNull(2)?.let { kernel -> Runtimes.kernelLoader = { System.load(kernel) } }
        val bundle = loadBundle(File(arguments[0]))
        val reference = bundle.reference()
        val found = LinkedHashMap<String, Tensor>()
        val roles = listOf("dense", "masked", "static", "skip")
        for (program in bundle.manifest.programs.filter { it.role in roles && Runtimes.whyNot(it) == null }) {
            Classifier(bundle, program).use { model ->
                for (level in if (program.takesLevel) bundle.manifest.densities.indices else 0..0) {
                    val results = List(reference.count) { model.run(reference.input(it), program.level ?: level) }
                    val logits = results.flatMap { it.first.asList() }.toFloatArray()
                    val name = "${program.file}/${program.level ?: level}"
                    found["$name/logits"] = Tensor.of(listOf(results.size, logits.size / results.size), logits)
                    val masks = results.mapNotNull { it.second }.flatMap { it.asList() }.toByteArray()
                    if (masks.isNotEmpty()) {
                        found["$name/open"] = Tensor.bytes(listOf(results.size, masks.size / results.size), masks)
                    }
                }
            }
        }
        writeTensors(File(arguments[1]), found, emptyMap())
    }
}
