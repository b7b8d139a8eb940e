"""Who may import whom, read from the code; and that the command line starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("device_runtime", "train", "export")
FILES = [path for folder in (*STAGES, "fedgate") for path in sorted((ROOT / folder).rglob("*.py"))]
ENGINES = {"executorch", "ai_edge_litert", "tflite_runtime", "onnxruntime"}
DEVICE = {"click", "numpy", "rich", "safetensors", "PIL"} | ENGINES
# which other parts of the package each may import; the door reaches the stages from inside functions alone
MAY_IMPORT = {
    "device_runtime": {"device_runtime"},
    "train": {"device_runtime", "train"},
    "export": {"device_runtime", "train", "export"},
    "fedgate": {"device_runtime", "train"},
}


def is_module(names):
    """Whether a dotted name, in parts, is a module or package of ours."""
    path = ROOT.joinpath(*(names[1:] if names[0] == "fedgate" and names[1] in STAGES else names))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path):
    """Every import of a file: (dotted name, whether it is a relative one, whether it runs on importing the file)."""
    stage = path.relative_to(ROOT).parts[0]
    package = ["fedgate", *path.relative_to(ROOT).parts[:-1]] if stage != "fedgate" else ["fedgate"]
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            for name in {alias.name if is_module([*module, alias.name]) else "" for alias in node.names}:
                yield ".".join([*module, name]).rstrip("."), node.level > 0, id(node) not in inside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rules(path):
    own = path.relative_to(ROOT).parts[0]
    for name, relative, at_import in imports(path):
        top, _, rest = name.partition(".")
        if top == "fedgate":
            part = rest.split(".")[0]
            if part in STAGES:
                assert part in MAY_IMPORT[own], f"{own} imports {name}"
                assert own != "fedgate" or not at_import, f"importing {path.name} imports {name}"
                assert relative or part != own, f"{name} of its own stage is not imported relatively"
        elif top not in sys.stdlib_module_names:
            if own == "device_runtime":
                wrapped = top == "torch" and path.name == "executorch.py" and not at_import  # its tensors are torch's
                assert top in DEVICE or wrapped, f"device_runtime imports {name}"
                assert top not in ENGINES or not at_import, f"importing {path.name} imports {name}"
            if own == "fedgate":
                assert top == "click" or not at_import, f"importing {path.name} imports {name}"


def imported_files():
    """By file, the files of the package that it imports, also from inside functions."""
    files = {}
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("fedgate", *parts) if parts[0] != "fedgate" else parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for path in FILES:
        names = {name for name, _, _ in imports(path)}
        found[path] = {files[name] for name in names if name in files and files[name] != path}
    return found


def circle(graph):
    """The nodes of one circle of a graph {node: nodes}, or an empty list: what is left when all others are dropped."""
    graph = dict(graph)
    while ends := [node for node, others in graph.items() if not others & graph.keys()]:
        for node in ends:
            del graph[node]
    return sorted(map(str, graph))


def test_no_files_import_one_another_in_a_circle():
    """Not from inside functions either."""
    found = imported_files()
    assert sum(map(len, found.values())) > 500
    assert circle({1: {2}, 2: {3}, 3: {2}, 4: set()}) == ["1", "2", "3"]
    assert circle(found) == []


@pytest.mark.parametrize("stage", STAGES)
def test_no_folders_import_one_another_in_a_circle(stage):
    """A folder directly below a stage counts as one; of the stage's own files each counts for itself."""
    graph = {}
    for path, others in imported_files().items():
        own, *rest = ("/".join(p.relative_to(ROOT).parts[:2]) for p in (path, *others))
        graph.setdefault(own, set()).update(set(rest) - {own})
    assert circle({node: others for node, others in graph.items() if node.startswith(stage)}) == []


@pytest.mark.parametrize(("stage", "most"), [("train", 8), ("device_runtime", 20)])
def test_a_stage_keeps_its_files_in_folders(stage, most):
    """The tree tells the story: what stands directly in a stage is what a reader meets first."""
    assert len(list((ROOT / stage).glob("*.py"))) <= most


def test_the_rules_read_what_is_there():
    """The checks above would pass on files that they do not understand."""
    found = {name for name, _, _ in imports(ROOT / "train" / "engines" / "loop.py")}
    assert {"torch", "fedgate.device_runtime.formats.update", "fedgate.train.local.client"} <= found
    later = {name for name, _, at_import in imports(ROOT / "device_runtime" / "cli.py") if not at_import}
    assert "fedgate.device_runtime.formats.bundle" in later and "json" not in later


@pytest.mark.parametrize(
    "module",
    ["fedgate", "fedgate.cli", "fedgate.train.cli", "fedgate.train.report.cli", "fedgate.export.cli", "fedgate.demo"],
)
def test_light_imports(module):
    code = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "datasets", "sklearn", "rich", *ENGINES} & set(done.stdout.split())


def test_no_file_of_tests_imports_another():
    """What two of them share stands in a module of its own."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    names = {path.stem for path in files if path.name.startswith("test_")}
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            parts = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            parts += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f"{path.name} imports {part}" for part in parts if part.partition(".")[0] in names]
    assert found == []
