package org.fedgate.core

private const val HEAD = 64 // bytes that tell a format

/** The end of a name, in lower case -> its format; the same as device_runtime/pictures/formats.py. */
private val SUFFIXES = mapOf(
    "JPEG" to "jpg jpeg jpe jfif mpo",
    "PNG" to "png apng",
    "GIF" to "gif",
    "BMP" to "bmp dib",
    "TIFF" to "tif tiff",
    "WEBP" to "webp",
    "PPM" to "ppm pgm pbm pnm",
    "JPEG2000" to "jp2 j2k jpx jpf",
    "AVIF" to "avif avifs",
    "HEIF" to "heic heif hif",
).flatMap { (format, names) -> names.split(' ').map { it to format } }.toMap()

/** Raw files of cameras are TIFF by their first bytes, and what decoders find in them is a thumbnail. */
private val RAW = "dng cr2 nef nrw arw orf rw2 pef srw 3fr erf iiq kdc dcr".split(' ').toSet()
private val BMP_HEADERS = setOf(12, 16, 40, 52, 56, 64, 108, 124)
private val HEIF_BRANDS = setOf("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")

/**
 * The format of a file if it is a picture, else null: by the end of its name, even where what it holds is damaged, or
 * else by its first bytes, [head]. These also decide where the name's format is not [decodable]: phones write JPEG into
 * files that are called .heic.
 */
fun pictureFormat(name: String, decodable: (String) -> Boolean, head: (Int) -> ByteArray): String? {
    val suffix = name.substringAfterLast('.', "").lowercase()
    val known = SUFFIXES[suffix]
    return when {
        suffix in RAW -> null
        known == null -> sniff(head(HEAD))
        decodable(known) -> known
        else -> sniff(head(HEAD)) ?: known
    }
}

/** The format that a file's first bytes tell, or null. */
private fun sniff(head: ByteArray): String? {
    val text = String(head, Charsets.ISO_8859_1)
    fun at(place: Int, length: Int = 4) = text.drop(place).take(length)
    return when {
        text.startsWith("\u00ff\u00d8\u00ff") -> "JPEG"
        text.startsWith("\u0089PNG\r\n\u001a\n") -> "PNG"
        at(0, 6) in listOf("GIF87a", "GIF89a") -> "GIF"
        at(0, 2) == "BM" && at(6) == "\u0000\u0000\u0000\u0000" && at(15, 3) == "\u0000\u0000\u0000" &&
            text[14].code in BMP_HEADERS -> "BMP"
        at(0) in listOf("II*\u0000", "MM\u0000*", "II+\u0000", "MM\u0000+") -> "TIFF"
        at(0) == "RIFF" && at(8) == "WEBP" -> "WEBP"
        at(0, 12) == "\u0000\u0000\u0000\u000cjP  \r\n\u0087\n" || at(0) == "\u00ff\u004f\u00ff\u0051" -> "JPEG2000"
        at(4) == "ftyp" -> {
            val size = head.take(4).fold(0L) { sum, byte -> sum shl 8 or (byte.toLong() and 255) }
            val brands = (listOf(8) + (16 until size.coerceIn(16, HEAD.toLong()).toInt() step 4)).map { at(it) }
            if ("avif" in brands || "avis" in brands) "AVIF" else if (brands.any { it in HEIF_BRANDS }) "HEIF" else null
        }
        else -> null
    }
}
