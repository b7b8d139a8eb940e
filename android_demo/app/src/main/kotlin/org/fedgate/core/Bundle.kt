package org.fedgate.core

import java.io.File
import java.io.IOException

private const val LARGEST_MANIFEST = 1L shl 24

/** A bundle whose files were found and hashed. */
class Bundle(val path: File, val manifest: Manifest) {
    fun file(name: String) = File(path, name)

    /** The checked reference inputs and outputs. Throws [FedgateException]. */
    fun reference(): Reference = loadReference(file("reference.safetensors"), manifest)

    /** The checked salience records by scope. Throws [FedgateException]. */
    fun salience(): Map<String, Salience> = loadSalience(file("salience.safetensors"), manifest)

    /** The checked tail of a bundle that trains. Throws [UsageException] for one that does not. */
    fun tail(): Tail {
        if (manifest.tail == null) {
            throw UsageException("$path has nothing to train: export it with --trainable head or last-stage")
        }
        return loadTail(file(TAIL_FILE), manifest)
    }
}

/**
 * Loads a bundle: checks the manifest, and the size and SHA-256 of every file it names.
 *
 * Throws [FedgateException] for a folder that is no bundle, a file that is missing, changed, or outside the folder.
 */
fun loadBundle(path: File): Bundle {
    if (!path.isDirectory) throw FedgateException("$path is not a bundle: no such folder")
    val place = File(path, "manifest.json")
    if (!place.isFile) throw FedgateException("$path is not a bundle: it has no manifest.json")
    if (place.length() > LARGEST_MANIFEST) throw FedgateException("$place is larger than $LARGEST_MANIFEST bytes")
    val manifest = parseManifest(readFile(place))
    val expected = manifest.programs.associate { it.file to Listed(it.sha256, it.bytes) } + manifest.files
    for ((name, listed) in expected) checkFile(path, name, listed)
    return Bundle(path, manifest)
}

private fun checkFile(folder: File, name: String, listed: Listed) {
    val place = File(folder, name)
    val real = try {
        place.canonicalFile == File(folder.canonicalFile, name)
    } catch (error: IOException) {
        throw FedgateException("cannot read $place: ${reason(error, place)}", error)
    }
    if (!real) throw FedgateException("$place is refused: it is a link")
    if (!place.isFile) throw FedgateException("$folder has no $name, which its manifest names")
    if (place.length() != listed.bytes || sha256File(place) != listed.sha256) {
        throw FedgateException("$place was changed after it was written: its SHA-256 does not match the manifest")
    }
}

/** The level asked for by index or by density, or the bundle's default. Throws [UsageException], listing the known. */
fun chooseLevel(manifest: Manifest, level: Int?, density: Double?): Int {
    if (level != null && density != null) throw UsageException("give --level or --density, not both")
    val known = manifest.densities.mapIndexed { index, value -> "$index: $value" }.joinToString(", ")
    if (density != null) {
        val near = manifest.densities.indexOfFirst { Math.abs(it - density) < 1e-6 }
        if (near < 0) throw UsageException("the bundle has no density $density; its levels are $known")
        return near
    }
    val chosen = level ?: manifest.defaultLevel
    if (chosen !in manifest.densities.indices) {
        throw UsageException("the bundle has no level $chosen; its levels are $known")
    }
    return chosen
}
