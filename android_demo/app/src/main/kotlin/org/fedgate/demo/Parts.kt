package org.fedgate.demo

import android.app.Activity
import android.view.View

// Android's own findViewById returns a plain View in the API that the offline build compiles against.

inline fun <reified T : View> Activity.part(id: Int): T {
    val view: View = findViewById(id)
    return view as T
}

inline fun <reified T : View> View.part(id: Int): T {
    val view: View = findViewById(id)
    return view as T
}
