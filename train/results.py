"""What a run's model is worth: accuracy by level and client, MACs and masks by layer."""

from fedgate.device_runtime import macs
from fedgate.device_runtime.tables import console, table

from .partition import class_table
from .rounds import make_engine, make_network, mean_overlap, prepare
from .run_directory import RunDirectory


def evaluate_run(path, workers=1):
    """Evaluate a run's model; returns a JSON-ready dict: accuracy by level, by client, MACs, masks."""
    directory = RunDirectory.open(path)
    config = directory.info.config
    data, parts = prepare(config)
    tensors = directory.model_tensors()
    engine = make_engine(directory.info, data, parts, workers)
    try:
        evaluation = engine.evaluate(tensors, config.density)
    finally:
        engine.close()
    layers = make_network(directory.info).layers
    clients = evaluation.client_accuracy(class_table(data.train_labels.numpy(), parts, len(data.labels)))
    levels = []
    for i, density in enumerate(config.density):
        levels.append(
            {
                "density": density,
                "accuracy": float(evaluation.accuracy()[i]),
                "loss": float(evaluation.loss[i] / evaluation.images[i]),
                "macs_nominal": sum(macs.nominal(layers, density).values()),
                "macs_executed": float(evaluation.executed[i].sum() / evaluation.images[i]),
                "mask_overlap": mean_overlap(evaluation.salience, i),
                "by_client": [float(value) for value in clients[i]],
                "by_layer": by_layer(evaluation, layers, i, density),
            }
        )
    return {
        "run": str(path),
        "model": config.model,
        "gate": config.gate,
        "data": directory.info.data["name"],
        "test_images": int(evaluation.images[0]),
        "macs_dense": sum(macs.dense(layers).values()),
        "levels": levels,
    }


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
    title = f"{result['run']}: {result['model']}, gate {result['gate']}, {result['test_images']} test images"
    columns = ("density", "accuracy", "worst client", "MACs nominal", "MACs executed", "of dense", "mask overlap")
    made = table(*columns, title=title, right=7)
    for level in result["levels"]:
        overlap = level["mask_overlap"]
        made.add_row(
            f"{level['density']:g}",
            f"{100 * level['accuracy']:.2f} %",
            f"{100 * min(level['by_client']):.2f} %",
            f"{level['macs_nominal']:,}",
            f"{level['macs_executed']:,.0f}",
            f"{100 * level['macs_executed'] / result['macs_dense']:.1f} %",
            "-" if overlap is None else f"{overlap:.2f}",
        )
    out.print(made)
    columns = [f"density {level['density']:g}" for level in result["levels"]]
    made = table("client", *columns, title="accuracy by client", right=len(columns) + 1)
    for client in range(len(result["levels"][0]["by_client"])):
        cells = [f"{100 * level['by_client'][client]:.2f} %" for level in result["levels"]]
        made.add_row(str(client), *cells)
    out.print(made)
    level = result["levels"][-1]
    columns = ("layer", "MACs dense", "nominal", "executed", "mask overlap", "never open", "always open")
    made = table(*columns, title=f"by layer, at density {level['density']:g}", right=6)
    for row in level["by_layer"]:
        shares = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("overlap", "never_open", "always_open")]
        counts = [f"{row[key]:,.0f}" for key in ("macs_dense", "macs_nominal", "macs_executed")]
        made.add_row(row["layer"], *counts, *shares)
    out.print(made)
