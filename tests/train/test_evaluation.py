"""Evaluation against one image at a time."""

import copy

import numpy as np
import pytest
import torch

from fedgate.device_runtime.formats import macs
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.local.evaluation import chunks, evaluate, executed_macs, overconfidence_by_bin
from fedgate.train.network.build import build_network


@pytest.fixture(scope="module")
def evaluated():
    torch.manual_seed(0)
    data = load_data("digits")
    network = build_network("cnn", "paper", (0.25, 0.75), 10, (1, 8, 8)).to(memory_format=torch.channels_last)
    for gate in network.gates.values():
        torch.nn.init.normal_(gate.predictor.weight)
        gate.predictor.bias.data.fill_(0.1)  # so that some channels are closed because their gate is zero
    statistics = (data.mean, data.std)
    network.train()
    for level in (0, 1):  # norms need statistics of their own
        network.level = level
        network(normalise(data.train_images[:200], *statistics))
    result = evaluate(network, data.test_images[:60], data.test_labels[:60], statistics, "fp32", 10)
    return data, network, result


@torch.no_grad()
def test_counts_equal_one_image_at_a_time(evaluated):
    data, network, result = evaluated
    x = normalise(data.test_images[:60], data.mean, data.std)
    for level in (0, 1):
        network.level = level
        hits, executed = np.zeros(10, int), np.zeros(len(network.layers), int)
        for image, label in zip(x, data.test_labels[:60], strict=True):
            hits[label] += network(image[None]).argmax().item() == label.item()
            executed += executed_macs(network, 1)[0]
        assert result.correct[level].tolist() == hits.tolist()
        assert result.executed[level].tolist() == executed.tolist()
        nominal = macs.nominal(network.layers, network.densities[level])
        assert all(executed <= 60 * np.array(list(nominal.values())))


def test_parts_add_up(evaluated):
    data, network, whole = evaluated
    parts = [
        evaluate(network, data.test_images[s], data.test_labels[s], (data.mean, data.std), "fp32", 10)
        for s in (slice(0, 25), slice(25, 60))
    ]
    total = parts[0] + parts[1]
    assert (total.correct == whole.correct).all() and (total.executed == whole.executed).all()
    assert total.images.tolist() == [60, 60]
    np.testing.assert_allclose(total.loss, whole.loss, rtol=1e-5)
    assert (total.salience.opened["features.3"] == whole.salience.opened["features.3"]).all()


def test_a_clients_accuracy_weighs_classes_as_the_client_holds_them(evaluated):
    _, _, result = evaluated
    by_class = result.correct / result.total
    table = np.array([[10, 0, 30] + [0] * 7, [1] * 10])
    accuracy = result.client_accuracy(table)
    assert accuracy.shape == (2, 2)
    np.testing.assert_allclose(accuracy[:, 0], 0.25 * by_class[:, 0] + 0.75 * by_class[:, 2])
    np.testing.assert_allclose(accuracy[:, 1], by_class.mean(1))


def test_chunks_cover_a_test_set_once():
    for count in (1, 249, 250, 251, 1000):
        covered = [i for part in chunks(count) for i in range(part.start, part.stop)]
        assert covered == list(range(count))


def test_classes_without_test_images_weigh_nothing(evaluated):
    data, network, _ = evaluated
    threes = data.test_labels == 3
    statistics = (data.mean, data.std)
    result = evaluate(network, data.test_images[threes], data.test_labels[threes], statistics, "fp32", 10)
    table = np.array([[0, 0, 0, 5, 95, 0, 0, 0, 0, 0], [7] + [0] * 9])
    np.testing.assert_allclose(result.client_accuracy(table), np.stack([result.accuracy(), np.zeros(2)], 1))


@torch.no_grad()
def test_calibration_error_by_the_papers_equation(evaluated):
    data, network, _ = evaluated
    network.forget()
    network = copy.deepcopy(network)
    network.body.get_submodule("head").weight.mul_(200)  # untrained, it is equally unsure of all images
    result = evaluate(network, data.test_images[:60], data.test_labels[:60], (data.mean, data.std), "fp32", 10)
    x = normalise(data.test_images[:60], data.mean, data.std)
    for level in (0, 1):
        network.level = level
        bins = [[] for _ in range(15)]
        for image, label in zip(x, data.test_labels[:60].tolist(), strict=True):
            probabilities = np.exp(network(image[None])[0].double().numpy())
            probabilities /= probabilities.sum()
            confidence = probabilities.max()
            (place,) = [m for m in range(15) if m / 15 < confidence <= (m + 1) / 15]
            bins[place].append((confidence, float(probabilities.argmax() == label)))
        error = sum(len(b) / 60 * abs(np.mean([hit for _, hit in b]) - np.mean([c for c, _ in b])) for b in bins if b)
        assert sum(map(bool, bins)) > 2 and error > 0.01
        np.testing.assert_allclose(result.calibration_error()[level], error, rtol=1e-5)


def test_bins_hold_their_upper_edge():
    confidence = torch.tensor([1 / 15, 2 / 15 + 1e-9, 1.0, 0.5], dtype=torch.float64)
    hit = torch.tensor([True, False, True, False])
    sums = overconfidence_by_bin(confidence, hit)
    expected = np.zeros(15)
    expected[0], expected[2], expected[7] = 1 / 15 - 1, 2 / 15, 0.5
    np.testing.assert_allclose(sums, expected, atol=1e-8)
