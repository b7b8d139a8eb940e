"""What is shown: a table a runtime and model, and latency against density."""

import click

from fedgate.device_runtime.tables import share, table


def show(out, of, runtime, rows):
    """Print the table of a subject on a runtime."""
    heads = ("role", "density", "threads", "p50 ms", "p90 ms", "ratio to dense (95 %)", "to the best dense")
    made = table(*heads, "MACs executed", "GMAC/s", "error", title=f"{of.name}, {runtime}; {of.data} images", right=9)
    notes, noisy = {}, {}
    for i, found in enumerate(rows):
        if i and found["threads"] != rows[i - 1]["threads"]:
            made.add_section()
        begin = (found["role"], "" if found["density"] is None else f"{found['density']:g}", str(found["threads"]))
        if found["reason"]:
            notes[f"no {found['role']}: {found['reason']}"] = None
            made.add_row(*begin, "-")
            continue
        noisy |= dict.fromkeys((found["noise"] or "").split("; "))
        ratio = [found[key] for key in ("ratio_to_dense", "ratio_low", "ratio_high", "ratio_to_best_dense")]
        made.add_row(
            *begin,
            f"{found['p50_ms']:.3f}",
            f"{found['p90_ms']:.3f}",
            "" if ratio[0] is None else "{:.3f} ({:.3f} to {:.3f})".format(*ratio[:3]),
            "" if ratio[3] is None else f"{ratio[3]:.3f}",
            share(found["executed_macs"], found["dense_macs"]),
            f"{found['gmacs']:.1f}",
            f"{found['max_error']:.0e}",
        )
    out.print(made)
    for note in [*notes, *(f"too noisy to believe: {reason}" for reason in noisy if reason)]:
        out.print(note, soft_wrap=True)


def plot(rows, path):
    """Draw the latency of `skip` against density, a panel a model, a line a runtime; its dense program is dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    threads = min(found["threads"] for found in rows)
    rows = [found for found in rows if found["threads"] == threads and found["p50_ms"] is not None]
    panels = list(dict.fromkeys((found["model"], found["input"]) for found in rows if found["role"] == "skip"))
    if not panels:
        click.echo("nothing to plot: no skip program was measured", err=True)
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.5), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels, strict=True):
        for number, runtime in enumerate(dict.fromkeys(found["runtime"] for found in rows)):
            mine = [f for f in rows if (f["model"], f["input"], f["runtime"]) == (*panel, runtime)]
            points = sorted((f["density"], f["p50_ms"]) for f in mine if f["role"] == "skip")
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=f"{runtime} skip")
            for found in mine:
                if found["role"] == "dense":
                    axis.axhline(found["p50_ms"], ls="--", color=f"C{number}", label=f"{runtime} dense")
        axis.set(title="{} at {}".format(*panel), xlabel="density", ylabel="p50 ms", ylim=(0, None))
        axis.legend(fontsize="small")
    figure.suptitle(f"batch 1, {threads} thread(s), {rows[0]['cpu']}", fontsize="small")
    figure.savefig(path, dpi=150)
