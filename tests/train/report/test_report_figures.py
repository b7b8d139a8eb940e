"""The report's figures: all are there, show what the model does image by image, and can be read."""

import itertools
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import make_network, prepare
from fedgate.train.report.measure import Measurer
from fedgate.train.server.run_directory import RunDirectory


def test_every_figure_is_on_the_page_and_in_files(page):
    found, _, folder = page
    names = {
        "accuracy-rounds",
        "accuracy-bytes",
        "accuracy-time",
        "bytes-upload",
        "bytes-download",
        "accuracy-clients",
        "classes-A",
    }
    names |= {"density", "overlap", "channels-B-1"}
    assert set(found.figures) == names
    images = found.all("svg")
    assert len(images) == len(names)
    assert all(image["role"] == "img" and len(image["aria-label"]) > 20 and "viewbox" in image for image in images)
    assert found.words.count("Channels by class: B gated") == 1
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        with Image.open(folder / f"{name}.png") as image:
            assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24)) > 50
    assert {file.stem for file in folder.iterdir()} == names


@torch.no_grad()
def test_channels_by_class_equal_one_image_at_a_time(runs):
    measured = Measurer().measure(runs[1])
    directory = RunDirectory.open(runs[1])
    data, parts = prepare(directory.info.config)
    network = make_network(directory.info).eval()
    state = {name: torch.from_numpy(np.array(value)) for name, value in directory.model_tensors().items()}
    network.body.load_state_dict(state, strict=False)  # norms count no batches
    opened = {name: np.zeros((10, gate.out_channels)) for name, gate in network.gates.items()}
    hits, counts = np.zeros(10), np.bincount(data.test_labels.numpy(), minlength=10)
    for image, label in zip(data.test_images, data.test_labels, strict=True):
        x = normalise(image[None], data.mean, data.std)
        network.level = 1
        hits[label] += network(x).argmax().item() == label.item()
        network.level = 0
        network(x)
        for name, gate in network.gates.items():
            opened[name][label] += gate.open[0].numpy()
    assert measured.density == 0.3 and measured.opened.keys() == opened.keys()
    for name, count in opened.items():
        close = np.abs(measured.opened[name] * counts[:, None] - count)
        assert (close > 0.5).mean() < 0.01 and close.max() < 1.5  # ties of batched and single sums, if any
    for client, part in enumerate(parts):
        held = np.bincount(data.train_labels[part].numpy(), minlength=10)
        assert measured.table[client].tolist() == held.tolist()
        expected = (held * hits / counts).sum() / held.sum()
        assert abs(measured.client_accuracy[client] - expected) < 0.01


def test_ticks_do_not_overlap_and_stay_inside(tmp_path):
    """Drawn with fonts of known size: many runs with long names, many clients, classes with long names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from fedgate.train.report.command import ReportedRun
    from fedgate.train.report.curves import accuracy_plots, client_plot, round_plots
    from fedgate.train.report.heatmaps import TALLEST, channel_plots, class_plots
    from fedgate.train.report.history import History, Round
    from fedgate.train.report.measure import Measured
    from fedgate.train.report.style import styled

    random = np.random.default_rng(0)
    labels = tuple(f"a class with the number {i}" for i in range(20))

    def rounds(bytes_up):
        return tuple(
            Round(i, 0.5 + i / 500, None, (0.25, 0.5), bytes_up, 10**4, 1e6, 0.9, 4e4 * bytes_up) for i in range(1, 61)
        )

    runs = [
        ReportedRun(
            i, key, History("p", "a run with quite a long name " + key, 200, {}, labels, "", True, rounds(10**i))
        )
        for i, key in enumerate("ABCDEFGH")
    ]
    tables = {run: random.integers(0, 5000, (clients, 20)) for run, clients in zip(runs, (1, 2, 20, 100), strict=False)}
    opened = {f"stage.{i}.block.conv": random.random((20, 64)) for i in range(12)}
    with styled():
        plots = accuracy_plots(runs, 0.7) + round_plots(runs)
        plots += client_plot(runs, {run: random.random(100) for run in runs}) + class_plots(runs, tables)
        plots += channel_plots(runs[0], Measured(density=0.5, opened=opened))
        assert len(plots) >= 3 + 4 + 1 + 4 + 3
        for plot in plots:
            canvas = FigureCanvasAgg(plot.figure)
            canvas.draw()
            assert plot.figure.get_figheight() <= TALLEST + 0.5
            drawn = plot.figure.get_tightbbox(canvas.get_renderer())  # in inches
            assert drawn.x0 > -0.02 and drawn.x1 < plot.figure.get_figwidth() + 0.02, plot.name
            assert drawn.y0 > -0.02 and drawn.y1 < plot.figure.get_figheight() + 0.02, plot.name
            for axes in plot.figure.axes:
                for axis, along in ((axes.yaxis, ("y0", "y1")), (axes.xaxis, ("x0", "x1"))):
                    low, high = sorted(axis.get_view_interval())
                    ticks = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
                    boxes = [t.get_window_extent() for t in ticks if t.get_text() and not t.get_rotation()]
                    ends = sorted(tuple(getattr(box, end) for end in along) for box in boxes)
                    assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(ends)), plot.name
