"""Training: bytes, densities, personal programs, speed."""

from . import table, where

ARMS = {
    "dense": "dense, float32",
    "dense-int4": "dense, `int4`",
    "gated-int4": "gates, `int4`",
    "gated-int4-90": "gates, `int4`, `--upload-share 0.9`",
}


@table("communication", "communication-longer")
def bytes_to_an_accuracy(rows, longer):
    heads = ("seed", "training", "rounds", "there after", "MB", "to dense", "to dense with `int4`")
    yield *heads, "ends at, %", "above dense, points"
    rows, longer = ([row for row in found if row["margin"] == 0] for found in (rows, longer))
    for seed in (0, 1):
        dense, coded = (where(rows, seed=seed, arm=arm) for arm in ("dense", "dense-int4"))
        mine = [row for row in rows if row["seed"] == seed]
        mine += [row for row in longer if (row["seed"], row["arm"] != "dense") == (seed, True)]
        for row in mine:
            rounds = row["rounds"] + (0 if row["arm"] == "dense" else row["more_rounds"])
            spent = ["never", "", "", ""]
            if row["rounds_to_target"] is not None:
                size, ratio = f"{row['bytes'] / 1e6:.0f}", f"{row['ratio_to_dense']:.2f}"
                spent = [str(row["rounds_to_target"]), size, ratio, f"{row['bytes'] / coded['bytes']:.2f}"]
            end = 100 * row["final_accuracy"]
            more = "" if row["arm"] == "dense" else f"{end - 100 * dense['target']:+.1f}"
            yield str(seed), ARMS[row["arm"]], str(rounds), *spent, f"{end:.1f}", more


@table("levels")
def levels(rows):
    yield "density", "own network", "one network", "lost"
    for row in rows:
        yield str(row["density"]), f"{100 * row['alone']:.1f} %", f"{100 * row['levels']:.1f} %", f"{row['lost']:.1f}"


@table("personal")
def personal(rows):
    names = {"dynamic": "dynamic", "static, global": "static, global masks", "static, own": "static, own masks"}
    names |= {"dense": "dense"}
    yield "clients of", *names.values()
    for classes in (2, 3):
        cells = []
        for name in names:
            each = [where(rows, classes=classes, network=name, local_epochs=epochs) for epochs in (0, 1)]
            cells.append("{:.1f} / {:.1f} %".format(*(100 * row["accuracy"] for row in each)))
        yield f"{classes} classes", *cells


@table("update_bytes")
def update_bytes(rows):
    yield "upload", "MB", "of the dense network's"
    salient = [row for row in rows if row["upload"] == "salient"]
    dense = salient[0]["bytes"] / salient[0]["ratio_to_dense_fp32"]
    yield "the dense network, `fp32`", f"{dense / 1e6:.2f}", "100 %"
    for row in salient:
        yield f"salient, `{row['codec']}`", f"{row['bytes'] / 1e6:.2f}", f"{100 * row['ratio_to_dense_fp32']:.0f} %"


@table("sliced_training-digits", "sliced_training", "sliced_training-collapsed")
def sliced_training(*results):
    yield "network", "images", "masks", "channels open", "to a step that masks"
    names = {"cnn": "`cnn`", "resnet20": "ResNet-20"}
    for row in (row for rows in results for row in rows):
        data = "digits" if row["data"] == "digits" else "CIFAR-10"
        masks = "the same half for every image" if row["collapsed"] else "as training left them"
        yield names[row["model"]], data, masks, f"{100 * row['open_share']:.0f} %", f"{row['ratio']:.2f}"


@table("local_training")
def local_training(rows):
    (row,) = rows
    yield "network", "images a CPU second, to the bare loop", "lowest and highest"
    yield "ResNet-32", f"{row['ratio']:.2f}", f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}, {row['turns']} turns"


@table("simulation")
def simulation(rows):
    yield "clients", "images a second, to Flower's", "lowest and highest"
    for row in rows:
        ends = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}, {row['turns']} turns"
        yield f"{row['clients']} on {row['data']}", f"{row['ratio_to_flower']:.2f}", ends
