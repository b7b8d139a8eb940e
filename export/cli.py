"""`fedgate export`."""

import json

import click


@click.command(short_help="Export a run as a bundle of verified programs.")
@click.argument("run", type=click.Path())
@click.option(
    "--to",
    default="executorch,litert,onnx",
    show_default=True,
    metavar="RUNTIME[,RUNTIME...]",
    help="Runtimes to export to.",
)
@click.option("--out", type=click.Path(), required=True, metavar="NAME.fedgate", help="The bundle, a new folder.")
@click.option(
    "--dense",
    "dense_run",
    type=click.Path(),
    metavar="RUN",
    help="A run with gate `none` that becomes the dense program.",
)
@click.option("--client", type=int, metavar="N", help="Static programs have the masks of this client's record.")
@click.option(
    "--calibrate",
    type=click.Path(),
    metavar="DIR",
    help="Static programs have the masks that these images open most (a folder of images, or of parquet files).",
)
@click.option(
    "--trainable", metavar="PART", help="Add programs that train and run this part on a device: head or last-stage."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    help="Examples in a step of --trainable's programs.  [16]",
)
@click.option("--data", metavar="NAME", help="Where the run's data lie now, if not where they did.")
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's programs as JSON.")
def export(run, to, out, dense_run, client, calibrate, trainable, batch_size, data, overwrite, as_json):
    """Export a run as a bundle: programs for each runtime, compared with eager PyTorch before anything is written.

    A bundle holds `dense` (no gates), `masked` (gates, nothing skipped), `skip` (open channels alone, where the kernel
    can be built) and `static` (fixed masks, closed channels removed) programs, reference inputs and outputs, and the
    run's salience records. Static masks are those of all clients, unless --client or --calibrate says whose; then the
    bundle holds no other client's record. With --trainable, LiteRT and ExecuTorch get programs for `fedgate finetune`:
    `trunk`, `tail` and `train`. ExecuTorch gets `train-module` too, for Android.

    \b
    Example:
      fedgate export runs/first --to litert --out first.fedgate
      fedgate export runs/first --client 3 --out client-3.fedgate
      fedgate export runs/first --trainable last-stage --out tunable.fedgate
    """
    from fedgate.device_runtime.tables import console
    from fedgate.device_runtime.text import say

    from .pipeline import export_run

    if batch_size is not None and trainable is None:
        raise click.UsageError("--batch-size is of --trainable head or last-stage")
    runtimes = list(dict.fromkeys(name.strip() for name in to.split(",") if name.strip()))
    progress = console(stderr=True, quiet=as_json)
    left_out = []
    bundle = export_run(
        run,
        out,
        runtimes,
        dense_run,
        overwrite,
        progress,
        client,
        calibrate,
        trainable,
        batch_size or 16,
        data,
        left_out,
    )
    if as_json:
        programs = [
            {"file": p.file, "role": p.role, "runtime": p.runtime, "bytes": p.bytes, "sha256": p.sha256}
            for p in bundle.manifest.programs
        ]
        click.echo(
            json.dumps({"bundle": str(out), "masks": bundle.manifest.masks, "programs": programs, "left_out": left_out})
        )
    else:
        say(f"wrote {out}")
