"""From options as they are given to a configuration, and back from the text that a run directory holds."""

import dataclasses
import json
import typing
from pathlib import Path

from fedgate.device_runtime.errors import UsageError, choose

from .checks import check
from .options import TrainConfig
from .values import parse_capacity

# Where JSON's type is another than the field's.
JSON_KINDS = {
    float: int | float,
    float | None: int | float | None,
    tuple[float, ...]: list,
    tuple[float, ...] | None: list,
}


def resolve(**options):
    """The `TrainConfig` of some options; the others have their defaults. Raises `UsageError`.

    gate and density follow from each other. Paths become absolute, as a resumed run must find the user's files from any
    folder; `data` is one where such a file is there.
    """
    config = TrainConfig(**options)
    made = {}
    capacities = () if config.capacity is None else tuple(density for density, _ in parse_capacity(config.capacity))
    gate, density = config.gate, config.density
    if gate is None:  # a slim network is as good as gates that nobody asked for (docs/measured.md)
        gate = "none" if density is None and not capacities else "paper"
    if density is None:
        density = capacities or ((1.0,) if gate in ("none", "scale") else (0.5,))
    made |= {"gate": gate, "density": tuple(float(each) for each in density)}
    for capacity in capacities:
        choose("density of --capacity", f"{capacity:g}", [f"{each:g}" for each in made["density"]])
    if ":" in config.model:
        made["model"] = str(Path(config.model).absolute())
    if config.data != "digits" and Path(config.data).expanduser().exists():
        made["data"] = absolute(config.data)
    made |= {
        name: absolute(path)
        for name in ("inbox", "base", "init", "teacher")
        if (path := getattr(config, name)) is not None
    }
    if config.trainable != "all":
        made["density_schedule"] = 0.0  # a trunk is tied to its densities
    config = dataclasses.replace(config, **made)
    check(config)
    return config


def absolute(path):
    return str(Path(path).expanduser().absolute())


def changed(config, **options):
    """A configuration with some options given anew."""
    return resolve(**dataclasses.asdict(config) | options)


def read_config(text):
    """The inverse of `TrainConfig.to_json`; anything else is a `UsageError`.

    An option that is missing, as it was added to fedgate after the text was written, has its default. One that is
    unknown, of a later fedgate, is refused.
    """
    try:
        fields = json.loads(text)
        kinds = typing.get_type_hints(TrainConfig)
        if not isinstance(fields, dict):
            raise TypeError("it is no object")
        if unknown := sorted(fields.keys() - kinds.keys()):
            raise UsageError(f"the configuration has unknown options: {', '.join(unknown)}")
        for name, value in fields.items():
            if not isinstance(value, JSON_KINDS.get(kinds[name], kinds[name])):
                raise TypeError(f"{name} is {value!r}")
        return resolve(**fields)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the configuration is damaged: {error}") from error
