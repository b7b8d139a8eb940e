"""What a run's model is worth: accuracy by level and client, calibration, over-fitting, MACs and masks by layer."""

import numpy as np

from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.tables import console, table

from ..data.class_table import class_table
from ..engines.make import make_engine
from ..ingredients import make_network, run_data
from ..server.rows import mean_overlap
from ..server.run_directory import RunDirectory
from .personal import FINETUNE_LR, finetune_plan, own_test_images, trained_images, worst_decile


def evaluate_run(path, workers=1, finetune_epochs=0, finetune_lr=None, progress=None, moved=None):
    """Evaluate a run's model; returns a JSON-ready dict: accuracy by level, by client, calibration, MACs, masks.

    finetune_epochs: where above 0, each client fine-tunes the model on its own examples and is judged before and after;
    finetune_lr: by default `FINETUNE_LR` of the run's. Personal models are not kept. moved: where its data lie now.
    """
    progress = progress or console(stderr=True, quiet=True)
    directory = RunDirectory.open(path)
    config = directory.info.config
    lr = FINETUNE_LR * config.lr if finetune_lr is None else finetune_lr
    data, parts = run_data(directory.info, moved)
    held = class_table(data.train_labels.numpy(), parts, len(data.labels))
    tensors = directory.model_tensors()
    engine = make_engine(directory.info, data, parts, workers)
    try:
        evaluation = engine.evaluate(tensors, config.density)
        trained = engine.evaluate(tensors, config.density, trained_images(parts, len(data.test_labels), config.seed))
        tuned = finetuned(engine, directory.info, tensors, data, held, finetune_epochs, lr, progress)
    finally:
        engine.close()
    layers = make_network(directory.info).layers
    clients, own = evaluation.client_accuracy(held), trained.client_accuracy(held)
    levels = []
    for i, density in enumerate(config.density):
        level = {
            "density": density,
            "accuracy": float(evaluation.accuracy()[i]),
            "loss": float(evaluation.loss[i] / evaluation.images[i]),
            "train_accuracy": float(trained.accuracy()[i]),
            "train_test_gap": float(trained.accuracy()[i] - evaluation.accuracy()[i]),
            "calibration_error": float(evaluation.calibration_error()[i]),
            "macs_nominal": sum(macs.nominal(layers, density).values()),
            "macs_executed": float(evaluation.executed[i].sum() / evaluation.images[i]),
            "mask_overlap": mean_overlap(evaluation.salience, i),
            "by_client": clients[i].tolist(),
            "train_by_client": own[i].tolist(),
            "worst_decile": float(worst_decile(clients)[i]),
            "by_layer": by_layer(evaluation, layers, i, density),
        }
        if tuned is not None:
            level["finetuned"] = {
                when: {"by_client": accuracy[i].tolist(), "worst_decile": float(worst_decile(accuracy)[i])}
                for when, accuracy in zip(("before", "after"), tuned, strict=True)
            }
        levels.append(level)
    return {
        "run": str(path),
        "model": config.model,
        "gate": config.gate,
        "data": directory.info.data["name"],
        "test_images": int(evaluation.images[0]),
        "train_images": int(trained.images[0]),
        "finetune_epochs": finetune_epochs,
        "finetune_lr": lr if finetune_epochs else None,
        "macs_dense": sum(macs.dense(layers).values()),
        "levels": levels,
    }


def finetuned(engine, info, tensors, data, held, epochs, lr, progress):
    """Accuracy of each client before and after fine-tuning, each (levels, clients), or None without any epochs."""
    if not epochs:
        return None
    labels, found = data.test_labels.numpy(), []
    chosen = [own_test_images(row, labels, info.config.seed) for row in held]
    with progress.status("") as status:
        plans = [finetune_plan(info, client, epochs, lr) for client in range(len(held))]
        for client, pair in enumerate(engine.finetune(tensors, plans, chosen)):
            found.append([evaluation.client_accuracy(held[client : client + 1])[:, 0] for evaluation in pair])
            status.update(f"fine-tuned {client + 1} of {len(held)} clients")
    return np.array(found).transpose(1, 2, 0)


def by_layer(evaluation, layers, level, density):
    """For each layer: MACs dense, nominal and executed an image, and the statistics of its masks where it has any."""
    dense, nominal = macs.dense(layers), macs.nominal(layers, density)
    masks = evaluation.salience.mask_statistics(level)
    rows = []
    for i, layer in enumerate(layers):
        overlap, never, always = masks.get(layer.name, (None, None, None))
        rows.append(
            {
                "layer": layer.name,
                "macs_dense": dense[layer.name],
                "macs_nominal": nominal[layer.name],
                "macs_executed": float(evaluation.executed[level, i] / evaluation.images[level]),
                "overlap": overlap,
                "never_open": never,
                "always_open": always,
            }
        )
    return rows


def evaluation_tables(result):
    """Print what `evaluate_run` returned."""
    out = console()
    levels = result["levels"]
    title = f"{result['run']}: {result['model']}, gate {result['gate']}, {result['test_images']} test images"
    columns = ("density", "accuracy", "train - test", "worst decile", "calibration error")
    columns += ("MACs nominal", "MACs executed", "of dense", "mask overlap")
    made = table(*columns, title=title, right=9)
    for level in levels:
        overlap = level["mask_overlap"]
        made.add_row(
            f"{level['density']:g}",
            percent(level["accuracy"]),
            percent(level["train_test_gap"]),
            percent(level["worst_decile"]),
            percent(level["calibration_error"]),
            f"{level['macs_nominal']:,}",
            f"{level['macs_executed']:,.0f}",
            f"{100 * level['macs_executed'] / result['macs_dense']:.1f} %",
            "-" if overlap is None else f"{overlap:.2f}",
        )
    out.print(made)
    out.print(client_table(result))
    level = levels[-1]
    columns = ("layer", "MACs dense", "nominal", "executed", "mask overlap", "never open", "always open")
    made = table(*columns, title=f"by layer, at density {level['density']:g}", right=6)
    for row in level["by_layer"]:
        shares = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("overlap", "never_open", "always_open")]
        counts = [f"{row[key]:,.0f}" for key in ("macs_dense", "macs_nominal", "macs_executed")]
        made.add_row(row["layer"], *counts, *shares)
    out.print(made)


def client_table(result):
    """A row a client, and rows of the mean and the worst decile: accuracy, and where fine-tuned before and after."""
    columns, heads = [], []
    for level in result["levels"]:
        density = f"density {level['density']:g}"
        if result["finetune_epochs"]:
            columns += [level["finetuned"]["before"], level["finetuned"]["after"]]
            heads += [density, "fine-tuned"]
        else:
            columns.append(level)
            heads.append(density)
    title = "accuracy by client"
    if result["finetune_epochs"]:
        title += (
            f", before and after {result['finetune_epochs']} local epoch(s) at --finetune-lr {result['finetune_lr']:g}"
        )
    made = table("client", *heads, title=title, right=len(heads) + 1)
    for client in range(len(columns[0]["by_client"])):
        made.add_row(str(client), *[percent(column["by_client"][client]) for column in columns])
    made.add_section()
    made.add_row("mean", *[percent(np.mean(column["by_client"])) for column in columns])
    made.add_row("worst decile", *[percent(column["worst_decile"]) for column in columns])
    return made


def percent(share):
    return f"{100 * share:.2f} %"
