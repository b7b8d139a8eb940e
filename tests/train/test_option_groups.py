import re

import click
from click.testing import CliRunner

from fedgate.train.cli import train
from fedgate.train.config.command import GroupedCommand, heading


@click.command(cls=GroupedCommand)
@heading("Fruit")
@click.option("--apple", help="Red.")
@click.option("--pear", help="Green.")
@heading("Vehicles")
@click.option("--bicycle", help="Two wheels.")
def example(**_):
    """An example."""


def test_options_stand_under_the_heading_above_them():
    shown = CliRunner().invoke(example, ["--help"]).output
    sections = re.sub(" +", " ", shown).partition("Fruit:\n")[2]
    assert sections.splitlines() == [
        " --apple TEXT Red.",
        " --pear TEXT Green.",
        " --help Show this message and exit.",
        "",
        "Vehicles:",
        " --bicycle TEXT Two wheels.",
    ]
    texts = [re.search(r"(Red|Green|Two wheels)\.", line) for line in shown.splitlines()]
    assert len({text.start() for text in texts if text}) == 1  # one column


def test_every_option_of_train_has_a_heading():
    assert {option.name for option in train.params if not hasattr(option, "heading")} == set()
    headings = [option.heading for option in train.params]
    assert len(set(headings)) >= 4
    shown = CliRunner().invoke(train, ["--help"]).output
    assert all(max(map(len, shown.split(f"\n{title}:\n")[1].split("\n\n")[0].splitlines())) <= 80 for title in headings)
