"""What fine-tuning on the device gives a client of few classes.

A gated network is trained federatedly and exported with its trainable programs. Clients that hold 2 and 3 classes then
train its head or its last stage by those programs alone, as `fedgate finetune` does. Rows: accuracy on test images of
the client's own classes, before and after, by the `skip` trunk where there is one, and how far eager PyTorch with the
same parameters is from it. What a step costs beside eager PyTorch is `train_step.py`'s.

    python benchmarks/finetune.py --data PATH/TO/cifar10 --size 16 --model resnet20 --work runs/finetune
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from result_file import json_option, write_result
from rich.console import Console

from fedgate.device_runtime.board.machine import cpu_name
from fedgate.device_runtime.engines import available
from fedgate.device_runtime.tables import console, table
from fedgate.device_runtime.tuning.examples import write_samples
from fedgate.device_runtime.tuning.finetune import finetune
from fedgate.device_runtime.tuning.model import model_role, open_tail, tuned_trunks
from fedgate.device_runtime.tuning.personal import load_personal
from fedgate.device_runtime.tuning.plan import TunePlan
from fedgate.export.pipeline import export_run
from fedgate.train.commands import run_training
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.ingredients import make_network
from fedgate.train.network.build import load_tensors
from fedgate.train.network.tails import freeze, trunk
from fedgate.train.server.run_directory import RunDirectory

PARTS = ("head", "last-stage")
BATCH = 16


def base_run(work, options):
    """The run of these options in a folder: the finished one there, or what is left of it, or a new one."""
    place = work / "base"
    resume = (place / "config.json").exists()
    arguments = (None, place) if resume else (place, None)
    return run_training(*arguments, quiet=False, options=options)


def trained_network(run, part):
    """The run's network with the trunk of a part frozen, in evaluation mode."""
    directory = RunDirectory.open(run)
    network = make_network(directory.info)
    load_tensors(network, directory.model_tensors())
    freeze(network, trunk(network.layers, part))
    return network.eval()


def of_classes(labels, classes, each):
    """Sorted indices of the first `each` examples of some classes."""
    return np.sort(np.concatenate([np.flatnonzero(labels == one)[:each] for one in classes]))


def client_rows(bundle, run, part, data, classes, each, epochs, lr, runtime, work):
    """One client's fine-tuning: a row."""
    own = of_classes(data.train_labels.numpy(), classes, each)
    test = of_classes(data.test_labels.numpy(), classes, 250)
    samples, out = work / "samples.safetensors", work / f"{part}-{'-'.join(map(str, classes))}"
    write_samples(samples, data.train_images.numpy()[own], data.train_labels.numpy()[own], data.labels)
    plan = TunePlan(bundle.manifest.default_level, epochs=epochs, batch_size=BATCH, lr=lr)
    done = finetune(bundle, samples, out, plan, runtime)
    personal = load_personal(out / "personal.safetensors", bundle)
    best = tuned_trunks(bundle, runtime)[0]
    images = normalise(data.test_images[test], data.mean, data.std)
    labels, found = data.test_labels.numpy()[test], {}
    for when, tensors in (("before", bundle.tail().tensors), ("after", personal.tensors)):
        model = open_tail(bundle, best, tensors)
        results = [model.run(image[None], plan.level) for image in images.numpy()]
        logits, masks = (np.concatenate([result[i] for result in results]) for i in (0, 1))
        found[when] = float((logits.argmax(1) == labels).mean())
    network = trained_network(run, part)
    load_tensors(network, personal.tensors, partly=True)
    with torch.no_grad():
        expected = network(images).numpy()
    same = (network.open().numpy() == masks).all(1)
    return {
        "part": part,
        "runtime": done["runtime"],
        "program": model_role(best),
        "classes": len(classes),
        "train_images": len(own),
        "test_images": len(test),
        **found,
        "largest_difference": float(np.abs(logits - expected)[same].max() / np.abs(expected).max()),
        "same_masks": float(same.mean()),
        "epochs": len(done["epochs"]),
        "steps": done["steps"],
        "step_ms": done["step_ms"],
        "update_bytes": done["update_bytes"],
        "peak_rss_mb": done["peak_rss_mb"],
    }


def show(rows):
    made = table("part", "program", "classes", "before", "after", "to eager", "same masks", title="accuracy", right=5)
    for row in rows:
        cells = [f"{100 * row[key]:.1f} %" for key in ("before", "after")]
        program = f"{row['runtime']} {row['program']}"
        same = f"{100 * row['same_masks']:.1f} %"
        made.add_row(row["part"], program, str(row["classes"]), *cells, f"{row['largest_difference']:.1e}", same)
    console().print(made)


@click.command()
@click.option("--data", default="digits", show_default=True, help="As in `fedgate train`.")
@click.option("--size", type=int, help="Resize images to this many pixels square.")
@click.option("--model", default="cnn", show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--clients", default=10, show_default=True, help="Of the training before.")
@click.option("--fraction-train", default=0.2, show_default=True)
@click.option("--rounds", default=12, show_default=True, help="Of the training before, of one local epoch.")
@click.option("--images", default=250, show_default=True, help="Training images of each class that a client holds.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--lr", default=0.01, show_default=True)
@click.option("--part", "parts", multiple=True, default=PARTS, show_default=True)
@click.option("--runtime", "runtimes", multiple=True, default=("litert", "executorch"), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--run", type=click.Path(exists=True), help="Start from this run, finished or not; --data is the run's.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep the training before and the bundles here.")
@click.option("--quick", is_flag=True, help="Digits alone take a minute; this takes two rounds and one client.")
@json_option
def main(data, size, model, density, clients, fraction_train, rounds, images, epochs, lr, parts, runtimes, seed,
         run, work, quick, json_path):  # fmt: skip
    """Fine-tune clients of few classes by their programs."""
    torch.set_num_threads(1)
    runtimes = [runtime for runtime in runtimes if available()[runtime].version]
    rounds = 2 if quick else rounds
    options = {
        "data": data,
        "image_size": size,
        "model": model,
        "density": (density,),
        "clients": clients,
        "fraction_train": 1.0 if data == "digits" else fraction_train,
        "rounds": rounds,
        "local_epochs": 1,
        "partition": "iid",
        "batch_size": 64,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = run or base_run(folder, options)
        loaded, rows = load_data(data, size=size), []
        drawn = np.random.default_rng(seed).permutation(len(loaded.labels))
        held = [np.sort(drawn[:2])] if quick else [np.sort(drawn[:2]), np.sort(drawn[2:5])]
        for part in parts[:1] if quick else parts:
            bundle = export_run(
                run, folder / f"{part}.fedgate", runtimes, None, True, Console(stderr=True), trainable=part
            )
            for runtime in runtimes:
                with tempfile.TemporaryDirectory() as results:
                    for classes in held:
                        rows.append(
                            client_rows(bundle, run, part, loaded, classes, images, epochs, lr, runtime, Path(results))
                        )
    facts = {"cpu": cpu_name(), "data": loaded.name, "image": list(loaded.train_images.shape[1:]), "model": model}
    facts |= {"density": density, "rounds": rounds, "seed": seed}
    show(rows)
    write_result(json_path, [facts | row for row in rows])


if __name__ == "__main__":
    main()
