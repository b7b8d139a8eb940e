"""What the pages and --help say exists: commands, options, files, links and anchors."""

import re
import shlex

import click
import pytest
from options import all_options, command_tree, option_names, parse_problem, resolve, script_options
from pages import PAGES, ROOT, SHELL, anchors, commands, inline_code, links

TOP = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"build", "runs"}
MADE = re.compile(r"build/|runs/|.*/NAME\b")  # what commands and users make
ids = [str(page.relative_to(ROOT)) for page in PAGES]
pages = pytest.mark.parametrize("page", PAGES, ids=ids)


@pages
def test_links_and_their_anchors_exist(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pages
def test_files_named_in_the_text_exist(page):
    named = [code for code in inline_code(page) if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)+/?", code) and "..." not in code]
    folders = [ROOT, page.parent]
    ours = [name for name in named if name.split("/")[0] in TOP | {p.name for p in page.parent.iterdir()}]
    missing = [
        name for name in ours if not MADE.match(name) and not any(any(f.glob(name.rstrip("/"))) for f in folders)
    ]
    assert not missing


@pages
def test_commands_of_fenced_blocks_are_taken_by_the_command_line(page):
    problems = []
    for command in commands(page):
        if command.program == "fedgate":
            problem = parse_problem(command.words)
        elif command.program == "make":
            targets = re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text())
            unknown = [word for word in command.words if "=" not in word and word not in targets]
            problem = f"no target {unknown}" if unknown else None
        elif command.program in SHELL:
            continue
        else:
            unknown = [w for w in command.words if w.startswith("--") and w not in script_options(command.program)]
            problem = f"no option {unknown}" if unknown else None
        if problem:
            problems.append(f"{command}: {problem}")
    assert not problems


@pages
def test_commands_and_options_in_the_text_exist(page):
    assert not [f"{code}: {problem}" for code in inline_code(page) for problem in code_problems(code)]


@pytest.mark.parametrize("name", command_tree(), ids=lambda name: " ".join(name) or "fedgate")
def test_help_names_commands_and_options_that_exist(name):
    command = command_tree()[name]
    text = command.get_help(click.Context(command, info_name=" ".join(("fedgate", *name)), max_content_width=1000))
    examples = [line.strip() for line in text.splitlines() if line.startswith("    fedgate ")]
    problems = [(line, parse_problem(shlex.split(line, comments=True)[1:])) for line in map(until_redirect, examples)]
    assert not [found for found in problems if found[1]]
    assert not [option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text) if option not in all_options()]
    assert not [code for code in re.findall(r"`(fedgate [^`]+)`", text) if list(code_problems(code))]


def until_redirect(line):
    return line.partition(" > ")[0]


def code_problems(code):
    """What is wrong in a piece of code in the text; it may leave words out (`...`) and name several (`a|b`)."""
    code = code.replace("...", " ").strip().removeprefix("python ")
    words = code.split()
    options = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
    if code.startswith(("fedgate ", ".venv/bin/fedgate ")):
        for name in words[1].split("|"):
            found = resolve([name, *words[2:]])
            if found is None:
                yield f"no command {name}"
            else:
                known = option_names(found[0]) | {"--help"}
                yield from (f"{name} has no {option}" for option in options if option not in known)
    elif words and re.fullmatch(r"benchmarks/\w+(\.py)?", words[0]):
        if not ((ROOT / words[0]).is_file() or (ROOT / words[0] / "__main__.py").is_file()):
            yield "no such script"
        else:
            yield from (f"no {option}" for option in options if option not in script_options(words[0]))
    elif code.startswith("--"):
        yield from (f"no {option}" for option in options if option not in all_options())


@pytest.mark.parametrize("name", command_tree(), ids=lambda name: " ".join(name) or "fedgate")
def test_help_explains_every_option_and_shows_an_example(name):
    command = command_tree()[name]
    assert not [param.name for param in command.params if isinstance(param, click.Option) and not param.help]
    assert "Example:" in command.help
    below = [sub for words, sub in command_tree().items() if name and words[:-1] == name]
    assert not [text for text in (sub.get_short_help_str() for sub in below) if text.endswith("...")]
