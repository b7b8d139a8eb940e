package org.fedgate.core

import java.io.File
import java.security.MessageDigest
import java.text.Normalizer
import java.util.Locale

private const val SUFFIX = ".safetensors"
private const val MOST_IMAGES = 1_000_000
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

    /** Lines that tell what of a folder is not used. */
    val leftOut: List<String>

    /** uint8 (H, W, C) of the network's shape; [FedgateException] for an image that cannot be read. */
    fun pixels(index: Int): ByteArray
}

/**
 * What the headless entry finds below a folder: pictures by class, as [scan] finds them, or numbered files with an
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
            val paths = names.map { it as String }
            val single = paths.singleOrNull()
            if (single != null && single.endsWith(SUFFIX)) samples(File(place, "0"), single, manifest)
            else Pictures(IndexTree("the pictures sent", paths, place), manifest, device)
        }
        place.isDirectory -> Pictures(FileTree(place), manifest, device)
        place.isFile && place.name.endsWith(SUFFIX) -> samples(place, place.name, manifest)
        else -> throw UsageException(
            "no data at $place: give a folder of images by class, or a $SUFFIX file of recorded samples"
        )
    }
}

/**
 * The pictures of a tree by class; each class is a label of the bundle. Making it reads every file once, for the
 * digest, under which an interrupted fine-tuning knows its pictures again.
 */
class Pictures(
    private val tree: Tree, private val manifest: Manifest, private val device: Device, stop: () -> Boolean = { false },
) : Examples {
    override val source = tree.name
    override val names: List<String>
    override val labels: IntArray
    override val digest: String
    override val leftOut: List<String>
    private val files: List<TreeEntry>

    init {
        val found = scan(tree, device::decodes, stop)
        val known = manifest.labels.map { Normalizer.normalize(it, Normalizer.Form.NFC) }
        val classes = found.classes.getValue("train")
        for (name in classes.keys) choose("class of $source", name, known)
        leftOut = found.notes + found.classes.filterKeys { it != "train" }.map { (split, others) ->
            val count = "%,d".format(Locale.ROOT, others.values.sumOf { it.size })
            "left out, as devices learn from train alone: the split '$split' ($count images)"
        }
        if (classes.isEmpty()) {
            val all = listOf("$source holds no images by class") + leftOut
            throw FedgateException("${all.joinToString("; ")}: looked for as $source/CLASS/IMAGE")
        }
        val all = classes.flatMap { (label, pictures) -> pictures.map { label to it } }
        if (all.size > MOST_IMAGES) {
            val count = "%,d images, and at most %,d are read".format(Locale.ROOT, all.size, MOST_IMAGES)
            throw FedgateException("$source holds $count")
        }
        files = all.map { it.second.file }
        names = all.map { printable(it.second.path) }
        labels = IntArray(all.size) { known.indexOf(all[it].first) }
        val whole = MessageDigest.getInstance("SHA-256")
        for ((_, picture) in all) {
            if (stop()) throw CancelledException("stopped")
            whole.update(picture.path.toByteArray())
            whole.update(0)
            whole.update(unhex(sha256(picture.path) { tree.open(picture.file) }))
        }
        digest = hex(whole.digest())
    }

    override fun pixels(index: Int): ByteArray = tree.withFile(files[index]) { file ->
        device.decode(file, names[index]).use { pixelsOf(it, manifest) }
    }
}

/** Recorded samples, uint8 images of the network's own shape: what an application kept of its camera's frames. */
class Samples(override val source: String, images: Tensor, override val labels: IntArray, override val digest: String) :
    Examples {
    private val shape = images.shape.drop(1)
    private val bytes = images.bytes
    override val names = List(labels.size) { "$source[$it]" }
    override val leftOut = emptyList<String>()

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
