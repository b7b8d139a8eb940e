package org.fedgate.core

import java.io.File
import java.io.IOException

/** What lies below the core: Android in the app, the JVM in its tests. */
interface Device {
    /** Whether a format of [pictureFormat] can be decoded here. */
    fun decodes(format: String): Boolean

    /** A picture file, upright. Throws what [unreadable] makes for what is none, too large, or damaged. */
    fun decode(file: File, name: String): Picture

    /** What the device is: texts, numbers and flags by name, which results carry as "machine". */
    fun facts(): Map<String, Any?>

    /** Android's thermal status, from 0 (none) to 6 (shutdown); null where nobody tells. */
    fun thermalStatus(): Int?
}

private val THERMAL = listOf("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

/** The name of a thermal status (android.os.PowerManager). */
fun thermalName(status: Int?): String? = status?.let { THERMAL.getOrElse(it) { "unknown" } }

/** Largest resident memory of this process so far, in MB (10^6 bytes); 0 where the system does not tell. */
fun peakRssMb(): Double {
    try {
        for (line in File("/proc/self/status").readLines()) {
            if (line.startsWith("VmHWM:")) return line.filter { it.isDigit() }.toLong() * 1024 / 1e6
        }
    } catch (_: IOException) {
    }
    return 0.0
}
