"""A report's page, read back with an HTML parser, and the rows that it is made of."""

import json
from html.parser import HTMLParser
from pathlib import Path

from fedgate.train.report.command import write_report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What stands in a page: elements, ids, addresses, texts, and the numbers of each table row of the summary."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.rows = [], [], [], []
        self.text = Path(path).read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()
        assert self.open == [], "unbalanced elements"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "data":
            self.rows[-1].append(float(attributes["value"]))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if text.strip() and self.open[-1] != "style":
            self.texts.append(text.strip())

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def figures(self):
        return [attributes["id"] for attributes in self.all("figure")]

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


def round_rows(run):
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["client"] is None]


def shown(path, *runs, **options):
    options = {"evaluated": False} | options
    write_report(runs, path / "page.html", **options)
    return Page(path / "page.html")
