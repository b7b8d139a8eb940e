"""What a fine-tuning on few classes has to tell: plain lines, for the command line and for the app's screen."""

NAMED = 10  # classes in one line
WORST_LOSS = 0.1  # of the accuracy on other classes, before a line warns of it


def notes(result: dict, labels) -> list[str]:
    """The lines. result: of `finetune`, with absent, unseen, reference, validation_examples; labels: of the bundle."""
    absent, unseen, found = result["absent"], result["unseen"], []
    if absent:
        found.append(f"no images of {named(absent)}: their logits' parameters stay as they are")
    held = [label for label in labels if label not in unseen]
    if len(held) == 1 < len(labels):
        found.append(f"the held-out images are all of {held[0]}: accuracy on them does not tell what else is known")
    elif held and len(unseen) > len(absent):
        few = [label for label in unseen if label not in absent]
        found.append(f"no held-out images of {named(few)}: accuracy on the held-out images does not tell of them")
    return found + _reference_notes(result["reference"], absent, unseen, result["trainable"])


def _reference_notes(reference, absent, unseen, trainable) -> list[str]:
    if reference is None:
        nothing = "the bundle has no reference images of these classes: what the training took from them is not known"
        return [nothing] if absent else []
    which = "absent here" if len(unseen) == len(absent) else "that no held-out image shows"
    count = f"{reference['images']} image{'s' if reference['images'] != 1 else ''}"
    if reference["classes"] < len(unseen):
        count += f" of {reference['classes']} of these {len(unseen)} classes"
    before, after = reference["before"], reference["after"]
    told = f"{before:.1%} before, {after:.1%} after"
    found = [f"accuracy on the bundle's reference images, of the classes {which} ({count}): {told}"]
    if not reference["labelled"]:
        found.append(
            "these reference images have no labels: what the untuned network says of them counts as right; "
            "a bundle that is exported anew has labels"
        )
    if before - after > WORST_LOSS:
        head = ", or a bundle exported with --trainable head" if trainable != "head" else ""
        found.append(
            f"warning: the training unlearned other classes, {100 * (before - after):.0f} points of their accuracy: "
            f"add images of them, or take a lower --lr, fewer --epochs{head}"
        )
    return found


def named(labels) -> str:
    """Up to ten names, then how many more."""
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(labels[:NAMED]) + more
