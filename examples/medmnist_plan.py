"""What the MedMNIST benchmark compares: tables of constants, each with its reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import ConvNet
from tsynd_sk.comparison import ARMS, Arm

# Small, of two modalities in grey and one in colour, with two, two and five classes.
DATASETS = ("breastmnist", "pneumoniamnist", "retinamnist")

# Numbers of labelled images. Up to 250 labels are few, which is what synthesis is for; "all" tells
# whether it harms where there are many.
SIZES = ("50", "100", "250", "all")

# Intervals over eight seeds are narrow enough for differences of 0.01.
SEEDS = 8

# All images are the same for each seed: only weights and synthesis differ, and trainings are long.
# Up to so many images, and beyond.
SEEDS_OF_ALL = ((1200, 3), (None, 2))

# Small cells take about as many gradient steps as larger ones. More labels need fewer passes.
EPOCHS = {"50": 160, "100": 120, "250": 60}
EPOCHS_OF_ALL = ((600, 40), (1200, 25), (None, 10))

# An epoch is 1600 images whatever the data set; the loss has settled by then.
AUTOENCODER_EPOCHS = 40

# These joined when the first results on test images had shown how strong TrivialAugment is.
LATER_ARMS = ("trivial_augment+random", "trivial_augment+mutual_info")

# Every rival that a user has without this library, the controls of synthesis (images as they are,
# and displaced at random by as much), and both objectives, alone and with standard augmentation.
MAIN_ARMS = (
    "plain",
    "standard",
    "mixup",
    "trivial_augment",
    "smote",
    "adversarial",
    "duplicate",
    "random",
    "entropy",
    "mutual_info",
    "standard+random",
    "standard+entropy",
    "standard+mutual_info",
    *LATER_ARMS,
)

# Whether a gain is one against stronger attacks too, and against one that sees no gradients, is
# asked of those arms whose gain is claimed, and of what they are compared with.
ATTACKED_ARMS = (
    "plain",
    "random",
    "mutual_info",
    "adversarial",
    "standard",
    "standard+random",
    "standard+mutual_info",
    "trivial_augment",
    *LATER_ARMS,
)

#: What ablations change, one factor at a time.
BASE = "standard+mutual_info"

# The defaults of the synthesizer when factors were varied. What came out of it changed two of them:
# "defaults" compares the old ones with the new.
ABLATED_FROM = {"radius": 0.5, "label_policy": "constrain"}

# Beside the base: what it is made of and compared with; and standard augmentation of the network
# with more dropout, which is another network, not only other members.
ABLATION_ARMS = (
    "plain",
    "random",
    "mutual_info",
    "standard",
    "standard+random",
    "standard+entropy",
    BASE,
)
MORE_DROPOUT = {"net": {"module__dropout": 0.5}}
CONTROLS = {"standard, more dropout": replace(ARMS["standard"], **MORE_DROPOUT)}

# Factors that are one parameter: where it belongs, its name, and values around the default.
PARAMETERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "radius": ("synthesizer", "radius", (0.25, 0.5, 1.0)),
    "random_start": ("synthesizer", "random_start", (0.0, 0.5, 1.0)),
    "label_policy": ("synthesizer", "label_policy", ("keep", "constrain")),
    "n_members": ("synthesizer", "n_members", (4, 16, 64)),
    "max_iter": ("synthesizer", "max_iter", (3, 10, 30)),
    "refresh_every": ("classifier", "refresh_every", (2, 5, 10, 20)),
    "warm_up": ("classifier", "warm_up", (0.05, 0.25, 0.5)),
    # Another ratio is another number of rows in each epoch: it changes the budget.
    "synthetic_ratio": ("classifier", "synthetic_ratio", (0.25, 0.5, 1.0, 2.0)),
    "batches": ("classifier", "batches", ("apart", "mixed")),
}


# The committed table also has snapshots and an ensemble of peers, which gained nothing and are gone
# from the library.
_MEMBERS = {
    "dropout": {},
    "more dropout": MORE_DROPOUT,
    "laplace": {"synthesizer": {"members": "laplace"}},
}

# What came out of the factors above: the defaults of now.
_DEFAULTS = {
    "constrain, radius 0.5": {},
    "keep, radius 0.25": {"synthesizer": {"radius": 0.25, "label_policy": "keep"}},
}

# Factors of another kind: what each value changes. Some are varied under entropy too, for the
# question is under which of them mutual information is the better objective.
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    # By default the images decide: as many channels as explain a share of their variance.
    "latent_size": {
        "0.95 of the variance": {},
        **{str(n): {"autoencoder": {"module__n_components": n}} for n in (2, 4, 8, 16)},
    },
    "autoencoder": {"labelled": {"unlabelled": False}, "all": {"unlabelled": True}},
    "members": _MEMBERS,
    "members_entropy": _MEMBERS,
    "defaults": _DEFAULTS,
    "defaults_entropy": _DEFAULTS,
}


def base_of(factor: str) -> str:
    """Name the arm that a factor is varied in."""
    return "standard+entropy" if factor.endswith("_entropy") else BASE


def ablated(name: str) -> Arm:
    """Give an arm as it was when factors were varied."""
    arm = ARMS[name]
    return replace(arm, synthesizer=ABLATED_FROM) if arm.objective else arm


def _in_effect(arm: Arm, part: str, name: str) -> Any:
    """Give a parameter of an arm, or its default."""
    if name in getattr(arm, part):
        return getattr(arm, part)[name]
    if part == "autoencoder":
        # The images decide about its network: no number is in effect.
        return None
    owners: dict[str, Any] = {
        "synthesizer": TargetedSynthesizer,
        "classifier": AugmentedClassifier,
        "net": ConvNet,
    }
    owner = owners[part]
    return inspect.signature(owner).parameters[name.removeprefix("module__")].default


def _changed(arm: Arm, changes: dict[str, Any]) -> Arm:
    """Change an arm; what is in effect already is no change."""
    kept: dict[str, Any] = {}
    for part, change in changes.items():
        if isinstance(change, dict):
            new = {n: v for n, v in change.items() if v != _in_effect(arm, part, n)}
            kept[part] = {**getattr(arm, part), **new}
        elif change != getattr(arm, part):
            kept[part] = change
    return replace(arm, **kept)


def _variants() -> Iterator[tuple[str, str, Arm]]:
    """Go through factors, values and arms; the value in effect stands for the base arm."""
    for factor, (part, name, values) in PARAMETERS.items():
        base = ablated(base_of(factor))
        now = _in_effect(base, part, name)
        known = list(dict.fromkeys((*values, now)))
        for value in known if isinstance(now, str) else sorted(known):
            yield factor, _text(value), _changed(base, {part: {name: value}})
    for factor, choices in CHOICES.items():
        for value, changes in choices.items():
            yield factor, value, _changed(ablated(base_of(factor)), changes)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def ablations() -> tuple[dict[str, Arm], dict[str, str]]:
    """Make the arms of the ablations.

    Returns
    -------
    arms : dict of str to Arm
        The base arms, the controls, and one arm for each other value of a factor.
    settings : dict of str to str
        By arm, what it is a value of, as in ``radius=0.25``; of a base arm, all factors.
    """
    arms = {**{name: ablated(name) for name in ABLATION_ARMS}, **CONTROLS}
    settings: dict[str, list[str]] = {name: [] for name in arms}
    for factor, value, arm in _variants():
        base = base_of(factor)
        setting = f"{factor}={value}"
        name = base if arm == ablated(base) else setting
        arms.setdefault(name, arm)
        settings.setdefault(name, []).append(setting)
    return arms, {name: "; ".join(values) for name, values in settings.items()}


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes
    ----------
    table : str
        Name of its CSV file.
    score_on : {"test", "val"}
        Split that it scores on. Choices are made on "val".
    seeds : int
        Seeds at most.
    sizes : dict of str to str, or None
        Data sets that it takes, and of each the number of labelled images. None: all that are
        asked for, in all sizes.
    attacks : dict
        Settings of the attacks.
    """

    table: str
    score_on: str
    seeds: int
    sizes: dict[str, str] | None = None
    attacks: dict[str, Any] = field(default_factory=dict)

    def arms(self) -> tuple[dict[str, Arm], dict[str, str]]:
        """Give arms by name, and what they are values of."""
        if self.score_on == "val":
            return ablations()
        names = MAIN_ARMS if self.sizes is None else ATTACKED_ARMS
        return {name: ARMS[name] for name in names}, {}


PARTS = {
    # Strengths, in 255ths, at which a plain network still does something, and hardly anything.
    "main": Part("benchmark_medmnist.csv", "test", SEEDS, None, {"eps": (2, 4), "n_attacked": 200}),
    # The stronger attacks on one run cost about as much as its training.
    "attacks": Part(
        "benchmark_attacks.csv",
        "test",
        4,
        {"breastmnist": "100", "pneumoniamnist": "100"},
        {"attacks": ("pgd", "autoattack", "square"), "eps": (2, 4), "n_attacked": 128},
    ),
    # RetinaMNIST has five classes, of which 100 images hold too few.
    "ablations": Part(
        "benchmark_ablations.csv",
        "val",
        4,
        {"breastmnist": "100", "pneumoniamnist": "100", "retinamnist": "250"},
        {"eps": (2,), "n_attacked": 200},
    ),
}


def epochs_of(size: str, n_train: int) -> int:
    """Give the epochs of a cell."""
    return EPOCHS[size] if size in EPOCHS else _up_to(EPOCHS_OF_ALL, n_train)


def seeds_of(size: str, n_train: int, seeds: int) -> int:
    """Give the number of seeds of a cell, of so many at most."""
    return min(seeds, _up_to(SEEDS_OF_ALL, n_train)) if size == "all" else seeds


def _up_to(table: tuple[tuple[int | None, int], ...], n: int) -> int:
    return next(value for limit, value in table if limit is None or n <= limit)
