package org.fedgate.demo

import android.content.ContentResolver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.net.Uri
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream
import org.fedgate.core.Device
import org.fedgate.core.Picture

/** This phone, as the core sees it. */
class Phone(private val context: Context) : Device {
    private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    override fun decodes(format: String): Boolean = org.fedgate.demo.decodes(format)

    override fun decode(file: File, name: String): Picture = org.fedgate.demo.decode(file, name)

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

/** What another app shares under [uri]. Throws `FedgateException`. */
fun openShared(resolver: ContentResolver, uri: Uri): InputStream =
    reading("the picture") { resolver.openInputStream(uri) ?: throw FileNotFoundException() }
