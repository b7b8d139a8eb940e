"""Static programs from a client's record, or from a folder of images: the right masks, in a bundle that says whose."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from rich.console import Console

from fedgate.cli import main
from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import load_bundle, write_bundle
from fedgate.device_runtime.formats.macs import mask_slices, open_count
from fedgate.device_runtime.formats.salience import SalienceRecord
from fedgate.device_runtime.formats.tensors import read_tensors
from fedgate.device_runtime.verify import verify
from fedgate.export.pipeline import export_run, load_network
from fedgate.export.pipeline import test_images as images_of
from fedgate.export.reference import EagerReference
from fedgate.export.static_masks import kept_by_level, mask_records
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.data.unlabelled import load_unlabelled
from fedgate.train.ingredients import run_data

DENSITIES = (0.25, 0.5)
CLASSES = (3, 7)  # of the images in the folders


def command(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run whose clients hold two classes each; its gates depend on the input, so their masks differ."""
    path = tmp_path_factory.mktemp("masks") / "run"
    options = ["--rounds", 2, "--clients", 10, "--partition", "classes:2", "--local-epochs", 1, "--density-schedule", 0]
    assert not command("train", *options, "--density", "0.25,0.5", "--quiet", "--out", path)
    return path


@pytest.fixture(scope="module")
def client_bundle(run, tmp_path_factory):
    """The path of a bundle with the masks of client 1."""
    out = tmp_path_factory.mktemp("client") / "client.fedgate"
    assert not command("export", run, "--to", "onnx", "--client", 1, "--out", out, "--json")
    return out


@pytest.fixture(scope="module")
def pictures():
    """Test images of two classes, uint8 (n, 8, 8)."""
    data = load_data("digits")
    chosen = torch.isin(data.test_labels, torch.tensor(CLASSES))
    return data.test_images[chosen][:, 0].numpy()


@pytest.fixture(scope="module")
def folders(pictures, tmp_path_factory):
    """The pictures as files in sub-folders, and as unlabelled parquet: kind -> folder."""
    files, parquet = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("parquet")
    encoded = []
    for i, picture in enumerate(pictures):
        place = files / f"camera-{i % 2}" / f"{i:03}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place)
        encoded.append({"bytes": place.read_bytes(), "path": None})
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {"info": {"features": {"photo": {"_type": "Image"}}}}
    schema = pyarrow.schema([("photo", image)], metadata={"huggingface": json.dumps(features)})
    table = pyarrow.table([pyarrow.array(encoded, image)], schema=schema)
    pyarrow.parquet.write_table(table, parquet / "test-00000-of-00001.parquet")
    return {"files": files, "parquet": parquet}


def most(counts, strengths, k):
    """The k most opened channels, among equals the stronger, then the lower, by plain sorting."""
    return sorted(sorted(range(len(counts)), key=lambda i: (-counts[i], -strengths[i], i))[:k])


def check_static_programs(bundle, run, counts, strengths):
    """Each static program returns what the network does with exactly the masks of these counts forced upon it.

    counts, strengths: layer -> (levels, C).
    """
    directory, network = load_network(run)
    images, reference = images_of(run_data(directory.info)[0], 6), EagerReference(network)
    columns = mask_slices(network.layers)
    programs = [program for program in bundle.manifest.programs if program.role == "static"]
    assert [program.level for program in programs] == [0, 1]
    for program in programs:
        masks = np.zeros((1, sum(part.stop - part.start for part in columns.values())), bool)
        for name, part in columns.items():
            k = open_count(DENSITIES[program.level], part.stop - part.start)
            for channel in most(counts[name][program.level], strengths[name][program.level], k):
                masks[0, part.start + channel] = True
        expected = reference.run(images, program.level, forced=masks)[0]
        loaded = open_program(bundle, program)
        found = np.concatenate([loaded.run(image[None], None)[0] for image in images])
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def of_scope(arrays, scope, kind):
    prefix = f"{scope}/{kind}/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def test_a_clients_own_masks(run, client_bundle, capsys):
    bundle = load_bundle(client_bundle)
    arrays, _ = read_tensors(run / "checkpoints" / "round-00002" / "salience.safetensors")
    opened, strength = of_scope(arrays, "client-1", "opened"), of_scope(arrays, "client-1", "strength")
    check_static_programs(bundle, run, opened, strength)
    # the other clients' records stay with the server
    assert list(bundle.salience()) == ["client-1", "global"] and bundle.manifest.masks == "client-1"
    assert all((bundle.salience()["client-1"].opened[name] == opened[name]).all() for name in opened)
    assert {row["status"] for row in verify(bundle)} == {"ok"}
    assert not command("inspect", client_bundle)
    assert "of client-1" in capsys.readouterr().out
    # and it is not what everybody's record would give
    everybody = of_scope(arrays, "global", "opened")
    with pytest.raises(AssertionError, match="Not equal"):
        check_static_programs(bundle, run, everybody, of_scope(arrays, "global", "strength"))


def test_masks_from_a_folder_of_images(run, folders, pictures, tmp_path):
    bundle = export_run(run, tmp_path / "some.fedgate", ["onnx"], calibrate=folders["files"])
    directory, network = load_network(run)
    x = normalise(torch.from_numpy(pictures)[:, None], directory.info.data["mean"], directory.info.data["std"])
    counts = {name: np.zeros((2, gate.out_channels), int) for name, gate in network.gates.items()}
    strengths = {name: np.zeros((2, gate.out_channels)) for name, gate in network.gates.items()}
    for network.level in (0, 1):
        for image in x:
            with torch.no_grad():
                network(image[None])
            for name, gate in network.gates.items():
                counts[name][network.level] += gate.open[0].numpy()
                strengths[name][network.level] += gate.pi[0].numpy()
    record = bundle.salience()["calibrated"]
    assert bundle.manifest.masks == "calibrated" and list(bundle.salience()) == ["calibrated", "global"]
    assert record.samples.tolist() == [len(pictures)] * 2
    for name in counts:
        assert np.abs(record.opened[name] - counts[name]).max() <= 1  # a close call of one image, alone or in a batch
        np.testing.assert_allclose(record.strength[name], strengths[name], rtol=1e-3, atol=1e-2)
    check_static_programs(bundle, run, record.opened, record.strength)
    assert {row["status"] for row in verify(bundle)} == {"ok"}


def test_images_are_read_from_files_and_parquet_alike(folders, pictures):
    for folder in folders.values():
        images, _ = load_unlabelled(str(folder), (1, 8, 8), "white")
        assert images.shape == (len(pictures), 1, 8, 8)
        assert sorted(image.tobytes() for image in images.numpy()) == sorted(p.tobytes() for p in pictures)
    coloured, _ = load_unlabelled(str(folders["files"]), (3, 4, 4), "white")
    assert coloured.shape == (len(pictures), 3, 4, 4) and (coloured[:, 0] == coloured[:, 2]).all()


def test_a_level_without_samples_gets_no_program(run):
    _, network = load_network(run)
    record = SalienceRecord.empty({name: gate.out_channels for name, gate in network.gates.items()}, 2)
    console = Console(quiet=True)
    with pytest.raises(FedgateError, match="the salience record of client-0 has no samples"):
        kept_by_level(network, {"client-0": record}, "client-0", console)
    record.samples[1] = 5
    assert list(kept_by_level(network, {"client-0": record}, "client-0", console)) == [1]


def test_a_bundle_must_hold_the_record_of_its_masks(client_bundle, tmp_path):
    bundle = load_bundle(client_bundle)
    fields = json.loads((bundle.path / "manifest.json").read_text())
    files = {path.name: path for path in bundle.path.iterdir() if path.name != "manifest.json"}
    with pytest.raises(FedgateError, match=r"has no record of 'client-77', whose masks onnx-static-0.onnx has"):
        write_bundle(tmp_path / "two.fedgate", fields | {"masks": "client-77"}, files)
    del fields["masks"]  # as bundles were before clients had masks of their own
    assert write_bundle(tmp_path / "three.fedgate", fields, files).manifest.masks == "global"


WRONG = {
    "--client 10": (2, "has no client 10: its clients are 0 to 9"),
    "--client -1": (2, "has no client -1: its clients are 0 to 9"),
    "--client me": (2, "'me' is not a valid integer"),
    "--client 1 --calibrate FILES": (2, "give either --client N or --calibrate DIR"),
    "--calibrate missing": (2, "'missing' is no folder of images"),
    "--calibrate EMPTY": (1, "EMPTY' holds no images"),
    "--calibrate TEXT": (1, "TEXT' holds no images; left out, no pictures: notes.txt"),
    "--calibrate BROKEN": (1, "BROKEN/a.png: not a picture; repair or remove it\n"),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_requests_are_one_line(run, folders, arguments, tmp_path, capsys):
    for name in ("EMPTY", "TEXT", "BROKEN"):
        (tmp_path / name).mkdir()
    (tmp_path / "TEXT" / "notes.txt").write_text("no picture\n")
    (tmp_path / "BROKEN" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    places = {"FILES": folders["files"]} | {name: tmp_path / name for name in ("EMPTY", "TEXT", "BROKEN")}
    words = [places.get(word, word) for word in arguments.split()]
    status, reason = WRONG[arguments]
    assert command("export", run, "--to", "onnx", *words, "--out", tmp_path / "out.fedgate") == status
    captured = capsys.readouterr()
    assert reason in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "out.fedgate").exists()


def test_a_client_that_took_part_in_no_round(run, tmp_path):
    directory, network = load_network(run)
    records = directory.load().salience
    del records["client-2"]
    with pytest.raises(FedgateError, match=r"client 2 of .* has no salience record: it took part in no round"):
        mask_records(directory, network, records, client=2)
