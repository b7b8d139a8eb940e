package org.fedgate.harness

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.pytorch.executorch.DType
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * Runs one program on images: PROGRAM IMAGES LEVEL CHANNELS HEIGHT WIDTH [OPERATORS]; prints for each image a line of
 * logits and, where there are masks, a line of them. OPERATORS: a library to load once ExecuTorch's is there.
 */
object Forward {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val (program, images) = arguments
        val numbers = ByteBuffer.wrap(File(images).readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        val shape = longArrayOf(1) + arguments.slice(3..5).map { it.toLong() }
        val image = FloatArray(shape.reduce(Long::times).toInt())
        val level = Tensor.fromBlob(intArrayOf(arguments[2].toInt()), longArrayOf(1))
        arguments.getOrNull(6)?.let { operators ->
            Class.forName("org.pytorch.executorch.Module")
            System.load(operators)
        }
        Module.load(program).use { module ->
            while (numbers.hasRemaining()) {
                numbers.get(image)
                val outputs = module.forward(EValue.from(Tensor.fromBlob(image, shape)), EValue.from(level))
                for (output in outputs.map { it.toTensor() }) {
                    val bytes = output.dtype() == DType.UINT8
                    println(if (bytes) output.dataAsUnsignedByteArray.joinToString(" ") else output.dataAsFloatArray.joinToString(" "))
                }
            }
        }
    }
}
