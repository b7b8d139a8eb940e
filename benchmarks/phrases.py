"""Phrases with figures, found in pages: whether a page has them as they should be, and which figures have no source."""

import re
from string import Formatter
from typing import NamedTuple

FIGURE = r"\*{0,2}([^\s|*]*[^\s|*.,;:()])\*{0,2}"
UNITS = (
    *("%", "kB", "MB", "GB", "bytes", "ms", "s", "seconds", "minutes", "microseconds", "points", "times", "cycles"),
    *("million", "GMAC/s", "images", "instructions", "CPU seconds"),
)
# What a measurement looks like: a decimal (1.41 but not 1.4.1), or a number with a unit.
MEASURED = re.compile(
    rf"(?<![\w.,:/-])[-+]?\d[\d,]*(?:\.\d+(?!\.?\d|\w)|(?:\.\d+)?e-?\d+|(?=\s(?:{'|'.join(UNITS)})(?![\w/])))"
)
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", re.DOTALL)


class Phrase(NamedTuple):
    """template: text with str.format's places; figures: what belongs there."""

    template: str
    figures: tuple

    @property
    def rendered(self):
        """The texts of the figures."""
        places = [spec for _, place, spec, _ in Formatter().parse(self.template) if place is not None]
        return [format(figure, spec) for figure, spec in zip(self.figures, places, strict=True)]

    @property
    def pattern(self):
        """What the phrase looks like in a page, whatever its figures are."""
        parts = []
        for literal, place, _, _ in Formatter().parse(self.template):
            words = re.split(r"\s+", literal)
            parts.append(r"\s+".join(map(re.escape, words)) + (FIGURE if place is not None else ""))
        return re.compile("".join(parts) + r"(?!\w)")

    def __str__(self):
        return " ".join(self.template.format(*self.figures).split())


class Place(NamedTuple):
    """Where a phrase stands in a page: its span, and by figure (start, end, the text that should be there)."""

    span: tuple[int, int]
    figures: list[tuple[int, int, str]]

    def wrong(self, text):
        """The figures that are not what they should be."""
        return [found for found in self.figures if text[found[0] : found[1]] != found[2]]


def places(phrase, text):
    """Where a phrase stands in a page, with any figures."""
    found = []
    for match in phrase.pattern.finditer(text):
        spans = [match.span(group + 1) for group in range(len(phrase.rendered))]
        found.append(Place(match.span(), [(*span, right) for span, right in zip(spans, phrase.rendered, strict=True)]))
    return found


def corrected(text, found):
    """The text with every figure of some places as it should be; columns of a listing keep their ends."""
    wrong = {figure for place in found for figure in place.wrong(text)}
    for start, end, right in sorted(wrong, reverse=True):
        before = text[:start]
        column = len(before) - len(before.rstrip(" "))
        if column > 1:  # right-aligned, at least one space behind the column before
            before = before.rstrip(" ") + " " * max(1, column + (end - start) - len(right))
        text = before + right + text[end:]
    return text


def unsourced(text, found, settings):
    """What looks measured in a page's prose and tables and stands in no phrase and in no setting: [(line, text)].

    settings: regular expressions of what is chosen, not measured.
    """
    prose = NOT_PROSE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    spans = [place.span for place in found]
    spans += [match.span() for setting in settings for match in re.finditer(setting, prose)]
    alone = []
    for match in MEASURED.finditer(prose):
        if not any(start <= match.start() and match.end() <= end for start, end in spans):
            line = text.count("\n", 0, match.start())
            alone.append((line + 1, match[0], text.splitlines()[line].strip()))
    return alone
