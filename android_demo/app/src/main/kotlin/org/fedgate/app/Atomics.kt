package org.fedgate.app

private val FEATURES = Regex("(?m)^Features\\s*:(.*)$")

/**
 * Whether an arm64 CPU lacks the atomic instructions of ARMv8.1 (LSE), which the libraries of ExecuTorch 1.4 use without
 * asking: on such a one (Cortex-A53, A72, A73) the process would end with SIGILL. cpuinfo: the text of /proc/cpuinfo; a
 * core of a phone that tells nothing is trusted.
 */
fun lacksAtomics(abi: String, cpuinfo: String): Boolean =
    abi == "arm64-v8a" && FEATURES.findAll(cpuinfo).any { "atomics" !in it.groupValues[1].trim().split(' ') }
