"""Figures in prose that look measured: they belong into a table that is made of a result, or are settings."""

import re

UNITS = (
    *("%", "kB", "MB", "GB", "bytes", "ms", "s", "seconds", "minutes", "microseconds", "points", "times", "cycles"),
    *("million", "GMAC/s", "images", "instructions", "CPU seconds"),
)
UNIT = rf"\s?(?:{'|'.join(UNITS)})(?![\w/])"
# A decimal (1.41 or 1.41x, but not 1.4.1), one in scientific notation, or a number with a unit.
MEASURED = re.compile(rf"(?<![\w.,:/-])[-+]?\d[\d,]*(?:\.\d+(?={UNIT}|x?(?!\.?\d|\w))|(?:\.\d+)?e-?\d+|(?={UNIT}))")
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", re.DOTALL)

# What is set, not measured: regular expressions of prose, in which code and links are blank.
SETTINGS = (
    # names and versions
    r"arXiv [\d.]+",
    r"(Python|OpenSSH|Gradle|AGP|Kotlin|Since) [\d.]+",
    r"ExecuTorch 1\.4",
    r"(Ray simulation \(|extra\s+, )1\.41",  # Flower's
    # what a command is told, or assumes
    r"\bdensity\s+\d\.\d+(, \d\.\d+)*",
    r"falls from 1 to [\d.]+",
    r"\d+ Mbit/s with \d+ ms each way and \d+ % loss",
    r"\(\s+, \d+ s\)",  # an option's default
    r"speed 1 trains at 1e9 multiply-adds",
    r"[\d,]+ images(?! (a|per) )",
    r"a variance within a factor of 1\.5",
    # what others report
    r"The paper reports \d+ % fewer bytes",
    # formats
    r"0x\w+ = \d+ bytes",
    r"as 8 bytes",
    # what is fetched, built or made: sizes that change with the packages
    r"\d+ MB(, in about a minute| to fetch| once| \(arm64-v8a\)| \(x86_64\))",
    r"root of \d+ MB",
    r"no more than 40 MB",
    # a tutorial's example
    r"The faint digits were recognised in [\d.]+ % of the cases before, and in [\d.]+ % after",
)


def unsourced(text, settings=SETTINGS):
    """What looks measured in a page's prose and in no setting: [(line, figure, the whole line)]."""
    prose = NOT_PROSE.sub(lambda match: blank(match[0]), text)
    spans = [match.span() for setting in settings for match in re.finditer(setting, prose)]
    alone = []
    for match in MEASURED.finditer(prose):
        if not any(start <= match.start() and match.end() <= end for start, end in spans):
            line = text.count("\n", 0, match.start())
            alone.append((line + 1, match[0], text.splitlines()[line].strip()))
    return alone


def blank(text):
    """As many spaces, with the line ends as they are."""
    return re.sub(r"[^\n]", " ", text)
