package org.fedgate.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Path
import org.fedgate.draw.Align
import org.fedgate.draw.Box
import org.fedgate.draw.Ink
import org.fedgate.draw.Line
import org.fedgate.draw.Measure
import org.fedgate.draw.Shape
import org.fedgate.draw.Words

/** Puts shapes on a canvas, in the theme's colours. */
class Pen(private val context: Context) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    val dp = context.resources.displayMetrics.density
    val sp = context.resources.displayMetrics.scaledDensity
    val measure: Measure = { text, size ->
        paint.textSize = size
        paint.measureText(text)
    }

    fun draw(shapes: List<Shape>, canvas: Canvas) {
        for (shape in shapes) {
            when (shape) {
                is Box -> {
                    use(shape.ink, Paint.Style.FILL)
                    canvas.drawRect(shape.left, shape.top, shape.right, shape.bottom, paint)
                }
                is Line -> line(shape, canvas)
                is Words -> {
                    use(shape.ink, Paint.Style.FILL)
                    paint.textSize = shape.size
                    paint.textAlign = when (shape.align) {
                        Align.START -> Paint.Align.LEFT
                        Align.MIDDLE -> Paint.Align.CENTER
                        Align.END -> Paint.Align.RIGHT
                    }
                    canvas.drawText(shape.text, shape.x, shape.y, paint)
                }
            }
        }
    }

    private fun line(line: Line, canvas: Canvas) {
        val points = line.points
        if (points.size == 2) {
            use(line.ink, Paint.Style.FILL)
            canvas.drawCircle(points[0], points[1], line.width, paint)
            return
        }
        use(line.ink, Paint.Style.STROKE)
        paint.strokeWidth = line.width
        val path = Path()
        path.moveTo(points[0], points[1])
        for (index in 2 until points.size step 2) path.lineTo(points[index], points[index + 1])
        canvas.drawPath(path, paint)
    }

    private fun use(ink: Ink, style: Paint.Style) {
        paint.style = style
        paint.color = context.getColor(
            when (ink) {
                Ink.OPEN -> R.color.strip_open
                Ink.CLOSED -> R.color.strip_closed
                Ink.TEXT -> R.color.words
                Ink.FAINT -> R.color.faint
                Ink.FIRST -> R.color.chart_first
                Ink.SECOND -> R.color.chart_second
            },
        )
    }
}
