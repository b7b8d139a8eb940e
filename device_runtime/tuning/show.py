"""What `fedgate finetune` shows people: two bars while it works, and a table of the epochs."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..tables import console, table
from .finetune import Watcher


class RichWatcher(Watcher):
    """Bars on stderr, where that is a terminal; a context."""

    def __init__(self, quiet: bool = False):
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        screen = console(stderr=True)
        self._bars = Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal)
        self._images = self._steps = None

    def images(self, total):
        self._images = self._bars.add_task("images through the trunk", total=total)

    def image(self):
        self._bars.advance(self._images)

    def training(self, progress):
        if self._steps is None:
            self._steps = self._bars.add_task("training", total=None)
        rows = progress.epochs
        said = f"training, epoch {progress.state.epoch + (progress.state.batch > 0)}"
        if rows and rows[-1]["validation_accuracy"] is not None:
            said += f", {rows[-1]['validation_accuracy']:.1%} of the held-out images"
        self._bars.update(self._steps, completed=progress.state.steps, description=said)

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._bars.stop()


def print_result(result: dict) -> None:
    out = console()
    others = ("others' loss", "others' accuracy") if result["reference"] else ()
    made = table("epoch", "loss", "accuracy", "held-out loss", "held-out accuracy", *others, right=4 + len(others))
    for row in result["epochs"]:
        held = ("", "")
        if row["validation_loss"] is not None:
            held = f"{row['validation_loss']:.3f}", f"{row['validation_accuracy']:.1%}"
        if others:
            held += f"{row['reference_loss']:.3f}", f"{row['reference_accuracy']:.1%}"
        mark = " *" if row["epoch"] == result["best_epoch"] else ""
        made.add_row(f"{row['epoch']}{mark}", f"{row['loss']:.3f}", f"{row['accuracy']:.1%}", *held)
    out.print(made)
    for note in result["left_out"]:
        out.print(note)
    if result["unreadable"]:
        out.print(f"left out, as they cannot be read: {', '.join(result['unreadable'])}")
    if result["before"] is not None:
        out.print(
            f"accuracy on {result['validation_examples']} held-out images: "
            f"{result['before']:.1%} before, {result['after']:.1%} after (epoch {result['best_epoch']})"
        )
    for note in result["notes"]:
        out.print(note, soft_wrap=True)
    out.print(
        f"{result['runtime']}, {result['trainable']}, density {result['density']:g}: {result['examples']} images, "
        f"{result['steps']} steps of {result['step_ms']:.1f} ms, peak memory {result['peak_rss_mb']:.0f} MB, "
        f"{result['feature_bytes'] / 1e6:.1f} MB on disk meanwhile"
    )
    out.print(f"{result['personal']}: the model, for --personal")
    out.print(f"{result['update']}: the update, {result['update_bytes']:,} bytes")
    if not result["run_trains_it"]:
        out.print(
            f"the exported run does not train its {result['trainable']} alone and takes no such update: a run "
            f"by train --trainable {result['trainable']} --base does, with a bundle of its own"
        )
