"""The two ways of use: around a user's net, or as a callback inside it."""

import pytest
from helpers.tiny_nets import X, augmented, synthesizer, y

from tsynd_sk import TargetedSynthesis
from tsynd_sk._skorch import scoped_seed

IMAGES = X[:, None]


def around(net, given=None, **params):
    """Fit an `AugmentedClassifier` around a net; give the net that it has trained."""
    learned = augmented(net, given, **params).fit(X, y)
    return learned.estimator_


def inside(net, given=None, data=(IMAGES, y), how="fit", **params):
    """Train a net that has the callback."""
    params = {"random_state": 0, "synthetic_ratio": 1.0, **params}
    synthesis = TargetedSynthesis(given or synthesizer(), **params)
    net.callbacks = [*(net.callbacks or []), synthesis]
    with scoped_seed(0):
        return getattr(net, how)(*data)


both_ways = pytest.mark.parametrize("train", [around, inside])
