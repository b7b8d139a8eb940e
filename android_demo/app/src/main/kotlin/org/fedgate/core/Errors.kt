package org.fedgate.core

/** Something outside the program is wrong: a file, a device, a peer. The message says what and what to do. */
open class FedgateException(message: String, cause: Throwable? = null) : Exception(message, cause) {
    /** The exit status that fedgate's command line gives such an error. */
    open val status: Int get() = 1
}

/** The request itself is wrong: an unknown name, a value out of range, options that contradict each other. */
class UsageException(message: String) : FedgateException(message) {
    override val status: Int get() = 2
}

/** The user stopped it. What was done so far is kept, and the same call goes on with it. */
class CancelledException(message: String) : FedgateException(message)

/** Throws a [UsageException] that lists the known names unless [name] is one of them. */
fun choose(kind: String, name: String, known: Collection<String>) {
    if (name !in known) throw UsageException("unknown $kind '${printable(name)}'; known: ${known.joinToString(", ")}")
}

/** A stranger's text without what would do something to a screen, and not too long. */
fun printable(text: String, limit: Int = 300): String {
    val out = StringBuilder()
    var index = 0
    while (index < text.length && out.length < limit) {
        val point = text.codePointAt(index)
        if (isPrintable(point)) out.appendCodePoint(point) else out.append("\\u").append(hex4(point))
        index += Character.charCount(point)
    }
    return out.toString()
}

/** A text with what is not printable escaped as Python's strings have it: the name of a class, as bundles hold it. */
fun escaped(text: String): String {
    val out = StringBuilder()
    var index = 0
    while (index < text.length) {
        val point = text.codePointAt(index)
        when {
            isPrintable(point) -> out.appendCodePoint(point)
            point == '\n'.code -> out.append("\\n")
            point == '\r'.code -> out.append("\\r")
            point == '\t'.code -> out.append("\\t")
            point < 0x100 -> out.append(String.format("\\x%02x", point))
            point < 0x10000 -> out.append(String.format("\\u%04x", point))
            else -> out.append(String.format("\\U%08x", point))
        }
        index += Character.charCount(point)
    }
    return out.toString()
}

/** What Python's `str.isprintable` says of a code point. */
fun isPrintable(point: Int): Boolean = point == ' '.code || when (Character.getType(point).toByte()) {
    Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
    Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR -> false
    else -> true
}

internal fun hex4(value: Int): String = value.toString(16).padStart(4, '0')
