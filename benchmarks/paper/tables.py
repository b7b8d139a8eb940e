"""What is printed: a table for each question, over the seeds."""

from paper.answers import over_seeds, percent

from fedgate.device_runtime.tables import share, table


def show(out, rows):
    """Print the tables of the questions that the rows answer."""
    for part, make in (("a", gap_table), ("b", bytes_table), ("c", accuracy_table), ("d", latency_table)):
        mine = [row for row in rows if row["part"] == part]
        if mine:
            out.print(make(mine))


def gap_table(rows):
    heads = ("test accuracy", "train - test", "lowest and highest of a client")
    made = table("arm", *heads, title="a: over-fitting", right=3)
    for arm, found in over_seeds(rows, "accuracy", "gap", "client_gap_low", "client_gap_high").items():
        clients = "{:.1f} to {:.1f} %".format(*(100 * found[f"client_gap_{end}"][0] for end in ("low", "high")))
        made.add_row(arm, percent(found["accuracy"]), percent(found["gap"]), clients)
    return made


def bytes_table(rows):
    heads = ("seed", "arm", "final accuracy", "MB a round", "points below", "rounds", "MB", "to dense FedAvg's")
    made = table(*heads, title="b: until dense FedAvg's accuracy", right=6)
    for row in sorted(rows, key=lambda row: (row["margin"], row["seed"])):
        there = row["rounds_to_target"] is not None
        made.add_row(
            str(row["seed"]),
            row["arm"],
            f"{100 * row['final_accuracy']:.1f} %",
            f"{row['bytes_a_round'] / 1e6:.2f}",
            f"{row['margin']:g}",
            str(row["rounds_to_target"]) if there else "never",
            f"{row['bytes'] / 1e6:.1f}" if there else "",
            f"{row['ratio_to_dense']:.2f}" if there else "",
        )
    return made


def accuracy_table(rows):
    heads = ("width", "MACs", "of dense", "accuracy", "mask overlap", "its static network")
    made = table("arm", *heads, title="c: accuracy against executed MACs", right=6)
    dense = over_seeds([row for row in rows if row["kind"] == "dense"], "macs")["dense"]["macs"][0]
    found = over_seeds(rows, "width", "macs", "accuracy", "mask_overlap", "static_accuracy")
    for arm, fields in found.items():
        made.add_row(
            arm,
            f"{fields['width'][0]:g}",
            f"{fields['macs'][0]:,.0f}",
            share(fields["macs"][0], dense),
            percent(fields["accuracy"]),
            f"{fields['mask_overlap'][0]:.2f}" if "mask_overlap" in fields else "",
            percent(fields["static_accuracy"]) if "static_accuracy" in fields else "",
        )
    return made


def latency_table(rows):
    heads = ("p50 ms", "ratio to dense (95 %)", "MACs executed", "accuracy", "on the front")
    made = table("runtime", "arm", "program", *heads, title="d: latency, MACs and accuracy", right=5)
    for row in rows:
        if row["reason"]:
            made.add_row(row["runtime"], row["arm"], row["role"], row["reason"])
            continue
        made.add_row(
            row["runtime"],
            row["arm"],
            row["role"],
            f"{row['p50_ms']:.3f}",
            "{ratio_to_dense:.3f} ({ratio_low:.3f} to {ratio_high:.3f})".format(**row),
            share(row["executed_macs"], row["dense_macs"]),
            f"{100 * row['accuracy']:.1f} %",
            "yes" if row["on_front"] else "",
        )
    for reason in dict.fromkeys(row["noise"] for row in rows if row["noisy"]):
        made.caption = f"too noisy to believe: {reason}"
    return made
