"""What the MedMNIST benchmark was planned to be, as far as its report asks."""

from __future__ import annotations

# Small, of two modalities in grey and one in colour, with two, two and five classes.
DATASETS = ("breastmnist", "pneumoniamnist", "retinamnist")

# Numbers of labelled images. Up to 250 labels are few, which is what synthesis is for; "all" tells
# whether it harms where there are many.
SIZES = ("50", "100", "250", "all")

# Seeds of each table at most. Intervals over eight are narrow enough for differences of 0.01.
SEEDS = {"medmnist": 8, "attacks": 4, "ablations": 4}

# With all labels, images are the same for each seed: only weights and synthesis differ, and
# trainings are long. Up to so many images, and beyond.
SEEDS_OF_ALL = ((1200, 3), (None, 2))

# These joined when the first results on test images had shown how strong TrivialAugment is.
LATER_ARMS = ("trivial_augment+random", "trivial_augment+mutual_info")


def seeds_of(size: str, n_train: int, seeds: int) -> int:
    """Give the number of seeds of a cell, of so many at most."""
    if size != "all":
        return seeds
    most = next(value for limit, value in SEEDS_OF_ALL if limit is None or n_train <= limit)
    return min(seeds, most)
