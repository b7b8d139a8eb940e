"""The page itself: what the template shows of the runs, and the template."""

from importlib import resources

import jinja2
from markupsafe import Markup

from .style import COLOURS, GRID, INK, MUTED, PAPER, inline_svg, symbol
from .summary import compare_options
from .text import percent, quantity


def render(runs, summaries, target, notes, sections, images):
    """The page's HTML text.

    runs: of `command.ReportedRun`; summaries: one each; notes: lines by run key; sections: (id, heading, plots,
    missing); images: each plot's SVG file by its name. All text is escaped by the template; figures are elements.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"quantity": quantity, "percent": percent}
    differing, same = compare_options([run.history for run in runs])
    return environment.from_string(own_file("page.html")).render(
        css=Markup(own_file("page.css")),
        light=dict(zip(("ink", "muted", "grid", "paper"), (INK, MUTED, GRID, PAPER), strict=True)),
        colours=COLOURS,
        runs=[
            {
                "key": run.key,
                "name": run.history.name,
                "path": run.history.path,
                "symbol": symbol(run.index),
                "summary": summary,
                "relative": relative(summary, summaries[0]),
                "levels": levels(run.history),
                "notes": notes[run.key],
            }
            for run, summary in zip(runs, summaries, strict=True)
        ],
        target=target,
        notes=notes[""],
        judged=any(summary.worst_decile is not None for summary in summaries),
        timed=any(summary.simulated_seconds for summary in summaries),
        sections=[
            (name, heading, [(plot, inline_svg(images[plot.name], plot.name, plot.alt)) for plot in plots], missing)
            for name, heading, plots, missing in sections
        ],
        differing=differing,
        same=same,
    )


def own_file(name):
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def relative(summary, first):
    """Bytes to the target against those of the first run, as "−57 %"; None where there is nothing to compare."""
    if summary is first or not summary.target_bytes or not first.target_bytes:
        return None
    change = round(100 * (summary.target_bytes / first.target_bytes - 1))
    return f"{change:+d} %".replace("-", "\N{MINUS SIGN}")


def levels(history):
    """(density, accuracy) of each level after the last round, where a run has several."""
    row = history.rounds[-1] if history.rounds else None
    if row is None or row.accuracy_by_level is None or row.densities is None:
        return []
    if not 1 < len(row.densities) == len(row.accuracy_by_level):
        return []
    return list(zip(row.densities, row.accuracy_by_level, strict=True))
