package org.fedgate.demo

import android.content.Context
import android.graphics.Canvas
import android.util.AttributeSet
import android.view.View
import org.fedgate.draw.strip

/** Which channels of one layer ran; its content description says how many. */
class StripView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val pen = Pen(context)
    private var open = BooleanArray(0)

    fun show(layer: String, open: BooleanArray) {
        this.open = open
        contentDescription = resources.getString(R.string.strip_says, layer, open.count { it }, open.size)
        invalidate()
    }

    override fun onDraw(canvas: Canvas) = pen.draw(strip(open, width.toFloat(), height.toFloat(), pen.dp), canvas)
}
