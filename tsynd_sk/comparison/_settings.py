"""What determines the numbers of a comparison."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder, PatchPCA
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.comparison._arms import ARMS, DEFAULT_ARMS, Arm
from tsynd_sk.comparison._network import Network
from tsynd_sk.comparison._splits import Splits
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

# An arm says what differs from their defaults.
_PARTS = (
    TargetedSynthesizer,
    AugmentedClassifier,
    NetClassifier,
    ConvNet,
    AutoencoderNet,
    PatchAutoencoder,
    PatchPCA,
)


@dataclass(frozen=True)
class Settings:
    """What determines the numbers of a comparison.

    Attributes
    ----------
    n_train : int
        Labelled training images, drawn anew for each seed.
    arms : tuple of str, or dict of str to Arm, default=`DEFAULT_ARMS`
        Names of `ARMS`, or arms of one's own by name, in the order of the results.
    seeds : int, default=3
        Number of seeds, 0 to ``seeds - 1``.
    epochs : int, default=60
        Training epochs of each classifier.
    autoencoder_epochs : int, default=0
        Training epochs of the autoencoder of each seed, at most. 0: principal components in closed
        form, as `TargetedSynthesizer` has them; more: a `PatchAutoencoder`.
    eps : tuple of float, default=()
        Strengths of attacks, in 255ths of the range of values. By default there is no attack.
    attacks : tuple of {"fgsm", "pgd", "autoattack", "square"}, default=("pgd",)
        Attacks, see `adversarial_scores`; "pgd" takes 20 steps from one start.
    n_attacked : int or None, default=256
        Test images that are attacked at most, the same in every run and with the classes' shares.
        None: all.
    network : Network, default=Network()
        What all arms train.

    Raises
    ------
    ValueError
        If an arm or an attack is unknown, a strength or number is out of range, or two arms have
        the same name, capitals apart.
    TypeError
        If a number is no int.

    Examples
    --------
    >>> from tsynd_sk.comparison import Settings
    >>> settings = Settings(100, arms=("plain", "standard"), seeds=5)
    >>> list(settings.definitions)
    ['plain', 'standard']
    """

    n_train: int
    arms: tuple[str, ...] | Mapping[str, Arm] = DEFAULT_ARMS
    seeds: int = 3
    epochs: int = 60
    autoencoder_epochs: int = 0
    eps: tuple[float, ...] = ()
    attacks: tuple[str, ...] = ("pgd",)
    n_attacked: int | None = 256
    network: Network = field(default_factory=Network)

    def __post_init__(self):
        least = {"n_train": 1, "seeds": 1, "epochs": 1, "autoencoder_epochs": 0}
        for name, lowest in least.items():
            number = check_int_at_least(name, getattr(self, name), lowest)
            object.__setattr__(self, name, number)
        own = isinstance(self.arms, Mapping)
        names = list(dict.fromkeys(self.arms))
        if not own and (unknown := [name for name in names if name not in ARMS]):
            raise ValueError(
                f"there is no arm {unknown[0]!r}; known: {', '.join(ARMS)}. For arms of your own "
                "give a dict from names to Arm."
            )
        # Files are named after arms, and some file systems do not tell small letters from capitals.
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"two arms have the same name, capitals apart: {', '.join(names)}")
        # A dict that is changed later must not change what has been compared.
        object.__setattr__(self, "arms", self.definitions if own else tuple(names))
        object.__setattr__(self, "eps", tuple(dict.fromkeys(map(float, self.eps))))
        if wrong_eps := [eps for eps in self.eps if not 0 < eps <= 255]:
            raise ValueError(f"eps must be above 0 and at most 255, in 255ths; got {wrong_eps[0]}")
        object.__setattr__(self, "attacks", tuple(dict.fromkeys(self.attacks)))
        if strange := [attack for attack in self.attacks if attack not in ATTACKS]:
            raise ValueError(f"attacks must be some of {', '.join(ATTACKS)}; got {strange[0]!r}")

    @property
    def definitions(self) -> dict[str, Arm]:
        """Arms by name."""
        return {n: self.arms[n] if isinstance(self.arms, Mapping) else ARMS[n] for n in self.arms}


def part_defaults(parts: tuple[type, ...] = _PARTS) -> dict[str, str]:
    """Return the defaults of all that arms are made of: another version may have changed them."""
    return {
        f"{part.__name__}.{name}": getattr(parameter.default, "__name__", repr(parameter.default))
        for part in parts
        for name, parameter in inspect.signature(part).parameters.items()
        if parameter.default is not parameter.empty
    }


def described(splits: Splits, settings: Settings) -> dict[str, Any]:
    """Return all that the numbers of a comparison follow from, as JSON has it."""
    images = {"digest": splits.digest(), "flip": splits.flip, "scored_on": splits.scored_on}
    arms = {name: arm.definition() for name, arm in settings.definitions.items()}
    network = settings.network
    description = {
        "dataset": splits.name,
        **images,
        **vars(settings),
        "arms": arms,
        "network": network.definition(),
        "defaults": part_defaults(_PARTS if network.net is None else (*_PARTS, Pretrained)),
    }
    if not description["network"]:
        # Folders of before there was a choice go on.
        del description["network"]
    # As it is read back: without tuples.
    return json.loads(json.dumps(description))
