"""What an arm does, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsynd_sk.comparison._arms import Arm

_AUGMENTATIONS = {
    None: "images as they are",
    "standard": "flips, turns, scales and shifts",
    "mixup": "mixtures of two images and of their labels",
    "trivial_augment": "one of fourteen operations an image, at random",
    "smote": "further images between neighbours of a class",
    "adversarial": "attacked images",
}

_OBJECTIVES = {
    "duplicate": "copies in place of synthetic images",
    "reconstruction": "decoded copies in place of synthetic images",
    "random": "synthetic images, displaced at random",
    "entropy": "synthetic images of which the prediction is unsure",
    "mutual_info": "synthetic images about which versions of the network disagree",
}


def words_of(arm: Arm, *, flip: bool = True) -> str:
    """Describe an arm in a line; parameters that differ from the defaults come last."""
    augmentation = arm.augmentation
    if callable(augmentation):
        name = getattr(augmentation, "__qualname__", type(augmentation).__qualname__)
        words = f"your augmentation {name}"
    else:
        words = _AUGMENTATIONS[augmentation]
    if augmentation == "standard" and not flip:
        words = words.removeprefix("flips, ")
    parts = [words, *([_OBJECTIVES[arm.objective]] if arm.objective else [])]
    changed = [
        f"{name} {value}"
        for part in (arm.synthesizer, arm.classifier, arm.net, arm.autoencoder)
        for name, value in part.items()
    ]
    text = "; ".join([*parts, *changed])
    return text[0].upper() + text[1:]
