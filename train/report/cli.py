"""`fedgate report`."""

import json

import click


@click.command(short_help="Compare runs on one HTML page.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(), metavar="RUN...")
@click.option("--out", type=click.Path(), default="report.html", show_default=True, metavar="FILE", help="The page.")
@click.option("--figures", type=click.Path(), metavar="DIR", help="Also write each figure there, as SVG and PNG.")
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="ACCURACY",
    help="Rounds and bytes are counted up to it.  [a point below the first run's best]",
)
@click.option(
    "--evaluate/--no-evaluate",
    "evaluated",
    default=True,
    show_default=True,
    help="Run the models on their test sets, for accuracy by client and channels by class.",
)
@click.option("--own-code", is_flag=True, help="Execute the FILE.py of a run's --model too: only for runs you trust.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
def report(runs, out, figures, target, evaluated, own_code, as_json):
    """Compare runs on one self-contained HTML page: accuracy against rounds, bytes and simulated time, accuracy by
    client, classes by client and by channel, density, mask overlap, bytes a round, and how the runs' options differ.

    The page needs no network and no script. Runs that are still going are shown as far as they are.

    \b
    Example:
      fedgate report runs/dense runs/gated --target 0.95 --out report.html
    """
    from .command import print_summaries, write_report

    result = write_report(runs, out, figures, target, evaluated, own_code)
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_summaries(result)
