"""The paper's questions: what is compared with what, how much fits in a budget, and what rows say of the seeds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fedgate.train.config.resolve import resolve

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

import kept_runs  # noqa: E402
from paper.answers import byte_lines, byte_rows, front, gap_row, over_seeds  # noqa: E402
from paper.arms import Arm, central_arms, federated_arms, nearest, nominal_macs  # noqa: E402
from paper.budget import Size, Speed, fit, part_seconds, seconds_of  # noqa: E402
from paper.command import main  # noqa: E402
from paper.groups import Source, choose_sizes, groups_of, kept_choice  # noqa: E402

SPEEDS = {"none": Speed(train=600.0, evaluate=2000.0), "gated": Speed(train=400.0, evaluate=1500.0)}
CNN = "cnn", 10, (1, 8, 8)


def test_federations_differ_in_what_is_asked_and_every_arm_is_a_training():
    arms = federated_arms(0.5)
    assert len({arm.name for arm in arms}) == len(arms) == 4 * 3 + 4
    configs = [resolve(**arm.options) for arm in arms]
    assert (configs[0].gate, configs[0].algorithm, configs[0].codec) == ("none", "fedavg", "fp32")  # sets the target
    for algorithm in ("fedavg", "fedprox", "fednova", "scaffold"):
        plain = {(c.gate, c.upload) for c in configs if c.algorithm == algorithm and c.codec == "fp32"}
        assert plain == {("none", "full"), ("paper", "full"), ("paper", "salient")}
    assert {(c.codec, c.gate) for c in configs if c.codec != "fp32"} == {
        (codec, gate) for codec in ("int8", "int4") for gate in ("none", "paper")
    }
    assert all(c.algorithm == "fedavg" for c in configs if c.codec != "fp32")
    assert all(c.density == ((0.5,) if c.gate == "paper" else (1.0,)) for c in configs)


def test_slim_controls_have_the_macs_of_the_gates():
    arms = central_arms(*CNN, (0.5, 1.0))
    assert [arm.name for arm in arms] == ["dense", "paper 0.5", "fbs 0.5", "paper 1", "slim 0.5", "slim-scale 0.5"]
    gated = nominal_macs(*CNN, "paper", 0.5)
    for arm in arms[-2:]:
        config = resolve(**arm.options)
        assert nominal_macs(*CNN, config.gate, 1.0, width=config.width) == pytest.approx(gated, rel=0.04)
    assert arms[-1].options["gate"] == "scale" and not arms[-2].gated


def test_residual_networks_have_controls_with_whole_streams():
    network = "resnet20", 10, (3, 8, 8)
    arms = {arm.kind: arm for arm in central_arms(*network, (0.5,))}
    assert list(arms) == ["dense", "paper", "fbs", "slim", "slim-scale", "hidden", "narrow", "narrow-scale"]
    wanted = nominal_macs(*network, "paper", 0.5)
    for kind in ("hidden", "narrow", "narrow-scale"):
        options = arms[kind].options
        assert nominal_macs(*network, **options | {"density": options["density"][0]}) == pytest.approx(wanted, rel=0.04)
        assert "width" not in arms[kind].options and arms[kind].chooses == (kind == "hidden")
    chosen = central_arms(*network, (0.5, 1.0), ("slim", "narrow"))
    assert [arm.name for arm in chosen] == ["dense", "slim 0.5", "narrow 0.5"]
    assert arms["hidden"].options["gated"] == arms["narrow-scale"].options["gated"] == "hidden"


@pytest.mark.parametrize(("wanted", "width"), [(2500, 0.5), (2549, 0.5), (2560, 0.51), (0, 0.01), (10**6, 1.0)])
def test_the_width_with_the_nearest_macs(wanted, width):
    assert nearest(wanted, lambda w: round(100 * w) ** 2) == width


def test_a_budget_is_filled_and_not_passed():
    kinds = ["none", "gated", "gated"]
    for seconds in (120, 600, 3600, 10**4):
        size, fits = fit(seconds, kinds, SPEEDS, 50_000, 10_000, clients=10)
        assert fits and seconds_of(size, kinds, SPEEDS, 10, 1) <= seconds
        larger = Size(size.images + 100, min(size.images + 100, 10_000), size.rounds)
        if size.images == 50_000:
            larger = Size(50_000, 10_000, size.rounds + 1)
        assert seconds_of(larger, kinds, SPEEDS, 10, 1) > seconds
    assert size.images == 50_000 and size.tests == 10_000 and size.rounds > 10  # then it goes into rounds
    assert fit(1, kinds, SPEEDS, 50_000, 10_000) == (Size(500, 500, 10), False)
    assert fit(10**9, kinds, SPEEDS, 50_000, 10_000)[0].rounds == 100  # the paper's


def test_data_that_cannot_be_cut_are_used_whole_and_epochs_of_a_round_count():
    assert fit(1, ["none"], SPEEDS, 1437, 360, least=1437) == (Size(1437, 360, 10), False)
    size, _ = fit(60, ["none"], SPEEDS, 1437, 360, least=1437)
    assert (size.images, size.tests) == (1437, 360) and size.rounds > 10
    assert fit(1, ["none"], SPEEDS, 1437, 360, least=1437, local_epochs=3)[0].rounds == 4  # twelve epochs


def test_the_parts_share_a_budget():
    assert sum(part_seconds("abcd", 10).values()) == pytest.approx(600)
    assert set(part_seconds("abc", 10)) == {"b", "c"}  # a looks at the runs of b
    assert part_seconds("a", 10) == {"a": 600}


def test_the_sizes_of_a_budget_stay_when_it_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("paper.groups.RUNS", tmp_path / "runs")
    first = 16, [Size(1000, 500, 10), Size(3000, 500, 4)]
    assert kept_choice(["cifar10", 60.0], lambda: first) == first
    assert kept_choice(["cifar10", 60.0], lambda: pytest.fail("measured again")) == first
    assert kept_choice(["cifar10", 30.0], lambda: (8, [])) == (8, [])


def test_a_kept_run_is_found_when_fedgate_has_got_an_option_since(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_runs, "RUNS", tmp_path)
    config = resolve(rounds=1, clients=2, local_epochs=1)
    rounds = kept_runs.train(config, workers=1)
    before = kept_runs.place(config)
    stored = json.loads((before / "config.json").read_text())
    del stored["config"]["deadline"]
    (before / "config.json").write_text(json.dumps(stored))
    earlier = before.rename(tmp_path / "named-by-fewer-options")
    assert kept_runs.place(config) == earlier and kept_runs.train(config, workers=1) == rounds
    assert kept_runs.place(resolve(rounds=2, clients=2, local_epochs=1)) not in (before, earlier)


def test_the_gap_of_each_client():
    level = {"accuracy": 0.6, "train_accuracy": 0.8, "train_test_gap": 0.2}
    level |= {"by_client": [0.5, 0.7], "train_by_client": [0.9, 0.75]}
    row = gap_row(Arm("paper 0.5", "paper", 0.5, {"gate": "paper"}), 3, {"levels": [{}, level]})
    assert row["gap"] == 0.2 and row["client_gaps"] == pytest.approx([0.4, 0.05]) and row["seed"] == 3
    assert (row["client_gap_low"], row["client_gap_high"]) == pytest.approx((0.05, 0.4))


def test_bytes_of_gates_to_those_of_dense_by_the_same_algorithm():
    def rounds(accuracies, sent):
        return [{"accuracy": a, "bytes_up": sent, "bytes_down": sent, "macs_per_sample": 1.0} for a in accuracies]

    arms = [
        Arm(f"fedprox, {name}", "paper", 0.5, {}) for name in ("dense", "gated, full upload", "gated, salient upload")
    ]
    target = rounds([0.5, 0.6, 0.6, 0.6], 50)
    runs = rounds([0.3, 0.6, 0.6], 50), rounds([0.2, 0.5, 0.6], 40), rounds([0.2, 0.5, 0.57], 10)
    rows = [row for arm, run in zip(arms, runs, strict=True) for row in byte_rows(arm, 0, run, target)]
    assert [row["rounds_to_target"] for row in rows if row["margin"] == 0] == [2, 3, None]
    assert rows[0]["ratio_to_dense"] == 1.0  # to dense FedAvg, which also needs two rounds
    full, salient = byte_lines(rows)
    assert "1.20" in full and "fedprox, gated, full upload" in full  # three rounds of 80 bytes to two of 100
    assert "not there" in salient


def test_spread_over_the_seeds():
    rows = [{"arm": "dense", "x": x, "y": y} for x, y in ((1.0, None), (2.0, 4.0), (6.0, 5.0))]
    assert over_seeds(rows, "x", "y") == {"dense": {"x": (3.0, 1.0, 6.0)}}


def test_the_front_is_what_no_other_point_beats():
    assert front([(1.0, 0.9), (0.5, 0.8), (0.6, 0.8), (0.5, 0.7), (2.0, 0.9)]) == [1, 0]
    points = [tuple(point) for point in np.random.default_rng(0).integers(0, 9, (40, 2)).tolist()]
    beaten = [any(c <= x and w >= y and (c, w) != (x, y) for c, w in points) for x, y in points]
    assert {points[i] for i in front(points)} == {point for point, bad in zip(points, beaten, strict=True) if not bad}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--part", "a,e"], "'e'"),
        (["--seeds", "zero"], "'zero'"),
        (["--budget", "5", "--rounds", "3"], "--budget"),
        (["--train-images", "500"], "--rounds"),
    ],
)
def test_a_mistake_is_one_line(options, told):
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2 and told in done.output.splitlines()[-1]


@pytest.mark.slow
def test_all_questions_on_digits(tmp_path, need_kernel):
    need_kernel()
    command = [sys.executable, BENCHMARKS / "paper", "--quick", "--json", tmp_path / "rows.json"]
    done = subprocess.run([*command, "--figures", tmp_path / "figures"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    of = {part: [row for row in rows if row["part"] == part] for part in "abcd"}
    assert {row["arm"] for row in of["b"]} == {arm.name for arm in federated_arms(0.5)}
    central = {arm.name for arm in central_arms(*CNN, (0.5, 1.0))}
    assert {row["arm"] for row in of["c"]} == {row["arm"] for row in of["d"]} == central
    uncoded = {arm.name for arm in federated_arms(0.5, codecs=())}
    assert {row["arm"] for row in of["a"]} == uncoded | central
    assert all(row["rounds"] == 3 and row["images"] == 1437 and row["seed"] == 0 for row in rows)
    assert all(len(row["client_gaps"]) == row["clients"] for row in of["a"])
    for runtime in ("executorch", "litert", "onnx"):
        timed = [row for row in of["d"] if row["runtime"] == runtime]
        assert (
            timed[0]["role"] == "dense"
            and timed[0]["timed_rounds"] >= 12
            and timed[0]["ratio_to_dense"] == 1
            and any(row["on_front"] for row in timed)
        )
        assert {row["role"] for row in timed if row["arm"] == "paper 0.5"} == {"skip", "static"}
        assert all(row["reason"] is None and 0 < row["accuracy_low"] <= row["accuracy"] <= 1 for row in timed)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"paper-gap.svg", "paper-bytes.png", "paper-macs.svg", "paper-pareto-onnx.svg"} <= names


def test_the_speed_of_this_machine_decides_what_fits():
    source = Source("cifar10", 50_000, 10_000, (1, 8, 8), 10, cut=True)
    options = {"model": "cnn", "clients": 4, "batch_size": 32, "lr": 0.1, "image_size": None}
    groups = groups_of("abcd", 10, (1, 8, 8), options, 0.5, (0.5, 1.0))
    assert [(group.parts, group.options["clients"]) for group in groups] == [(("a", "b"), 4), (("c", "d"), 1)]
    told = []
    pixels, sizes = choose_sizes(groups, source, (8, 4), 10**6, told.append)
    assert pixels == 8 and {(size.images, size.rounds) for size in sizes} == {(50_000, 100)} and len(told) == 1
    pixels, sizes = choose_sizes(groups, source, (8, 4), 1e-3, told.append)
    assert pixels == 4 and {size.images for size in sizes} == {500}  # smaller images, and still the least
    assert "too few" in told[-1]
