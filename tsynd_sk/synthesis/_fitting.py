"""What the fits of all estimators share: checks of their parts, default nets, and a rollback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback

from tsynd_sk import _skorch
from tsynd_sk.autoencoders import AutoencoderNet, DensePCA, PatchPCA
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis._ascent_check import check_ascent
from tsynd_sk.synthesis._engine import Engine, scheme_of
from tsynd_sk.synthesis._member_scheme import MemberScheme

# What `tsynd_sk.images.check_images` learns of images, and what a fit learns of labels.
DATA_ATTRIBUTES = (
    "format_",
    "value_range_",
    "image_shape_",
    "n_features_in_",
    "feature_names_in_",
    "classes_",
)


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Forget what an earlier fit has learned; bring it back if this one fails."""
    attributes = vars(estimator)
    before = {name: attributes.pop(name) for name in list(attributes) if name[-1] == "_"}
    try:
        yield
    except BaseException:
        for name in list(attributes):
            if name[-1] == "_":
                del attributes[name]
        attributes.update(before)
        raise


@contextmanager
def reported(task: _skorch.Task, role: str, net: Any, verbose: int) -> Iterator[list[Callback]]:
    """Report a training as a part of a task, by callbacks for the net; a frozen one has none."""
    trains = not isinstance(net, FrozenEstimator)
    bars: list[Callback] = [_skorch.TrainingBar(role)] if verbose and trains else []
    if task.context is None or not trains:
        yield bars
        return
    subtask = task.subtask(role, net.max_epochs)
    yield [_skorch.EpochTasks(subtask), *bars]
    subtask.end()


class MembersCheck(Callback):
    """Raise ValueError if a net can have no members, or none to climb, when it is about to train.

    Not earlier, because other callbacks may size its module by the data. `x` are images as the net
    sees them, and `rows` the rows of its data set that they are, if it does not get them as such.
    """

    def __init__(self, scheme: MemberScheme, x: Any, objective: Any, rows: Any = None):
        self.scheme = scheme
        self.x = x[:8]
        self.objective = objective
        self.rows = self.x if rows is None else rows

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Raise ValueError also for members that would see other images than the net."""
        _skorch.check_own_way(net, self.rows)
        x = torch.from_numpy(self.x[:2])
        members, x = self.scheme.untrained_members(net, x), x.to(_skorch.device_of(net))
        check_ascent(members, x, self.objective, _skorch.network_of(net)._get_name())


def check_classifiers(given: Any, members: str) -> list:
    """Return the classifiers as a list, None among them; raise if one is no classifier."""
    several = isinstance(given, list | tuple)
    classifiers = list(given) if several else [given]
    if several and len(classifiers) < 2:
        raise ValueError(
            f"classifier is a list of {len(classifiers)}, but an ensemble needs two or more"
        )
    if members == "ensemble" and not several:
        raise ValueError("members='ensemble' needs a list of classifiers; got one classifier")
    for i, classifier in enumerate(classifiers):
        if classifier is not None or several:
            _skorch.check_net(classifier, f"classifier[{i}]" if several else "classifier")
    return classifiers


def find_classes(classifiers: list, x: Any, y: np.ndarray) -> np.ndarray:
    """Return the labels of the classes in the order of the columns of frozen classifiers.

    Without any, they are those in `y`, in rising order.
    """
    classes = None
    for classifier in classifiers:
        if not isinstance(classifier, FrozenEstimator):
            continue
        order = _skorch.classes_of_frozen(classifier.estimator, x, y)
        if not isinstance(classifier, _skorch.ComparedNet):
            _skorch.check_own_way(classifier.estimator, x)
        classes = order if classes is None else classes
        if not np.array_equal(order, classes):
            raise ValueError(
                f"frozen classifiers must predict the same classes in the same order; got "
                f"{classes.tolist()} and {order.tolist()}"
            )
    return np.unique(y) if classes is None else classes


def default_classifier(image_shape: tuple[int, ...] | None, verbose: int) -> NetClassifier:
    """Return the net for images, or for a table, which has no `image_shape`."""
    module = DenseNet if image_shape is None else ConvNet
    return NetClassifier(module, verbose=max(int(verbose), 0))


def default_autoencoder(image_shape: tuple[int, ...] | None, verbose: int) -> AutoencoderNet:
    """Return the autoencoder for images, or for a table, which has no `image_shape`."""
    module = DensePCA if image_shape is None else PatchPCA
    return AutoencoderNet(module, max_epochs=0, train_split=None, verbose=max(int(verbose), 0))


def clone_synthesizer(synthesizer: Any) -> Any:
    """Clone an unfitted `TargetedSynthesizer`, but not what its autoencoder's callbacks hold."""
    bare, net = copy.copy(synthesizer), synthesizer.autoencoder
    bare.autoencoder = None
    other = clone(bare)
    keeps = net is None or isinstance(net, FrozenEstimator)
    other.autoencoder = net if keeps else _skorch.clone_net(net)
    return other


def take_engine(synthesizer: Any, engine: Engine) -> None:
    """Make what an engine holds the fitted attributes of a `TargetedSynthesizer`."""
    synthesizer.engine_ = engine
    several = isinstance(synthesizer.classifier, list | tuple)
    synthesizer.classifier_ = engine.nets if several else engine.nets[0]
    if engine.autoencoder is not None:
        synthesizer.autoencoder_ = engine.autoencoder
        synthesizer.latent_scale_ = engine.latent_scale.numpy().copy()


def take_data_attributes(estimator: Any, like: Any) -> None:
    """Copy what another estimator has learned of images and labels."""
    for name in DATA_ATTRIBUTES:
        if hasattr(like, name):
            setattr(estimator, name, getattr(like, name))


def check_trainable(classifier: Any, X: Any, y: np.ndarray) -> None:
    """Raise what a fit of an `AugmentedClassifier` to images would raise, when its net is built.

    That is what its net predicts and, if anything is to be synthesised against it, its members and
    their gradients.
    """
    synthesizer, codes = classifier.synthesizer, np.unique(y, return_inverse=True)[1]
    x = ImageFormat.infer(X, synthesizer.image_shape).as_network_input(X)
    checks = []
    if classifier.synthetic_ratio:
        checks.append(MembersCheck(scheme_of(synthesizer, 1), x, synthesizer.objective))
    _skorch.dry_run(classifier.estimator, x, codes, 0, synthesizer.device, checks)
