from collections import Counter

import numpy as np
import pytest
from helpers.small import digits, distinct, quick, tiny
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.classifiers._default import NetClassifier
from tsynd_sk.synthesis._sampling import apportion, draw_sources

LABELS = {
    "integers": np.array([0, 1, 2, 3]),
    "not contiguous": np.array([7, -3, 100, 2]),
    "uint8": np.array([3, 1, 0, 200], dtype=np.uint8),
    "strings": np.array(["cyst", "benign", "malignant", "a"]),
    "objects": np.array(["cyst", "benign", "malignant", "a"], dtype=object),
    "floats": np.array([0.0, 1.0, 2.0, 3.0]),
    "bools": np.array([False, True, True, False]),
}


class TestLabels:
    @pytest.mark.parametrize("kind", LABELS)
    def test_come_back_as_they_were_given(self, kind):
        X, y = digits(60)
        y = LABELS[kind][y]
        synthesizer = quick().fit(X, y)
        np.testing.assert_array_equal(synthesizer.classes_, np.unique(y))
        _, y_new, info = synthesizer.sample(60, return_info=True)
        assert y_new.dtype == y.dtype
        assert Counter(y_new.tolist()) == Counter(y.tolist())
        np.testing.assert_array_equal(y[info.source_index], y_new)
        label = y[0]
        assert synthesizer.sample(3, y=label)[1].tolist() == [label] * 3
        assert synthesizer.sample(y={label: 2})[1].tolist() == [label] * 2
        np.testing.assert_array_equal(synthesizer.synthesize(X[:9], y[:9])[1], y[:9])

    def test_lists_and_columns_of_labels(self):
        X, y = digits(60)
        assert quick().fit(X, y.tolist()).sample(2)[1].dtype == y.dtype
        with pytest.warns(match="column-vector"):
            assert quick().fit(X, y[:, None]).sample(2)[1].shape == (2,)


class TestRequests:
    """Which labels are answered, and from which sources."""

    def test_one_row_by_default(self, digits_synthesizer):
        X_new, y_new = digits_synthesizer.sample()
        assert X_new.shape == (1, 8, 8)
        assert y_new.shape == (1,)

    @pytest.mark.parametrize("n", [1, 7, 160, 331])
    def test_classes_in_training_proportions(self, digits_synthesizer, n):
        _, y = digits()
        X_new, y_new = digits_synthesizer.sample(n)
        assert len(X_new) == n
        quotas = n * np.bincount(y) / len(y)
        assert (np.abs(np.bincount(y_new, minlength=4) - quotas) < 1).all()

    @pytest.mark.parametrize(
        ("weights", "n", "counts"),
        [
            ([50, 30, 20], 10, [5, 3, 2]),
            ([47, 16, 15, 22], 10, [5, 2, 1, 2]),
            ([1, 1, 1], 2, [1, 1, 0]),
            ([5, 0, 1], 4, [3, 0, 1]),
            ([9, 1], 1, [1, 0]),
        ],
    )
    def test_largest_remainders_get_the_rest(self, weights, n, counts):
        assert apportion(np.array(weights), n).tolist() == counts

    def test_rows_are_shuffled_where_no_order_is_asked_for(self, digits_synthesizer):
        y_new = digits_synthesizer.sample(100)[1]
        assert (np.diff(y_new) < 0).sum() > 20

    def test_array_is_answered_in_its_order(self, digits_synthesizer):
        _, y = digits()
        wanted = np.array([3, 0, 0, 2, 1, 1, 1, 3] * 4)
        for form in (wanted, wanted.tolist(), tuple(wanted)):
            X_new, y_new, info = digits_synthesizer.sample(y=form, return_info=True)
            np.testing.assert_array_equal(y_new, wanted)
            np.testing.assert_array_equal(y[info.source_index], wanted)
            assert distinct(X_new) == len(wanted)
        np.testing.assert_array_equal(digits_synthesizer.sample(32, y=wanted)[1], wanted)

    def test_dict_is_met_exactly(self, digits_synthesizer):
        _, y_new = digits_synthesizer.sample(y={2: 5, 0: 3, 1: 0})
        assert Counter(y_new.tolist()) == {2: 5, 0: 3}
        assert len(digits_synthesizer.sample(8, y={2: 5, 0: 3})[1]) == 8

    def test_label_is_answered_alone(self, digits_synthesizer):
        assert digits_synthesizer.sample(6, y=3)[1].tolist() == [3] * 6
        assert digits_synthesizer.sample(y=np.int64(3))[1].tolist() == [3]

    def test_no_source_twice_before_all_of_its_class_are_used(self, digits_synthesizer):
        _, y = digits()
        for request in ({"n_samples": 3 * len(y)}, {"y": {0: 100, 3: 7}}):
            _, y_new, info = digits_synthesizer.sample(return_info=True, **request)
            for label in np.unique(y_new):
                used = np.bincount(info.source_index[y_new == label], minlength=len(y))
                used = used[y == label]
                assert used.max() - used.min() <= 1

    def test_sources_are_drawn_at_random_with_their_occurrence(self):
        pool = np.repeat([0, 1], [10, 5])
        wanted = np.tile([1, 0], 12)
        index, occurrence = draw_sources(wanted, pool, np.random.RandomState(0))
        np.testing.assert_array_equal(pool[index], wanted)
        pairs = set(zip(index.tolist(), occurrence.tolist(), strict=True))
        assert len(pairs) == len(wanted)
        assert np.bincount(occurrence).tolist() == [15, 7, 2]
        other, _ = draw_sources(wanted, pool, np.random.RandomState(1))
        assert (index != other).any()

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("label_policy", ["constrain", "keep"])
    @pytest.mark.parametrize("objective", ["mutual_info", "random"])
    def test_no_row_comes_twice(self, frozen, objective, label_policy, dtype):
        X, y = digits()
        X = X if dtype == np.float32 else np.round(X * 255).astype(dtype)
        # Some sources are labelled wrongly, so that the constraint can never be met.
        y = np.where(np.arange(len(y)) % 10, y, (y + 1) % 4)
        synthesizer = frozen(objective=objective, label_policy=label_policy).fit(X, y)
        X_new, _, info = synthesizer.sample(3 * len(X), return_info=True)
        assert not info.label_agreement.all()
        assert distinct(X_new) == len(X_new)
        # Of last resort is the source itself, where nothing else keeps its label.
        assert distinct(np.concatenate([X, X_new])) >= distinct(X) + 0.99 * len(X_new)

    @pytest.mark.parametrize("n_samples", [0, -1, 1.5, True, "3", None])
    def test_number_that_is_none(self, digits_synthesizer, n_samples):
        with pytest.raises(ValueError, match=r"n_samples=.* expected an integer of at least 1"):
            digits_synthesizer.sample(n_samples)

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"y": 9}, r"not seen in fit: \[9\]; expected some of \[0, 1, 2, 3\]"),
            ({"y": "1"}, r"not seen in fit: \['1'\]"),
            ({"y": [0, 9]}, r"not seen in fit: \[9\]"),
            ({"y": {9: 1}}, r"not seen in fit: \[9\]"),
            ({"y": {}}, "asks for no rows"),
            ({"y": []}, "asks for no rows"),
            ({"y": {1: 0}}, "asks for no rows"),
            ({"y": {1: -1}}, r"y=\{1: -1\} is not valid"),
            ({"y": {1: 1.5}}, r"y=\{1: 1.5\} is not valid"),
            ({"y": {1: True}}, r"y=\{1: True\} is not valid"),
            ({"n_samples": 3, "y": [0, 1]}, "n_samples=3 contradicts y, which asks for 2 rows"),
            ({"n_samples": 3, "y": {0: 2}}, "n_samples=3 contradicts y, which asks for 2 rows"),
            ({"y": [[0, 1]]}, "y has 2 dimensions"),
        ],
    )
    def test_labels_that_cannot_be_answered(self, digits_synthesizer, request_, message):
        with pytest.raises(ValueError, match=message):
            digits_synthesizer.sample(**request_)


def imbalanced(counts, n_classes=4):
    """Digits with so many rows of each class, in random order."""
    X, y = digits(300, n_classes)
    rows = np.concatenate([np.flatnonzero(y == label)[:n] for label, n in enumerate(counts)])
    rows = np.random.default_rng(0).permutation(rows)
    return X[rows], y[rows]


def four_fifths(y):
    return {label: max(n, 24) for label, n in Counter(y.tolist()).items()}


class TestFitResample:
    @pytest.mark.parametrize(
        ("counts", "sampling_strategy"),
        [
            ((30, 12, 20), "auto"),
            ((30, 12, 20), "minority"),
            ((30, 12, 20), "not minority"),
            ((30, 12, 20), "not majority"),
            ((30, 12, 20), "all"),
            ((12, 30, 12, 30), "minority"),
            ((12, 30, 12, 30), "not majority"),
            ((12, 30, 12, 30), "not minority"),
            ((12, 31), 0.5),
            ((12, 31), 0.75),
            ((31, 12), 1.0),
            ((30, 12, 20), {1: 15, 2: 20}),
            ((30, 12, 20), {0: 40, 2: 21}),
            ((30, 12, 20), four_fifths),
        ],
    )
    def test_counts_are_those_of_imbalanced_learn(self, frozen, counts, sampling_strategy):
        over_sampling = pytest.importorskip("imblearn.over_sampling")
        X, y = imbalanced(counts)
        sampler = over_sampling.RandomOverSampler(sampling_strategy=sampling_strategy)
        _, expected = sampler.fit_resample(np.zeros((len(y), 1)), y)
        synthesizer = frozen(sampling_strategy=sampling_strategy)
        X_all, y_all = synthesizer.fit_resample(X, y)
        assert Counter(y_all.tolist()) == Counter(expected.tolist())
        assert len(X_all) == len(y_all) == len(synthesizer.sample_indices_)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_real_rows_come_first_and_synthetic_ones_name_their_source(self, frozen, dtype):
        X, y = imbalanced((30, 12, 20))
        X = X if dtype == np.float32 else np.round(X * 255).astype(dtype)
        synthesizer = frozen(radius=0.1)
        X_all, y_all = synthesizer.fit_resample(X, y)
        n, indices = len(X), synthesizer.sample_indices_
        assert X_all.dtype == X.dtype
        assert y_all.dtype == y.dtype
        np.testing.assert_array_equal(X_all[:n], X)
        np.testing.assert_array_equal(y_all[:n], y)
        np.testing.assert_array_equal(indices[:n], np.arange(n))
        np.testing.assert_array_equal(y[indices], y_all)
        # Each is nearest to the reconstruction of the row that it is said to come from.
        flat = synthesizer.reconstruct(X).reshape(n, -1).astype(float)
        new = X_all[n:].reshape(-1, 64).astype(float)
        nearest = ((new[:, None] - flat[None]) ** 2).sum(-1).argmin(1)
        assert (nearest == indices[n:]).mean() > 0.95
        assert distinct(X_all) == len(X_all)
        X_all[:] = 0
        assert synthesizer.sample(5)[0].any()

    def test_strings(self):
        X, y = imbalanced((30, 12))
        y = np.array(["benign", "malignant"])[y]
        _, y_all = quick(sampling_strategy={"malignant": 20}).fit_resample(X, y)
        assert Counter(y_all.tolist()) == {"benign": 30, "malignant": 20}
        assert y_all.dtype == y.dtype

    def test_balanced_classes_are_returned_as_copies(self, frozen):
        X, y = imbalanced((15, 15))
        synthesizer = frozen()
        X_all, y_all = synthesizer.fit_resample(X, y)
        np.testing.assert_array_equal(X_all, X)
        np.testing.assert_array_equal(y_all, y)
        np.testing.assert_array_equal(synthesizer.sample_indices_, np.arange(30))
        assert not np.shares_memory(X_all, X)
        assert not np.shares_memory(y_all, y)

    @pytest.mark.parametrize(
        ("counts", "sampling_strategy", "message"),
        [
            ((30, 12, 20), 0.5, "a ratio, is defined for two classes; y has 3"),
            ((30, 20), 0.5, "asks for 15 rows of class 1, no more than the 20"),
            ((30, 20), {1: 10}, "asks for 10 rows of class 1"),
            ((30, 20), {1: 25.5}, "asks for 25.5 rows of class 1"),
            ((30, 20), {9: 40}, r"labels that are not in y: \[9\]"),
        ],
    )
    def test_strategies_that_cannot_be_met(self, frozen, counts, sampling_strategy, message):
        with pytest.raises(ValueError, match=message):
            frozen(sampling_strategy=sampling_strategy).fit_resample(*imbalanced(counts))

    def test_is_a_step_of_a_pipeline_on_images(self, digits_synthesizer):
        pipeline = pytest.importorskip("imblearn.pipeline")
        nets = digits_synthesizer.classifier_, digits_synthesizer.autoencoder_
        X, y = imbalanced((40, 15, 25))
        seen = []

        class Recording(NetClassifier):
            def fit(self, X, y=None, **fit_params):
                seen.append((X.shape, Counter(y.tolist())))
                return super().fit(X, y, **fit_params)

        steps = [
            ("synthesize", tiny(*map(FrozenEstimator, nets))),
            ("classify", Recording(max_epochs=12, module__width=8)),
        ]
        # The net of the pipeline has no seed of its own.
        with scoped_seed(0):
            model = clone(pipeline.Pipeline(steps)).fit(X[:, None], y)
            assert seen == [((120, 1, 8, 8), {0: 40, 1: 40, 2: 40})]
            # Prediction passes over the step.
            assert model.predict(X[:, None]).shape == y.shape
            search = GridSearchCV(
                pipeline.Pipeline(steps),
                {"synthesize__radius": [0.2, 0.5]},
                cv=2,
                error_score="raise",
            ).fit(X[:, None], y)
            assert search.best_score_ > 0.6


def test_an_impossible_strategy_is_refused_before_training():
    X, y = digits()
    classifier = NetClassifier(max_epochs=10**9)
    synthesizer = quick(sampling_strategy={0: 1}).set_params(classifier=classifier)
    with pytest.raises(ValueError, match="synthesis only adds"):
        synthesizer.fit_resample(X, y)
