"""Which rows are asked for, which sources they start from, and how classes are balanced."""

from collections import Counter

import numpy as np
import pytest
from helpers.small import digits, distinct, quick

from tsynd_sk.synthesis._sampling import apportion, draw_sources

LABELS = {
    "not contiguous": np.array([7, -3, 100, 2]),
    "objects": np.array(["cyst", "benign", "malignant", "a"], dtype=object),
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


class TestRequests:
    """Which labels are answered, and from which sources."""

    @pytest.mark.parametrize("n", [7, 331])
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
        assert digits_synthesizer.sample()[0].shape == (1, 8, 8)
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

    @pytest.mark.parametrize(
        ("objective", "label_policy", "dtype"),
        [
            ("mutual_info", "constrain", np.uint8),
            ("mutual_info", "keep", np.float32),
            ("random", "constrain", np.float32),
            ("random", "keep", np.uint8),
        ],
    )
    def test_no_row_comes_twice(self, frozen, objective, label_policy, dtype):
        X, y = digits()
        X = X if dtype == np.float32 else np.round(X * 255).astype(dtype)
        # Some sources are labelled wrongly, so that the constraint can never be met.
        y = np.where(np.arange(len(y)) % 10, y, (y + 1) % 4)
        synthesizer = frozen(objective=objective, label_policy=label_policy).fit(X, y)
        X_new, _, info = synthesizer.sample(3 * len(X), return_info=True)
        assert not info.label_agreement.all()
        assert distinct(X_new) == len(X_new)
        # None is a copy of a real image.
        assert distinct(np.concatenate([X, X_new])) == distinct(X) + len(X_new)


def imbalanced(counts, n_classes=4):
    """Digits with so many rows of each class, in random order."""
    X, y = digits(300, n_classes)
    rows = np.concatenate([np.flatnonzero(y == label)[:n] for label, n in enumerate(counts)])
    rows = np.random.default_rng(0).permutation(rows)
    return X[rows], y[rows]


def at_least_24(y):
    return {label: max(n, 24) for label, n in Counter(y.tolist()).items()}


class TestFitResample:
    @pytest.mark.parametrize(
        ("counts", "sampling_strategy"),
        [
            ((30, 12, 20), "auto"),
            ((30, 12, 20), "minority"),
            ((30, 12, 20), "not minority"),
            ((30, 12, 20), "all"),
            ((12, 30, 12, 30), "minority"),
            ((12, 30, 12, 30), "not majority"),
            ((12, 31), 0.75),
            ((30, 12, 20), {0: 40, 2: 21}),
            ((30, 12, 20), at_least_24),
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

    def test_real_rows_come_first_and_synthetic_ones_name_their_source(self, frozen):
        X, y = imbalanced((30, 12, 20))
        X = np.round(X * 255).astype(np.uint8)
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

    def test_balanced_classes_are_returned_as_copies(self, frozen):
        X, y = imbalanced((15, 15))
        synthesizer = frozen()
        X_all, y_all = synthesizer.fit_resample(X, y)
        np.testing.assert_array_equal(X_all, X)
        np.testing.assert_array_equal(y_all, y)
        np.testing.assert_array_equal(synthesizer.sample_indices_, np.arange(30))
        assert not np.shares_memory(X_all, X)
        assert not np.shares_memory(y_all, y)
