package org.fedgate.core

import java.io.File

/** The app's own folder on shared storage as adb names it, whatever Android calls it inside. */
private const val SEEN = "/sdcard/Android/data/org.fedgate.demo/files"
private val BENCH = setOf("runtime", "role", "level", "density", "threads", "seconds", "rounds")
private val VERIFY = setOf("runtime")
private val FINETUNE = setOf(
    "data", "runtime", "epochs", "lr", "lr-decay", "batch-size", "momentum", "weight-decay", "clip-norm", "validation",
    "patience", "level", "density", "seed", "client", "codec", "upload-share", "skip-unreadable", "threads",
)

/**
 * Answers a request of `fedgate bench|verify|finetune --target adb:SERIAL` (device_runtime/targets/adb.py) and writes
 * OUT/result.json, whole or not at all; the name of the folder OUT is in the request, and [files] is what holds it.
 *
 * Returns the answer, {"status", "message", "result"}, which is also what the file holds. Throws [FedgateException]
 * only where no answer can be written: a request that names no OUT, or a full disk.
 */
fun answer(request: ByteArray, files: File, device: Device, cancelled: () -> Boolean = { false }): Map<String, Any?> {
    val wanted = Fields(parseJson(request, "the request"), "the request")
    val out = File(files, name(wanted, "out"))
    val answer = try {
        mapOf("status" to 0, "message" to "", "result" to result(wanted, files, out, device, cancelled))
    } catch (error: FedgateException) {
        failed(error.status, error.message)
    } catch (error: OutOfMemoryError) {
        failed(1, "the app ran out of memory")
    } catch (error: RuntimeException) {
        failed(1, "the app failed: $error")
    }
    makeFolder(out)
    writeFile(File(out, "result.json"), canonicalJson(answer).toByteArray())
    return answer
}

private fun failed(status: Int, message: String?) =
    mapOf("status" to status, "message" to printable(message ?: "it failed", 1000), "result" to null)

private fun result(
    wanted: Fields, files: File, out: File, device: Device, cancelled: () -> Boolean,
): Map<String, Any?> {
    wanted.whole("version", 1, 1)
    val command = wanted.choice("command", listOf("bench", "verify", "finetune"))
    val options = Options(wanted.get("options"), command)
    val path = File(files, name(wanted, "bundle"))
    val bundle = loadBundle(path)
    val found = when (command) {
        "bench" -> bench(bundle, options.bench(), device, {}, cancelled)
        "verify" -> mapOf("bundle" to "$path", "programs" to verify(bundle, options.text("runtime")))
        else -> {
            val data = loadExamples(File(files, name(options.fields, "data")), bundle.manifest, device)
            finetune(bundle, data, out, options.plan(bundle.manifest), object : TuneWatcher {}, cancelled)
        }
    }
    return found.mapValues { (_, value) ->
        if (value is String && value.startsWith("$files/")) SEEN + value.removePrefix("$files") else value
    }
}

/** A plain name of a file in the app's folder. */
private fun name(fields: Fields, key: String): String {
    val value = fields.text(key)
    if (!isPlainName(value)) fields.refuse(key, "the plain name of a folder")
    return value
}

/** A command's options as the command line names them, without "--"; those that are not here keep their defaults. */
private class Options(value: Any?, command: String) {
    val fields = Fields(value, "the options of $command")

    init {
        val known = mapOf("bench" to BENCH, "verify" to VERIFY, "finetune" to FINETUNE).getValue(command)
        (fields.all.keys - known).firstOrNull()?.let {
            val has = known.joinToString(", ") { name -> "--$name" }
            throw UsageException("the app's $command has no --${printable(it)}; it has: $has")
        }
        if ((fields.all["codec"] ?: "fp32") != "fp32") {
            throw UsageException("the app writes updates with --codec fp32 alone")
        }
        val runtime = fields.all["runtime"] ?: "executorch"
        if (command == "finetune" && runtime != "executorch") {
            throw UsageException("the app trains with --runtime executorch alone")
        }
    }

    fun text(key: String): String? = if (key in fields.all) fields.text(key) else null

    fun int(key: String): Int? = if (key in fields.all) fields.int(key, Int.MIN_VALUE, Int.MAX_VALUE) else null

    fun number(key: String): Double? =
        if (key in fields.all) fields.number(key, -Double.MAX_VALUE, Double.MAX_VALUE) else null

    fun bench() = BenchOptions(
        runtime = text("runtime"),
        role = text("role"),
        threads = int("threads") ?: 1,
        level = int("level"),
        density = number("density"),
        rounds = int("rounds"),
        seconds = number("seconds") ?: 10.0,
    )

    fun plan(manifest: Manifest): TunePlan {
        val usual = TunePlan(chooseLevel(manifest, int("level"), number("density")))
        return usual.copy(
            epochs = int("epochs") ?: usual.epochs,
            batchSize = int("batch-size"),
            lr = number("lr") ?: usual.lr,
            lrDecay = number("lr-decay") ?: usual.lrDecay,
            momentum = number("momentum") ?: usual.momentum,
            weightDecay = number("weight-decay") ?: usual.weightDecay,
            clipNorm = number("clip-norm") ?: usual.clipNorm,
            seed = if ("seed" in fields.all) fields.whole("seed", 0, Long.MAX_VALUE) else usual.seed,
            uploadShare = number("upload-share") ?: usual.uploadShare,
            validation = number("validation") ?: usual.validation,
            patience = int("patience") ?: usual.patience,
            client = int("client") ?: usual.client,
            skipUnreadable = "skip-unreadable" in fields.all && fields.flag("skip-unreadable"),
            threads = int("threads") ?: usual.threads,
        )
    }
}
