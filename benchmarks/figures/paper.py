"""Phrases about the paper's questions: accuracy against MACs, over-fitting, bytes."""

from . import of, where

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


def spread(rows, key, factor=100):
    """Mean, lowest and highest over the seeds."""
    values = [factor * row[key] for row in rows]
    return sum(values) / len(values), min(values), max(values)


def by_arm(rows, part):
    """arm -> its rows of a part, one a seed."""
    found = {}
    for row in rows:
        if row["part"] == part:
            found.setdefault(row["arm"], []).append(row)
    return found


@of("paper-c")
def central(rows):
    yield accuracy_table(rows, "density", lambda row: "" if row["kind"] == "dense" else format(row["density"], "g"))
    yield "Two seeds of one network differ by up to {:.1f} points", widest(rows)


@of("paper-half")
def half_of_the_macs(rows):
    yield accuracy_table(rows, "`fedgate train`", lambda row: f"`{options(row)}`")
    yield "two seeds of one network differ by up to {:.1f} points here", widest(rows)
    yield latency_table(rows, densities=False)
    accuracy = {(row["kind"], row["seed"]): 100 * row["accuracy"] for row in rows if row["part"] == "c"}
    yield (
        "Lost to the dense network, by seed: {:.1f} and {:.1f} points by narrow blocks, {:.1f} and {:.1f} by gates "
        "inside of blocks, {:.1f} and {:.1f} by gates on all convolutions",
        *(accuracy["dense", s] - accuracy[kind, s] for kind in ("narrow", "hidden", "paper") for s in (0, 1)),
    )


def options(row):
    """The words of `fedgate train` that make an arm's network."""
    gate = "" if row["kind"] in ("paper", "hidden") else f"--gate {GATE.get(row['kind'], 'none')}"
    gated = "--gated hidden" if row["kind"] in ("hidden", "narrow-scale") else ""
    dials = {"density": row["kept"], "width": row["width"], "hidden-width": row["hidden_width"]}
    return " ".join(
        [*filter(None, (gate, gated)), *(f"--{dial} {value:g}" for dial, value in dials.items() if value < 1)]
    )


def widest(rows):
    """The largest difference in accuracy of one network's seeds, points."""
    return max(high - low for _, low, high in (spread(found, "accuracy") for found in by_arm(rows, "c").values()))


def accuracy_table(rows, what, tell):
    """A line for each network of question c and its values; what, tell: the head of its second column, and its text."""
    arms, gaps = by_arm(rows, "c"), by_arm(rows, "a")
    dense = arms["dense"][0]["macs"]
    heads = f"| network | {what} | MACs of dense | accuracy, % | its `static` network, % | mask overlap "
    heads += "| train - test, points |"
    lines, values = [], []
    for arm, found in arms.items():
        first = found[0]
        line = f"| {NETWORKS[first['kind']]} | {tell(first)} "
        line += "| {:.0f} % | {:.1f} ({:.1f} to {:.1f}) | "
        values += [100 * first["macs"] / dense, *spread(found, "accuracy")]
        if first["static_accuracy"] is not None:
            line += "{:.1f} ({:.1f} to {:.1f}) | {:.2f} | "
            values += [*spread(found, "static_accuracy"), spread(found, "mask_overlap", 1)[0]]
        else:
            line += "| | "
        lines.append(line + "{:.1f} ({:.1f} to {:.1f}) |")
        values += spread(gaps[arm], "gap")
    return "\n".join([heads, "|---|---|---|---|---|---|---|", *lines]), *values


@of("communication-longer", "communication")
def bytes_of_gates(longer, rows):
    coded = [where(rows, seed=seed, arm="dense-int4", margin=0)["bytes"] for seed in (0, 1)]
    gated = [where(found, seed=seed, arm="gated-int4", margin=0)["bytes"] for seed, found in ((0, rows), (1, longer))]
    more = [own / dense for own, dense in zip(gated, coded, strict=True)]
    yield "by the same codec gates needed {:.1f} and {:.1f} times the bytes of a dense network", *more


@of("paper-digits")
def federations(rows):
    seeds = sorted({row["seed"] for row in rows})
    heads = (
        "| federation | accuracy, % | rounds | bytes, to dense FedAvg's | train - test, points | largest of a client |"
    )
    lines, values, gaps = [], [], by_arm(rows, "a")
    for arm, found in by_arm([row for row in rows if row.get("margin") == 2], "b").items():
        line = f"| {arm} | " + " and ".join(["{:.1f}"] * len(seeds)) + " | "
        values += [100 * row["final_accuracy"] for row in found]
        for key, figure in (("rounds_to_target", "{}"), ("ratio_to_dense", "{:.2f}")):
            there = [row[key] for row in found if row[key] is not None]
            line += " and ".join(figure if row[key] is not None else "never" for row in found) + " | "
            values += there
        if arm in gaps:
            line += " and ".join(["{:.1f}"] * len(seeds)) + " | " + " and ".join(["{:.1f}"] * len(seeds)) + " |"
            values += [100 * row[key] for key in ("gap", "client_gap_high") for row in gaps[arm]]
        else:
            line += "| |"
        lines.append(line)
    yield "\n".join([heads, "|---|---|---|---|---|---|", *lines]), *values
    own = {(row["algorithm"], row["sends"], row["seed"]): row["bytes"] for row in rows if row.get("margin") == 2}

    def of_dense(upload, *algorithms):
        """The least and the most bytes of gates to those of the dense network by the same algorithm."""
        ratios = [own[a, f"gated, {upload} upload", s] / own[a, "dense", s] for a in algorithms for s in seeds]
        return min(ratios), max(ratios)

    others = ("fedavg", "fedprox", "fednova")
    yield (
        "with salient uploads gates needed {:.2f} to {:.2f} of the bytes of the dense network by the same algorithm, "
        "with full uploads {:.2f} to {:.2f} by FedAvg, FedProx and FedNova, and {:.2f} to {:.2f} by SCAFFOLD",
        *of_dense("salient", *others, "scaffold"),
        *of_dense("full", *others),
        *of_dense("full", "scaffold"),
    )


@of("paper-digits-d")
def latency(rows):
    yield latency_table(rows)


def latency_table(rows, densities=True):
    """A line for each program of question d, and its values; densities: whether there is a column for them."""
    rows = [row for row in rows if row["part"] == "d"]
    runtimes = ("litert", "executorch", "onnx")
    lines, values = [], []
    for first in (row for row in rows if row["runtime"] == runtimes[0]):
        kind, _, density = first["arm"].partition(" ")
        name = NETWORKS[kind] + (f", `{first['role']}`" if kind in ("paper", "fbs", "hidden") else "")
        line = f"| {name} |" + (f" {density} |" if densities else "")
        line += " {:.1f} ({:.1f} to {:.1f}) | {:.0f} % |"
        values += [100 * first[key] for key in ("accuracy", "accuracy_low", "accuracy_high")]
        values.append(100 * first["executed_macs"] / first["dense_macs"])
        for runtime in runtimes:
            row = where(rows, runtime=runtime, arm=first["arm"], role=first["role"])
            line += " {:.2f} |"
            values.append(row["ratio_to_dense"])
        lines.append(line)
    heads = "| network |" + (" density |" if densities else "")
    heads += " accuracy, % | MACs executed | LiteRT | ExecuTorch | ONNX Runtime |"
    return "\n".join([heads, "|---" * (heads.count("|") - 1) + "|", *lines]), *values


@of("paper-a")
def over_fitting(rows):
    of = {kind: [where(rows, seed=seed, kind=kind) for seed in (0, 1)] for kind in ("dense", "paper")}
    yield (
        "the gap of the dense network is {:.1f} and {:.1f} points, and {:.1f} and {:.1f} with gates at density 0.5; by "
        "client at most {:.1f} and {:.1f}, and {:.1f} and {:.1f}. Test accuracy is {:.1f} and {:.1f} %, and {:.1f} and "
        "{:.1f} %",
        *(100 * row[key] for key in ("gap", "client_gap_high", "accuracy") for kind in of for row in of[kind]),
    )
