"""The four commands as a user meets them."""

import json
import os
import subprocess
import sys

import pytest

from fedgate.cli import main

COMMANDS = ("inspect", "verify", "predict", "bench")


@pytest.fixture
def fedgate(capfd):
    """A function that runs the command line in this process and returns (status, stdout, stderr)."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        return caught.value.code, *capfd.readouterr()

    return run


def test_inspect(fedgate, bundle):
    status, out, err = fedgate("inspect", bundle.path)
    assert (status, err) == (0, "") and "308,856" in out and "0.344" in out and "litert-static1.tflite" in out
    status, out, err = fedgate("inspect", bundle.path, "--json")
    summary = json.loads(out)
    assert (status, err) == (0, "") and summary["nominal_macs"][1] == 106_364 and len(summary["programs"]) == 8
    assert summary["training"] == {"rounds": 3, "accuracy": 0.5, "algorithm": "fedavg"}


def test_verify(fedgate, bundle):
    status, out, err = fedgate("verify", bundle.path, "--json")
    assert (status, err) == (0, "") and {row["status"] for row in json.loads(out)["programs"]} == {"ok"}
    status, out, err = fedgate("verify", bundle.path, "--runtime", "litert")
    assert (status, err) == (0, "") and out.count(" ok ") == 4


def test_verify_of_a_mismatch_ends_with_one_line_and_status_1(fedgate, bundle, changed):
    swapped = changed(files={"onnx-dense.onnx": bundle.file("onnx-masked.onnx")})
    for options in ([], ["--json"]):
        status, out, err = fedgate("verify", swapped.path, "--runtime", "onnx", *options)
        assert status == 1 and "mismatch" in out and err.count("\n") == 1 and "onnx-dense.onnx" in err
        assert not options or json.loads(out)


def test_predict(fedgate, bundle, picture):
    status, out, err = fedgate("predict", bundle.path, picture, picture)
    assert (status, err) == (0, "") and out.count("picture.png: ") == 2 and "% of dense" in out and "█" in out
    status, out, err = fedgate("predict", bundle.path, picture, "--level", "0", "--json")
    assert (status, err) == (0, "") and json.loads(out)["density"] == 0.25
    status, out, err = fedgate("predict", bundle.path, bundle.path / "manifest.json")
    assert (status, out) == (1, "") and err.count("\n") == 1 and "not a picture" in err


def test_a_stream_that_takes_no_unicode(bundle, picture):
    named = picture.with_name("Kätzchen.png")
    named.write_bytes(picture.read_bytes())
    command = [sys.executable, "-m", "fedgate", "predict", bundle.path, named]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and not done.stderr
    assert b"K\\xe4tzchen.png" in done.stdout and done.stdout.isascii()


def test_bench(fedgate, bundle):
    status, out, err = fedgate("bench", bundle.path, "--runtime", "onnx", "--rounds", "12")
    assert (status, err) == (0, "") and "onnx-masked.onnx" in out and "12 rounds" in out
    status, out, err = fedgate("bench", bundle.path, "--runtime", "onnx", "--rounds", "12", "--json")
    assert (status, err) == (0, "") and len(json.loads(out)["rows"]) == 2


def test_usage_errors_have_status_2(fedgate, bundle, picture):
    for arguments in (
        ["verify", bundle.path, "--runtime", "x"],
        ["predict", bundle.path, picture, "--level", "9"],
        ["bench", bundle.path, "--threads", "0"],
        ["predict", bundle.path],
    ):
        status, out, err = fedgate(*arguments)
        assert (status, out) == (2, "") and err.startswith("fedgate: ") and err.count("\n") == 1


def test_a_missing_bundle(fedgate, tmp_path):
    for command in (["inspect"], ["verify"], ["bench"]):
        status, out, err = fedgate(*command, tmp_path / "none.fedgate")
        assert (status, out) == (1, "") and err.count("\n") == 1 and "is not a bundle" in err


def test_labels_are_not_markup(fedgate, changed, picture):
    strange = changed({"labels": ["[bold]", "[/x]", ":cat:", "[red]e[/red]", "[link=x]"]})
    status, out, err = fedgate("predict", strange.path, picture)
    assert (status, err) == (0, "")
    (label,) = (label for label in strange.manifest.labels if f"picture.png: {label} (" in out)
    assert label


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_imports_nothing_heavy(command):
    code = f"import sys; sys.argv = ['fedgate', '{command}', '--help']\nfrom fedgate.cli import main\ntry: main()\n"
    code += "finally: assert not {'torch', 'numpy', 'rich', 'safetensors'} & set(sys.modules), 'heavy import'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"fedgate {command} " in done.stdout.split("Example:")[1]


def test_the_device_modules_import_no_torch():
    modules = "bench.latency bench.load_probe bench.sustained board.machine board.watch cli engines engines.guard"
    modules += " engines.select formats.bundle formats.records formats.update images predict summary tables verify"
    code = "import sys\n" + "\n".join(f"import fedgate.device_runtime.{name}" for name in modules.split())
    code += "\nassert not {m.split('.')[0] for m in sys.modules} & {'torch', 'executorch', 'onnxruntime'}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
