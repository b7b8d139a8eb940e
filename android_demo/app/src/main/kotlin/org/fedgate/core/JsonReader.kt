package org.fedgate.core

import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

private const val DEEPEST = 200
private const val MOST_DIGITS = 4300 // as Python's int()

/**
 * Parses strict JSON; [where] names the source in errors. Objects become maps in the order of the text, arrays lists,
 * whole numbers Long or BigInteger, others Double.
 *
 * The same texts are refused that fedgate's own reader (device_runtime/formats/checks.py) refuses: what is not UTF-8, NaN and
 * infinities (1e999 too), a key twice in one object, lone surrogates. Throws [FedgateException].
 */
fun parseJson(data: ByteArray, where: String): Any? {
    try {
        val decoder = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
        return JsonReader(decoder.decode(ByteBuffer.wrap(data)).toString()).document()
    } catch (error: CharacterCodingException) {
        throw FedgateException("$where is not valid JSON: it is not UTF-8")
    } catch (error: JsonError) {
        throw FedgateException("$where is not valid JSON: ${error.message}")
    }
}

private class JsonError(message: String) : Exception(message)

private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        space()
        if (at < text.length) fail("something follows its end")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > DEEPEST) fail("nested too deeply")
        space()
        return when (peek()) {
            '{' -> pairs(depth)
            '[' -> items(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun pairs(depth: Int): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        at++
        space()
        if (taken('}')) return found
        do {
            space()
            if (peek() != '"') fail("a key is expected at character $at")
            val key = string()
            space()
            if (!taken(':')) fail("':' is expected at character $at")
            if (key in found) fail("an object has a key twice")
            found[key] = value(depth + 1)
            space()
        } while (taken(','))
        if (!taken('}')) fail("',' or '}' is expected at character $at")
        return found
    }

    private fun items(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        at++
        space()
        if (taken(']')) return found
        do {
            found.add(value(depth + 1))
            space()
        } while (taken(','))
        if (!taken(']')) fail("',' or ']' is expected at character $at")
        return found
    }

    private fun string(): String {
        val out = StringBuilder()
        at++
        while (true) {
            val c = peek()
            at++
            when {
                c == '"' -> break
                c == '\\' -> out.append(escape())
                c < ' ' -> fail("a control character stands in a text")
                else -> out.append(c)
            }
        }
        for (i in out.indices) if (lone(out, i)) fail("a text holds half a surrogate pair")
        return out.toString()
    }

    private fun lone(text: CharSequence, i: Int): Boolean = when {
        Character.isHighSurrogate(text[i]) -> i + 1 == text.length || !Character.isLowSurrogate(text[i + 1])
        Character.isLowSurrogate(text[i]) -> i == 0 || !Character.isHighSurrogate(text[i - 1])
        else -> false
    }

    private fun escape(): Char {
        val c = peek()
        at++
        return when (c) {
            '"', '\\', '/' -> c
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                var code = 0
                repeat(4) {
                    val digit = "0123456789abcdef".indexOf(peek().lowercaseChar())
                    if (digit < 0) fail("\\u needs four hexadecimal digits")
                    code = 16 * code + digit
                    at++
                }
                code.toChar()
            }
            else -> fail("'\\' stands before an unknown letter")
        }
    }

    private fun number(): Any {
        val start = at
        taken('-')
        if (!taken('0') && digits() == 0) fail("a value is expected at character $start")
        var whole = true
        if (at + 1 < text.length && text[at] == '.' && text[at + 1] in '0'..'9') {
            at++
            digits()
            whole = false
        }
        if (at < text.length && (text[at] == 'e' || text[at] == 'E')) {
            val before = at
            at++
            if (!taken('+')) taken('-')
            if (digits() == 0) at = before else whole = false
        }
        val found = text.substring(start, at)
        if (!whole) {
            val value = found.toDouble()
            if (value.isInfinite()) fail("a number is too large")
            return value
        }
        if (found.length > MOST_DIGITS) fail("a number has more than $MOST_DIGITS digits")
        return found.toLongOrNull() ?: BigInteger(found)
    }

    private fun digits(): Int {
        val start = at
        while (at < text.length && text[at] in '0'..'9') at++
        return at - start
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("a value is expected at character $at")
        at += word.length
        return value
    }

    private fun taken(c: Char): Boolean {
        if (at >= text.length || text[at] != c) return false
        at++
        return true
    }

    private fun space() {
        while (at < text.length && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("it ends too early")

    private fun fail(what: String): Nothing = throw JsonError(what)
}
