"""Numbers as people read them."""

UNITS = {
    "bytes": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1)),
    "seconds": (("h", 3600), ("min", 60), ("s", 1)),
    "macs": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)),
}


def scale_of(largest, kind):
    """The unit in which the largest of some quantities is at least 1: (name, how many of the smallest unit it is).

    Times stay in the smaller unit up to two of the larger: 90 s.
    """
    least = 2 if kind == "seconds" else 1
    return next((unit for unit in UNITS[kind] if largest >= least * unit[1]), UNITS[kind][-1])


def quantity(value, kind):
    """Three significant digits and a unit: 2050096 bytes -> "2.05 MB"."""
    unit, factor = scale_of(value, kind)
    shown = value / factor
    if factor == 1:
        text = f"{shown:,.0f}"
    else:
        text = f"{shown:,.2f}" if shown < 10 else f"{shown:,.1f}" if shown < 100 else f"{shown:,.0f}"
    return f"{text} {unit}".strip()


def percent(fraction, digits=2):
    """0.98888 -> "98.89 %", without zeros at the end."""
    text = f"{100 * fraction:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')} %" if digits and "." in text else f"{text} %"
