package org.fedgate.harness

import java.io.File
import org.fedgate.core.canonicalJson
import org.fedgate.core.parseJson
import org.fedgate.draw.Bar
import org.fedgate.draw.Box
import org.fedgate.draw.Ink
import org.fedgate.draw.Line
import org.fedgate.draw.Series
import org.fedgate.draw.Shape
import org.fedgate.draw.Words
import org.fedgate.draw.bars
import org.fedgate.draw.barsHeight
import org.fedgate.draw.curves
import org.fedgate.draw.groups
import org.fedgate.draw.milliseconds
import org.fedgate.draw.percent
import org.fedgate.draw.strip
import org.fedgate.draw.thousands
import org.fedgate.draw.tickText
import org.fedgate.draw.ticks

/** A shape as a JSON list: its kind, its numbers in pixels, its ink. */
fun told(shape: Shape): List<Any?> = when (shape) {
    is Box -> listOf("box", shape.left, shape.top, shape.right, shape.bottom, shape.ink.name)
    is Line -> listOf("line", shape.points.toList(), shape.width, shape.ink.name)
    is Words -> listOf("words", shape.text, shape.x, shape.y, shape.size, shape.align.name, shape.ink.name)
}

/** FILE, a JSON list of questions [name, arguments...]: prints a list of their answers. */
object Drawing {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val asked = parseJson(File(arguments[0]).readBytes(), "the questions") as List<*>
        println(canonicalJson(asked.map { answer(it as List<*>) }))
    }

    private fun answer(asked: List<*>): Any? = when (asked[0]) {
        "groups" -> groups(mask(asked[1]), number(asked[2]).toInt()).toList()
        "strip" -> strip(mask(asked[1]), number(asked[2]).toFloat(), 24f, 1f).map { told(it) }
        "ticks" -> ticks(number(asked[1]), number(asked[2])).let { found -> listOf(found, found.map { tickText(it, found) }) }
        "numbers" -> number(asked[1]).let { listOf(milliseconds(it), thousands(it), percent(it)) }
        "bars" -> {
            val rows = (asked[1] as List<*>).map { row -> (row as List<*>).let { Bar("a", number(it[0]), number(it[1]), "b") } }
            listOf(barsHeight(rows.size, 1f), bars(rows, 300f, 1f, 1f).map { told(it) })
        }
        "curves" -> {
            val values = (asked[1] as List<*>).map { if (it == null) Double.NaN else number(it) }.toDoubleArray()
            val line = Series("loss", values, Ink.FIRST)
            curves(listOf(line), "epoch", 300f, 200f, 1f, 1f) { text, size -> text.length * size / 2 }.map { told(it) }
        }
        else -> throw IllegalArgumentException("${asked[0]}")
    }

    private fun number(value: Any?): Double = (value as Number).toDouble()

    private fun mask(value: Any?): BooleanArray = (value as List<*>).map { it as Boolean }.toBooleanArray()
}
