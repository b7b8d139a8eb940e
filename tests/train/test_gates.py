"""Gates against their definition, spelled out as naive loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.errors import UsageError
from fedgate.train.network.gates import Gate, check_gate, open_channels, ranks


def naive_ranks(row):
    """rank_i = #{j: g_j > g_i} + #{j < i: g_j = g_i}"""
    return [sum(g > row[i] for g in row) + sum(g == row[i] for g in row[:i]) for i in range(len(row))]


# few distinct values, so that ties are the rule
gates = st.lists(st.sampled_from([0.0, 2.0**-149, 0.25, 0.5, 1.0, 1.0 + 2.0**-23, 3.0]), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(gates, st.integers(1, 40))
def test_ranks_and_masks_follow_the_definition(row, k):
    g = torch.tensor([row], dtype=torch.float32)
    expected = naive_ranks(g[0].tolist())
    assert ranks(g)[0].tolist() == expected
    assert open_channels(g, k)[0].tolist() == [
        rank < k and value > 0 for rank, value in zip(expected, g[0].tolist(), strict=True)
    ]


def test_a_gate_is_the_equations_of_its_source():
    torch.manual_seed(0)
    gate = Gate(5, 7, (0.3, 1.0))
    torch.nn.init.normal_(gate.predictor.weight)
    x = torch.randn(3, 5, 4, 6)
    weight, bias = gate.predictor.weight.detach().numpy(), gate.predictor.bias.detach().numpy()
    s = np.abs(x.numpy()).mean((2, 3))
    g = np.maximum(s @ weight.T + bias, 0)
    for level, k in ((0, 2), (1, 7)):  # floor(0.3 * 7 + 0.5) = 2
        pi = gate(x, level).detach().numpy()
        for n in range(3):
            expected = [v if r < k and v > 0 else 0 for r, v in zip(naive_ranks(gate.g[n].tolist()), g[n], strict=True)]
            np.testing.assert_allclose(pi[n], expected, rtol=1e-5, atol=1e-6)
            assert gate.open[n].tolist() == [value > 0 for value in expected]


def test_new_gates_start_at_a_bias_of_one():
    gate = Gate(16, 32, (0.5,))
    assert torch.equal(gate.predictor.bias, torch.ones(32))
    assert gate.predictor.weight.std() < 0.02


def test_gates_stay_float32_under_autocast():
    """In bfloat16 these two channels tie; the second is the larger one."""
    gate = Gate(1, 2, (0.5,))
    with torch.no_grad():
        gate.predictor.weight.copy_(torch.tensor([[1.0], [1.001]]))
        gate.predictor.bias.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        pi = gate(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16), 0)
    assert pi.dtype == torch.float32 and gate.open.tolist() == [[False, True]]


def test_closed_channels_get_no_gradient():
    gate = Gate(3, 4, (0.5,))
    gate(torch.rand(1, 3, 2, 2), 0).sum().backward()
    opened = gate.open[0]
    assert opened.sum() == 2
    assert (gate.predictor.bias.grad != 0).tolist() == opened.tolist()


def test_the_scale_gate_opens_every_channel():
    gate = Gate(3, 4, (1.0,), "scale")
    with torch.no_grad():
        gate.predictor.bias.copy_(torch.tensor([1.0, -9.0, 1.0, 1.0]))
    pi = gate(torch.rand(2, 3, 2, 2), 0)
    assert gate.open.all() and torch.equal(pi, gate.g) and (pi[:, 1] == 0).all()


def test_forced_masks_take_the_place_of_ranks():
    gate = Gate(3, 4, (0.25,))
    gate.forced = torch.tensor([True, False, True, True])
    pi = gate(torch.rand(2, 3, 2, 2), 0)
    assert gate.open.tolist() == [[True, False, True, True]] * 2
    assert (pi[:, 1] == 0).all() and (pi[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("gate", "densities", "words"),
    [
        ("papr", (0.5,), "unknown gate 'papr'; known: paper, fbs, scale, none"),
        ("paper", (0.0,), "density 0 is out of range"),
        ("paper", (1.2,), "density 1.2 is out of range"),
        ("paper", (float("nan"),), "density nan is out of range"),
        ("paper", (0.5, 0.25), "densities must increase"),
        ("paper", (0.5, 0.5), "densities must increase"),
        ("paper", (), "no density"),
        ("none", (0.5,), "closes no channel"),
        ("scale", (0.5,), "closes no channel"),
    ],
)
def test_bad_gates_are_refused(gate, densities, words):
    with pytest.raises(UsageError, match=words):
        check_gate(gate, densities)
