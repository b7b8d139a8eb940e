package org.fedgate.core

import org.pytorch.executorch.Tensor as RuntimeTensor
import org.pytorch.executorch.training.SGD
import org.pytorch.executorch.training.TrainingModule

/** What a step of either kind takes beside the parameters. */
private fun inputs(program: Program, momentum: Tensors, batch: Batch, numbers: Numbers): Tensors {
    val given = LinkedHashMap<String, Tensor>()
    for ((name, value) in momentum) given[MOMENTUM + name] = value
    given["features"] = batch.features
    if (program.inputs.any { it.name == TRUNK_OPEN }) given[TRUNK_OPEN] = batch.trunkOpen
    given["labels"] = Tensor.of(listOf(batch.labels.size), batch.labels)
    given["weights"] = Tensor.of(listOf(batch.weights.size), batch.weights)
    given["level"] = Tensor.of(listOf(1), intArrayOf(numbers.level))
    given["lr"] = Tensor.number(numbers.lr.toFloat())
    given["momentum"] = Tensor.number(numbers.momentum.toFloat())
    given["weight_decay"] = Tensor.number(numbers.weightDecay.toFloat())
    given["clip_norm"] = Tensor.number(numbers.clipNorm.toFloat())
    return given
}

private fun step(
    found: Map<String, Tensor>, parameters: Tensors, momentum: Tensors, still: Map<String, List<Int>>,
) = Step(
    parameters,
    momentum.mapValues { (name, before) -> but(found.getValue(MOMENTUM + name), before, still[name]) },
    found.getValue("loss").floats[0].toDouble(),
    found.getValue("correct").floats[0].toDouble(),
    found["opened"]?.floats ?: FloatArray(0),
    found["strength"]?.floats ?: FloatArray(0),
)

/** Trains by a program of role `train`: a pure function from parameters and momenta to new ones. */
class FunctionalTrainer(bundle: Bundle, program: Program, threads: Int) : Trainer(program) {
    private val loaded = LoadedProgram(bundle, program, threads)

    override fun step(
        parameters: Tensors, momentum: Tensors, batch: Batch, numbers: Numbers, still: Map<String, List<Int>>,
    ): Step {
        val found = loaded.call(parameters + inputs(program, momentum, batch, numbers))
        val after = parameters.mapValues { (name, before) -> but(found.getValue(name), before, still[name]) }
        return step(found, after, momentum, still)
    }

    override fun close() = loaded.close()
}

/**
 * Trains by a program of role `train-module`, which holds the parameters: what ExecuTorch's TrainingModule calls the
 * gradients are whole steps here (device_runtime/formats/ports.py), and its SGD with learning rate 1 subtracts them.
 */
class ModuleTrainer(bundle: Bundle, program: Program) : Trainer(program) {
    private val module: TrainingModule
    private var sgd: SGD? = null
    private var held: Map<String, Tensor> // what the module's parameters are now

    init {
        Runtimes.whyNot(program)?.let { throw FedgateException("cannot run ${program.file}: it $it") }
        checkProgram(bundle.file(program.file))
        module = runtimeErrors("executorch refuses to load ${program.file}") {
            TrainingModule.load(bundle.file(program.file).path, bundle.file(program.weights!!).path)
        }
        held = bundle.tail().tensors
    }

    override fun step(
        parameters: Tensors, momentum: Tensors, batch: Batch, numbers: Numbers, still: Map<String, List<Int>>,
    ): Step {
        if (!parameters.all { (name, value) -> value.floats.contentEquals(held.getValue(name).floats) }) {
            replace(parameters, momentum, batch)
        }
        val found = run(inputs(program, momentum, batch, numbers))
        val steps = runtimeErrors("${program.file} gave no steps") { module.namedGradients("forward") }
        sgd().step(if (still.isEmpty()) steps else steps.mapValues { (name, step) -> without(step, name, still[name]) })
        held = parameters()
        return step(found, held, momentum, still)
    }

    /** A step that leaves some rows alone. */
    private fun without(step: RuntimeTensor, name: String, rows: List<Int>?): RuntimeTensor {
        if (rows == null) return step
        val own = runtimeErrors("${program.file} has another step of '$name'") { fromRuntime(step, DType.F32) }
        return toRuntime(but(own, Tensor.of(own.shape, FloatArray(own.floats.size)), rows))
    }

    /** Makes these the module's parameters. Its API only subtracts: first what they are, then the negative of these. */
    private fun replace(parameters: Map<String, Tensor>, momentum: Map<String, Tensor>, batch: Batch) {
        run(inputs(program, momentum, batch, Numbers(0, 0.0, 0.0, 0.0, 0.0))) // a method is there from its first run on
        sgd().step(parameters().mapValues { toRuntime(it.value) })
        sgd().step(parameters.mapValues { (_, value) ->
            toRuntime(Tensor.of(value.shape, FloatArray(value.floats.size) { -value.floats[it] }))
        })
    }

    private fun run(values: Map<String, Tensor>): Map<String, Tensor> {
        val given = runtimeInputs(program, values)
        val results = runtimeErrors("executorch failed to run ${program.file}") {
            module.executeForwardBackward("forward", *given)
        }
        return namedOutputs(program, results)
    }

    private fun sgd(): SGD = sgd ?: SGD.create(live(), 1.0).also { sgd = it }

    private fun live(): Map<String, RuntimeTensor> =
        runtimeErrors("${program.file} has no parameters") { module.namedParameters("forward") }

    private fun parameters(): Map<String, Tensor> {
        val all = live()
        return parameters.mapValues { (name, shape) ->
            val tensor = all[name] ?: throw FedgateException("${program.file} has no parameter '$name'")
            val found = runtimeErrors("${program.file} has another '$name'") { fromRuntime(tensor, DType.F32) }
            if (found.shape != shape) throw FedgateException("${program.file} has another '$name': $found")
            found
        }
    }

    override fun close() = module.close()
}
