package org.fedgate.harness

import java.io.File
import java.io.IOException
import javax.imageio.ImageIO
import org.fedgate.core.Device
import org.fedgate.core.Picture

/** This machine as the app's core sees a phone; thermal: the statuses that it tells one after the other. */
class JvmDevice(private val thermal: List<Int> = emptyList()) : Device {
    private var asked = 0

    override fun decode(file: File): Picture? {
        val image = try {
            ImageIO.read(file)
        } catch (_: IOException) {
            null
        } ?: return null
        val pixels = IntArray(image.width * image.height)
        // the samples as they are: getRGB would convert gray between colour spaces
        for (i in pixels.indices) {
            val samples = image.raster.getPixel(i % image.width, i / image.width, null as IntArray?)
            val (red, green, blue) = if (samples.size < 3) List(3) { samples[0] } else samples.take(3)
            pixels[i] = (255 shl 24) or (red shl 16) or (green shl 8) or blue
        }
        return Picture(image.width, image.height, pixels)
    }

    override fun facts(): Map<String, Any?> =
        mapOf("cpu" to "a desktop JVM", "architecture" to System.getProperty("os.arch"))

    override fun thermalStatus(): Int? = if (thermal.isEmpty()) null else thermal[minOf(asked++, thermal.size - 1)]
}
