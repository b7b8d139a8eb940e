"""Devices: ARM, memory, fine-tuning, training steps, other machines."""

from . import RUNTIMES, table, where


@table("arm", "inner_loops")
def arm(rows, loops):
    cpus = {"cortex-a72": "Cortex-A72", "cortex-a76": "Cortex-A76"}
    yield "", *cpus.values()
    for role in ("skip", "static", "slim"):
        counts = [where(rows, cpu=cpu, role=role)["ratio_to_dense"] for cpu in cpus]
        yield f"instructions of `{role}`, to dense", *(f"{count:.3f}" for count in counts)
    padded = [where(rows, cpu=cpu, role="skip")["fma_times_4_over_macs"] for cpu in cpus]
    yield "vector FMAs of `skip` x 4, to its executed MACs", *(f"{share:.3f}" for share in padded)
    tiles = [min(r["cycles"] for r in loops if (r["cpu"], r["vector_fma"]) == (cpu, 180)) for cpu in cpus]
    yield "cycles of the kernel's tile with 180 vector FMAs", *(f"{cycles:.1f}" for cycles in tiles)


@table("footprint")
def installed(rows):
    sizes = {row["name"].split()[0]: row for row in rows if row["kind"] == "installed"}
    whole, rest = sizes["all"]["installed_mb"], sizes["all"]["installed_mb"]
    yield "package", "MB"
    for name in ("numpy", "ai-edge-litert", "pillow"):
        rest -= sizes[name]["installed_mb"]
        yield name, f"{sizes[name]['installed_mb']:.0f}"
    yield "the rest", f"{rest:.0f}"
    yield "all", f"{whole:.0f}"
    yield "bytecode, without `--no-compile`", f"{sizes['all']['bytecode_mb']:.0f}"


@table("footprint")
def memory(rows):
    yield "what runs", "peak, MB", "without the emulator's, MB"
    for row in rows:
        if row["kind"] in ("program", "command"):
            name = f"a `{row['name']}` program" if row["kind"] == "program" else f"`fedgate {row['name']}`"
            yield name, f"{row['peak_rss_mb']:.0f}", f"{row['least_rss_mb']:.0f}"


@table("static_forms")
def static_forms(rows):
    yield "form", "to dense"
    forms = {"scatter": "a 1x1 scatter", "prefix": "zeros padded behind a prefix", "gather": "a gather"}
    for form, name in (forms | {"zero-rows": "zero rows"}).items():
        yield name, f"{where(rows, form=form)['ratio_to_dense']:.2f}"


@table("train_step")
def training_step(rows):
    yield "runtime", "to eager PyTorch"
    for row in rows:
        yield RUNTIMES[row["runtime"]], f"{row['ratio_to_eager']:.2f}"


@table("finetune")
def fine_tuning(rows):
    yield "what is trained", "classes", "before, %", "after, %", "masks as eager PyTorch's", "logits differ by at most"
    for row in rows:
        part = {"last-stage": "the last stage", "head": "the head alone"}[row["part"]]
        accuracies = [f"{100 * row[when]:.1f}" for when in ("before", "after")]
        same = f"{100 * row['same_masks']:.0f} % of the images"
        yield part, str(row["classes"]), *accuracies, same, f"{row['largest_difference']:.0e}"


@table("flower-few", "flower-many")
def rounds_over_flower(few, many):
    yield "nodes", "a round, s", "in the simulation, s", "longer by, s"
    for row in (*few, *many):
        seconds = [row[key] for key in ("seconds_per_round", "local_seconds", "overhead_seconds")]
        yield str(row["nodes"]), *(f"{each:.1f}" for each in seconds)


@table("flower-wire")
def bytes_over_flower(rows):
    row = where(rows, what="wire")
    yield "a node's bytes", ""
    yield "an update", f"{row['bytes_up'] / row['nodes'] / row['rounds'] / 1e3:.0f} kB"
    yield "Flower's own, a round", f"{row['overhead_bytes_per_node_round'] / 1e3:.0f} kB"
    yield "waiting, a second", f"{row['idle_bytes_per_node_second'] / 1e3:.1f} kB"
    yield "all on the wire, to those of `metrics.jsonl`", f"{row['ratio']:.2f}"


@table("flower-wire")
def seconds_over_a_link(rows):
    row = where(rows, what="link")
    training, assumed = row["training_seconds"], row["assumed_training_seconds"]
    yield "a round of 40 local epochs", "seconds"
    yield "measured", f"{row['seconds_per_round']:.1f}"
    yield "of which training", f"{training:.1f}"
    yield "by the simulated clock", f"{row['simulated_seconds']:.1f}"
    yield "of which training", f"{assumed:.1f}"
    yield "by the simulated clock, with the measured training", f"{row['simulated_seconds'] + training - assumed:.1f}"
