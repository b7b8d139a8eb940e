package org.fedgate.demo

import android.content.Context
import android.graphics.Canvas
import android.util.AttributeSet
import android.view.View
import org.fedgate.draw.Bar
import org.fedgate.draw.Series
import org.fedgate.draw.bars
import org.fedgate.draw.barsHeight
import org.fedgate.draw.curves

/** A chart of bars, as high as they need, or of curves, as high as its layout says. */
class ChartView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val pen = Pen(context)
    private var bars = emptyList<Bar>()
    private var curves = emptyList<Series>()
    private var along = ""

    /** spoken: what TalkBack says instead of the picture. */
    fun showBars(bars: List<Bar>, spoken: String) {
        this.bars = bars
        contentDescription = spoken
        requestLayout()
        invalidate()
    }

    fun showCurves(curves: List<Series>, along: String, spoken: String) {
        this.curves = curves
        this.along = along
        contentDescription = spoken
        invalidate()
    }

    override fun onMeasure(width: Int, height: Int) {
        val wanted = barsHeight(bars.size, pen.dp).toInt()
        setMeasuredDimension(getDefaultSize(suggestedMinimumWidth, width), resolveSize(wanted, height))
    }

    override fun onDraw(canvas: Canvas) {
        val wide = width.toFloat()
        pen.draw(bars(bars, wide, pen.dp, pen.sp), canvas)
        pen.draw(curves(curves, along, wide, height.toFloat(), pen.dp, pen.sp, pen.measure), canvas)
    }
}
