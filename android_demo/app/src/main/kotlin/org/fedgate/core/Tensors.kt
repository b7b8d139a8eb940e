package org.fedgate.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/** The dtypes that are written and read; `python` is numpy's name, which hashes are made of. */
enum class DType(val size: Int, val python: String) {
    F64(8, "float64"), F32(4, "float32"), F16(2, "float16"), I64(8, "int64"), I32(4, "int32"), I8(1, "int8"),
    U32(4, "uint32"), U16(2, "uint16"), U8(1, "uint8");
}

/**
 * An array of numbers, row-major. [data] is the JVM array of the dtype's width: DoubleArray for F64, FloatArray for
 * F32, LongArray for I64, IntArray for I32 and U32, ShortArray for F16 and U16, ByteArray for I8 and U8.
 */
class Tensor(val type: DType, val shape: List<Int>, val data: Any) {
    val floats: FloatArray get() = data as FloatArray
    val doubles: DoubleArray get() = data as DoubleArray
    val longs: LongArray get() = data as LongArray
    val ints: IntArray get() = data as IntArray
    val shorts: ShortArray get() = data as ShortArray
    val bytes: ByteArray get() = data as ByteArray

    /** What messages say of it. */
    override fun toString(): String = "${type.python} $shape"

    fun isFinite(): Boolean = when (type) {
        DType.F32 -> floats.all { it.isFinite() }
        DType.F64 -> doubles.all { it.isFinite() }
        DType.F16 -> shorts.all { (it.toInt() and 0x7c00) != 0x7c00 }
        else -> true
    }

    /** Its bytes, little-endian. */
    fun littleEndian(): ByteArray {
        val out = ByteArray(count(shape) * type.size)
        val buffer = ByteBuffer.wrap(out).order(ByteOrder.LITTLE_ENDIAN)
        when (data) {
            is DoubleArray -> buffer.asDoubleBuffer().put(data)
            is FloatArray -> buffer.asFloatBuffer().put(data)
            is LongArray -> buffer.asLongBuffer().put(data)
            is IntArray -> buffer.asIntBuffer().put(data)
            is ShortArray -> buffer.asShortBuffer().put(data)
            else -> buffer.put(bytes)
        }
        return out
    }

    companion object {
        fun of(shape: List<Int>, data: FloatArray) = Tensor(DType.F32, shape, data)

        fun of(shape: List<Int>, data: IntArray) = Tensor(DType.I32, shape, data)

        fun of(shape: List<Int>, data: LongArray) = Tensor(DType.I64, shape, data)

        fun of(shape: List<Int>, data: DoubleArray) = Tensor(DType.F64, shape, data)

        fun bytes(shape: List<Int>, data: ByteArray) = Tensor(DType.U8, shape, data)

        fun number(value: Float) = of(listOf(1), floatArrayOf(value))

        /** The tensor whose little-endian bytes lie in [blob] from [start] on. */
        fun read(type: DType, shape: List<Int>, blob: ByteArray, start: Int): Tensor {
            val n = count(shape)
            val buffer = ByteBuffer.wrap(blob, start, n * type.size).slice().order(ByteOrder.LITTLE_ENDIAN)
            val data: Any = when (type) {
                DType.F64 -> DoubleArray(n).also { buffer.asDoubleBuffer().get(it) }
                DType.F32 -> FloatArray(n).also { buffer.asFloatBuffer().get(it) }
                DType.I64 -> LongArray(n).also { buffer.asLongBuffer().get(it) }
                DType.I32, DType.U32 -> IntArray(n).also { buffer.asIntBuffer().get(it) }
                DType.F16, DType.U16 -> ShortArray(n).also { buffer.asShortBuffer().get(it) }
                DType.I8, DType.U8 -> ByteArray(n).also { buffer.get(it) }
            }
            return Tensor(type, shape, data)
        }
    }
}

fun count(shape: List<Int>): Int = shape.fold(1) { product, size -> product * size }

/** SHA-256 in hex over the sorted names, dtypes, shapes and little-endian values, as `tensors_hash` in Python. */
fun tensorsHash(tensors: Map<String, Tensor>): String {
    val digest = MessageDigest.getInstance("SHA-256")
    for (name in tensors.keys.sortedWith(BY_CODE_POINT)) {
        val tensor = tensors.getValue(name)
        val head = canonicalJson(listOf(name, tensor.type.python, tensor.shape)).toByteArray()
        digest.update(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(head.size.toLong()).array())
        digest.update(head)
        digest.update(tensor.littleEndian())
    }
    return hex(digest.digest())
}
