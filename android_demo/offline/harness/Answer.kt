package org.fedgate.harness

import java.io.File
import org.fedgate.core.Runtimes
import org.fedgate.core.answer

/**
 * REQUESTS FILES [KERNEL [THERMAL...]]: answers a file with a request of adb's target in each line as the app does.
 * KERNEL: the library with the kernel's operators, or "-"; THERMAL: what the device says of its heat, time after time.
 */
object Answer {
    @JvmStatic
    fun main(arguments: Array<String>) {
        arguments.getOrNull(2)?.let { kernel -> if (kernel != "-") Runtimes.kernelLoader = { System.load(kernel) } }
        for (request in File(arguments[0]).readLines()) {
            val device = JvmDevice(arguments.drop(3).map { it.toInt() })
            answer(request.toByteArray(), File(arguments[1]), device)
        }
    }
}
