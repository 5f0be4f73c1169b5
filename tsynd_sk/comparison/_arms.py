"""Arms of a comparison: ways to train the same network, at the same budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from tsynd_sk import _skorch
from tsynd_sk._utils._names import ARM_NAMES, AUGMENTATIONS, DEFAULT_ARMS, OBJECTIVE_NAMES
from tsynd_sk.augmentation import TransformRows, standard_transform
from tsynd_sk.autoencoders import AutoencoderNet, PatchPCA
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison._baselines import AdversarialNetClassifier, MoreRows, mixed_rows
from tsynd_sk.comparison._results_folder import definition_of
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

__all__ = ["ARMS", "AUGMENTATIONS", "DEFAULT_ARMS", "Arm"]

# What the comparison sets for all arms.
_RESERVED = {
    "synthesizer": ("classifier", "autoencoder", "objective", "image_shape", "random_state"),
    "classifier": ("estimator", "synthesizer", "random_state"),
    "net": ("max_epochs", "callbacks", "iterator_train", "low", "high"),
}


@dataclass(frozen=True, repr=False)
class Arm:
    """One way to train the network of a comparison.

    To vary one, use `dataclasses.replace`.

    Parameters
    ----------
    augmentation : {"standard", "mixup", "trivial_augment", "smote", "adversarial"}, callable or \
            None, default=None
        How training images are augmented. "standard": random flips, turns, scales and shifts
        (`standard_transform`). "mixup": mixtures of two images and of their labels (Zhang et al.,
        2018). "trivial_augment": one of fourteen random operations on each image (Müller and
        Hutter, 2021). "smote": more images, between neighbours of a class in pixels (Chawla et al.,
        2002). "adversarial": attacked images (Madry et al., 2018). A callable takes and returns one
        image, a float Tensor (C, H, W), see `TransformRows`.
    objective : {"duplicate", "random", "entropy", "mutual_info"} or None, default=None
        Objective of the synthesizer. None: nothing is synthesised. "reconstruction" needs
        ``synthesizer={"keep_detail": False}``.
    synthesizer, classifier, net, autoencoder : dict, default={}
        Parameters of `TargetedSynthesizer`, `AugmentedClassifier`, the network and the
        `AutoencoderNet` (of `PatchPCA`, in closed form) that differ from their defaults. Without an
        objective, those of the classifier say how many rows are added, and when. `synthetic_ratio`,
        `warm_up` and `batch_size` change the budget of this arm.

    Raises
    ------
    ValueError
        If a value or name of a parameter is not valid, or has no effect.

    See Also
    --------
    compare : Train with several arms, and say which one helps.

    Notes
    -----
    Budgets are equal: after the warm-up, an arm that synthesises trains on `synthetic_ratio` times
    as many synthetic rows in addition. Other arms get as many more rows from the same epoch on,
    copies of real rows (augmented independently) or SMOTE's, and so take as many gradient steps.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from tsynd_sk.comparison import ARMS
    >>> arm = replace(ARMS["standard+mutual_info"], synthesizer={"radius": 0.5})
    >>> arm.definition()
    {'augmentation': 'standard', 'objective': 'mutual_info', 'synthesizer': {'radius': 0.5}}
    >>> arm.synthesises, arm.without_synthesis() == ARMS["standard"]
    (True, True)
    >>> arm.make_classifier(n_classes=2, max_epochs=10).synthesizer.radius
    0.5
    """

    augmentation: str | Callable | None = None
    objective: str | None = None
    synthesizer: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=dict)
    net: dict[str, Any] = field(default_factory=dict)
    autoencoder: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not callable(self.augmentation) and self.augmentation not in (None, *AUGMENTATIONS):
            raise ValueError(
                f"augmentation must be None, one of {', '.join(AUGMENTATIONS)}, or a callable; got "
                f"{self.augmentation!r}"
            )
        if self.objective not in (None, *OBJECTIVE_NAMES):
            raise ValueError(
                f"objective must be None or one of {', '.join(OBJECTIVE_NAMES)}; got "
                f"{self.objective!r}"
            )
        if self.augmentation == "smote" and self.objective:
            raise ValueError(
                f"augmentation='smote' and objective={self.objective!r} both add rows: choose one"
            )
        for name in ("synthesizer", "autoencoder"):
            if (value := getattr(self, name)) and not self.objective:
                raise ValueError(
                    f"{name}={value!r} has no effect without an objective: give one or leave it out"
                )
        for name, reserved in _RESERVED.items():
            if taken := [key for key in getattr(self, name) if key in reserved]:
                raise ValueError(
                    f"{name} has {taken[0]!r}, which the comparison sets for all arms: leave it out"
                )
        # Raise for wrong names and values now, not after hours of other arms.
        self._augmented()._validate_params()
        self._synthesizer()._validate_params()

    def __repr__(self) -> str:
        return f"Arm({', '.join(f'{name}={value!r}' for name, value in self._given().items())})"

    def _given(self) -> dict[str, Any]:
        blank = Arm()
        return {name: v for name, v in vars(self).items() if v != getattr(blank, name)}

    def definition(self) -> dict[str, Any]:
        """Return what differs from plain training, in types that JSON knows.

        Returns
        -------
        dict
            By the names of parameters.
        """
        return {name: definition_of(value) for name, value in self._given().items()}

    @property
    def synthesises(self) -> bool:
        """Whether it synthesises anything."""
        return self.objective is not None and bool(self._augmented().synthetic_ratio)

    def without_synthesis(self) -> Arm:
        """Return its twin: the same augmentation, rows and steps, without synthesis.

        Returns
        -------
        Arm
            Twin.
        """
        return replace(self, objective=None, synthesizer={}, autoencoder={})

    def make_classifier(
        self,
        net: Any = None,
        *,
        n_classes: int,
        max_epochs: int,
        low: float = 0.0,
        high: float = 1.0,
        flip: bool = True,
        random_state: int | None = None,
    ) -> AugmentedClassifier:
        """Make the classifier of this arm.

        Parameters
        ----------
        net : skorch classifier or None, default=None
            The network, unfitted; None: `NetClassifier`.
        n_classes, max_epochs : int
            Numbers of classes and of epochs.
        low, high : float, default=0 and 1
            Range of values that the network gets.
        flip : bool, default=True
            Whether a mirrored image is still one of its class.
        random_state : int or None, default=None
            Seed of everything random.

        Returns
        -------
        AugmentedClassifier
            Unfitted.
        """
        classifier = self._augmented()
        # What callbacks hold, such as a tracker's run, is shared and not copied.
        net = NetClassifier() if net is None else _skorch.clone_net(net)
        if self.augmentation == "adversarial":
            net = AdversarialNetClassifier(**net.get_params(deep=False), low=low, high=high)
        net.set_params(max_epochs=max_epochs, **self.net)
        if (collate := self._collate(n_classes, flip, low, high)) is not None:
            net.set_params(iterator_train__collate_fn=collate)
        if not self.objective:
            rows = {
                "kind": "smote" if self.augmentation == "smote" else "copies",
                "ratio": classifier.synthetic_ratio,
                # As in `TargetedSynthesis`; in floating point 0.28 * 25 is a little more than 7.
                "first_epoch": math.ceil(round(classifier.warm_up * max_epochs, 6)),
                "refresh_every": classifier.refresh_every,
                "apart": classifier.batches == "apart",
                "random_state": random_state,
            }
            net.set_params(iterator_train=MoreRows)
            net.set_params(**{f"iterator_train__{name}": value for name, value in rows.items()})
            classifier.set_params(synthetic_ratio=0)
        return classifier.set_params(
            estimator=net, synthesizer=self._synthesizer(), random_state=random_state
        )

    def _augmented(self) -> AugmentedClassifier:
        return AugmentedClassifier().set_params(**self.classifier)

    def _synthesizer(self) -> TargetedSynthesizer:
        synthesizer = TargetedSynthesizer(objective=self.objective or "mutual_info")
        if self.autoencoder:
            autoencoder = AutoencoderNet(PatchPCA, max_epochs=0)
            synthesizer.autoencoder = autoencoder.set_params(**self.autoencoder)
        return synthesizer.set_params(**self.synthesizer)

    def _collate(self, n_classes: int, flip: bool, low: float, high: float) -> Any:
        if callable(self.augmentation):
            return TransformRows(self.augmentation)
        if self.augmentation == "standard":
            return TransformRows(standard_transform(flip=flip, fill=low))
        if self.augmentation == "mixup":
            return partial(mixed_rows, n_classes)
        if self.augmentation == "trivial_augment":
            from torchvision.transforms import v2

            # It takes floats to lie between 0 and 1.
            scale = (high - low) or 1.0
            there, back = v2.Normalize([low], [scale]), v2.Normalize([-low / scale], [1 / scale])
            return TransformRows(v2.Compose([there, v2.TrivialAugmentWide(), back]))
        return None


def _arm_of(name: str) -> Arm:
    parts = {*name.split("+"), None}
    return Arm(
        next(part for part in (*AUGMENTATIONS, None) if part in parts),
        next(part for part in (*OBJECTIVE_NAMES, None) if part in parts),
    )


#: All arms by name.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.comparison import ARMS
#: >>> ARMS["standard+mutual_info"]
#: Arm(augmentation='standard', objective='mutual_info')
ARMS: dict[str, Arm] = {name: _arm_of(name) for name in ARM_NAMES}


def check_net(name: str, arm: Arm, net: Any) -> None:
    """Raise ValueError for a net that an arm cannot train."""
    if arm.augmentation == "adversarial" and type(net) is not NetClassifier:
        raise ValueError(
            f"the arm {name!r} trains by a class of its own, but the estimator is a "
            f"{type(net).__name__}: use NetClassifier(module), or leave the arm out"
        )
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    if arm.augmentation == "mixup" and not issubclass(criterion, nn.CrossEntropyLoss):
        raise ValueError(
            f"the arm {name!r} mixes labels, which the criterion {criterion.__name__} does not "
            "take: use torch.nn.CrossEntropyLoss, or leave the arm out"
        )
    own = "iterator_train__collate_fn" in net.get_params()
    if own or net.iterator_train is not DataLoader:
        what = "iterator_train__collate_fn" if own else "iterator_train"
        raise ValueError(
            f"the estimator has an {what} of its own, but the arms set theirs: leave it out, and "
            "compare it as an arm, Arm(augmentation=callable)"
        )
    # Raise for parameters that it does not have.
    arm.make_classifier(net, n_classes=2, max_epochs=1)


def check_arms(
    arms: Sequence[str] | Mapping[str, Arm] | None, known: Mapping[str, Arm] = ARMS
) -> dict[str, Arm]:
    """Return the arms of a comparison by name; raise ValueError if one is unknown."""
    if arms is None:
        arms = DEFAULT_ARMS
    arms = [arms] if isinstance(arms, str) else arms
    chosen: dict[str, Arm] = {}
    for name in arms:
        arm = arms[name] if isinstance(arms, Mapping) else known.get(name)
        if not isinstance(arm, Arm):
            close = get_close_matches(str(name), known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"arms must be some of {', '.join(known)}, or a dict from names to Arm (on the "
                f"command line, --augment NAME=file.py:function); got {name!r}{hint}"
            )
        chosen[name] = arm
    if not chosen:
        raise ValueError("arms is empty; expected at least one")
    # Files are named after arms, and some file systems do not tell small letters from capitals.
    if len({name.casefold() for name in chosen}) < len(chosen):
        raise ValueError(
            f"arms has two names that differ in capitals only: {', '.join(chosen)}; rename one"
        )
    return chosen


def with_twins(arms: Mapping[str, Arm]) -> tuple[dict[str, Arm], dict[str, str]]:
    """Add missing twins; return all arms, and the reference of each.

    The reference of an arm with synthesis is its twin, the same augmentation without synthesis;
    that of other arms is the first arm that does nothing ("plain").
    """
    complete = dict(arms)
    references: dict[str, str] = {}
    for name, arm in arms.items():
        if arm.objective is not None:
            twin = arm.without_synthesis()
            same = [other for other, each in [*complete.items(), *ARMS.items()] if each == twin]
            short = name.removesuffix(f"+{arm.objective}")
            own = f"{name}, without synthesis" if short in complete else short
            references[name] = (same or [own])[0]
            complete[references[name]] = twin
    without = [name for name, arm in complete.items() if arm.objective is None]
    first = next((name for name in arms if arms[name] == Arm()), without[0])
    references |= {name: first for name in without if name != first}
    # Each reference before the arms that are compared with it.
    order = sorted(complete, key=lambda name: (name != first, complete[name].objective is not None))
    return {name: complete[name] for name in order}, references
