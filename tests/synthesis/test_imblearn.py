"""The synthesizer among imbalanced-learn's samplers."""

from collections import Counter

import numpy as np
import pytest
from helpers.tiny_nets import IMAGES, LABELS, dense_net, dense_synthesizer, net, synthesizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.synthesis._sampling import resampling_counts

check_sampling_strategy = pytest.importorskip("imblearn.utils").check_sampling_strategy
pipelines = pytest.importorskip("imblearn.pipeline")
ensembles = pytest.importorskip("imblearn.ensemble")

NAMES = {
    "integers": [0, 1, 2, 3],
    "not in order": [30, -7, 100, 2],
    "strings": ["cyst", "benign", "malignant", "b"],
    "bools": [True, False],
}


@st.composite
def problems(draw):
    """Labels in some order, and a strategy that may or may not be possible for them."""
    names = NAMES[draw(st.sampled_from(sorted(NAMES)))]
    kind = draw(st.sampled_from(["word", "ratio", "dict", "enough"]))
    # A ratio is possible for two classes only.
    n_most = 2 if kind == "ratio" and draw(st.integers(0, 9)) else len(names)
    counts = draw(st.lists(st.integers(1, 12), min_size=2, max_size=n_most))
    names = names[: len(counts)]
    y = np.repeat(np.array(names), counts)
    y = y[np.random.default_rng(draw(st.integers(0, 99))).permutation(len(y))]
    at_least = {name: st.integers(n, 15) for name, n in zip(names, counts, strict=True)}
    strategy = draw(
        {
            "word": st.sampled_from(["auto", "minority", "not minority", "not majority", "all"]),
            "ratio": st.floats(min(counts) / max(counts), 1) | st.sampled_from([0.05, 0.5, 1, 1.0]),
            "dict": st.dictionaries(st.sampled_from([*names, "none"]), st.integers(-1, 15)),
            "enough": st.fixed_dictionaries({}, optional=at_least),
        }[kind]
    )
    if isinstance(strategy, dict) and draw(st.booleans()):
        return y, lambda labels: {name: n for name, n in strategy.items() if name in labels}
    return y, strategy


def asked(count, strategy, y, *args):
    try:
        counts = count(strategy, y, *args)
    except (ValueError, TypeError):
        return None
    return {label: n for label, n in counts.items() if n}


@pytest.mark.slow
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(problem=problems())
def test_as_many_rows_are_asked_for_as_by_any_over_sampler(problem):
    y, strategy = problem
    expected = asked(check_sampling_strategy, strategy, y, "over-sampling")
    assert asked(resampling_counts, strategy, y) == expected


class TestPipelines:
    def images(self):
        """Give many zeros and few ones, as colour images."""
        rows = np.flatnonzero((LABELS == 0) | (LABELS == 1) & (np.arange(len(LABELS)) % 3 == 0))
        return np.stack([IMAGES[rows[:70]]] * 3, axis=-1), LABELS[rows[:70]]

    def table(self):
        X, y = load_breast_cancer(return_X_y=True)
        rows = np.flatnonzero((y == 1) | (np.arange(len(y)) % 3 == 0))[:90]
        return X[rows], np.array(["malignant", "benign"])[y[rows]]

    def test_images_in_cross_validation(self):
        X, y = self.images()
        channels_first = FunctionTransformer(np.moveaxis, kw_args={"source": -1, "destination": 1})
        steps = [
            ("brighten", FunctionTransformer(np.sqrt)),
            ("targeted", synthesizer(classifier=net(max_epochs=2), random_state=0)),
            ("channels first", channels_first),
            ("classify", net(max_epochs=10, lr=0.01)),
        ]
        # The last net has no seed of its own.
        with scoped_seed(0):
            results = cross_validate(
                pipelines.Pipeline(steps),
                X,
                y,
                cv=2,
                scoring="balanced_accuracy",
                return_estimator=True,
                return_indices=True,
                error_score="raise",
            )
        assert results["test_score"].min() > 0.6
        for fitted, train in zip(results["estimator"], results["indices"]["train"], strict=True):
            sources, n_zeros = fitted["targeted"].sample_indices_, np.sum(y[train] == 0)
            np.testing.assert_array_equal(sources[: len(train)], np.arange(len(train)))
            assert Counter(y[train][sources].tolist()) == {0: n_zeros, 1: n_zeros}

    def test_tables_in_a_search(self):
        X, y = self.table()
        steps = [
            ("scale", StandardScaler()),
            ("targeted", dense_synthesizer(classifier=dense_net(max_epochs=3), random_state=0)),
            ("classify", LogisticRegression()),
        ]
        n_benign, n_malignant = np.sum(y == "benign"), np.sum(y == "malignant")
        grid = {
            "targeted__radius": [0.1],
            "targeted__sampling_strategy": ["auto", 0.9, balanced],
        }
        search = GridSearchCV(pipelines.Pipeline(steps), grid, cv=2, error_score="raise")
        search.fit(X, y)
        scores = search.cv_results_["mean_test_score"]
        assert scores.min() > 0.8
        # Both ways to ask for as many rows of both give the same ones.
        assert scores[0] == scores[2]
        best = search.best_estimator_["targeted"]
        assert best.radius == search.best_params_["targeted__radius"]
        assert len(best.sample_indices_) > n_benign + n_malignant
        assert set(search.predict(X)) == {"benign", "malignant"}

    @pytest.mark.parametrize("strategy", ["auto", 0.9])
    def test_tables_in_bags(self, strategy):
        X, y = self.table()
        sampler = dense_synthesizer(classifier=dense_net(max_epochs=2))
        bags = ensembles.BalancedBaggingClassifier(
            LogisticRegression(),
            n_estimators=2,
            sampler=sampler,
            sampling_strategy=strategy,
            random_state=0,
        ).fit(StandardScaler().fit_transform(X), y)
        assert bags.score(StandardScaler().fit_transform(X), y) > 0.8
        for bag in bags.estimators_:
            # Bags number the labels: 0 is benign, of which there are more.
            fitted = bag[0]
            n_benign, n_malignant = np.bincount(fitted.engine_.codes)
            wanted = n_benign if strategy == "auto" else int(0.9 * n_benign)
            assert fitted.sampling_strategy_ == {1: wanted - n_malignant}


def balanced(y):
    counts = Counter(y.tolist())
    return dict.fromkeys(counts, max(counts.values()))
