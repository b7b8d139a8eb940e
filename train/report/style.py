"""How figures look, and how one becomes part of a page: an SVG element whose colours follow the page's.

Series are told apart three times over, by a colour of Okabe and Ito's palette (distinct for all common kinds of colour
blindness: "Color Universal Design", 2008), by a marker and by a dash pattern.
"""

import contextlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b2026", "#5b646d", "#d7dce1", "#fefffe"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖"}  # matplotlib's name, in text
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
WIDTH = 4.6  # inches; narrow enough that a phone shows text at four fifths of its size
SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.dpi": 200,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a class's name starts no formula
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedgate",  # the same runs give the same page
}
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"series-{i}" for i, colour in enumerate(COLOURS)
}


@dataclass(frozen=True)
class Plot:
    """A figure with its words. name: of its files, safe in any file system. alt: what a reader sees who cannot see."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@contextlib.contextmanager
def styled():
    """Everything that makes or writes a figure runs in here; the user's own matplotlibrc does not count."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that DejaVu lacks is drawn by the browser
        matplotlib.rcParams.update({k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")})
        matplotlib.rcParams.update(SETTINGS)
        yield


def line_style(index):
    """matplotlib's arguments for the line of run number `index`."""
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    return {"color": colour, "linestyle": dash, "marker": tuple(MARKERS)[index % len(MARKERS)]}


def symbol(index):
    """Run number `index` in text: (marker character, name of its colour's variable)."""
    return tuple(MARKERS.values())[index % len(MARKERS)], f"series-{index % len(COLOURS)}"


def svg_bytes(figure):
    """A figure as an SVG file, the same bytes for the same figure."""
    with io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def png_bytes(figure):
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()


def inline_svg(svg, name, alt):
    """An SVG file of matplotlib's as an element of a page.

    Ids get the figure's name in front, so that figures do not share them; colours become the page's variables; and
    nothing names an address of the network, not even a namespace, which HTML does not need.
    """
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = local(element.tag)
        attributes = {local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href" and value.startswith("#"):
                value = f"#{name}-{value[1:]}"
            elif key == "clip-path":
                value = value.replace("url(#", f"url(#{name}-")
            elif key == "style":
                value = re.sub("#[0-9a-f]{6}", variable, re.sub(r"font-family: [^;]*;?", "", value))
            element.set(key, value)
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    width = float(root.get("viewBox").split()[2])
    root.attrib = {
        "viewBox": root.get("viewBox"),
        "role": "img",
        "aria-label": alt,
        "style": f"max-width: {1.3 * width / 72 * 96:.0f}px",
    }
    return Markup(ET.tostring(root, encoding="unicode"))  # a serialised tree: all its text is escaped


def local(name):
    """A tag's or attribute's name without its namespace."""
    return name.rpartition("}")[2]


def variable(match):
    name = VARIABLES.get(match[0])
    return f"var(--{name})" if name else match[0]
