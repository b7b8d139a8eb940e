package org.fedgate.draw

/** One bar: its name, its length (p50), how far its whisker goes (p90), and the words that stand for both. */
class Bar(val name: String, val value: Double, val upper: Double, val words: String)

private const val ROW = 44f // dp, name and bar
private const val SIZE = 13f // dp, of the words

/** The height in pixels of a chart of so many bars. */
fun barsHeight(count: Int, dp: Float): Float = count * ROW * dp

/**
 * Bars one below the other, from a common zero; above each its name and words. The longest whisker fills the width.
 *
 * width in pixels. text: pixels of a scaled pixel, dp: of a density-independent one.
 */
fun bars(rows: List<Bar>, width: Float, dp: Float, text: Float): List<Shape> {
    val most = rows.maxOfOrNull { it.upper }?.takeIf { it > 0 } ?: return emptyList()
    val long = width - 2 * dp
    return rows.flatMapIndexed { index, row ->
        val top = index * ROW * dp
        val middle = top + 31 * dp
        val value = (row.value / most * long).toFloat()
        val upper = (row.upper / most * long).toFloat()
        listOf(
            Words(row.name, 0f, top + 18 * dp, SIZE * text, Align.START, Ink.TEXT),
            Words(row.words, width, top + 18 * dp, SIZE * text, Align.END, Ink.TEXT),
            Box(0f, middle - 6 * dp, value, middle + 6 * dp, Ink.FIRST),
            Line(floatArrayOf(value, middle, upper, middle), 2 * dp, Ink.TEXT),
            Line(floatArrayOf(upper, middle - 4 * dp, upper, middle + 4 * dp), 2 * dp, Ink.TEXT),
        )
    }
}
