"""What is inside a bundle, as one JSON object."""

from dataclasses import asdict

from .formats import macs
from .formats.bundle import Bundle


def summarise(bundle: Bundle) -> dict:
    """Model, programs, MACs by layer (dense, and nominal at each density), training, whose masks, salience scopes."""
    manifest = bundle.manifest
    dense = macs.dense(manifest.layers)
    nominal = [macs.nominal(manifest.layers, density) for density in manifest.densities]
    total = macs.total(dense)
    totals = [macs.total(counts) for counts in nominal]
    return {
        "model": manifest.model,
        "gate": manifest.gate,
        "width": manifest.width,
        "dataset": manifest.dataset,
        "labels": list(manifest.labels),
        "input": {
            "shape": list(manifest.shape),
            "mean": list(manifest.mean),
            "std": list(manifest.std),
            "background": list(manifest.background),
        },
        "densities": list(manifest.densities),
        "default_level": manifest.default_level,
        "programs": [asdict(program) for program in manifest.programs],
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "channels": [layer.in_channels, layer.out_channels],
                "gate": layer.gate,
                "dense_macs": dense[layer.name],
                "nominal_macs": [counts[layer.name] for counts in nominal],
            }
            for layer in manifest.layers
        ],
        "dense_macs": total,
        "nominal_macs": totals,
        "share_of_dense": [count / total if total else 1.0 for count in totals],
        "training": manifest.training,
        "masks": manifest.masks if any(program.role == "static" for program in manifest.programs) else None,
        "salience": {scope: record.samples.tolist() for scope, record in bundle.salience().items()},
    }
