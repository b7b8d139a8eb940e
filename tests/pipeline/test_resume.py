"""However a run is ended, continuing it gives the bytes of a run that nothing ended."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ENVIRONMENT, SMALL, fedgate, rows, start, survivors

KILLS = 25
NORMAL = (12, 16, 18, 21)  # the later half, as before it a run is still importing


def begin_or_resume(run, workers):
    """What a user would type: the original command until there is a run to continue."""
    if run.exists():
        return ["train", "--resume", run, "--quiet", "--workers", workers]
    return ["train", *SMALL, "--out", run, "--workers", workers]


@pytest.mark.parametrize(
    "number", [pytest.param(i, marks=() if i in NORMAL else pytest.mark.slow) for i in range(KILLS)]
)
def test_a_killed_run_ends_as_if_it_never_was(undisturbed, tmp_path, number):
    """Kills at random instants, spread over a run's life: one or several in a row, with one or two workers."""
    chance, run, workers = random.Random(number), tmp_path / "run", 1 + number % 2
    instants = [(number + chance.random()) / KILLS] + [chance.random() for _ in range(number % 3)]
    for instant in instants:
        process = start(*begin_or_resume(run, workers))
        time.sleep(instant * undisturbed.seconds)
        process.kill()
        process.communicate()
        assert survivors(process.pid) == []
    done = fedgate(*begin_or_resume(run, workers))
    assert done.returncode == 0, done.stderr
    assert (run / "model.safetensors").read_bytes() == undisturbed.model
    assert rows(run) == undisturbed.metrics


def test_metrics_have_each_round_and_client_once(undisturbed):
    lines = [(row["round"], row["client"]) for row in undisturbed.metrics]
    assert lines == [(round_, client) for round_ in range(1, 6) for client in (0, 1, 2, 3, None)]


def killed_between_steps(folder, every, kind):
    script = Path(__file__).with_name("kill_points.py")
    command = [sys.executable, str(script), str(folder), str(every), kind]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=1200)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == [] and result["steps"] > 40
    assert result["kills"] == len(range(0, result["steps"], every))
    return result


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_between_any_two_steps_on_the_disk(tmp_path, every):
    killed_between_steps(tmp_path, every, "plain")


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_with_late_and_broken_updates_and_an_inbox(tmp_path, every):
    """Also the inbox ends as if nothing had happened: each letter is used, or refused, once and in the same round."""
    result = killed_between_steps(tmp_path, every, "uneven")
    assert result["statuses"] == ["dropped", "refused", "used", "waiting"]
    moved = [re.sub(r"in/(\w+)/\w+-0000(\d)/\w{16}-", r"\1 \2 ", name) for name in result["inbox"]]
    assert {"in/half.part", "refused 1 bad.safetensors", "refused 1 bad.safetensors.reason"} <= set(moved)
    used = sorted(name for name in moved if name.startswith("used"))
    first, second = ("a", "b") if "used 1 a.safetensors" in used else ("b", "a")  # of the same client
    assert used == [*sorted((f"used 1 {first}.safetensors", "used 1 c.safetensors")), f"used 2 {second}.safetensors"]


UNEVEN = (
    *("--clients", "4", "--rounds", "4", "--local-epochs", "1", "--capacity", "0.5:0.5,1.0:0.5", "--wait-for", "2"),
    *("--speed-spread", "1", "--drop-out", "0.2", "--garbage", "0.2", "--quiet"),
)
ALGORITHMS = {
    "fedavg": (),
    "fedprox": ("--proximal-mu", "0.1"),
    "fednova": (),
    "scaffold": ("--momentum", "0"),
    "fedavg+momentum": ("--server-optimizer", "momentum"),
    "fedavg+adam": ("--server-optimizer", "adam"),
}


def same(one, two):
    """Whether two runs ended alike, but for the run's own name, which a refused update's reason may show."""
    for run in (one, two):
        assert (run / "model.safetensors").exists()
    told = [[{key: row[key] for key in row if key != "reason"} for row in rows(run)] for run in (one, two)]
    return told[0] == told[1] and all(
        (one / name).read_bytes() == (two / name).read_bytes()
        for name in ["model.safetensors", *(f"{last(one)}/{file}.safetensors" for file in ("salience", "clients"))]
    )


def last(run):
    return f"checkpoints/{max(path.name for path in (run / 'checkpoints').iterdir())}"


@pytest.mark.parametrize(
    "options",
    [
        ["--clients", "3", "--rounds", "2", "--local-epochs", "1", "--density", "0.25,0.5,1.0", "--quiet"],
        [*UNEVEN, "--algorithm", "scaffold", "--momentum", "0", "--codec", "int8", "--download-codec", "int8"],
    ],
    ids=["batches that draw their level", "uneven clients"],
)
def test_any_number_of_workers_gives_the_same_bytes(tmp_path, options):
    for workers in (1, 2):
        done = fedgate("train", *options, "--workers", workers, "--out", tmp_path / f"{workers}")
        assert done.returncode == 0, done.stderr
    assert same(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_and_codec_continues_after_a_kill(tmp_path, name, codec):
    """With clients that are late, vanish and send garbage; one worker undisturbed against two that are killed."""
    options = [*UNEVEN, "--algorithm", name.partition("+")[0], *ALGORITHMS[name]]
    options += ["--codec", codec, "--download-codec", codec]
    done = fedgate("train", *options, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "killed"
    process = start("train", *options, "--workers", 2, "--out", run)
    while not (run / "checkpoints" / "round-00002").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.Random(f"{name} {codec}").uniform(0, 0.5))
    process.kill()
    process.communicate()
    assert survivors(process.pid) == []
    done = fedgate("train", "--resume", run, "--workers", 2, "--quiet")
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "whole", run)


def interrupt(process):
    """Ctrl-C: the terminal sends SIGINT to every process of the group. Returns stderr."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=30)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def assert_interrupted(process, err, line):
    # Python ends itself by the signal where the interrupt passed an exec(); a shell shows 130 for both
    assert process.returncode in (130, -signal.SIGINT)
    assert err.strip() == line and err.count("\n") <= 2  # an empty line first, after the terminal's ^C
    assert survivors(process.pid) == []


def test_ctrl_c_says_how_to_continue(undisturbed, tmp_path):
    """Once with one worker, then with two; each time when a further round is on the disk."""
    run = tmp_path / "run"
    for workers, finished in ((1, "round-00001"), (2, "round-00003")):
        process = start(*begin_or_resume(run, workers))
        while not (run / "checkpoints" / finished).exists() and process.poll() is None:
            time.sleep(0.01)
        err = interrupt(process)
        assert_interrupted(process, err, f"fedgate: interrupted; continue with: fedgate train --resume {run}")
        assert not (run / "model.safetensors").exists()
    done = fedgate(*begin_or_resume(run, 1))
    assert done.returncode == 0, done.stderr
    assert (run / "model.safetensors").read_bytes() == undisturbed.model and rows(run) == undisturbed.metrics


def test_ctrl_c_while_the_workers_start(tmp_path):
    """They import for seconds, and must leave the signal to their parent from the first instant on."""
    run = tmp_path / "run"
    process = start(*begin_or_resume(run, 2))
    while sum("multiprocessing.spawn" in line for _, line in survivors(process.pid, 0)) < 2 and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    err = interrupt(process)
    assert_interrupted(process, err, f"fedgate: interrupted; continue with: fedgate train --resume {run}")


@pytest.mark.parametrize("share", [0.1, 0.3, *(pytest.param(i / 25, marks=pytest.mark.slow) for i in range(1, 12))])
def test_ctrl_c_during_start_up(undisturbed, tmp_path, share):
    """While torch and the data's libraries are imported; no run exists yet, or it has just begun."""
    process = start("train", *SMALL, "--out", tmp_path / "run")
    time.sleep(max(0.4, share * undisturbed.seconds))  # Python's own start is out of our hands
    err = interrupt(process)
    again = f"; continue with: fedgate train --resume {tmp_path / 'run'}" if (tmp_path / "run").exists() else ""
    assert_interrupted(process, err, f"fedgate: interrupted{again}")


def test_ctrl_c_in_a_destructor_is_not_lost():
    """Python prints an exception there and goes on; the command line raises it again."""
    code = """if True:
        import signal, sys, time
        import click
        from fedgate import cli
        class Held:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
        def command():
            held = Held()
            del held
            time.sleep(30)
            print("not interrupted")
        cli.cli.get_command = lambda ctx, name: click.Command(name, callback=command)
        cli.main(["train"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (130, "fedgate: interrupted", "")


def test_one_process_at_a_time_works_on_a_run(tmp_path):
    run = tmp_path / "run"
    process = start("train", *SMALL, "--rounds", "500", "--out", run)
    try:
        while not (run / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        done = fedgate("train", "--resume", run)
        assert done.returncode == 1 and "another process is training" in done.stderr and done.stderr.count("\n") == 1
    finally:
        process.kill()
        process.communicate()
