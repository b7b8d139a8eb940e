"""Phrases about training: bytes, densities, personal programs, speed."""

from . import of, where


@of("communication", "communication-longer")
def communication(rows, longer):
    def of_arm(seed, arm, rows=rows):
        return where(rows, seed=seed, arm=arm, margin=0)

    lines, values = [], []
    for seed, gated in ((0, of_arm(0, "gated-int4")), (1, of_arm(1, "gated-int4", longer))):
        dense, rounds = of_arm(seed, "dense"), gated["rounds"] + gated["more_rounds"]
        lines.append(
            f"| {seed} | {{:.1f}} % after {{}} rounds, {{:.0f}} MB | as good after {{}} of {rounds}, {{:.0f}} MB "
            "| {:.2f} | {:.1f} % |"
        )
        values += [100 * dense["target"], dense["rounds_to_target"], dense["bytes"] / 1e6]
        values += [gated["rounds_to_target"], gated["bytes"] / 1e6, gated["ratio_to_dense"]]
        values.append(100 * gated["final_accuracy"])
    heads = "| seed | dense | gated, `int4` | bytes of it | it ends at |\n|---|---|---|---|---|\n"
    yield heads + "\n".join(lines), *values
    short = of_arm(1, "gated-int4")
    yield (
        "With only 30 rounds seed 1 ended {:.1f} points short",
        100 * (of_arm(1, "dense")["target"] - short["final_accuracy"]),
    )
    coded = [of_arm(seed, "dense-int4") for seed in (0, 1)]
    yield (
        "dense with `int4` and 30 rounds is there with {:.0f} and {:.0f} MB ({:.2f} and {:.2f}), and ends at {:.1f} "
        "and {:.1f} %",
        *(row["bytes"] / 1e6 for row in coded),
        *(row["ratio_to_dense"] for row in coded),
        *(100 * row["final_accuracy"] for row in coded),
    )
    strong = of_arm(1, "gated-int4-90", longer)
    yield (
        "seed 1 then gets there after {} of 40 rounds with {:.0f} MB ({:.2f}) and ends at {:.1f} %",
        strong["rounds_to_target"],
        strong["bytes"] / 1e6,
        strong["ratio_to_dense"],
        100 * strong["final_accuracy"],
    )


@of("levels")
def levels(rows):
    heads = "| density | own network | one network | lost |\n|---|---|---|---|\n"
    lines = [f"| {row['density']} | {{:.1f}} % | {{:.1f}} % | {{:.1f}} |" for row in rows]
    values = [figure for row in rows for figure in (100 * row["alone"], 100 * row["levels"], row["lost"])]
    yield heads + "\n".join(lines), *values


@of("personal")
def personal(rows):
    names = ("dynamic", "static, global", "static, own", "dense")
    heads = "| clients of | dynamic | static, global masks | static, own masks | dense |\n|---|---|---|---|---|\n"
    lines = [f"| {classes} classes" + " | {:.1f} / {:.1f} %" * 4 + " |" for classes in (2, 3)]
    keys = [(classes, name, epochs) for classes in (2, 3) for name in names for epochs in (0, 1)]
    cells = [where(rows, classes=classes, network=name, local_epochs=epochs) for classes, name, epochs in keys]
    yield heads + "\n".join(lines), *(100 * row["accuracy"] for row in cells)


@of("update_bytes")
def update_bytes(rows):
    salient = [where(rows, upload="salient", codec=codec) for codec in ("fp32", "fp16", "int8", "int4")]
    yield (
        "has {:.0f} % (fp32), {:.0f} % (fp16), {:.0f} % (int8) or {:.0f} % (int4) of the dense network's {:.2f} MB",
        *(100 * row["ratio_to_dense_fp32"] for row in salient),
        salient[0]["bytes"] / salient[0]["ratio_to_dense_fp32"] / 1e6,
    )


@of("sliced_training-digits", "sliced_training", "sliced_training-collapsed")
def sliced_training(small, large, collapsed):
    cnn, resnet = (where(small, model=model) for model in ("cnn", "resnet20"))
    yield "{:.2f} (`cnn` on digits, batches open {:.0f} %)", cnn["ratio"], 100 * cnn["open_share"]
    yield "{:.2f} on ResNet-20 with digits", resnet["ratio"]
    (resnet,), (same,) = large, collapsed
    yield "{:.2f} (ResNet-20 after 40 steps, {:.0f} % open)", resnet["ratio"], 100 * resnet["open_share"]
    yield "as if masks had collapsed: {:.2f} (ResNet-20)", same["ratio"]


@of("local_training")
def local_training(rows):
    (row,) = rows
    yield (
        "the client trains {:.2f} times as many images a CPU second ({:.2f} to {:.2f}, seven turns)",
        *(row[key] for key in ("ratio", "ratio_low", "ratio_high")),
    )


@of("simulation")
def simulation(rows):
    (digits,) = rows
    yield (
        "{:.2f} times for 100 clients on digits ({:.2f} to {:.2f}, nine turns)",
        *(digits[key] for key in ("ratio_to_flower", "ratio_low", "ratio_high")),
    )
