"""What a person sees of a run: a bar with the time left on a terminal, a line a round elsewhere."""

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fedgate.device_runtime.tables import console
from fedgate.device_runtime.text import printable, say


class RoundProgress:
    """A context that is told of each round; quiet prints nothing."""

    def __init__(self, rounds, done=0, quiet=False):
        self.rounds, self.quiet = rounds, quiet
        self.console = console(stderr=True)
        self.bar = None
        if self.console.is_terminal and not quiet:
            columns = (
                TextColumn("round"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=rounds, completed=done)

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()

    def update(self, row):
        """row: the round's line of metrics.jsonl."""
        text = "no loss" if row["loss"] is None else f"loss {row['loss']:.3f}"
        if row["accuracy"] is not None:
            text += f"  accuracy {100 * row['accuracy']:.2f} %"
        if row["mask_overlap"] is not None:
            text += f"  density {row['density'][-1]:.2f}  overlap {row['mask_overlap']:.2f}"
        text += f"  {row['images_per_cpu_second']:.0f} images per CPU second"
        if row["reason"] is not None:
            text += f"  {row['reason']}"
        if self.bar:
            self.bar.update(self.task, completed=row["round"], description=printable(text))
        elif not self.quiet:
            say(f"round {row['round']}/{self.rounds}  {text}", err=True)
