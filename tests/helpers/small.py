"""Small data and nets that learn in half a second, for the tests of the synthesizer."""

import copy

import numpy as np

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

COLUMNS = (
    "source_index",
    "uncertainty_source",
    "uncertainty",
    "displacement",
    "reconstruction_error",
    "label_agreement",
)


def digits(n=160, n_classes=4):
    X, y, _ = load_digits_images()
    chosen = np.flatnonzero(y < n_classes)[:n]
    return X[chosen], y[chosen]


def tiny(classifier=None, autoencoder=None, **params):
    """Unfitted synthesizer with small nets, which learn digits in half a second."""
    classifier = classifier or NetClassifier(max_epochs=15, module__width=8)
    autoencoder = autoencoder or AutoencoderNet(max_epochs=3, epoch_size=400, module__width=16)
    params = {"n_members": 8, "max_iter": 6, "random_state": 0, **params}
    return TargetedSynthesizer(classifier, autoencoder, **params)


def quick(**params):
    """Unfitted synthesizer whose nets learn little."""
    return tiny(
        NetClassifier(max_epochs=2, module__width=8),
        AutoencoderNet(max_epochs=1, epoch_size=100, module__width=8),
        **params,
    )


def distinct(X):
    return len(np.unique(X.reshape(len(X), -1), axis=0))


def members_used(synthesizer, **request):
    """Sample, and return the members against which each occurrence of a source was ascended."""
    spy, members = copy.copy(synthesizer), synthesizer.engine_.members(synthesizer, seed=0)
    recorded, used = copy.copy(members), {}
    recorded.redrawn = lambda seed: used.setdefault(seed, members.redrawn(seed))
    spy.engine_ = copy.copy(synthesizer.engine_)
    spy.engine_.members = lambda params, seed: recorded
    answer = spy.sample(return_info=True, **request)
    return answer, list(used.values())


def textbook_information(log_probs):
    p = log_probs.double().exp().numpy()

    def entropy(q):
        return -(q * np.log(np.maximum(q, 1e-300))).sum(-1)

    return entropy(p.mean(0)) - entropy(p).mean(0)


def mean_prediction(log_probs):
    return log_probs.exp().mean(0).argmax(-1).numpy()


def correct_sources(synthesizer, members, X, y, info):
    x = synthesizer.format_.to_tensor(X[info.source_index])
    return mean_prediction(members(x)) == y[info.source_index]


def assert_same_answer(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    for column in COLUMNS:
        np.testing.assert_array_equal(one[2][column], other[2][column])
