package org.fedgate.harness

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** Runs one program on one image: PROGRAM INPUT LEVEL CHANNELS HEIGHT WIDTH; prints the logits, one a line. */
object Forward {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val (program, input) = arguments
        val numbers = ByteBuffer.wrap(File(input).readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        val image = FloatArray(numbers.remaining()).also { numbers.get(it) }
        val shape = longArrayOf(1) + arguments.drop(3).map { it.toLong() }
        val level = Tensor.fromBlob(intArrayOf(arguments[2].toInt()), longArrayOf(1))
        Module.load(program).use { module ->
            val outputs = module.forward(EValue.from(Tensor.fromBlob(image, shape)), EValue.from(level))
            outputs[0].toTensor().dataAsFloatArray.forEach { println(it) }
        }
    }
}
