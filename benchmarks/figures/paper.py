"""The paper's questions: accuracy against MACs, over-fitting, bytes, latency."""

from . import RUNTIMES, both, spread, table, where

NETWORKS = {
    "dense": "dense",
    "paper": "`paper` gates",
    "fbs": "`fbs` gates",
    "hidden": "`paper` gates inside of blocks",
    "slim": "slim",
    "slim-scale": "slim with a scale",
    "narrow": "narrow blocks",
    "narrow-scale": "narrow blocks with a scale",
}
GATE = {"fbs": "fbs", "slim-scale": "scale", "narrow-scale": "scale"}  # of the networks whose gate is not `paper`
ACCURACY = ("MACs of dense", "accuracy, %", "its `static` network, %", "mask overlap", "train - test, points")


def by_arm(rows, part):
    """arm -> its rows of a part, one a seed."""
    found = {}
    for row in rows:
        if row["part"] == part:
            found.setdefault(row["arm"], []).append(row)
    return found


def percent(rows, key):
    """A share of each row, as a percentage."""
    return [100 * row[key] for row in rows]


def accuracy_cells(rows):
    """arm -> (its rows of question c, one a seed; its cells below `ACCURACY`)."""
    arms, gaps, found = by_arm(rows, "c"), by_arm(rows, "a"), {}
    for arm, mine in arms.items():
        static, overlap = "", ""
        if mine[0]["static_accuracy"] is not None:
            static = spread(percent(mine, "static_accuracy"))
            overlap = f"{sum(row['mask_overlap'] for row in mine) / len(mine):.2f}"
        macs = f"{100 * mine[0]['macs'] / arms['dense'][0]['macs']:.0f} %"
        found[arm] = mine, [macs, spread(percent(mine, "accuracy")), static, overlap, spread(percent(gaps[arm], "gap"))]
    return found


@table("paper-half")
def half_of_the_macs(rows):
    yield "network", "`fedgate train`", *ACCURACY
    for mine, cells in accuracy_cells(rows).values():
        yield NETWORKS[mine[0]["kind"]], f"`{options(mine[0])}`", *cells


def options(row):
    """The words of `fedgate train` that make an arm's network."""
    gate = "" if row["kind"] in ("paper", "hidden") else f"--gate {GATE.get(row['kind'], 'none')}"
    gated = "--gated hidden" if row["kind"] in ("hidden", "narrow-scale") else ""
    dials = {"density": row["kept"], "width": row["width"], "hidden-width": row["hidden_width"]}
    return " ".join(
        [*filter(None, (gate, gated)), *(f"--{dial} {value:g}" for dial, value in dials.items() if value < 1)]
    )


@table("paper-half")
def lost_by_seed(rows):
    arms = by_arm(rows, "c")
    yield "points of accuracy", *(f"lost to dense, seed {row['seed']}" for row in arms["dense"]), "between its seeds"
    dense = percent(arms["dense"], "accuracy")
    for mine in arms.values():
        values = percent(mine, "accuracy")
        lost = [f"{best - value:.1f}" for best, value in zip(dense, values, strict=True)]
        yield NETWORKS[mine[0]["kind"]], *lost, f"{max(values) - min(values):.1f}"


@table("paper-c")
def three_densities(rows):
    yield "network", "density", *ACCURACY, "between its seeds, points"
    for mine, cells in accuracy_cells(rows).values():
        kind, values = mine[0]["kind"], percent(mine, "accuracy")
        density = "" if kind == "dense" else f"{mine[0]['density']:g}"
        yield NETWORKS[kind], density, *cells, f"{max(values) - min(values):.1f}"


@table("paper-digits")
def federations(rows):
    heads = ("accuracy, %", "rounds", "bytes, to dense FedAvg's", "train - test, points", "largest of a client")
    yield "federation", *heads
    gaps = by_arm(rows, "a")
    for arm, mine in by_arm([row for row in rows if row.get("margin") == 2], "b").items():
        spent = [
            " and ".join("never" if row[key] is None else format(row[key], form) for row in mine)
            for key, form in (("rounds_to_target", "d"), ("ratio_to_dense", ".2f"))
        ]
        fit = [both(percent(gaps[arm], key)) if arm in gaps else "" for key in ("gap", "client_gap_high")]
        yield arm, both(percent(mine, "final_accuracy")), *spent, *fit


@table("paper-digits")
def bytes_of_gates(rows):
    uploads = ("full upload", "salient upload")
    yield "algorithm", *(f"gates, {upload}" for upload in uploads)
    sent = [row for row in rows if row.get("margin") == 2]
    for algorithm in ("fedavg", "fedprox", "fednova", "scaffold"):
        dense = [row["bytes"] for row in sent if (row["algorithm"], row["sends"]) == (algorithm, "dense")]
        cells = []
        for upload in uploads:
            own = [r["bytes"] for r in sent if (r["algorithm"], r["sends"]) == (algorithm, f"gated, {upload}")]
            cells.append(both([mine / theirs for mine, theirs in zip(own, dense, strict=True)], ".2f"))
        yield algorithm, *cells


@table("paper-a")
def over_fitting(rows):
    yield "network", "test accuracy, %", "train - test, points", "largest of a client"
    for kind, name in (("dense", "dense"), ("paper", "`paper` gates, density 0.5")):
        mine = [where(rows, seed=seed, kind=kind) for seed in (0, 1)]
        yield name, *(both(percent(mine, key)) for key in ("accuracy", "gap", "client_gap_high"))


@table("paper-half")
def programs_of_half(rows):
    yield "network", "accuracy, %", "MACs executed", *RUNTIMES_OF_D.values()
    for first, cells in program_cells(rows):
        yield program_name(first), *cells


@table("paper-digits-d")
def programs_of_digits(rows):
    yield "network", "density", "accuracy, %", "MACs executed", *RUNTIMES_OF_D.values()
    for first, cells in program_cells(rows):
        yield program_name(first), first["arm"].partition(" ")[2], *cells


RUNTIMES_OF_D = {name: RUNTIMES[name] for name in ("litert", "executorch", "onnx")}


def program_name(row):
    kind = row["arm"].partition(" ")[0]
    return NETWORKS[kind] + (f", `{row['role']}`" if kind in ("paper", "fbs", "hidden") else "")


def program_cells(rows):
    """For each program of question d its row on the first runtime, and its cells: accuracy, MACs, ratios to dense."""
    rows = [row for row in rows if row["part"] == "d"]
    for first in (row for row in rows if row["runtime"] == next(iter(RUNTIMES_OF_D))):
        mean, low, high = (100 * first[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        macs = f"{100 * first['executed_macs'] / first['dense_macs']:.0f} %"
        timed = [where(rows, runtime=name, arm=first["arm"], role=first["role"]) for name in RUNTIMES_OF_D]
        yield first, [f"{mean:.1f} ({low:.1f} to {high:.1f})", macs, *(f"{row['ratio_to_dense']:.2f}" for row in timed)]
