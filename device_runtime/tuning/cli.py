"""`fedgate finetune`: its options, and the progress that it shows."""

import json
from pathlib import Path

import click

from ..formats.codec_table import IN_WORDS
from ..runtime_option import runtime_option
from ..targets.request import InputPath, target_options


@click.command(short_help="Train a bundle's tail on this device's own images.")
@click.argument("bundle", metavar="NAME.fedgate")
@click.option("--data", required=True, type=InputPath(), help="A folder of images by class, or recorded samples.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder for results.")
@runtime_option("litert or executorch; default: the first that can train here.")
@click.option("--epochs", type=int, default=10, show_default=True, help="Passes over the images, at most.")
@click.option("--lr", type=float, default=0.01, show_default=True, help="Learning rate.")
@click.option("--lr-decay", type=float, default=1.0, show_default=True, help="Factor on it after each epoch.")
@click.option("--batch-size", type=int, help="Examples of a step; default: what the bundle was exported for.")
@click.option("--momentum", type=float, default=0.9, show_default=True, help="Of SGD.")
@click.option("--weight-decay", type=float, default=5e-4, show_default=True, help="Of SGD.")
@click.option("--clip-norm", type=float, default=1.0, show_default=True, help="Largest norm of a gradient; 0: any.")
@click.option("--validation", type=float, default=0.2, show_default=True, help="Share of each class that is held out.")
@click.option("--patience", type=int, default=3, show_default=True, help="Epochs without a gain before it stops.")
@click.option("--level", type=int, help="Index of the density; default: the bundle's own.")
@click.option("--density", type=float, help="The density itself, instead of --level.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the held-out images and of the order.")
@click.option("--client", type=click.IntRange(0), help="This device's number in the server's run.  [0, or the key's]")
@click.option(
    "--key",
    type=click.Path(),
    metavar="FILE",
    help="Sign the update with this key, of fedgate key; it stays on this machine.",
)
@click.option("--codec", default="fp32", show_default=True, help=f"Of the update: {IN_WORDS}.")
@click.option(
    "--upload-share",
    type=float,
    default=1.0,
    show_default=True,
    help="Of the update: only the strongest channels that make up this share of a layer's salience.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the runtime.")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def finetune(bundle, data, out, runtime, level, density, validation, patience, client, key, skip_unreadable, threads,
             target, python, as_json, batch_size, **options):  # fmt: skip
    """Train a bundle's head or last stage on this device's own images.

    --data is a folder DIR/CLASS/IMAGE; a class is one of the bundle's. The rest of the network runs once over each
    image. Writes personal.safetensors, for `predict --personal`, and an update that a federated run with --inbox takes
    where it is signed with a client's --key. An interrupted one goes on with the same command.

    \b
    Example:
      fedgate finetune digits.fedgate --data photos --out mine --epochs 5
      fedgate finetune digits.fedgate --data photos --out mine --key phone.key --target ssh:pi
    """
    from ..targets import elsewhere
    from .show import print_result

    client, key = whose(bundle, client, key)
    result = elsewhere(out)
    if result is not None:
        sign_there(result, out, client, key)
    else:
        device = (runtime, validation, patience, client, skip_unreadable, threads, key)
        result = finetune_here(bundle, data, out, level, density, batch_size, options, device, quiet=as_json)
    if as_json:
        return click.echo(json.dumps(result, indent=1))
    print_result(result)


def whose(bundle, client, key):
    """(client, `ClientKey` or None) of --client and --key; the number goes to a target, too."""
    from ..errors import UsageError
    from ..formats.bundle import load_bundle
    from ..formats.signed import read_key

    if key is None:
        return client or 0, None
    key = read_key(key)
    if client not in (None, key.client):
        raise UsageError(f"--client {client}, and the --key is of client {key.client}")
    run = load_bundle(bundle).tail().spec.run
    if run != key.run:
        raise UsageError(f"the --key is of run {key.run}, and the bundle of run {run}: each run has keys of its own")
    context = click.get_current_context()
    context.params["client"] = key.client
    context.set_parameter_source("client", click.core.ParameterSource.COMMANDLINE)
    return key.client, key


def sign_there(result, out, client, key):
    """Sign what a target has sent back, in `out`."""
    from ..storage import read_file, write_file
    from .update_file import update_name

    if key is not None:
        path = out / update_name(client)
        blob = key.sign(read_file(path))
        write_file(path, blob)
        result["update_bytes"] = len(blob)


def finetune_here(bundle, data, out, level, density, batch_size, options, device, quiet):
    """Fine-tune on this machine, with progress. options: other fields of a `TunePlan`."""
    from ..engines.select import choose_level
    from ..formats.bundle import load_bundle
    from .finetune import finetune as finetune_bundle
    from .plan import TunePlan
    from .show import RichWatcher

    loaded = load_bundle(bundle)
    loaded.tail()  # says it where a bundle has nothing to train
    level = choose_level(loaded.manifest, level, density)
    plan = TunePlan(level, batch_size=batch_size or loaded.manifest.tail.batch_size, **options)
    try:
        with RichWatcher(quiet) as watcher:
            return finetune_bundle(loaded, data, out, plan, *device, watcher)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; the same command goes on with {out}") from error
