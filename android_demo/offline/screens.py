"""The app's screens as SVG: its layouts, strings and colours, with the shapes and numbers of a real run on the JVM.

`python -m offline screens BUNDLE PICTURES OUT` (pictures by class, to fine-tune on). Android draws widgets and breaks
lines in its own way: these pictures show what stands where, not how a phone's theme looks.
"""

import base64
import io
import json
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from fedgate.device_runtime.formats.bundle import load_bundle

from . import harness
from .app import MAIN
from .ops import operator_library

ANDROID = "{http://schemas.android.com/apk/res/android}"
WIDTH, MARGIN = 360, 16
GLYPH = 0.53  # of the font's size: the mean width of a letter
INKS = {
    "OPEN": "strip_open",
    "CLOSED": "strip_closed",
    "TEXT": "words",
    "FAINT": "faint",
    "FIRST": "chart_first",
    "SECOND": "chart_second",
}
ANCHORS = {"START": "start", "MIDDLE": "middle", "END": "end"}


def draw(bundle: Path, pictures: Path, out: Path) -> list[Path]:
    """Run the app's core on a bundle, and write what its screens then show into the folder `out`."""
    with tempfile.TemporaryDirectory(prefix="screens-") as work:
        kernel = operator_library("x86_64")
        main = "org.fedgate.harness.Screens"
        shown = json.loads(harness.run(main, str(bundle), str(pictures), f"{work}/tuned", str(kernel)))
    manifest = load_bundle(bundle).manifest
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, folder in (("classify", "values"), ("classify", "values-night"), ("bench", "values"), ("tune", "values")):
        path = out / f"{name}{'-night' if folder.endswith('night') else ''}.svg"
        path.write_text(Screen(folder, filled(shown, manifest)[name]).svg(name))
        written.append(path)
    return written


def filled(shown: dict, manifest) -> dict:
    """By screen, what its views show, by their id: words, rows, shapes, or False for a view that is gone."""
    classify, bench, tune = shown["classify"], shown["bench"], shown["tune"]
    level = classify["level"]
    shared = {"progress": False, "message": ""}
    return {
        "classify": shared
        | {"program": classify["program"], "level": level, "picture": picture(classify["image"], manifest)}
        | {"answer": classify["answer"], "probabilities": classify["probabilities"], "macs": classify["macs"]}
        | {"no_channels": False, "layers": classify["layers"]},
        "bench": shared
        | {"level": level, "threads": "1", "chart": bench["chart"], "rows": bench["rows"], "phone": bench["phone"]}
        | {"warnings": " ".join(bench["warnings"])},
        "tune": shared
        | {"data": "photos", "chart": tune["chart"], "rows": tune["rows"]}
        | {"notes": " ".join(tune["notes"]) or False},
    }


def picture(pixels: list[float], manifest) -> str:
    """A normalised image (C, H, W) as a data URI of a PNG."""
    _, channels, height, width = manifest.shape
    image = np.reshape(pixels, (channels, height, width)).transpose(1, 2, 0) * manifest.std + manifest.mean
    image = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8).repeat(3 // channels, axis=2))
    image = image.resize((160 * width // height, 160), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def values(folder: str) -> dict[str, dict[str, str]]:
    """{type: {name: text}} of res/values, and over it those of `folder`."""
    found: dict[str, dict[str, str]] = {}
    for place in ("values", folder):
        for path in sorted((MAIN / "res" / place).glob("*.xml")):
            for item in ElementTree.parse(path).getroot():
                found.setdefault(item.tag, {})[item.get("name")] = item.text or ""
    return found


class Screen:
    """One screen. Each method places a view with its top at y, and returns the height that it takes."""

    def __init__(self, folder: str, shown: dict):
        self.values = values(folder)
        self.shown = shown
        self.parts: list[str] = []

    def svg(self, layout: str) -> str:
        height = self.place(self.layout(layout), 0, 0, WIDTH) + MARGIN
        size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
        back = f'<rect width="100%" height="100%" fill="{self.colour("background")}"/>'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Roboto, sans-serif">'
        return "\n".join([head, back, *self.parts, "</svg>\n"])

    def layout(self, name: str):
        return ElementTree.parse(MAIN / "res" / "layout" / f"{name}.xml").getroot()

    def colour(self, name: str) -> str:
        return "#" + self.values["color"][name][3:]

    def words(self, value) -> str:
        """A string resource [name, arguments...] or "@string/name", filled in; any other text as it is."""
        if isinstance(value, list):
            name, *rest = value
            return self.fill(self.values["string"][name], [self.words(one) for one in rest])
        found = re.fullmatch(r"@string/(\w+)", str(value))
        return self.fill(self.values["string"][found[1]], []) if found else str(value)

    @staticmethod
    def fill(text: str, arguments: list[str]) -> str:
        text = re.sub(r"%(\d)\$[a-z]", lambda place: arguments[int(place[1]) - 1], text)
        return text.replace("\\n", "\n")

    def place(self, node, x: float, y: float, width: float) -> float:
        if node.tag == "include":
            return self.place(self.layout(node.get("layout").partition("/")[2]), x, y, width)
        shown = self.shown.get(node.get(ANDROID + "id", "").partition("/")[2])
        if shown is False:
            return 0
        style = (node.get("style") or "").partition("/")[2]
        if node.tag == "ScrollView":
            return self.place(node[0], x, y, width)
        if node.tag == "LinearLayout":
            if shown is not None:
                return self.rows(shown, x, y, width)
            inner = MARGIN if style == "Page" else 0
            if node.get(ANDROID + "orientation") == "horizontal":
                each = width / len(node)
                return max(self.place(child, x + i * each, y, each) for i, child in enumerate(node))
            height = inner
            for child in node:
                height += self.place(child, x + inner, y + height, width - 2 * inner)
            return height + inner
        return self.view(node, style, shown, x, y, width)

    def view(self, node, style: str, shown, x: float, y: float, width: float) -> float:
        if node.tag.endswith("ChartView"):
            self.shapes(shown, x, y + 8)
            return 16 + max(point for shape in shown for point in heights(shape))
        if node.tag == "ImageView":
            self.parts.append(f'<image x="{x:g}" y="{y + 8:g}" height="160" href="{shown}"/>')
            return 168
        text = self.words(shown if shown is not None else node.get(ANDROID + "text", ""))
        if node.tag in ("Button", "Spinner", "EditText"):
            return self.field(node.tag, text, x, y, width)
        if not text:
            return 0
        if style == "Heading":
            return 24 + self.text(text, x, y + 20, width, 18, "words", "bold")
        return 4 + self.text(text, x, y + 4, width, 15, "warning" if "textColor" in str(node.attrib) else "words")

    def field(self, kind: str, text: str, x: float, y: float, width: float) -> float:
        if kind == "Button":
            box = f'x="{x + 2:g}" y="{y + 6:g}" width="{width - 4:g}" height="36" rx="4"'
            self.parts.append(f'<rect {box} fill="{self.colour("faint")}"/>')
            self.line(text.upper(), x + width / 2, y + 29, 13, "words", "middle")
        else:
            self.line(text + ("  ▾" if kind == "Spinner" else ""), x + 8, y + 28, 15, "words")
            ends = f'x1="{x:g}" x2="{x + width:g}" y1="{y + 40:g}" y2="{y + 40:g}"'
            self.parts.append(f'<line {ends} stroke="{self.colour("faint")}"/>')
        return 48

    def rows(self, rows: list, x: float, y: float, width: float) -> float:
        height = 0.0
        for row in rows:
            if isinstance(row, dict):  # a layer, row_layer.xml
                height += 10 + self.text(self.words(row["name"]), x, y + height + 10, width, 15, "words")
                self.shapes(row["strip"], x, y + height)
                height += 24
                continue
            name = self.values["string"].get(row[0]) if isinstance(row[0], str) else self.words(row[0])
            left = self.text(name or row[0], x, y + height, width * 0.4, 15, "words")
            right = self.text(self.words(row[1]), x + width * 0.4, y + height, width * 0.6, 15, "words")
            height += max(28, left, right)
        return height

    def text(self, text: str, x: float, y: float, width: float, size: float, ink: str, weight: str = "normal") -> float:
        """Words that break at the width; returns their height."""
        lines, most = [], max(1, int(width / (GLYPH * size)))
        for paragraph in text.split("\n"):
            line = ""
            for word in paragraph.split(" "):
                if line and len(line) + 1 + len(word) > most:
                    lines.append(line)
                    line = word
                else:
                    line = f"{line} {word}" if line else word
            lines.append(line)
        for index, line in enumerate(lines):
            self.line(line, x, y + size * (1 + 1.25 * index), size, ink, "start", weight)
        return size * 1.25 * len(lines) + 2

    def line(self, text: str, x: float, y: float, size: float, ink: str, anchor="start", weight="normal") -> None:
        look = f'font-size="{size:g}" fill="{self.colour(ink)}" text-anchor="{anchor}" font-weight="{weight}"'
        self.parts.append(f'<text x="{x:g}" y="{y:g}" {look}>{escape(text)}</text>')

    def shapes(self, shapes: list, x: float, y: float) -> None:
        """Shapes as org.fedgate.draw made them, 1 pixel a dp."""
        self.parts.append(f'<g transform="translate({x:g} {y:g})">')
        for kind, *rest in shapes:
            colour = self.colour(INKS[rest[-1]])
            if kind == "box":
                left, top, right, bottom = rest[:4]
                box = f'x="{left:.5g}" y="{top:.5g}" width="{right - left:.5g}" height="{bottom - top:.5g}"'
                self.parts.append(f'<rect {box} fill="{colour}"/>')
            elif kind == "line":
                points = " ".join(f"{value:.5g}" for value in rest[0])
                look = f'fill="none" stroke="{colour}" stroke-width="{rest[1]:g}"'
                self.parts.append(f'<polyline points="{points}" {look}/>')
            else:
                text, left, base, size, align = rest[:5]
                look = f'font-size="{size:g}" fill="{colour}" text-anchor="{ANCHORS[align]}"'
                self.parts.append(f'<text x="{left:.5g}" y="{base:.5g}" {look}>{escape(text)}</text>')
        self.parts.append("</g>")


def heights(shape: list) -> list[float]:
    kind, *rest = shape
    return {"box": lambda: [rest[3]], "line": lambda: rest[0][1::2], "words": lambda: [rest[2]]}[kind]()
