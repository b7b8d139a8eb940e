package org.fedgate.harness

import java.awt.image.BufferedImage
import java.awt.image.IndexColorModel
import java.io.File
import java.io.IOException
import javax.imageio.ImageIO
import org.fedgate.core.ArgbPicture
import org.fedgate.core.Device
import org.fedgate.core.Picture
import org.fedgate.core.checkSize
import org.fedgate.core.unreadable

/** This machine as the app's core sees a phone; thermal: the statuses that it tells one after the other. */
class JvmDevice(private val thermal: List<Int> = emptyList()) : Device {
    private var asked = 0

    override fun decodes(format: String): Boolean = format in listOf("JPEG", "PNG", "GIF", "BMP")

    override fun decode(file: File, name: String): Picture {
        ImageIO.createImageInputStream(file).use { stream ->
            val readers = ImageIO.getImageReaders(stream)
            val reader = if (readers.hasNext()) readers.next() else throw unreadable(name, "not a picture")
            val image = try {
                reader.input = stream
                checkSize(reader.getWidth(0), reader.getHeight(0), name)
                reader.read(0)
            } catch (error: IOException) {
                throw unreadable(name, "it is damaged", error)
            } catch (error: RuntimeException) { // readers throw nearly anything at damaged files
                throw unreadable(name, "it is damaged", error)
            }
            return ArgbPicture(image.width, image.height, IntArray(image.width * image.height) { pixel(image, it) })
        }
    }

    /** The samples as they are: getRGB would convert gray between colour spaces. */
    private fun pixel(image: BufferedImage, at: Int): Int {
        val (x, y) = Pair(at % image.width, at / image.width)
        if (image.colorModel is IndexColorModel) return image.getRGB(x, y)
        val samples = image.raster.getPixel(x, y, null as IntArray?)
        val alpha = if (image.colorModel.hasAlpha()) samples.last() else 255
        val (red, green, blue) = if (samples.size < 3) List(3) { samples[0] } else samples.take(3)
        return (alpha shl 24) or (red shl 16) or (green shl 8) or blue
    }

    override fun facts(): Map<String, Any?> =
        mapOf("cpu" to "a desktop JVM", "architecture" to System.getProperty("os.arch"))

    override fun thermalStatus(): Int? = if (thermal.isEmpty()) null else thermal[minOf(asked++, thermal.size - 1)]
}
