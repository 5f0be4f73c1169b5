"""Arms of a comparison: one way each to train the same network, at the same budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from skorch.callbacks import Callback

from tsynd_sk._utils._names import ARM_NAMES, AUGMENTATIONS, DEFAULT_ARMS, OBJECTIVE_NAMES
from tsynd_sk.augmentation import TransformRows, standard_transform
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison._baselines import AdversarialNetClassifier, MixedRows, MoreRows
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

__all__ = ["ARMS", "AUGMENTATIONS", "DEFAULT_ARMS", "Arm"]

# What the comparison itself decides, so that all arms have it in common.
_RESERVED = {
    "synthesizer": ("classifier", "autoencoder", "objective", "image_shape", "random_state"),
    "classifier": ("estimator", "synthesizer", "random_state"),
    "net": ("max_epochs", "callbacks", "iterator_train", "low", "high"),
    "autoencoder": ("max_epochs", "callbacks"),
}


@dataclass(frozen=True)
class Arm:
    """One way to train the network of a comparison.

    JSON must hold all that it says, so that a comparison can tell whether it goes on with the same
    arms. Variants are made by `dataclasses.replace`.

    Parameters
    ----------
    augmentation : {"standard", "mixup", "trivial_augment", "smote", "adversarial"} or None, \
            default=None
        What happens to training images. "standard": each is flipped, turned, scaled and shifted
        at random (`standard_transform`). "mixup": batches are mixed with themselves, and their
        labels (Zhang et al., 2018). "trivial_augment": each image undergoes one of fourteen
        operations (Müller and Hutter, 2021). "smote": further images are mixtures of neighbours of
        a class, in pixels (Chawla et al., 2002). "adversarial": images are attacked (Madry et al.,
        2018).
    objective : {"reconstruction", "random", "entropy", "mutual_info"} or None, default=None
        Objective of the synthesizer. None: nothing is synthesised.
    synthesizer, classifier, net, autoencoder : dict, default={}
        Parameters of `TargetedSynthesizer`, `AugmentedClassifier`, the network (`NetClassifier`)
        and the `AutoencoderNet` that differ from their defaults. Without an objective, those of the
        classifier tell how many further rows there are, and when. Whoever changes
        `synthetic_ratio`, `warm_up` or `batch_size` changes the budget of this arm.
    unlabelled : bool, default=False
        Whether the autoencoder learns from all training images, whose labels it does not need,
        and not only from those that the classifier is trained on.

    Raises
    ------
    ValueError
        If a value or the name of a parameter is not valid, or what is said has no effect.

    Notes
    -----
    Equal budgets: arms that synthesise train on real rows in the warm-up, and on `synthetic_ratio`
    times as many synthetic ones besides after it. The others are given as many further rows from
    the same epoch on, copies of their own (which are augmented independently) or SMOTE's, and so
    take as many gradient steps.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from tsynd_sk.comparison import ARMS
    >>> replace(ARMS["standard+mutual_info"], synthesizer={"radius": 0.5}).definition()
    {'augmentation': 'standard', 'objective': 'mutual_info', 'synthesizer': {'radius': 0.5}}
    """

    augmentation: str | None = None
    objective: str | None = None
    synthesizer: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=dict)
    net: dict[str, Any] = field(default_factory=dict)
    autoencoder: dict[str, Any] = field(default_factory=dict)
    unlabelled: bool = False

    def __post_init__(self):
        for name, known in (("augmentation", AUGMENTATIONS), ("objective", OBJECTIVE_NAMES)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"{name} must be None or one of {', '.join(known)}; got {value!r}")
        if self.augmentation == "smote" and self.objective:
            raise ValueError(
                f"augmentation='smote' and objective={self.objective!r} both make the further rows "
                "of an arm: choose one of them"
            )
        for name in ("synthesizer", "autoencoder", "unlabelled"):
            if (value := getattr(self, name)) and not self.objective:
                raise ValueError(
                    f"{name}={value!r} has no effect without an objective, by which something is "
                    f"synthesised: {', '.join(OBJECTIVE_NAMES)}"
                )
        for name, reserved in _RESERVED.items():
            if taken := [key for key in getattr(self, name) if key in reserved]:
                raise ValueError(
                    f"{name} has {taken[0]!r}, which the comparison decides for all arms: leave it "
                    "out"
                )
        # Raise for wrong names and values now, not after hours of other arms.
        self._augmented()._validate_params()
        TargetedSynthesizer().set_params(**self.synthesizer)._validate_params()
        self._net_class()().set_params(**self.net)
        self.make_autoencoder(1)

    def definition(self) -> dict[str, Any]:
        """Return what differs from a plain training, as JSON has it.

        Returns
        -------
        dict
            From the names of fields to values.
        """
        blank = asdict(Arm())
        return {name: value for name, value in asdict(self).items() if value != blank[name]}

    @property
    def needs_autoencoder(self) -> bool:
        """Whether it synthesises anything."""
        return self.objective is not None and bool(self._augmented().synthetic_ratio)

    def make_autoencoder(self, max_epochs: int, **params: Any) -> AutoencoderNet:
        """Make its autoencoder, unfitted.

        Parameters
        ----------
        max_epochs : int
            Epochs at most.
        **params
            Further parameters of `AutoencoderNet`.

        Returns
        -------
        AutoencoderNet
            With the parameters of this arm.
        """
        net = AutoencoderNet(max_epochs=max_epochs, **params)
        return net.set_params(**self.autoencoder)

    def make_classifier(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        max_epochs: int,
        autoencoder: Any = None,
        flip: bool = True,
        callbacks: Sequence[Callback] = (),
        random_state: int | None = None,
    ) -> AugmentedClassifier:
        """Make its classifier, unfitted.

        Parameters
        ----------
        X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
            Training images, uint8 or float, of which the range of values matters here.
        y : ndarray of shape (n,)
            Their labels, of which the number of classes matters here.
        max_epochs : int
            Epochs.
        autoencoder : skorch net, frozen or not, or None, default=None
            Autoencoder. None: its own, which is trained for as many epochs as the classifier.
        flip : bool, default=True
            Whether a mirrored image is still one of its class.
        callbacks : sequence of skorch callbacks, default=()
            Callbacks of the network.
        random_state : int or None, default=None
            Seed of everything random.

        Returns
        -------
        AugmentedClassifier
            With the parameters of this arm.
        """
        classifier = self._augmented()
        params: dict[str, Any] = {"max_epochs": max_epochs, "callbacks": list(callbacks)}
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
            params["iterator_train"] = MoreRows
            params |= {f"iterator_train__{name}": value for name, value in rows.items()}
            classifier.set_params(synthetic_ratio=0)
        # As nets see them. The range of uint8 is that of its type.
        low, high = (0.0, 1.0) if X.dtype == np.uint8 else (float(X.min()), float(X.max()))
        collate = self._collate(len(np.unique(y)), flip, low, high)
        if collate is not None:
            params["iterator_train__collate_fn"] = collate
        if self.augmentation == "adversarial":
            params |= {"low": low, "high": high}
        synthesizer = TargetedSynthesizer(
            objective=self.objective or "mutual_info",
            autoencoder=autoencoder if self.objective else None,
        )
        if self.objective and autoencoder is None:
            synthesizer.autoencoder = self.make_autoencoder(max_epochs)
        return classifier.set_params(
            estimator=self._net_class()(**params).set_params(**self.net),
            synthesizer=synthesizer.set_params(**self.synthesizer),
            random_state=random_state,
        )

    def _augmented(self) -> AugmentedClassifier:
        return AugmentedClassifier().set_params(**self.classifier)

    def _net_class(self) -> type[NetClassifier]:
        return AdversarialNetClassifier if self.augmentation == "adversarial" else NetClassifier

    def _collate(self, n_classes: int, flip: bool, low: float, high: float) -> Any:
        if self.augmentation == "standard":
            return TransformRows(standard_transform(flip=flip, fill=low))
        if self.augmentation == "mixup":
            return MixedRows(n_classes)
        if self.augmentation == "trivial_augment":
            from torchvision.transforms import v2

            # It takes floats to lie between 0 and 1.
            scale = (high - low) or 1.0
            there, back = v2.Normalize([low], [scale]), v2.Normalize([-low / scale], [1 / scale])
            return TransformRows(v2.Compose([there, v2.TrivialAugmentWide(), back]))
        return None


def _arm_of(name: str) -> Arm:
    parts = name.split("+")
    return Arm(
        augmentation=next((part for part in parts if part in AUGMENTATIONS), None),
        objective=next((part for part in parts if part in OBJECTIVE_NAMES), None),
    )


#: All arms by name.
ARMS: dict[str, Arm] = {name: _arm_of(name) for name in ARM_NAMES}
