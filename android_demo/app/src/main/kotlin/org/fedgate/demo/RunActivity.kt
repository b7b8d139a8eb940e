package org.fedgate.demo

import android.app.Activity
import android.os.Bundle as Saved
import android.os.Process
import android.util.Base64
import android.util.Log
import android.view.WindowManager.LayoutParams
import org.fedgate.app.State
import org.fedgate.app.Task
import org.fedgate.core.FedgateException
import org.fedgate.core.answer

private const val REQUEST = "request"

/**
 * Does what a computer asks for: `fedgate bench --target adb:SERIAL` starts it with one extra, the request in base64url
 * (device_runtime/targets/adb.py), and waits for the result in the app's folder. Without one it makes that folder.
 */
class RunActivity : Activity() {
    private lateinit var task: Task<Unit, Unit>

    @Suppress("DEPRECATION") // the successors are newer than minSdk
    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        window.addFlags(
            LayoutParams.FLAG_KEEP_SCREEN_ON or LayoutParams.FLAG_TURN_SCREEN_ON or LayoutParams.FLAG_SHOW_WHEN_LOCKED,
        )
        setContentView(R.layout.run)
        val app = application as FedgateApp
        val files = app.shared
        val request = intent.getStringExtra(REQUEST)
        if (request == null || files == null) return finish()
        @Suppress("UNCHECKED_CAST")
        val before = lastNonConfigurationInstance as? Task<Unit, Unit>
        task = before ?: app.request { work ->
            app.refuseOldCores()
            answer(decoded(request), files, app.phone) { work.cancelled }
        }
        task.watch(this) { state ->
            if (state is State.Done) finish()
            if (state is State.Failed) {
                // nobody can be answered; that the process ends is what the computer sees
                Log.e("fedgate", state.message)
                Process.killProcess(Process.myPid())
            }
        }
    }

    private fun decoded(request: String): ByteArray = try {
        Base64.decode(request, Base64.URL_SAFE)
    } catch (error: IllegalArgumentException) {
        throw FedgateException("the request is not in base64url", error)
    }

    @Deprecated("its successor is AndroidX's")
    override fun onRetainNonConfigurationInstance(): Any? = if (::task.isInitialized) task else null

    override fun onDestroy() {
        if (::task.isInitialized) task.unwatch(this)
        super.onDestroy()
    }
}
