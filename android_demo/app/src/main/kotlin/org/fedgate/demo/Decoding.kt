package org.fedgate.demo

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.os.Build
import java.io.File
import java.io.IOException
import org.fedgate.core.Picture
import org.fedgate.core.checkSize
import org.fedgate.core.unreadable
import org.fedgate.core.upright

private const val MOST_DECODED = 1 shl 24 // pixels of a picture to compute with: 64 MiB, outside Java's heap
private const val MOST_SHOWN = 1 shl 20
private val DECODED = setOf("JPEG", "PNG", "GIF", "BMP", "WEBP")

/** Whether this version of Android decodes a format. */
fun decodes(format: String): Boolean = when (format) {
    "HEIF" -> Build.VERSION.SDK_INT >= 28
    "AVIF" -> Build.VERSION.SDK_INT >= 31
    else -> format in DECODED
}

/**
 * A picture file as the network's pixels are made of it. Throws `FedgateException`, for one that is too large before
 * memory is taken.
 *
 * Where these are not the pixels that Pillow decodes on a computer: more than [MOST_DECODED] of them are halved, until
 * they are no more (JPEG by averages, PNG by leaving rows and columns out); JPEG's cosine transform rounds its
 * own way; colours of a profile that is not sRGB are converted; a file that is cut off is read as far as it goes; the
 * orientation is EXIF's alone, of PNG and WebP from Android 11 on.
 */
fun decode(file: File, name: String): Picture {
    val options = halving(file, name, MOST_DECODED)
    options.inPremultiplied = false
    val bitmap = try {
        BitmapFactory.decodeFile(file.path, options)
    } catch (error: OutOfMemoryError) {
        throw unreadable(name, "there is not enough memory for its pixels")
    } ?: throw unreadable(name, "it is damaged")
    return upright(BitmapPicture(bitmap), orientation(file))
}

/** The same picture to look at, small. Its colours are multiplied by their alpha, as Android draws them. */
fun shown(file: File, name: String): Bitmap {
    val options = halving(file, name, MOST_SHOWN)
    val bitmap = BitmapFactory.decodeFile(file.path, options) ?: throw unreadable(name, "it is damaged")
    val turn = turn(orientation(file)) ?: return bitmap
    return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, true)
}

/** A bitmap's pixels, without a copy of them. Those of one that Android multiplied by alpha have lost some of it. */
class BitmapPicture(private val bitmap: Bitmap) : Picture {
    override val width: Int get() = bitmap.width
    override val height: Int get() = bitmap.height

    override fun read(x: Int, y: Int, width: Int, height: Int, into: IntArray) =
        bitmap.getPixels(into, 0, width, x, y, width, height)

    /** Its memory is not Java's: thousands of pictures would wait for a collector that sees none of it. */
    override fun close() = bitmap.recycle()
}

/** Options that decode a picture with no more than [most] pixels. Reads its size alone. */
private fun halving(file: File, name: String, most: Int): BitmapFactory.Options {
    val size = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    BitmapFactory.decodeFile(file.path, size)
    checkSize(size.outWidth, size.outHeight, name)
    return BitmapFactory.Options().apply {
        inScaled = false
        inSampleSize = 1
        while (size.outWidth.toLong() * size.outHeight / (inSampleSize * inSampleSize) > most) inSampleSize *= 2
    }
}

/** EXIF's orientation, of a photograph that was taken with the phone held otherwise; 1 where none is told. */
private fun orientation(file: File): Int = try {
    ExifInterface(file.path).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
} catch (error: IOException) {
    ExifInterface.ORIENTATION_NORMAL // a format that has none
} catch (error: RuntimeException) {
    ExifInterface.ORIENTATION_NORMAL // junk for EXIF is no reason to lose a picture
} catch (error: OutOfMemoryError) {
    ExifInterface.ORIENTATION_NORMAL // lengths that a damaged file names
}

private fun turn(orientation: Int): Matrix? {
    val matrix = Matrix()
    when (orientation) {
        ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> matrix.postScale(-1f, 1f)
        ExifInterface.ORIENTATION_ROTATE_180 -> matrix.postRotate(180f)
        ExifInterface.ORIENTATION_FLIP_VERTICAL -> matrix.postScale(1f, -1f)
        ExifInterface.ORIENTATION_TRANSPOSE -> matrix.apply { postRotate(90f) }.postScale(-1f, 1f)
        ExifInterface.ORIENTATION_ROTATE_90 -> matrix.postRotate(90f)
        ExifInterface.ORIENTATION_TRANSVERSE -> matrix.apply { postRotate(-90f) }.postScale(-1f, 1f)
        ExifInterface.ORIENTATION_ROTATE_270 -> matrix.postRotate(-90f)
        else -> return null
    }
    return matrix
}
