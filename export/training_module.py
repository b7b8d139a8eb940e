"""The training module of ExecuTorch: the step of local training around parameters that the program itself holds.

ExecuTorch's `TrainingModule` (in Android's library, and in the wheel's training bindings) runs a joint forward and
backward program, and tells parameters and gradients by their names; its `SGD` then moves the parameters, which lie in a
file of their own (.ptd). That SGD knows neither clipping nor the adaptive gradient. So the program returns in the place
of each gradient the whole step that `train_step` makes of it, and SGD with learning rate 1 subtracts that and nothing
else: the parameters are those of the functional step bit for bit, and a device has no arithmetic of its own to do.

The step is lowered as the function of its parameters that it is; only then its signature is made that of a joint graph.
XNNPACK would take parameters that it sees as such for constants.
"""

import functools
import tempfile
from pathlib import Path

import torch
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, OutputSpec

from .lowering import quietly


def training_module(graph, examples, parameters):
    """The files of a training module, its bytes by suffix: the program's, and those of its parameters.

    graph, examples: of `train_step.traced`, of a function whose first inputs are `parameters`, its last outputs their
    steps, its first the loss. parameters: tensors by name, in that order.
    """
    lower = functools.partial(to_training_module, parameters=parameters)
    program, weights = quietly(lower, "executorch", graph, examples)
    return {"pte": program, "ptd": weights}


def to_training_module(graph, examples, parameters):
    """(.pte, .ptd); arguments of `training_module`."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

    exported = torch.export.export(graph, examples)
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    make_joint(edge.exported_program(), parameters)
    lowered = edge.to_executorch(ExecutorchBackendConfig(external_mutable_weights=True))
    with tempfile.TemporaryDirectory() as folder:
        lowered.write_tensor_data_to_file(folder)
        (weights,) = Path(folder).iterdir()
        return bytes(lowered.buffer), weights.read_bytes()


def make_joint(program, parameters):
    """Turn an exported program's signature into that of a joint graph, which emits what `TrainingModule` asks for."""
    inputs, outputs = program.graph_signature.input_specs, program.graph_signature.output_specs
    places = [i for i, spec in enumerate(inputs) if spec.kind == InputKind.USER_INPUT]
    for i, (name, tensor) in zip(places, parameters.items(), strict=False):
        inputs[i] = InputSpec(InputKind.PARAMETER, inputs[i].arg, name)
        program.state_dict[name] = torch.nn.Parameter(tensor.clone())
    outputs[0] = OutputSpec(OutputKind.LOSS_OUTPUT, outputs[0].arg, None)
    for i, name in enumerate(parameters, len(outputs) - len(parameters)):
        outputs[i] = OutputSpec(OutputKind.GRADIENT_TO_PARAMETER, outputs[i].arg, name)
