"""What a fine-tuning on few classes tells, and which parameters are an absent class's."""

import numpy as np

from fedgate.device_runtime.tuning.absent import logit_rows, missing_classes
from fedgate.device_runtime.tuning.notes import notes

LABELS = ["ant", "bee", "cow", "dog"]


def lines(absent=(), unseen=(), reference=None, labels=LABELS, trainable="last-stage"):
    facts = {"absent": list(absent), "unseen": list(unseen), "reference": reference, "trainable": trainable}
    return notes(facts, labels)


def judged(before, after, images=12, classes=3, labelled=True):
    return {"images": images, "classes": classes, "labelled": labelled, "before": before, "after": after}


def test_nothing_is_said_where_every_class_is_there_and_held_out():
    assert lines() == []


def test_absent_classes_are_named_up_to_ten():
    assert lines(["ant", "cow"], ["ant", "cow"])[0] == (
        "no images of ant, cow: their logits' parameters stay as they are"
    )
    many = [str(i) for i in range(14)]
    assert "no images of 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more:" in lines(many[2:], many[2:], labels=many)[0]


def test_held_out_images_that_tell_little_are_said_to():
    few = ["ant", "cow", "dog"]
    assert "the held-out images are all of bee" in lines(few, few)[1]
    assert "no held-out images of dog:" in lines(["ant"], ["ant", "dog"])[1]
    assert not any("held-out" in line for line in lines([], LABELS))  # --validation 0


def test_what_is_left_of_the_others():
    few = ["ant", "cow", "dog"]
    *_, told, warning = lines(few, few, judged(1.0, 0.25))
    assert told == (
        "accuracy on the bundle's reference images, of the classes absent here (12 images): 100.0% before, 25.0% after"
    )
    assert warning.startswith("warning: the training unlearned other classes, 75 points")
    assert "--lr" in warning and "--epochs" in warning and "--trainable head" in warning
    assert "--trainable head" not in lines(few, few, judged(1.0, 0.25), trainable="head")[-1]
    assert "warning" not in lines(few, few, judged(0.5, 0.45))[-1]
    assert "(5 images of 2 of these 3 classes)" in lines(few, few, judged(1.0, 1.0, 5, 2))[-1]
    assert "have no labels" in lines(few, few, judged(1.0, 1.0, labelled=False))[-1]
    assert "no reference images of these classes" in lines(few, few)[-1]


def test_the_last_layers_rows_are_an_absent_classs(manifest):
    labels, rows = np.array([1, 1, 3, 0]), np.array([0, 1, 2])
    absent = missing_classes(labels, rows, 4)
    assert absent.tolist() == [0, 2]
    shapes = {"head.weight": (4, 6), "head.bias": (4,), "gated.conv.weight": (4, 4, 3, 3)}
    parameters = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    found = logit_rows(manifest, parameters, absent)
    assert {name: own.tolist() for name, own in found.items()} == {"head.weight": [0, 2], "head.bias": [0, 2]}
    assert logit_rows(manifest, parameters, absent[:0]) == {}
