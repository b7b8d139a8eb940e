package org.fedgate.draw

/** What a shape means; a screen gives each its colour, by theme. */
enum class Ink { OPEN, CLOSED, TEXT, FAINT, FIRST, SECOND }

enum class Align { START, MIDDLE, END }

/** A thing to draw, in pixels from the top left corner of its picture. */
sealed class Shape

/** A filled rectangle. */
class Box(val left: Float, val top: Float, val right: Float, val bottom: Float, val ink: Ink) : Shape()

/** A line through points x0, y0, x1, y1, ... of the given width; one point alone is a dot. */
class Line(val points: FloatArray, val width: Float, val ink: Ink) : Shape()

/** Words whose baseline is at [y]; [x] is their start, middle or end. [size] in pixels. */
class Words(val text: String, val x: Float, val y: Float, val size: Float, val align: Align, val ink: Ink) : Shape()

/** The width in pixels of a text at a size in pixels. */
typealias Measure = (text: String, size: Float) -> Float
