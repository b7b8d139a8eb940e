package org.fedgate.core

import java.io.ByteArrayOutputStream
import java.io.File

private const val SUFFIX = ".safetensors"
private const val MOST_BYTES = 1L shl 28 // of recorded samples, which are held in memory

/** Labelled images, read one at a time; the same examples and digest as device_runtime/tuning/examples.py. */
interface Examples {
    /** For messages. */
    val source: String

    /** Of each image, for messages. */
    val names: List<String>

    /** Indices into the bundle's labels. */
    val labels: IntArray

    /** SHA-256 of names, labels and contents. */
    val digest: String

    /** uint8 (H, W, C) of the network's shape; [FedgateException] for an image that cannot be read. */
    fun pixels(index: Int): ByteArray
}

/**
 * What the headless entry finds below a folder: pictures by class, DIR/CLASS/IMAGE, or numbered files with an
 * index.json that lists their names, or recorded samples. Throws [UsageException] for classes that the network does
 * not have.
 */
fun loadExamples(place: File, manifest: Manifest, device: Device): Examples {
    val index = File(place, "index.json")
    return when {
        index.isFile -> {
            val names = parseJson(readFile(index), "$index")
            if (names !is List<*> || !names.all { it is String }) {
                throw FedgateException("$index must be a list of names")
            }
            val files = names.mapIndexed { number, name -> name as String to File(place, "$number") }
            val single = files.singleOrNull()
            if (single != null && single.first.endsWith(SUFFIX)) samples(single.second, single.first, manifest)
            else Pictures("the pictures sent", files.filter { it.first.count { c -> c == '/' } == 1 }, manifest, device)
        }
        place.isDirectory -> {
            val folders = place.listFiles().orEmpty().filter { it.isDirectory && !it.name.startsWith(".") }
            val files = folders.flatMap { folder ->
                folder.listFiles().orEmpty().filter { it.isFile }.map { "${folder.name}/${it.name}" to it }
            }
            Pictures("$place", files, manifest, device)
        }
        place.isFile && place.name.endsWith(SUFFIX) -> samples(place, place.name, manifest)
        else -> throw UsageException(
            "no data at $place: give a folder of images by class, or a $SUFFIX file of recorded samples"
        )
    }
}

/** Picture files by the name CLASS/IMAGE, in the order of their names. */
class Pictures(
    override val source: String,
    files: List<Pair<String, File>>,
    private val manifest: Manifest,
    private val device: Device,
) : Examples {
    private val files = files.filter { (name, _) -> name.split('/').none { it.startsWith(".") } }
        .sortedWith { a, b -> compareNames(a.first, b.first) }
    override val names = this.files.map { printable(it.first) }
    override val labels: IntArray
    override val digest: String

    init {
        for (name in this.files.map { it.first.substringBefore('/') }.distinct()) {
            choose("class of $source", name, manifest.labels)
        }
        if (this.files.isEmpty()) {
            throw FedgateException("$source holds no images by class: they are looked for as CLASS/IMAGE")
        }
        labels = IntArray(this.files.size) { manifest.labels.indexOf(this.files[it].first.substringBefore('/')) }
        val all = ByteArrayOutputStream()
        for ((name, file) in this.files) {
            all.write(name.toByteArray())
            all.write(0)
            all.write(unhex(sha256File(file)))
        }
        digest = sha256(all.toByteArray())
    }

    override fun pixels(index: Int): ByteArray = pixelsOf(device.decode(files[index].second), manifest, names[index])

    private fun compareNames(a: String, b: String): Int {
        val byClass = BY_CODE_POINT.compare(a.substringBefore('/'), b.substringBefore('/'))
        return if (byClass != 0) byClass else BY_CODE_POINT.compare(a, b)
    }
}

/** Recorded samples, uint8 images of the network's own shape: what an application kept of its camera's frames. */
class Samples(override val source: String, images: Tensor, override val labels: IntArray, override val digest: String) :
    Examples {
    private val shape = images.shape.drop(1)
    private val bytes = images.bytes
    override val names = List(labels.size) { "$source[$it]" }

    override fun pixels(index: Int): ByteArray {
        val (channels, height, width) = shape
        val plane = height * width
        val start = index * channels * plane
        return ByteArray(channels * plane) { bytes[start + it % channels * plane + it / channels] }
    }
}

private fun samples(file: File, shown: String, manifest: Manifest): Samples {
    val name = printable(shown)
    if (file.length() > MOST_BYTES) {
        throw FedgateException("$name is larger than $MOST_BYTES bytes, and recorded samples are held in memory")
    }
    val read = unpack(readFile(file), name)
    val fields = Fields(read.meta, "the metadata of $name")
    if (fields.get("format") != "fedgate-samples") fields.refuse("format", "'fedgate-samples'")
    fields.whole("version", 1, 1)
    val classes = fields.items("labels", 1, 100_000)
    for (label in classes) choose("class of $name", label.toString(), manifest.labels)
    val images = read.tensors["images"]
    val labels = read.tensors["labels"]
    if (images == null || images.type != DType.U8 || images.shape.drop(1) != manifest.shape.drop(1)) {
        throw FedgateException("$name must hold 'images', uint8 (n, ${manifest.shape.drop(1).joinToString(", ")})")
    }
    if (labels == null || labels.type != DType.I64 || labels.shape != images.shape.take(1)) {
        throw FedgateException("$name must hold 'labels', int64, one for each image")
    }
    if (labels.longs.isEmpty()) throw FedgateException("$name holds no images")
    if (!labels.longs.all { it in classes.indices }) {
        throw FedgateException("$name has a label outside its ${classes.size} classes")
    }
    val own = IntArray(labels.longs.size) { manifest.labels.indexOf(classes[labels.longs[it].toInt()]) }
    val spelled = Tensor.of(labels.shape, LongArray(own.size) { own[it].toLong() })
    return Samples(name, images, own, tensorsHash(mapOf("images" to images, "labels" to spelled)))
}
