"""Keep the figures of README and docs/ equal to the results that lie in benchmarks/results/.

figures/ says which sentence or table takes which figures from which result. Without an option the figures are written
into the pages, and the commands into the table of them; --check changes nothing and fails where a page and a result
differ, where a phrase stands in no page, where something that looks measured stands in no phrase, and where a result is
used by none.

    python benchmarks/train_step.py --json benchmarks/results/train_step.json
    python benchmarks/readme.py
"""

import re
import sys
from pathlib import Path

import click
import figures
from figures.settings import SETTINGS
from phrases import Phrase, corrected, places, unsourced
from result_file import RESULTS, read_result

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/*.md", "android_demo/README.md")
WRITTEN = "options.md"  # by the declarations of the options, whose numbers no measurement gives
COMMANDS = re.compile(r"(\| result \| command \|\n\|---\|---\|\n)(?:\|.*\n)*")  # a table of one line a result


def all_phrases():
    """[(names of its results, Phrase)], of the results that are there; [what is missing]."""
    found, wrong, used = [], [], set()
    for names, function in figures.registered().items():
        used |= set(names)
        missing = [name for name in names if not (RESULTS / f"{name}.json").is_file()]
        if missing:
            wrong.append(f"{function.__module__}.{function.__name__}: no benchmarks/results/{missing[0]}.json")
            continue
        made = function(*(read_result(RESULTS / f"{name}.json") for name in names))
        found += [(", ".join(names), Phrase(" ".join(template.split()), values)) for template, *values in made]
    unused = sorted({path.stem for path in RESULTS.glob("*.json")} - used)
    return found, [*wrong, *(f"benchmarks/results/{name}.json: no page takes a figure from it" for name in unused)]


def command_lines():
    """The table of commands: a line for each result."""
    return "".join(
        f"| [{path.stem}](../benchmarks/results/{path.name}) | `{read_result(path)[0]['command']}` |\n"
        for path in sorted(RESULTS.glob("*.json"))
    )


def compare(pages, phrases):
    """(corrected pages, [what is wrong]); pages: path -> text; phrases: [(names of results, Phrase)]."""
    wrong, better, lines = [], {}, command_lines()
    stands = {name: [(source, phrase, place) for source, phrase in phrases for place in places(phrase, text)]
              for name, text in pages.items()}  # fmt: skip
    for source, phrase in phrases:
        if not any(phrase is other for there in stands.values() for _, other, _ in there):
            wrong.append(f"{source}: no page says '{phrase}'")
    for name, there in stands.items():
        text = pages[name]
        for source, phrase, place in there:
            if place.wrong(text):
                said = re.sub(r"\s+", " ", text[slice(*place.span)])
                wrong.append(f"{name} says '{said}'; {source} has '{phrase}'")
        figured = corrected(text, [place for *_, place in there])
        better[name] = COMMANDS.sub(lambda match: match[1] + lines, figured)
        if any(match[0] != match[1] + lines for match in COMMANDS.finditer(text)):
            wrong.append(f"{name}: the table of commands is not that of the results")
        for line, figure, whole in unsourced(text, [place for *_, place in there], SETTINGS):
            wrong.append(f"{name}:{line}: {figure} has no source: {whole[:100]}")
    return better, wrong


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail where pages and results differ.")
def main(check):
    """Write the figures of benchmarks/results/ into README and docs/."""
    paths = [path for pattern in PAGES for path in sorted(REPOSITORY.glob(pattern)) if path.name != WRITTEN]
    pages = {str(path.relative_to(REPOSITORY)): path.read_text() for path in paths}
    phrases, wrong = all_phrases()
    better, more = compare(pages, phrases)
    if not check:
        for name, text in better.items():
            if text != pages[name]:
                (REPOSITORY / name).write_text(text)
                click.echo(f"{name}: figures written")
        more = compare(better, phrases)[1]
    for line in [*wrong, *more]:
        click.echo(line, err=True)
    sys.exit(bool(wrong or more))


if __name__ == "__main__":
    main()
