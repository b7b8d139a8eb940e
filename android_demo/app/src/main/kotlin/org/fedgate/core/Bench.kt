package org.fedgate.core

private const val BURST = 5 // timed runs of a program in its turn
private const val LEAST_ROUNDS = 12

/** rounds: how many instead of for how long. level and density: at most one of them. */
class BenchOptions(
    val runtime: String? = null,
    val role: String? = null,
    val threads: Int = 1,
    val level: Int? = null,
    val density: Double? = null,
    val rounds: Int? = null,
    val seconds: Double = 10.0,
)

/**
 * Latency of the programs of one level, interleaved and paired with the dense program: the JSON document of
 * `fedgate bench`, {"machine", "rows", "skipped", "warnings"}, with the fields of device_runtime/bench/latency.py.
 *
 * What differs from there: load_ms, first_ms and peak_rss_mb are measured in this process, not in a fresh one each; the
 * kernel's MACs are counted from the masks, by which alone it skips. [watch] is told the share that is done. Throws
 * [FedgateException] when nothing can run, [CancelledException] when [cancelled] says so.
 */
fun bench(
    bundle: Bundle,
    options: BenchOptions,
    device: Device,
    watch: (Double) -> Unit = {},
    cancelled: () -> Boolean = { false },
): Map<String, Any?> {
    if (options.threads < 1 || (options.rounds ?: 1) < 1 || options.seconds <= 0) {
        throw UsageException("threads and rounds must be at least 1, and seconds more than 0")
    }
    val level = chooseLevel(bundle.manifest, options.level, options.density)
    val wanted = withBaselines(bundle, matching(bundle, options.runtime, options.role, level))
    val programs = wanted.filter { Runtimes.whyNot(it) == null }
    if (programs.isEmpty()) {
        val reasons = wanted.mapNotNull { Runtimes.whyNot(it) }.distinct()
        throw FedgateException("no program of this bundle can run here: ${reasons.joinToString("; ")}")
    }
    val reference = bundle.reference()
    val inputs = List(reference.count) { reference.input(it) }
    val models = ArrayList<Measured>()
    try {
        for (program in programs) models.add(Measured(bundle, program, options.threads, level, inputs))
        val thermal = ArrayList(listOfNotNull(device.thermalStatus()))
        val times = interleave(models, inputs.size, options.rounds, options.seconds, System::nanoTime) { done ->
            if (cancelled()) throw CancelledException("the benchmark was stopped")
            device.thermalStatus()?.let { if (it != thermal.lastOrNull()) thermal.add(it) }
            watch(done)
        }
        val rows = addRatios(programs, times, models.mapIndexed { i, model -> model.row(options.threads, times[i]) })
        val skipped = wanted.mapNotNull { program ->
            Runtimes.whyNot(program)?.let { mapOf("program" to program.file, "reason" to it) }
        }
        val states = thermal.joinToString(", then ") { thermalName(it)!! }
        val facts = if (thermal.isEmpty()) emptyMap() else mapOf("thermal" to "thermal status $states")
        return mapOf(
            "machine" to device.facts() + facts + ("loaded in one process" to true),
            "rows" to rows,
            "skipped" to skipped,
            "warnings" to noise(rows) + crowd(options.threads) + heat(thermal),
        )
    } finally {
        for (model in models) model.close()
    }
}

private fun withBaselines(bundle: Bundle, programs: List<Program>): List<Program> {
    val runtimes = programs.map { it.runtime }.toSet()
    val dense = bundle.manifest.programs.filter { it.isBaseline && it.runtime in runtimes }
    return dense.filter { it !in programs } + programs
}

/** What takes turns in [interleave]. */
interface Timed {
    fun prepare(input: Int)

    fun invoke()
}

/** A loaded program with what loading and warming it up told. */
private class Measured(
    private val bundle: Bundle,
    private val program: Program,
    threads: Int,
    private val level: Int,
    private val inputs: List<Tensor>,
) : Timed {
    private val model: Classifier
    private val loadMs: Double
    private val firstMs: Double
    private val peakMb: Double
    private val masks: List<ByteArray>?

    init {
        val start = System.nanoTime()
        model = Classifier(bundle, program, threads)
        val ready = System.nanoTime()
        val first = model.run(inputs[0], level).second
        firstMs = (System.nanoTime() - ready) / 1e6
        loadMs = (ready - start) / 1e6
        peakMb = peakRssMb()
        val others = inputs.drop(1).map { model.run(it, level).second }
        masks = if (first == null) null else listOf(first) + others.map { it!! }
    }

    override fun prepare(input: Int) = model.prepare(inputs[input], level)

    override fun invoke() = model.invoke()

    fun close() = model.close()

    fun row(threads: Int, times: List<DoubleArray>): Map<String, Any?> {
        val manifest = bundle.manifest
        val all = times.flatMap { it.asList() }.toDoubleArray()
        return mapOf(
            "runtime" to program.runtime,
            "model" to manifest.model,
            "gate" to manifest.gate,
            "input" to manifest.shape.last(),
            "role" to program.role,
            "density" to if (program.role == "dense") null else manifest.densities[level],
            "threads" to threads,
            "program" to program.file,
            "rounds" to times.size,
            "p50_ms" to percentile(all, 50.0),
            "p90_ms" to percentile(all, 90.0),
            "asked_macs" to askedMacs(manifest, program, level, masks),
            "executed_macs" to executedMacs(manifest, program, level, masks),
            "dense_macs" to manifest.layers.sumOf { it.denseMacs },
            "load_ms" to loadMs,
            "first_ms" to firstMs,
            "peak_rss_mb" to peakMb,
        )
    }
}

/**
 * Times [programs] in turn; for each a list of rounds of [BURST] times in milliseconds.
 *
 * Each round takes the next input and starts with the next program. In its turn a program runs once untimed, which
 * brings its weights back into the caches, then BURST times. [between] hears after each round which share is done.
 * Lasts [rounds], or else [seconds] and 12 rounds at least. clock: in nanoseconds.
 */
fun interleave(
    programs: List<Timed>, inputs: Int, rounds: Int?, seconds: Double, clock: () -> Long, between: (Double) -> Unit,
): List<List<DoubleArray>> {
    val times = programs.map { ArrayList<DoubleArray>() }
    val begin = clock()
    System.gc() // not in the middle of a burst
    var round = 0
    while (round < (rounds ?: LEAST_ROUNDS) || (rounds == null && clock() - begin < seconds * 1e9)) {
        for (offset in programs.indices) {
            val which = (round + offset) % programs.size
            val program = programs[which]
            program.prepare(round % inputs)
            program.invoke()
            times[which].add(DoubleArray(BURST) {
                val start = clock()
                program.invoke()
                (clock() - start) / 1e6
            })
        }
        round++
        val share = if (rounds != null) round.toDouble() / rounds else (clock() - begin) / (seconds * 1e9)
        between(minOf(1.0, share))
    }
    return times
}

/** The rows with ratio_to_dense and its 95 % interval, over the medians of the rounds; null where no dense ran. */
fun addRatios(
    programs: List<Program>, times: List<List<DoubleArray>>, rows: List<Map<String, Any?>>,
): List<Map<String, Any?>> {
    val byRound = times.map { rounds -> DoubleArray(rounds.size) { median(rounds[it]) } }
    val dense = programs.indexOfFirst { it.isBaseline }
    return rows.mapIndexed { i, row ->
        val ratio = if (dense < 0) null else pairedRatio(byRound[i], byRound[dense])
        row + mapOf("ratio_to_dense" to ratio?.middle, "ratio_low" to ratio?.low, "ratio_high" to ratio?.high)
    }
}

/** Reasons, with numbers, not to believe a measurement; empty when there are none. */
fun noise(rows: List<Map<String, Any?>>): List<String> = rows.flatMap { row ->
    val spread = row["p90_ms"] as Double / row["p50_ms"] as Double
    val ratio = row["ratio_to_dense"] as Double?
    val width = if (ratio == null) 0.0 else ((row["ratio_high"] as Double) - (row["ratio_low"] as Double)) / ratio
    listOfNotNull(
        if (spread > 1.5) "${row["program"]}: p90 is ${tenths(spread)} times p50" else null,
        if (width > 0.1) "${row["program"]}: the ratio's 95 % interval is ${Math.round(width * 100)}% wide" else null,
    )
}

private fun tenths(value: Double): String = (Math.round(value * 10) / 10.0).toString()

private fun crowd(threads: Int): List<String> {
    val cpus = Runtime.getRuntime().availableProcessors()
    return if (threads > cpus) listOf("$threads threads shared $cpus CPUs") else emptyList()
}

private fun heat(thermal: List<Int>): List<String> {
    val worst = thermal.maxOrNull() ?: 0
    return if (worst > 0) listOf("the device was hot: thermal status ${thermalName(worst)}") else emptyList()
}
