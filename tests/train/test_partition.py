"""Partitions: every example once, the shape that each scheme promises, and clear refusals."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from fedgate.device_runtime.errors import UsageError
from fedgate.train.data.class_table import class_table, plot_class_table, render_class_table
from fedgate.train.data.partition import partition

LABELS = np.repeat(np.arange(10), 150)  # sorted, as a folder of images by class is read


def check_cover(parts, examples):
    for part in parts:
        assert part.dtype == np.int64 and (np.diff(part) > 0).all() and len(part)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(examples))


@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(2, 6),
    per_class=st.integers(30, 60),
    clients=st.integers(1, 8),
    scheme=st.sampled_from(["iid", "dirichlet:0.5", "dirichlet:100", "classes:1", "classes:2"]),
    seed=st.integers(0, 2**31),
)
def test_every_example_exactly_once_or_refused(classes, per_class, clients, scheme, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))
    try:
        parts = partition(labels, clients, scheme, seed)
    except UsageError:
        # Only too few clients to hold every class may be refused here.
        assert scheme.startswith("classes") and clients < classes
        return
    assert len(parts) == clients
    check_cover(parts, len(labels))


@pytest.mark.parametrize("scheme", ["iid", "dirichlet:0.3", "classes:2"])
def test_seed_decides(scheme):
    first, again, other = (partition(LABELS, 10, scheme, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_iid_mixes_sorted_data():
    parts = partition(LABELS, 10, "iid", 0)
    assert [len(part) for part in parts] == [150] * 10
    assert (class_table(LABELS, parts, 10) > 0).all()


def test_dirichlet_skew_grows_as_alpha_falls_and_sizes_stay_balanced():
    largest = []
    for alpha in (100, 0.1):
        table = class_table(LABELS, partition(LABELS, 10, f"dirichlet:{alpha}", 0), 10)
        largest.append((table.max(1) / table.sum(1)).mean())
        # Self-balanced: whoever has the average gets no further class, so at most the average and one class.
        assert table.sum(1).max() <= 150 + 150
    assert largest[0] < 0.2 and largest[1] > 0.4


def test_dirichlet_finds_a_draw_for_many_small_clients():
    check_cover(partition(LABELS, 60, "dirichlet:0.3", 0), len(LABELS))


def test_classes_gives_each_client_k_classes():
    table = class_table(LABELS, partition(LABELS, 20, "classes:3", 4), 10)
    assert ((table > 0).sum(1) == 3).all() and (table.sum(0) == 150).all()


def test_natural_is_one_client_for_each_id(capfd):
    groups = np.array(["eve", "adam", "eve", "zoe", "adam", "eve"])
    parts = partition(np.zeros(6, int), 3, "natural", 0, groups)
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 5], [3]]
    some = [partition(np.zeros(6, int), 2, "natural", seed, groups) for seed in range(20)]
    assert {tuple(len(part) for part in parts) for parts in some} == {(2, 3), (2, 1), (3, 1)}
    assert capfd.readouterr() == ("", "")  # the library's progress bar stays away


@pytest.mark.parametrize(
    ("scheme", "clients", "message"),
    [
        ("random", 4, "unknown partition 'random'; known: iid, dirichlet:ALPHA, classes:K, natural"),
        ("dirichlet", 4, "unknown partition 'dirichlet'; known"),
        ("iid:3", 4, "unknown partition 'iid:3'; known"),
        ("dirichlet:0", 4, "ALPHA must be a number above 0"),
        ("dirichlet:-1", 4, "ALPHA must be a number above 0"),
        ("dirichlet:inf", 4, "ALPHA must be a number above 0"),
        ("dirichlet:x", 4, "ALPHA must be a number above 0"),
        ("dirichlet:1e-9", 60, "choose a larger ALPHA or fewer clients"),
        ("classes:1.5", 4, "K must be a whole number above 0"),
        ("classes:11", 4, "classes:11 is more than the 10 classes"),
        ("classes:2", 4, "4 clients of 2 classes hold 8 of the 10 classes: choose at least 5 clients, better 10"),
        ("classes:2", 5, "to nobody: choose at least 10 clients"),
        ("classes:10", 500, "choose fewer clients or classes"),
        ("iid", 0, "0 clients over 1500 examples"),
        ("iid", 1501, "1501 clients over 1500 examples"),
        ("natural", 4, "needs a column of natural ids"),
    ],
)
def test_refusals(scheme, clients, message):
    with pytest.raises(UsageError, match=message):
        partition(LABELS, clients, scheme, 0)


def test_more_clients_than_ids():
    with pytest.raises(UsageError, match="the data has 2 natural ids"):
        partition(np.zeros(4, int), 3, "natural", 0, np.array([7, 7, 9, 9]))


def test_class_table_counts():
    parts = [np.array([0, 1, 4]), np.array([2, 3])]
    assert class_table(np.array([2, 0, 1, 1, 2]), parts, 4).tolist() == [[1, 0, 2, 0], [0, 2, 0, 0]]


def render(table, names, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(render_class_table(table, names))
    return console.file.getvalue()


def test_rendered_table_never_cuts_numbers():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    table = np.arange(1000, 1100).reshape(10, 10)
    lines = [line.split() for line in render(table, names).splitlines()]
    for client, row in enumerate(table):
        assert [str(client), *map(str, row), str(row.sum())] in lines


def test_rendered_table_of_many_classes_names_the_most_frequent():
    table = np.zeros((2, 100), int)
    table[0, [3, 50]] = 5, 9
    text = render(table, [f"class{i}" for i in range(100)])
    assert "class50 9, class3 5" in text and "class99" not in text


def test_plots(tmp_path):
    table = class_table(LABELS, partition(LABELS, 4, "iid", 0), 10)
    names = [f"name{i}" for i in range(10)]
    for name in ("a.svg", "b.svg", "a.png"):
        plot_class_table(table, names, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24)) > 50
