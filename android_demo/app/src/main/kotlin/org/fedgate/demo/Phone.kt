package org.fedgate.demo

import android.content.ContentResolver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.net.Uri
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import org.fedgate.core.Device
import org.fedgate.core.Picture

private const val MOST_PIXELS = 4_000_000 // of a decoded picture; networks read far fewer

/** This phone, as the core sees it. */
class Phone(private val context: Context) : Device {
    private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    override fun decode(file: File): Picture? = bitmap(file)?.let { picture(it) }

    override fun facts(): Map<String, Any?> {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val tenths = battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, 0) ?: 0
        return mapOf(
            "cpu" to "${Build.MANUFACTURER} ${Build.MODEL}",
            "board" to "${Build.HARDWARE} ${Build.BOARD}",
            "cores" to Runtime.getRuntime().availableProcessors(),
            "architecture" to Build.SUPPORTED_ABIS.first(),
            "system" to "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
            "battery" to battery?.let { "${it.getIntExtra(BatteryManager.EXTRA_LEVEL, -1)} %, ${tenths / 10.0} °C" },
            "plugged in" to battery?.let { it.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0) != 0 },
            "power save mode" to power.isPowerSaveMode,
        )
    }

    /** By reflection: the method is newer than what the offline build compiles against. */
    override fun thermalStatus(): Int? {
        if (Build.VERSION.SDK_INT < 29) return null
        return try {
            PowerManager::class.java.getMethod("getCurrentThermalStatus").invoke(power) as Int
        } catch (error: ReflectiveOperationException) {
            null
        }
    }
}

/** A picture file upright, scaled down by a power of two where it is large; null for what is no picture. */
fun bitmap(file: File): Bitmap? {
    val size = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    BitmapFactory.decodeFile(file.path, size)
    val options = BitmapFactory.Options().apply { inSampleSize = 1 }
    while (size.outWidth.toLong() * size.outHeight / (options.inSampleSize.toLong() * options.inSampleSize) > MOST_PIXELS) {
        options.inSampleSize *= 2
    }
    val bitmap = BitmapFactory.decodeFile(file.path, options) ?: return null
    val turn = upright(file) ?: return bitmap
    return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, true)
}

/** How to turn a photograph that was taken with the phone held otherwise; null for one that stands as it is. */
private fun upright(file: File): Matrix? {
    val orientation = try {
        ExifInterface(file.path).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
    } catch (error: IOException) {
        return null // a format that has none
    }
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

fun picture(bitmap: Bitmap): Picture {
    val pixels = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    return Picture(bitmap.width, bitmap.height, pixels)
}

/** What another app shares under [uri]. Throws `FedgateException`. */
fun openShared(resolver: ContentResolver, uri: Uri): InputStream =
    reading("the picture") { resolver.openInputStream(uri) ?: throw FileNotFoundException() }
