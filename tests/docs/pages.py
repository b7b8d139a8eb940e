"""The project's pages as tests read them: fenced blocks, commands, links, headings and code in the text."""

import functools
import re
import shlex
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "android_demo" / "README.md"]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")
SHELL = ("mkdir", "cp", "mv", "python")  # what else a page's reader types; python: a file that the page has shown


@dataclass(frozen=True)
class Block:
    """A fenced block: the language behind its fence, its text, and the line of the page that it begins at."""

    page: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command: the words behind the program's name, the file that its output goes to, and where it stands."""

    page: Path
    line: int
    program: str  # fedgate, make, a script such as benchmarks/levels.py or benchmarks/paper, or one of `SHELL`
    words: tuple[str, ...]
    output: str | None = None

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.program} {shlex.join(self.words)}"


@functools.cache
def blocks(page: Path) -> tuple[Block, ...]:
    text = page.read_text()
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in FENCE.finditer(text)
    )


@functools.cache
def prose(page: Path) -> str:
    """The page without its fenced blocks; lines are joined where a paragraph goes on, code in it too."""
    return re.sub(r"(?<=\S)\n *(?=[^\n|#*> -])", " ", FENCE.sub("\n", page.read_text()))


def inline_code(page: Path) -> list[str]:
    return CODE.findall(prose(page))


def commands(page: Path) -> list[Command]:
    """The commands of a page's fenced blocks in their order."""
    return [command for block in blocks(page) for command in block_commands(block)]


def block_commands(block: Block) -> list[Command]:
    """Those of a block; one with `$ ` lines has output in its others, one with a language is no shell's."""
    if block.language not in ("", "sh"):
        return []
    lines = re.sub(r"\\\n", lambda _: "  ", block.text).splitlines()
    if any(line.lstrip().startswith("$ ") for line in lines):
        lines = [line.lstrip()[2:] if line.lstrip().startswith("$ ") else "" for line in lines]
    at, found = block.line, []
    for text in lines:
        for part in re.split(r"&&|\|\|| \| |;", text):
            found += command(block.page, at, part)
        at += 1  # good enough to find it: a continued line counts once
    return found


def command(page: Path, line: int, text: str) -> list[Command]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return []
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)] if words[:1] != ["make"] else words
    output = None
    if ">" in words:
        words, output = words[: words.index(">")], words[words.index(">") + 1]
    program = words[0].removeprefix(".venv/bin/") if words else ""
    if program == "python" and words[1:] and words[1].startswith("benchmarks/"):
        return [Command(page, line, words[1], tuple(words[2:]), output)]
    return [Command(page, line, program, tuple(words[1:]), output)] if program in ("fedgate", "make", *SHELL) else []


def benchmarks() -> dict[str, tuple[str, ...]]:
    """The benchmarks that the pages show as commands: script -> its first command's words in front of its options."""
    found: dict[str, tuple[str, ...]] = {}
    for page in PAGES:
        for script, words in re.findall(r"`python (benchmarks/\w+(?:\.py)?)([^`\n]*)`", page.read_text()):
            found.setdefault(script, tuple(takewhile(lambda word: not word.startswith("-"), words.split())))
    return found


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@functools.cache
def anchors(page: Path) -> frozenset[str]:
    """What a link to a heading of the page may name, spelled as GitHub does it."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(r"(?m)^#+ (.+)$", FENCE.sub("\n", page.read_text())):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return frozenset(names)
