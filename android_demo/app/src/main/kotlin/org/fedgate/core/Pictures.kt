package org.fedgate.core

private const val PRECISION = 22 // bits behind the point of a weight, as Pillow has it for 8-bit pixels
private const val MOST_PIXELS = 89_478_485L // beyond it Pillow, and so fedgate on a computer, refuses a picture

/** A decoded picture, upright: 0xAARRGGBB by row. One that could not be decoded has size 0. */
class Picture(val width: Int, val height: Int, val argb: IntArray)

/**
 * A picture as uint8 (H, W, C): gray or RGB, resized (bilinear, with the antialiasing of Pillow).
 *
 * For the same decoded pixels these are the bytes that device_runtime/images.py gives, but that Pillow resizes some tall
 * pictures by columns first: then single bytes differ by 1. A phone's decoded pixels can differ from Pillow's: JPEG
 * decoders round differently by a step or two, a decoder that was asked for a smaller picture (inSampleSize) has
 * averaged already, and Android multiplies colours with their opacity, so that what was wholly transparent is black.
 * [name] is for messages. Throws [FedgateException] for what is no picture.
 */
fun pixelsOf(picture: Picture?, manifest: Manifest, name: String): ByteArray {
    val (_, channels, height, width) = manifest.shape
    if (channels != 1 && channels != 3) {
        throw FedgateException("this network takes $channels channels, and a picture has 1 or 3")
    }
    if (picture == null || picture.width <= 0 || picture.height <= 0) {
        throw FedgateException("cannot read the picture ${printable(name)}: not a picture")
    }
    val size = picture.width.toLong() * picture.height
    if (size > MOST_PIXELS || size > picture.argb.size) {
        throw FedgateException("cannot read the picture ${printable(name)}: it does not have its pixels, or too many")
    }
    val planes = if (channels == 1) listOf(gray(picture)) else listOf(16, 8, 0).map { plane(picture, it) }
    val resized = planes.map { resize(it, picture.width, picture.height, width, height) }
    return ByteArray(height * width * channels) { resized[it % channels][it / channels] }
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
fun inputOf(picture: Picture?, manifest: Manifest, name: String = "given"): Tensor =
    normalise(pixelsOf(picture, manifest, name), manifest)

private fun plane(picture: Picture, shift: Int) =
    ByteArray(picture.width * picture.height) { (picture.argb[it] shr shift).toByte() }

/** ITU-R 601 luma with Pillow's fixed-point weights. */
private fun gray(picture: Picture) = ByteArray(picture.width * picture.height) {
    val pixel = picture.argb[it]
    val luma = (pixel shr 16 and 255) * 19595 + (pixel shr 8 and 255) * 38470 + (pixel and 255) * 7471 + 0x8000
    (luma shr 16).toByte()
}

/** One 8-bit plane, resized as Pillow's BILINEAR: rows first, then columns, rounded to 8 bits between. */
internal fun resize(plane: ByteArray, width: Int, height: Int, newWidth: Int, newHeight: Int): ByteArray {
    val rows = if (width == newWidth) plane else {
        val weights = weights(width, newWidth)
        ByteArray(newWidth * height) { place ->
            val row = place / newWidth * width
            weights[place % newWidth].sum { plane[row + it] }
        }
    }
    if (height == newHeight) return rows
    val weights = weights(height, newHeight)
    return ByteArray(newWidth * newHeight) { place ->
        val column = place % newWidth
        weights[place / newWidth].sum { rows[it * newWidth + column] }
    }
}

private class Weights(val first: Int, val values: IntArray) {
    inline fun sum(pixel: (Int) -> Byte): Byte {
        var sum = 1 shl (PRECISION - 1)
        for (i in values.indices) sum += (pixel(first + i).toInt() and 255) * values[i]
        return (sum shr PRECISION).coerceIn(0, 255).toByte()
    }
}

/** Of each new pixel the first old one and the weights of those that make it: a triangle as wide as the step. */
private fun weights(size: Int, newSize: Int): List<Weights> {
    val scale = size.toDouble() / newSize
    val support = maxOf(scale, 1.0)
    return List(newSize) { index ->
        val center = (index + 0.5) * scale
        val first = maxOf((center - support + 0.5).toInt(), 0)
        val last = minOf((center + support + 0.5).toInt(), size)
        val raw = DoubleArray(last - first) { maxOf(0.0, 1 - Math.abs((it + first - center + 0.5) * (1.0 / support))) }
        val total = raw.sum()
        Weights(first, IntArray(raw.size) { (0.5 + raw[it] / total * (1 shl PRECISION)).toInt() })
    }
}
