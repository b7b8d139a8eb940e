"""The demo's closing table, and how long a newcomer waits for one."""

from . import of


@of("demo")
def demo(rows):
    lines, values = [], []
    for row in rows:
        if "program" in row:
            lines.append(f"{row['engine']} {row['program']} {{:.1f}} % {{:,}} {{:,}} {{:.3f}} {{:.2f}}")
            values += [row["accuracy_percent"], row["asked_macs"], row["executed_macs"], row["p50_ms"]]
            values.append(row["ratio_to_dense"])
        elif "mb_up" in row:
            lines.append(f"{row['training']} training sent {{:.1f}} MB up and {{:.1f}} MB down")
            values += [row["mb_up"], row["mb_down"]]
    yield "\n".join(lines), *values


@of("newcomer")
def newcomer(rows):
    minutes = {row["step"]: row["seconds"] / 60 for row in rows}
    yield (
        "took {:.0f} minutes, {:.0f} of them for installing",
        sum(minutes.values()),
        minutes["clone"] + minutes["setup"],
    )
