package org.fedgate.core

import java.io.Closeable
import java.util.Locale

private const val MOST_PIXELS = 89_478_485L // beyond it Pillow, and so fedgate on a computer, refuses a picture

/** A decoded picture. Its colours are not multiplied by its alpha. Close it. */
interface Picture : Closeable {
    val width: Int
    val height: Int

    /** Copies a box of its pixels, 0xAARRGGBB by row, to the front of [into]. */
    fun read(x: Int, y: Int, width: Int, height: Int, into: IntArray)
}

/** A picture in an array, 0xAARRGGBB by row. */
class ArgbPicture(override val width: Int, override val height: Int, private val argb: IntArray) : Picture {
    override fun read(x: Int, y: Int, width: Int, height: Int, into: IntArray) {
        for (row in 0 until height) {
            val from = (y + row) * this.width + x
            argb.copyInto(into, row * width, from, from + width)
        }
    }

    override fun close() = Unit
}

/** What says that the picture [name] cannot be read. */
fun unreadable(name: String, why: String, cause: Throwable? = null) =
    FedgateException("cannot read the picture ${printable(name)}: $why", cause)

/** Throws what [unreadable] makes for a size that no picture has; decoders ask before they take memory. */
fun checkSize(width: Int, height: Int, name: String) {
    if (width <= 0 || height <= 0) throw unreadable(name, "not a picture")
    if (width.toLong() * height > MOST_PIXELS) {
        val most = "%,d".format(Locale.ROOT, MOST_PIXELS)
        throw unreadable(name, "$width x $height pixels, and at most $most are read")
    }
}

/** A picture turned upright: orientation is EXIF's, 1 to 8; any other turns nothing. */
fun upright(picture: Picture, orientation: Int): Picture =
    if (orientation in 2..8) Turned(picture, orientation) else picture

/** EXIF's orientations: 2 to 4 mirror rows, columns or both; 5 to 8 also swap them. */
private class Turned(private val source: Picture, orientation: Int) : Picture {
    private val swaps = orientation >= 5
    private val mirrorsX = orientation in listOf(2, 3, 6, 7)
    private val mirrorsY = orientation in listOf(3, 4, 7, 8)
    override val width = if (swaps) source.height else source.width
    override val height = if (swaps) source.width else source.height

    override fun close() = source.close()

    override fun read(x: Int, y: Int, width: Int, height: Int, into: IntArray) {
        val left = if (mirrorsX) this.width - x - width else x
        val top = if (mirrorsY) this.height - y - height else y
        val box = IntArray(width * height)
        if (swaps) source.read(top, left, height, width, box) else source.read(left, top, width, height, box)
        for (place in box.indices) {
            val column = (place % width).let { if (mirrorsX) width - 1 - it else it }
            val row = (place / width).let { if (mirrorsY) height - 1 - it else it }
            into[place] = box[if (swaps) column * height + row else row * width + column]
        }
    }
}

/**
 * A picture as uint8 (H, W, C), by the rule that manifests call "crop": what is transparent is laid on the background,
 * the middle is cropped to the network's shape, and resized (bicubic, with Pillow's antialiasing and rounding).
 *
 * For the same decoded pixels these are the bytes of fedgate's Python; what a phone decodes can differ, and `Phone`
 * says where. Throws [FedgateException] for a network that takes neither 1 nor 3 channels.
 */
fun pixelsOf(picture: Picture, manifest: Manifest): ByteArray {
    val (_, channels, height, width) = manifest.shape
    if (channels != 1 && channels != 3) {
        throw FedgateException("this network takes $channels channels, and a picture has 1 or 3")
    }
    val box = cropBox(picture.width, picture.height, width, height)
    val across = Resampling(box.width, width)
    val pixels = IntArray(box.width)
    val row = ByteArray(box.width * channels)
    // By rows, so that a large photograph is not in memory twice.
    val rows = ByteArray(width * box.height * channels)
    for (y in 0 until box.height) {
        picture.read(box.left, box.top + y, box.width, 1, pixels)
        lay(pixels, manifest.background, channels, row)
        across.resize(row, 0, channels, rows, y * width * channels, channels, channels)
    }
    val out = ByteArray(width * height * channels)
    val down = Resampling(box.height, height)
    down.resize(rows, 0, width * channels, out, 0, width * channels, width * channels)
    return out
}

/** uint8 (H, W, C) -> float32 (1, C, H, W): scaled to [0, 1], then (x - mean) / std by channel. */
fun normalise(pixels: ByteArray, manifest: Manifest): Tensor {
    val (_, channels, height, width) = manifest.shape
    val out = FloatArray(channels * height * width)
    for (channel in 0 until channels) {
        val mean = manifest.mean[channel].toFloat()
        val std = manifest.std[channel].toFloat()
        for (place in 0 until height * width) {
            val value = (pixels[place * channels + channel].toInt() and 255) / 255f
            out[channel * height * width + place] = (value - mean) / std
        }
    }
    return Tensor.of(manifest.shape, out)
}

/** A picture as a network's input: [pixelsOf], then [normalise]. */
fun inputOf(picture: Picture, manifest: Manifest): Tensor = normalise(pixelsOf(picture, manifest), manifest)

private class Box(val left: Int, val top: Int, val width: Int, val height: Int)

/** The largest middle of a picture that has the network's shape, in whole pixels. */
private fun cropBox(width: Int, height: Int, toWidth: Int, toHeight: Int): Box {
    val (w, h) = Pair(width.toLong(), height.toLong())
    val wide = w * toHeight >= h * toWidth
    val cropWidth = if (wide) minOf(w, maxOf(1, (2 * h * toWidth + toHeight) / (2L * toHeight))) else w
    val cropHeight = if (wide) h else minOf(h, maxOf(1, (2 * w * toHeight + toWidth) / (2L * toWidth)))
    return Box(((w - cropWidth) / 2).toInt(), ((h - cropHeight) / 2).toInt(), cropWidth.toInt(), cropHeight.toInt())
}

/** Pixels 0xAARRGGBB on a background: RGB, or ITU-R 601 luma with Pillow's fixed-point weights where channels is 1. */
private fun lay(pixels: IntArray, background: List<Int>, channels: Int, into: ByteArray) {
    val (red, green, blue) = background
    for (i in pixels.indices) {
        val pixel = pixels[i]
        val alpha = pixel ushr 24
        val clear = (255 - alpha)
        val r = ((pixel shr 16 and 255) * alpha + red * clear + 127) / 255
        val g = ((pixel shr 8 and 255) * alpha + green * clear + 127) / 255
        val b = ((pixel and 255) * alpha + blue * clear + 127) / 255
        if (channels == 1) {
            into[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000 shr 16).toByte()
        } else {
            into[3 * i] = r.toByte()
            into[3 * i + 1] = g.toByte()
            into[3 * i + 2] = b.toByte()
        }
    }
}
