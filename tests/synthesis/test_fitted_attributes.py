"""What other libraries read of a fitted estimator: arrays, columns, logarithms, the network."""

import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    own_net,
    synthesizer,
    y,
)
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from tsynd_sk import AugmentedClassifier


@pytest.fixture(scope="module")
def classifier():
    return augmented(net(max_epochs=4)).fit(X, y)


def leaves(value, path="", seen=None):
    """Go through all that a pickle would hold, but for nets, which skorch turns into bytes."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, NeuralNet | type):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}[key]", key
            yield from leaves(item, f"{path}.{key}", seen)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]", seen)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.Tensor):
        yield from leaves(value.__getstate__(), path, seen)
    else:
        yield path, value


@pytest.mark.parametrize("members", ["dropout", "laplace"])
def test_attributes_hold_arrays_and_names_but_no_tensors(members):
    fitted = augmented(net(max_epochs=3), synthesizer(members=members)).fit(X, y)
    fitted.uncertainty(X)
    assert isinstance(fitted.synthesizer_.latent_scale_, np.ndarray)
    assert fitted.synthesizer_.latent_scale_.dtype == np.float32
    found = dict(leaves(fitted.__getstate__()))
    assert any("engine_.seed" in path for path in found)
    if members == "laplace":
        assert any("feature_eigenvalues" in path for path in found)
    for path, value in found.items():
        assert not isinstance(value, torch.Tensor), path
        if path.endswith("[key]"):
            assert isinstance(value, str | int), path
    copied = pickle.loads(pickle.dumps(fitted))
    assert (copied.uncertainty(X) == fitted.uncertainty(X)).all()
    assert copied.synthesizer_.engine_.decisions == fitted.synthesizer_.engine_.decisions
    assert (copied.synthesizer_.sample(5)[0] == fitted.synthesizer_.sample(5)[0]).all()


class TestColumns:
    def test_images_have_none(self, classifier):
        assert not hasattr(classifier, "n_features_in_")
        assert not hasattr(classifier.synthesizer_, "n_features_in_")

    def test_flat_images_and_tables_predict_for_as_many(self):
        flat = X.reshape(80, -1)
        for given in (synthesizer(image_shape=(8, 8)), dense_synthesizer()):
            estimator = net(max_epochs=1) if given.image_shape else dense_net(max_epochs=1)
            learned = augmented(estimator, given, synthetic_ratio=0).fit(flat, y)
            assert learned.predict(np.zeros((2, learned.n_features_in_))).shape == (2,)

    def test_refit_on_images_forgets_them(self):
        learned = augmented(net(max_epochs=1), synthesizer(image_shape=(8, 8)), synthetic_ratio=0)
        assert learned.fit(X.reshape(80, -1), y).n_features_in_ == 64
        assert not hasattr(learned.fit(X, y), "n_features_in_")


class TestLogarithms:
    @pytest.mark.parametrize("labels", [y, y > 4], ids=["ten classes", "two classes"])
    def test_are_those_of_the_probabilities(self, labels):
        learned = augmented(own_net(max_epochs=2), synthetic_ratio=0)
        if labels.dtype == bool:
            binary = own_net(NeuralNetBinaryClassifier, module__n_out=1, max_epochs=2)
            learned.set_params(estimator=binary)
        learned.fit(X, labels)
        proba, log_proba = learned.predict_proba(X), learned.predict_log_proba(X)
        assert log_proba.shape == proba.shape
        assert log_proba.dtype == np.float32
        np.testing.assert_allclose(log_proba, np.log(proba), rtol=1e-4, atol=1e-6)

    def test_are_finite_where_a_probability_is_zero(self):
        learned = augmented(own_net(max_epochs=1), synthetic_ratio=0).fit(X, y)
        with torch.no_grad():
            learned.module_.layers[-1].weight.mul_(10_000)
        assert (learned.predict_proba(X) == 0).any()
        assert np.isfinite(learned.predict_log_proba(X)).all()

    def test_need_a_fit(self):
        with pytest.raises(NotFittedError):
            AugmentedClassifier().predict_log_proba(X)


class TestModule:
    def test_predicts_as_the_classifier_does(self, classifier):
        assert not classifier.module_.training
        with torch.no_grad():
            output = classifier.module_(torch.from_numpy(X[:, None]))
        proba = classifier.predict_proba(X)
        np.testing.assert_allclose(output.softmax(1), proba, rtol=1e-5, atol=1e-7)

    def test_is_in_evaluation_mode_after_a_fit_and_after_more_training(self):
        learned = augmented(own_net(max_epochs=2, train_split=None), synthetic_ratio=0).fit(X, y)
        # Without asking for it.
        assert not any(part.training for part in learned.estimator_.module_.modules())
        learned.estimator_.partial_fit(X[:, None], y)
        assert not any(part.training for part in learned.module_.modules())

    def test_is_bare(self, classifier):
        copied = pickle.loads(pickle.dumps(classifier))
        bare = copied.module_
        copied.estimator_.module_ = nn.DataParallel(bare)
        assert copied.module_ is bare

    def test_needs_a_fit(self):
        assert not hasattr(AugmentedClassifier(), "module_")
