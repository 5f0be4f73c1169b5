"""scikit-learn's own checks of estimators, on tables and with tiny nets."""

from functools import partial
from unittest import SkipTest

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder
from tsynd_sk.classifiers import DenseNet, NetClassifier


def tiny_synthesizer(**params):
    autoencoder = AutoencoderNet(DenseAutoencoder, max_epochs=1, epoch_size=32)
    return TargetedSynthesizer(
        autoencoder=autoencoder, n_members=4, max_iter=2, random_state=0, **params
    )


def tiny_net(**params):
    return NetClassifier(DenseNet, module__width=16, **params)


@pytest.fixture
def array_api(monkeypatch):
    # scikit-learn dispatches over array libraries only where this is set; for numpy's arrays,
    # which are all that the checks give to these estimators, scipy need not have seen it too.
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@pytest.fixture
def single_precision(monkeypatch):
    # Checks of invariance compare by the precision of float64. Nets compute in float32, whose last
    # digit depends on where in a batch a row stands, on some processors.
    compare = partial(estimator_checks.assert_allclose_dense_sparse, rtol=1e-6)
    monkeypatch.setattr(estimator_checks, "assert_allclose_dense_sparse", compare)


#: Checks that demand accuracy, for which a net has to learn.
DEMANDING = ("check_classifiers_train", "check_classifiers_classes", "check_class_weight")


@pytest.mark.usefixtures("array_api", "single_precision")
@parametrize_with_checks(
    [
        AugmentedClassifier(tiny_net(max_epochs=2), tiny_synthesizer(), random_state=0),
        tiny_synthesizer(classifier=tiny_net(max_epochs=2)),
    ]
)
def test_estimator_is_one_of_scikit_learn(estimator, check):
    if isinstance(estimator, AugmentedClassifier) and check.func.__name__ in DEMANDING:
        estimator.set_params(estimator__max_epochs=15, estimator__lr=0.02, refresh_every=15)
    try:
        check(estimator)
    except SkipTest as skipped:
        # Every check has to run: what it misses is to be installed or set, not passed over.
        pytest.fail(f"{check} did not run: {skipped}")
