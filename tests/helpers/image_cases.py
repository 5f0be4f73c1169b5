"""Both estimators with images in all layouts, fitted once for all tests that only ask."""

import copy
from functools import cache

import numpy as np
from helpers.small import digits
from helpers.tiny_nets import augmented, net, synthesizer
from sklearn.base import clone

from tsynd_sk.autoencoders import AutoencoderNet

GREY, y = digits(24, 3)
# Height and width differ, so that no axis can be taken for another one.
COLOUR = np.stack([GREY, 1 - GREY, GREY / 2], axis=1)[:, :, :, :7]
LAYOUTS = {
    "HW": (GREY, None),
    "HWC": (np.ascontiguousarray(np.moveaxis(COLOUR, 1, -1)), None),
    "CHW": (np.ascontiguousarray(COLOUR), None),
    "flat": (COLOUR.reshape(len(y), -1), (3, 8, 7)),
}
# What maps images to one answer each.
METHODS = {
    "AugmentedClassifier": ("predict", "predict_proba", "uncertainty"),
    "TargetedSynthesizer": ("uncertainty", "reconstruct"),
}


class Case:
    """An estimator, and images in one of the layouts."""

    def __init__(self, kind, layout):
        self.kind, self.methods = kind, METHODS[kind]
        self.X, self.image_shape = LAYOUTS[layout]
        autoencoder = AutoencoderNet(max_epochs=1, epoch_size=32, module__width=8)
        classifier = net(max_epochs=2, batch_size=12)
        params = {"n_members": 3, "random_state": 0}
        given = synthesizer(autoencoder=autoencoder, image_shape=self.image_shape, **params)
        if kind == "AugmentedClassifier":
            self.unfitted = augmented(classifier, given, refresh_every=1)
        else:
            self.unfitted = given.set_params(classifier=classifier)

    def new(self, **params):
        return clone(self.unfitted).set_params(**params)

    def fit(self, X=None, labels=y, **params):
        return self.new(**params).fit(self.X if X is None else X, labels)

    def copy(self):
        """Make a fitted estimator that a test may spoil."""
        return copy.deepcopy(self.fitted)

    @property
    def synthesizer(self):
        """Prefix of the synthesizer's parameters."""
        return "synthesizer__" if self.kind == "AugmentedClassifier" else ""

    def rows(self, estimator, X):
        return {name: getattr(estimator, name)(X) for name in self.methods}

    def answers(self, estimator, X=None):
        """Give all that a fitted estimator has to say, also of images in another container."""
        X = self.X if X is None else X
        sampler, answers = synthesizer_of(estimator), self.rows(estimator, X)
        for name, (X_new, y_new, info) in {
            "synthesize": sampler.synthesize(X, y, random_state=1, return_info=True),
            "sample": sampler.sample(9, random_state=1, return_info=True),
        }.items():
            answers |= {name: X_new, f"{name} y": y_new}
            answers |= {f"{name} {column}": values for column, values in info.items()}
        return answers


@cache
def cases(kind, layout):
    case = Case(kind, layout)
    case.fitted = case.fit()
    case.expected = case.answers(case.fitted)
    return case


def synthesizer_of(estimator):
    return getattr(estimator, "synthesizer_", estimator)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
        assert values.dtype == other[name].dtype, name


def assert_close(one, other):
    """Equal up to the rounding of batches of another size."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-5, atol=1e-6, err_msg=name)
