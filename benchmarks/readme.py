"""Write the tables of README and docs/ from the results that lie in benchmarks/results/.

A page says where a table stands, figures/ what is in it:

    <!-- table: training-step -->
    <!-- end -->

Without an option each is written between its markers, and so is the table of all results' commands. --check changes
nothing, and fails where a page's table is not what the results give, where a marker names no table, where a table
stands in no page, where a result is used by none, and where prose has a figure that looks measured (unsourced.py).

    python benchmarks/train_step.py --json benchmarks/results/train_step.json
    python benchmarks/readme.py
"""

import itertools
import re
import sys
from pathlib import Path

import click
import figures
from result_file import RESULTS, read_result
from unsourced import blank, unsourced

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/*.md", "android_demo/README.md")
WRITTEN = "options.md"  # by the declarations of the options, whose numbers no measurement gives
MARKED = re.compile(r"^<!-- (\w+): ([\w-]+) -->\n((?:(?!<!--).*\n)*?)<!-- end -->$", re.MULTILINE)
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def made_tables(folder=RESULTS):
    """({("table" or "listing", name): its Markdown}, [what is wrong]), from the results of a folder."""
    there = {path.stem: path for path in sorted(folder.glob("*.json"))}
    made, wrong, used = {("table", "commands"): commands(there.values())}, [], set()
    for (kind, name), (results, function) in figures.registered().items():
        used |= set(results)
        missing = [result for result in results if result not in there]
        if missing:
            wrong.append(f"{kind} {name}: there is no benchmarks/results/{missing[0]}.json")
        else:
            made[kind, name] = function(*(read_result(there[result]) for result in results))
    unused = sorted(there.keys() - used)
    return made, [*wrong, *(f"benchmarks/results/{name}.json: no table is made of it" for name in unused)]


def commands(paths):
    """A line for each result."""
    lines = [(f"[{p.stem}](../benchmarks/results/{p.name})", f"`{read_result(p)[0]['command']}`") for p in paths]
    return figures.as_table([("result", "command"), *lines])


def written(name, text, made):
    """(a page's text with every table as it is made, [what is wrong with the page as it is]); name: of the page."""
    wrong = []

    def put(match):
        kind, table, body = match.groups()
        right = made.get((kind, table))
        if right is None:
            known = ", ".join(sorted(table for known, table in made if known == kind)) or "table and listing are known"
            wrong.append(f"{place(name, text, match.start())}: there is no {kind} '{table}' ({known})")
            return match[0]
        if body != right:
            pairs = itertools.zip_longest(body.splitlines(), right.splitlines(), fillvalue="nothing")
            first = next(((there, here) for there, here in pairs if there != here), ("other line ends", "its own"))
            told = f"{first[0].strip()}\n    the results give {first[1].strip()}"
            wrong.append(f"{place(name, text, match.start())}: the {kind} '{table}' has {told}")
        return f"<!-- {kind}: {table} -->\n{right}<!-- end -->"

    better = MARKED.sub(put, text)
    prose = MARKED.sub(lambda match: blank(match[0]), text)
    for stray in re.finditer("<!--.*", FENCE.sub(lambda match: blank(match[0]), prose)):
        wrong.append(f"{place(name, text, stray.start())}: {stray[0]} is no marker with its end, each on its own line")
    for line, figure, whole in unsourced(prose):
        wrong.append(f"{name}:{line}: {figure} looks measured, so it belongs into a table: {whole[:100]}")
    return better, wrong


def place(name, text, at):
    return f"{name}:{text.count(chr(10), 0, at) + 1}"


def compare(pages, made):
    """({page: its text with every table as it is made}, [what is wrong]); pages: name -> text."""
    both = {name: written(name, text, made) for name, text in pages.items()}
    wrong = [line for _, lines in both.values() for line in lines]
    stands = {match.groups()[:2] for text in pages.values() for match in MARKED.finditer(text)}
    wrong += [f"no page has <!-- {kind}: {name} -->" for kind, name in made if (kind, name) not in stands]
    return {name: text for name, (text, _) in both.items()}, wrong


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail where pages and results differ.")
def main(check):
    """Write the tables of README and docs/ from benchmarks/results/."""
    paths = [path for pattern in PAGES for path in sorted(REPOSITORY.glob(pattern)) if path.name != WRITTEN]
    pages = {str(path.relative_to(REPOSITORY)): path.read_text() for path in paths}
    made, wrong = made_tables()
    better, more = compare(pages, made)
    if not check:
        for name, text in better.items():
            if text != pages[name]:
                (REPOSITORY / name).write_text(text)
                click.echo(f"{name}: tables written; read whether the text around them still holds")
        more = compare(better, made)[1]
    for line in [*wrong, *more]:
        click.echo(line, err=True)
    sys.exit(bool(wrong or more))


if __name__ == "__main__":
    main()
