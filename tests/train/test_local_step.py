"""The step of local training against PyTorch's own optimizer and clipping, with numbers, by client, and with masks."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.train.local.step import Rates, norms_by_client, step

SHAPES = {"filter": (4, 3, 3, 3), "shift": (4,), "matrix": (5, 4)}
RATES = st.builds(
    Rates,
    lr=st.sampled_from([0.1, 0.003]),
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.01]),
    clip_norm=st.sampled_from([0.0, 0.5, 1e6]),
)


def draw(seed, *rows):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*rows, *shape, generator=generator) for name, shape in SHAPES.items()}


def by_optimizer(params, gradients, rates):
    """The parameters after steps with some gradients, by torch.optim.SGD."""
    parameters = {name: torch.nn.Parameter(p.clone()) for name, p in params.items()}
    optimizer = torch.optim.SGD(parameters.values(), rates.lr, momentum=rates.momentum, weight_decay=rates.weight_decay)
    for grads in gradients:
        for name, parameter in parameters.items():
            parameter.grad = grads[name].clone() if name in grads else None
        if rates.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), rates.clip_norm)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


@settings(max_examples=30, deadline=None)
@given(RATES, st.integers(0, 1000))
def test_steps_are_those_of_pytorch_bit_for_bit_and_leave_their_arguments(rates, seed):
    params, gradients = draw(seed), [draw(seed + 1), draw(seed + 2), draw(seed + 3)]
    del gradients[1]["matrix"]  # a layer that a batch does not use rests
    now, momenta = params, {}
    before = {name: p.clone() for name, p in params.items()}
    for grads in gradients:
        now, momenta = step(now, grads, momenta, {}, rates)
    wanted = by_optimizer(params, gradients, rates)
    assert all(torch.equal(now[name], wanted[name]) for name in wanted)
    assert all(torch.equal(params[name], before[name]) for name in before)


@settings(max_examples=20, deadline=None)
@given(RATES, st.integers(0, 1000))
def test_clients_of_a_stack_step_each_by_itself(rates, seed):
    """With learning rates of their own."""
    params, gradients, lrs = draw(seed, 3), [draw(seed + 1, 3), draw(seed + 2, 3)], [0.1, 0.02, 0.003]
    now, momenta = params, {}
    for grads in gradients:
        now, momenta = step(now, grads, momenta, {}, rates._replace(lr=torch.tensor(lrs)), norms_by_client)
    for client, lr in enumerate(lrs):
        mine = [{name: value[client] for name, value in tensors.items()} for tensors in (params, *gradients)]
        wanted = by_optimizer(mine[0], mine[1:], rates._replace(lr=lr))
        assert all(torch.allclose(now[name][client], wanted[name], rtol=1e-5, atol=1e-6) for name in wanted)


@settings(max_examples=20, deadline=None)
@given(RATES, st.integers(0, 1000), st.booleans())
def test_what_a_mask_leaves_out_stays_and_the_rest_moves_as_ever(rates, seed, floats):
    """Rates as tensors of one entry, and masks of 0 and 1, are what programs have."""
    params, grads, momenta = draw(seed), draw(seed + 1), draw(seed + 2)
    moves = torch.tensor([True, False, True, False])
    mask = {"filter": moves[:, None, None, None], "shift": moves, "matrix": None}
    given_rates = rates
    if floats:
        mask = {name: each if each is None else each.float().expand(SHAPES[name]) for name, each in mask.items()}
        given_rates = Rates(*(torch.tensor([rate]) for rate in rates))
    whole, buffers = step(params, grads, momenta, {}, rates)
    held, held_buffers = step(params, grads, momenta, mask, given_rates)
    for name in ("filter", "shift"):
        assert torch.equal(held[name][~moves], params[name][~moves])
        assert torch.equal(held_buffers[name][~moves], momenta[name][~moves])
        assert torch.allclose(held[name][moves], whole[name][moves], rtol=1e-5, atol=1e-6)
        assert not torch.equal(held[name][moves], params[name][moves])
        if rates.momentum:
            assert torch.allclose(held_buffers[name][moves], buffers[name][moves], rtol=1e-5, atol=1e-6)
    assert torch.allclose(held["matrix"], whole["matrix"], rtol=1e-5, atol=1e-6)


def test_what_an_algorithm_adds_is_not_clipped():
    params, grads = draw(0), draw(1)
    rates, added = Rates(1.0, 0.0, 0.0, 1e-3), draw(2)
    after, _ = step(
        params, grads, {}, {}, rates, terms=lambda found: {name: g + added[name] for name, g in found.items()}
    )
    for name, p in params.items():
        assert torch.allclose(p - after[name], added[name], atol=2e-3)
