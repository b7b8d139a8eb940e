"""A user's own network: the file that builds it, the modules beside it that it imports, and their hashes."""

import contextlib
import importlib.util
import sys
from pathlib import Path

from torch import nn

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.storage import sha256_file

_entered = []  # (folder, files) of those that are being built


def is_own(model):
    """Whether a model's name is a user's own, FILE.py:FUNCTION."""
    return ":" in model


@contextlib.contextmanager
def own_code(model):
    """Let a user's FILE.py:FUNCTION import the modules beside it, as if Python ran it; for other models do nothing.

    Yields a dictionary, which at the end has the SHA-256 of FILE and of the modules beside it that it imported, by
    their path from its folder. Afterwards Python's path and modules are as they were.
    """
    files = {}
    path = Path(model.rpartition(":")[0]).absolute()
    if not is_own(model) or not path.is_file():
        yield files
        return
    folder = path.parent
    if _entered and _entered[-1][0] == folder:
        yield _entered[-1][1]
        return
    files[path.name] = sha256_file(path)
    before, written = dict(sys.modules), sys.dont_write_bytecode
    for name in [name for name, module in before.items() if is_strange(name, module, folder)]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # no caches in a user's folder, nor code from a stale one in a run's next process
    importlib.invalidate_caches()
    _entered.append((folder, files))
    try:
        yield files
    finally:
        _entered.pop()
        sys.dont_write_bytecode = written
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            found = beside(name, module, folder)
            if found is not None and before.get(name) is not module:
                files[str(found)] = sha256_file(folder / found)
                del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})


def beside(name, module, folder):
    """The path from a folder to the file of a module that was found in it, else None."""
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_relative_to(folder):
        return None
    found, top = Path(file).relative_to(folder), name.partition(".")[0]
    return found if found.parts[0] in (top, f"{top}.py") else None  # others lie in a .venv there


def is_strange(name, module, folder):
    """Whether a module would hide another one of its name in a folder; those that are installed do, as for Python."""
    top = name.partition(".")[0]
    if not ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
        return False
    file = getattr(module, "__file__", None)
    installed = top in sys.stdlib_module_names or file is None or file.startswith((sys.prefix, sys.base_prefix))
    return not installed and beside(name, module, folder) is None


def build_own(model, classes, shape):
    """Call the function of a user's file that builds a network; its own errors pass through as they are."""
    path, _, function = model.rpartition(":")
    spec = importlib.util.spec_from_file_location("fedgate_own_model", path)
    if spec is None or not Path(path).is_file():
        raise UsageError(f"no model '{model}': {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    with own_code(model):
        sys.modules[spec.name] = module  # where dataclasses look for the types that they name
        try:
            exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
            make = getattr(module, function, None)
            if not callable(make):
                raise UsageError(f"no model '{model}': {path} has no function '{function}'")
            network = make(classes, shape)
        finally:
            sys.modules.pop(spec.name, None)
    if not isinstance(network, nn.Module):
        raise UsageError(f"'{model}' returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def check_code(model, recorded):
    """Refuse a user's network whose files have changed since a run recorded their hashes; None: it recorded none."""
    if not is_own(model) or not recorded:
        return
    folder = Path(model.rpartition(":")[0]).absolute().parent
    for name, digest in recorded.items():
        path = folder / name
        if not path.is_file():
            raise FedgateError(f"{path} is gone, which this run's network was made of: put it back")
        if sha256_file(path) != digest:
            raise FedgateError(
                f"{path} has changed since this run began, and with it perhaps the network: put it back as it was, "
                "or train a new run"
            )
