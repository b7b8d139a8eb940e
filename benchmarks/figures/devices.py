"""Phrases about devices: fine-tuning, training steps, ARM, memory, other machines."""

from . import of, where


@of("arm")
def arm(rows):
    cpus = ("cortex-a72", "cortex-a76")
    skip, static, slim = (
        [where(rows, cpu=cpu, role=role)["ratio_to_dense"] for cpu in cpus] for role in ("skip", "static", "slim")
    )
    yield (
        "to dense: `skip` {:.3f} (Cortex-A72) and {:.3f} (A76), `static` {:.3f} and {:.3f}, `slim` {:.3f} and {:.3f}",
        *(skip + static + slim),
    )
    padded = where(rows, cpu="cortex-a72", role="skip")["fma_times_4_over_macs"]
    yield "Vector FMAs are {:.3f} times the executed MACs / 4", padded


@of("inner_loops")
def inner_loops(rows):
    most, stand_in = (
        min(row["cycles"] for row in rows if row["cpu"] == cpu and row["vector_fma"] == 180)
        for cpu in ("cortex-a72", "cortex-a76")
    )
    yield (
        "takes {:.1f} cycles for 180 multiply-adds on a Cortex-A72 and {:.1f} on a Neoverse N1",
        most,
        stand_in,
    )


@of("footprint")
def footprint(rows):
    sizes = {row["name"].split()[0]: row for row in rows if row["kind"] == "installed"}
    three = [sizes[name]["installed_mb"] for name in ("numpy", "ai-edge-litert", "pillow")]
    whole = sizes["all"]["installed_mb"]
    yield (
        "That is {:.0f} MB: numpy {:.0f}, ai-edge-litert {:.0f}, Pillow {:.0f}, the rest {:.0f}",
        whole,
        *three,
        whole - sum(three),
    )
    yield "pip adds {:.0f} MB of bytecode", sizes["all"]["bytecode_mb"]
    programs = [row for row in rows if row["kind"] == "program"]
    commands = [where(rows, kind="command", name=name)["peak_rss_mb"] for name in ("verify", "predict")]
    least = [row["least_rss_mb"] for row in rows if row["kind"] in ("program", "command")]
    yield (
        "needs at most {:.0f} MB of memory, `verify` {:.0f} and `predict` {:.0f}, the emulator's own included; "
        "without what is the emulator's, {:.0f} to {:.0f}",
        max(row["peak_rss_mb"] for row in programs),
        *commands,
        min(least),
        max(least),
    )


@of("static_forms")
def static_forms(rows):
    forms = [where(rows, form=form)["ratio_to_dense"] for form in ("scatter", "prefix", "gather", "zero-rows")]
    yield "a 1x1 scatter {:.2f}, zeros padded behind a prefix {:.2f}, a gather {:.2f}, zero rows {:.2f}", *forms


@of("train_step")
def train_step(rows):
    litert, executorch = (where(rows, runtime=runtime)["ratio_to_eager"] for runtime in ("litert", "executorch"))
    yield "same step in eager PyTorch: LiteRT {:.2f}, ExecuTorch {:.2f}", litert, executorch


@of("finetune")
def finetune(rows):
    two, three = (where(rows, part="last-stage", classes=classes) for classes in (2, 3))
    yield (
        "{:.1f} to {:.1f} % (2 classes) and {:.1f} to {:.1f} % (3) with the last stage, "
        "to {:.1f} and {:.1f} % with the head alone",
        *(100 * row[when] for row in (two, three) for when in ("before", "after")),
        *(100 * where(rows, part="head", classes=classes)["after"] for classes in (2, 3)),
    )
    yield (
        "has eager PyTorch's masks on {:.0f} % of the images, and its logits to {:.0e}",
        100 * min(row["same_masks"] for row in rows),
        max(row["largest_difference"] for row in rows),
    )


@of("flower-few", "flower-many", "flower-wire")
def flower(few, many, wire):
    (four,), (forty,) = few, many
    yield (
        "a round with four nodes takes {:.1f} s longer than in the simulation ({:.1f} against {:.1f} s)",
        *(four[key] for key in ("overhead_seconds", "seconds_per_round", "local_seconds")),
    )
    yield (
        "with 40 nodes at once, as threads of one process, {:.1f} against {:.1f} s",
        forty["seconds_per_round"],
        forty["local_seconds"],
    )
    sent, link = wire
    yield (
        "{:.0f} kB for Flower, and {:.1f} kB for every second that it waits: {:.2f} times in all with updates of "
        "{:.0f} kB",
        sent["overhead_bytes_per_node_round"] / 1e3,
        sent["idle_bytes_per_node_second"] / 1e3,
        sent["ratio"],
        sent["bytes_up"] / sent["nodes"] / sent["rounds"] / 1e3,
    )
    yield (
        "a round of 40 local epochs took {:.1f} s, where the simulated clock says {:.1f} s; set to the training as it "
        "was measured in that round, {:.1f} s instead of {:.1f} s, it says {:.1f} s",
        link["seconds_per_round"],
        link["simulated_seconds"],
        link["training_seconds"],
        link["assumed_training_seconds"],
        link["simulated_seconds"] + link["training_seconds"] - link["assumed_training_seconds"],
    )
