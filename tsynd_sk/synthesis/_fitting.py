"""What all estimators share: parameters, checks of their parts, default nets, and a rollback."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback
from torch import Tensor

from tsynd_sk import _skorch
from tsynd_sk._utils._names import OBJECTIVE_NAMES, UNMOVED
from tsynd_sk.ascent import ascend
from tsynd_sk.autoencoders import AutoencoderNet, DensePCA, PatchPCA
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis._engine import Engine
from tsynd_sk.synthesis._member_scheme import KINDS, make_members, resolve_kind
from tsynd_sk.synthesis._sampling import STRATEGIES

_COUNT = Interval(Integral, 1, None, closed="left")
_RATIO = Interval(Real, 0, 1, closed="right")

# What the parameters of `TargetedSynthesizer` may be.
CONSTRAINTS: dict = {
    "classifier": "no_validation",
    "autoencoder": "no_validation",
    "objective": [StrOptions(set(OBJECTIVE_NAMES)), callable],
    "keep_detail": ["boolean"],
    "members": [StrOptions(set(KINDS))],
    "n_members": [Interval(Integral, 2, None, closed="left")],
    "restrict": [StrOptions({"last"}), _COUNT, list, tuple, None],
    "radius": [Interval(Real, 0, None, closed="neither")],
    "random_start": [Interval(Real, 0, 1, closed="both")],
    "max_iter": [_COUNT],
    "label_policy": [StrOptions({"keep", "constrain"})],
    "sampling_strategy": [StrOptions(set(STRATEGIES)), _RATIO, dict, callable],
    "image_shape": [tuple, list, None],
    "batch_size": [_COUNT, StrOptions({"auto"})],
    "device": [str, torch.device, None],
    "n_jobs": [_COUNT, Interval(Integral, None, -1, closed="right"), None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}

# What a fit learns of images and labels.
DATA_ATTRIBUTES = (
    "format_",
    "value_range_",
    "image_shape_",
    "n_features_in_",
    "feature_names_in_",
    "classes_",
)


class EstimatorOfParts(BaseEstimator):
    """Estimator whose parts may be None, which stands for a default that a fit makes."""

    #: What to give in place of None, by the name of the part.
    _examples: dict[str, str] = {}

    def set_params(self, **params):
        """Set parameters, also of parts, such as ``autoencoder__max_epochs``.

        Parameters
        ----------
        **params : dict
            Parameters by their names.

        Returns
        -------
        self : object
            This estimator.

        Raises
        ------
        ValueError
            If there is no such parameter, or it is that of a part which is None.
        """
        for key in params:
            name, of_part, _ = key.partition("__")
            if of_part and name in self._examples and params.get(name, getattr(self, name)) is None:
                raise ValueError(
                    f"{key} cannot be set while {name} is None: give {name}="
                    f"{self._examples[name]} to {type(self).__name__} first"
                )
        return super().set_params(**params)


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Forget what an earlier fit has learned; bring it back if this one fails."""
    before = dict(vars(estimator))
    for name in before:
        if name[-1] == "_":
            delattr(estimator, name)
    try:
        yield
    except BaseException:
        for name in list(vars(estimator)):
            if name[-1] == "_":
                delattr(estimator, name)
        vars(estimator).update(before)
        raise


@contextmanager
def reported(task: _skorch.Task, role: str, net: Any, verbose: int) -> Iterator[list[Callback]]:
    """Report a training as a part of a task, by callbacks for a net that is not frozen."""
    trains = not isinstance(net, FrozenEstimator)
    bars: list[Callback] = [_skorch.TrainingBar(role)] if verbose and trains else []
    if task.context is None or not trains:
        yield bars
        return
    subtask = task.subtask(role, net.max_epochs)
    yield [_skorch.EpochTasks(subtask), *bars]
    subtask.end()


@dataclass(eq=False, repr=False)
class MembersCheck(Callback):
    """Raise ValueError if a net can have no members, or none with gradients, before it trains.

    Not earlier, because other callbacks may size its module by the data. `x` are images as the net,
    one of `n_nets`, sees them, and `rows` those of its data set, if it does not get them as such.
    """

    params: Any
    n_nets: int
    x: Any
    rows: Any = None

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        _skorch.check_own_way(net, self.x if self.rows is None else self.rows)
        x = torch.from_numpy(self.x[:2]).to(_skorch.device_of(net))
        kind, posterior = resolve_kind(self.params, net, self.n_nets, x)
        members = make_members(self.params, kind, [net], [posterior], x.device, [{}])
        # Raises if no members can be made.
        members(x)
        check_ascent(members, [net], x, self.params.objective)

    def __getstate__(self):
        # Not to be saved with a net that trains.
        return {}


@torch.inference_mode(False)
def check_ascent(
    members: Callable[[Tensor], Tensor], nets: Sequence[Any], x: Tensor, objective: Any
) -> None:
    """Raise ValueError if members, or an objective, let no gradient through to images."""
    if objective == "random" or objective in UNMOVED:
        return
    x = x[:2].detach().clone()
    slope, cause = None, None
    reason = (
        "its forward, or what a net does before and after it, computes something under "
        "torch.no_grad, detaches it, or leaves torch. To freeze a part of a network, let gradients "
        "through and set requires_grad_(False) on its parameters, as "
        "tsynd_sk.classifiers.Pretrained does with freeze=True."
    )
    try:
        with torch.enable_grad():
            images = x.clone().requires_grad_()
            log_probs = members(images)
            if log_probs.requires_grad:
                (slope,) = torch.autograd.grad(log_probs.sum(), images, allow_unused=True)
    except RuntimeError as error:
        cause = error
        reason = f"{str(error).splitlines()[0]} Functions of torch keep gradients."
    if slope is None:
        names = [_skorch.network_of(net)._get_name() for net in nets]
        raise ValueError(
            f"the predictions of {' and '.join(dict.fromkeys(names))} have no gradient with "
            f"respect to its images, by which images are synthesised: {reason} Or use "
            "objective='random', which needs no gradients."
        ) from cause
    if callable(objective):
        y = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        ascend(members, lambda z: z, x, y, objective=objective, max_iter=1)


def check_parts(synthesizer: Any) -> list:
    """Return the classifiers as a list; raise if a net is not what it should be."""
    given = synthesizer.classifier
    several = isinstance(given, list | tuple)
    classifiers = list(given) if several else [given]
    if several and len(classifiers) < 2:
        raise ValueError(
            f"classifier is a list of {len(classifiers)}, but an ensemble needs two or more"
        )
    if synthesizer.members == "ensemble" and not several:
        raise ValueError("members='ensemble' needs a list of classifiers; got one classifier")
    for i, classifier in enumerate(classifiers):
        if classifier is not None or several:
            _skorch.check_net(classifier, f"classifier[{i}]" if several else "classifier")
    if synthesizer.autoencoder is not None:
        _skorch.check_autoencoder(synthesizer.autoencoder)
    return classifiers


def classes_of_frozen(classifiers: list, x: Any, y: np.ndarray) -> np.ndarray:
    """Return the labels of the columns of frozen classifiers."""
    orders = []
    for classifier in classifiers:
        orders.append(_skorch.classes_of_frozen(classifier.estimator, x, y))
        if not isinstance(classifier, _skorch.ComparedNet):
            _skorch.check_own_way(classifier.estimator, x)
        if not np.array_equal(orders[0], orders[-1]):
            raise ValueError(
                f"frozen classifiers must predict the same classes in the same order; got "
                f"{orders[0].tolist()} and {orders[-1].tolist()}"
            )
    return orders[0]


def default_net(role: str, image_shape: tuple[int, ...] | None, verbose: int = 0) -> Any:
    """Return the net that stands for None; without `image_shape`, for a table."""
    verbose, for_images = max(int(verbose) - 1, 0), image_shape is not None
    if role == "classifier":
        return NetClassifier(ConvNet if for_images else DenseNet, verbose=verbose)
    module = PatchPCA if for_images else DensePCA
    return AutoencoderNet(module, max_epochs=0, train_split=None, verbose=verbose)


def clone_synthesizer(synthesizer: Any) -> Any:
    """Clone a `TargetedSynthesizer`, but not what its autoencoder's callbacks hold."""
    bare, net = copy.copy(synthesizer), synthesizer.autoencoder
    bare.autoencoder = None
    other = clone(bare)
    keeps = net is None or isinstance(net, FrozenEstimator)
    other.autoencoder = net if keeps else _skorch.clone_net(net)
    return other


def take_engine(synthesizer: Any, engine: Engine) -> None:
    synthesizer.engine_ = engine
    several = isinstance(synthesizer.classifier, list | tuple)
    synthesizer.classifier_ = engine.nets if several else engine.nets[0]
    if engine.autoencoder is not None:
        synthesizer.autoencoder_ = engine.autoencoder
        synthesizer.latent_scale_ = engine.latent_scale.numpy().copy()


def take_data_attributes(estimator: Any, like: Any) -> None:
    for name in DATA_ATTRIBUTES:
        if hasattr(like, name):
            setattr(estimator, name, getattr(like, name))


def check_trainable(classifier: Any, X: Any, y: np.ndarray) -> None:
    """Raise what a fit of an `AugmentedClassifier` would raise when its net is built."""
    synthesizer, codes = classifier.synthesizer, np.unique(y, return_inverse=True)[1]
    x = ImageFormat.infer(X, synthesizer.image_shape).as_network_input(X)
    checks = []
    if classifier.synthetic_ratio:
        checks.append(MembersCheck(synthesizer, 1, x))
    _skorch.dry_run(classifier.estimator, x, codes, 0, synthesizer.device, checks)
