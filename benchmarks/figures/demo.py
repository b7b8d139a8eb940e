"""The demo's closing table, and how long a newcomer waits for one."""

import io

from rich.console import Console

from fedgate.device_runtime.tables import table as printed_table

from . import listing, table


@listing("demo")
def demo(rows):
    heads = ("test accuracy", "MACs asked", "MACs executed", "p50 ms", "time / dense")
    made = printed_table("runtime", "program", *heads, title="digits, 8x8, batch 1, one thread", right=len(heads))
    sent = []
    for row in rows:
        if "program" in row:
            made.add_row(
                row["runtime"],
                row["program"],
                f"{row['accuracy_percent']:.1f} %",
                f"{row['asked_macs']:,}",
                f"{row['executed_macs']:,}",
                f"{row['p50_ms']:.3f}",
                f"{row['ratio_to_dense']:.2f}",
            )
        else:
            sent.append(f"{row['training']} training sent {row['mb_up']:.1f} MB up and {row['mb_down']:.1f} MB down")
    out = Console(file=io.StringIO(), width=200)
    out.print(made)
    lines = ["runs/demo/digits.fedgate, measured as fedgate bench does:", *out.file.getvalue().splitlines(), *sent]
    return "\n".join(line.rstrip() for line in lines)


@table("newcomer")
def newcomer(rows):
    minutes = {row["step"]: row["seconds"] / 60 for row in rows}
    yield "step", "minutes"
    yield "clone and `make setup`", f"{minutes['clone'] + minutes['setup']:.1f}"
    yield "`make demo DATA=photos`", f"{minutes['demo']:.1f}"
    yield "both", f"{sum(minutes.values()):.1f}"
