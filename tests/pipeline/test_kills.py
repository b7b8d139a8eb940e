"""Commands that are killed at random instants and given again leave what undisturbed ones leave; see kills.py."""

import random

import pytest
from kill_subjects import loopback
from kills import KINDS, run_trials


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What all kinds work on is made in it once."""
    return tmp_path_factory.mktemp("kills")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_command_given_again_leaves_the_same(kind, folder):
    """Other instants each time; the seed is in what a failure shows."""
    if kind == "deploy":
        reason = loopback.why_not()
        if reason:
            pytest.skip(reason)
    seed = random.SystemRandom().randrange(10**6)
    found = run_trials([kind], 12, seed, folder)
    assert sum(row["kills"] for row in found) >= 12
    assert [row for row in found if row["wrong"] or row["left"]] == []
