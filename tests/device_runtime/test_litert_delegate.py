"""The LiteRT delegate computes what eager torch does, and refuses a batch or an option that it does not know."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import small_skip
import torch
from litert_changes import damaged, kept, small_file, turn_nodes
from small_skip import DENSITIES, IMAGES, assert_same, expected

from fedgate.device_runtime.kernels.build import find
from fedgate.device_runtime.kernels.library import KernelLibrary
from fedgate.export.skip import kernel_layers

interpreter = pytest.importorskip("ai_edge_litert.interpreter")


@pytest.fixture(scope="module")
def eager():
    return small_skip.network()


@pytest.fixture(scope="module")
def library(need_kernel):
    need_kernel()
    return str(find("litert"))


@pytest.fixture(scope="module")
def blob():
    return small_file()


class Loaded:
    """A file in LiteRT with our delegate and no other."""

    def __init__(self, library, blob, **options):
        self.interpreter = interpreter.Interpreter(
            model_content=blob,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_delegates=[interpreter.load_delegate(library, options)],
        )
        self.interpreter.allocate_tensors()
        self._runner = self.interpreter.get_signature_runner()

    def run(self):
        """(logits, open) of every level and image."""
        logits, masks = [], []
        for level in range(len(DENSITIES)):
            for image in IMAGES.transpose(0, 2, 3, 1):
                result = self._runner(args_0=image[None].copy(), args_1=np.array([level], np.int32))
                logits.append(result["output_0"][0])
                masks.append(result["output_1"][0])
        shape = len(DENSITIES), len(IMAGES), -1
        return np.reshape(logits, shape), np.reshape(masks, shape)


@pytest.mark.parametrize("threads", [1, 2])
def test_equals_eager_on_every_instruction_set(library, blob, eager, threads):
    want = expected(eager)
    for isa in KernelLibrary(library).isas:
        assert_same(Loaded(library, blob, threads=str(threads), isa=isa).run(), want)


def test_two_interpreters_at_once(library, blob, eager):
    want = expected(eager)
    loaded = [Loaded(library, blob, threads=threads) for threads in ("1", "2")]
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda each: [each.run() for _ in range(100)], loaded):
            for run in got:
                assert_same(run, want)


def test_neighbours_become_one_partition(library, blob):
    names = [op["op_name"] for op in Loaded(library, blob).interpreter._get_ops_details()]
    assert names.count("DELEGATE") == 1, names  # behind the operators of the file, which stay listed


def test_a_batch_that_the_file_was_not_made_for_is_refused(library, blob):
    program = Loaded(library, blob).interpreter
    program.resize_tensor_input(program.get_signature_runner().get_input_details()["args_0"]["index"], [2, 8, 8, 3])
    with pytest.raises(RuntimeError, match="y is "):
        program.allocate_tensors()


def test_calls_in_the_wrong_order_are_put_right(library, blob, eager):
    """The runtime orders them by what they read."""
    assert_same(Loaded(library, damaged(blob, turn_nodes)).run(), expected(eager))


@torch.no_grad()
def test_kept_out_of_range_opens_none_or_all(library, blob, eager):
    """As it does in eager torch: ranks are never below a negative number, and always below a large one."""
    values = -(2**31), 2**31 - 1
    changed = copy.deepcopy(eager)
    changed.get_submodule(kernel_layers(changed)[-1]).kept.copy_(torch.tensor(values))
    assert_same(Loaded(library, damaged(blob, kept(*values))).run(), expected(changed))


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"threads": "0"}, "threads must be from 1 to 256"),
        ({"threads": "257"}, "threads must be from 1 to 256"),
        ({"threads": "2x"}, "threads must be from 1 to 256"),
        ({"isa": "sse9"}, "no instruction set 'sse9' here"),
        ({"colour": "1"}, "unknown option 'colour'"),
    ],
)
def test_wrong_options(library, options, reason):
    with pytest.raises(ValueError, match=reason):
        interpreter.load_delegate(library, options)
