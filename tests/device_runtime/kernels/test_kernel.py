"""The kernel against the naive loops, for every instruction set of this processor."""

import pytest
from cases import TABLE, judge, make_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHAPES = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in TABLE.items()})
MOST_CLOSE_CALLS = 0.001


@pytest.mark.parametrize("examples", [150, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "general"])
def test_the_kernel_computes_what_naive_loops_compute(library, isa, exact, examples):
    # kept over all cases: what one leaves in the scratch memory must not matter to the next
    alone, pool = library.context(isa, 1), library.context(isa, 3)
    close, decisions = 0, 0

    # the same cases every time in `make test`, other ones in `make test-all`
    @settings(
        max_examples=examples,
        derandomize=examples < 1000,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(SHAPES, st.integers(0, 2**32 - 1))
    def compare(shape, seed):
        nonlocal close, decisions
        case = make_case(shape, seed, exact)
        library.reset_macs()
        y, open = alone.conv2d(*case.arrays, **case.options)
        macs = library.executed_macs()
        counts = judge(case, y, open, macs)
        close, decisions = close + counts[0], decisions + counts[1]
        # how rows and channels are shared out changes no sum's order, so not a bit
        library.reset_macs()
        y_shared, open_shared = pool.conv2d(*case.arrays, **case.options)
        assert y_shared.tobytes() == y.tobytes()
        assert open_shared.tobytes() == open.tobytes()
        assert library.executed_macs() == macs

    compare()
    assert close <= MOST_CLOSE_CALLS * decisions
