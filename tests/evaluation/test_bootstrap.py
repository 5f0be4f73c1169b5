import numpy as np
import pytest
from scipy import stats

from tsynd_sk.evaluation._scores import (
    draw_within_classes,
    holm,
    interval,
    over_images_and_seeds,
    resampled_scores,
    weighted_scores,
)


class TestResamples:
    def test_every_class_is_drawn_as_often_as_it_is_there(self):
        codes = np.repeat([0, 1, 2], [1, 20, 300])
        counts = draw_within_classes(codes, 50, np.random.default_rng(0))
        for code, count in enumerate([1, 20, 300]):
            np.testing.assert_array_equal(counts[codes == code].sum(axis=0), count)
        assert counts.std(axis=1)[1:].min() > 0
        # With replacement: an image stays away with a probability of 1 / e.
        assert np.mean(counts[codes == 2] == 0) == pytest.approx(np.exp(-1), abs=0.01)

    def test_scores_are_those_of_the_counts_in_blocks_of_any_width(self, monkeypatch):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 30)
        proba = np.c_[1 - y * 0.6, y * 0.6] * rng.random((30, 1))
        counts = draw_within_classes(y, 25, rng)
        expected = weighted_scores(y, proba, counts.astype(float))
        np.testing.assert_allclose(resampled_scores(y, proba, counts), expected, rtol=1e-12)
        monkeypatch.setattr("tsynd_sk.evaluation._scores._BLOCK", 30 * 4)
        np.testing.assert_allclose(resampled_scores(y, proba, counts), expected, rtol=1e-12)


class TestStatistics:
    def test_holm_by_hand(self):
        # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06 and again 0.06.
        corrected = holm(np.array([0.03, 0.01, 0.04, 0.02]))
        np.testing.assert_allclose(corrected, [0.06, 0.04, 0.06, 0.06])
        np.testing.assert_allclose(holm(np.array([0.5, 0.001, 0.9])), [1, 0.003, 1])
        assert len(holm(np.array([]))) == 0

    def test_without_error_of_images_it_is_the_paired_t_test(self):
        one, other = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.7, 0.75, 0.8, 0.7])
        found = over_images_and_seeds(one - other, np.full(500, 0.1375), 0.9)
        expected = stats.ttest_rel(one, other)
        bounds = expected.confidence_interval(0.9)
        assert found == pytest.approx((0.1375, bounds.low, bounds.high, expected.pvalue))

    def test_a_single_seed_has_the_error_of_images_alone(self):
        resampled = np.random.default_rng(0).normal(0.1, 0.04, 4000)
        _, low, _, p = over_images_and_seeds(np.array([0.1]), resampled)
        error = resampled.std(ddof=1)
        assert p == pytest.approx(2 * stats.norm.sf(0.1 / error))
        assert low == pytest.approx(0.1 - stats.norm.ppf(0.975) * error)

    def test_errors_of_seeds_and_images_add_up(self):
        differences = np.array([0.1, 0.2, 0.3])
        resampled = np.random.default_rng(0).normal(0.2, 0.05, 4000)
        seeds, images = differences.var(ddof=1) / 3, resampled.var(ddof=1)
        freedom = (seeds + images) ** 2 / (seeds**2 / 2)
        statistic = 0.2 / (seeds + images) ** 0.5
        p = over_images_and_seeds(differences, resampled)[-1]
        assert p == pytest.approx(2 * stats.t.sf(statistic, freedom))

    def test_what_never_differs_is_certain(self):
        assert over_images_and_seeds(np.zeros(3), np.zeros(100)) == (0, 0, 0, 1)

    def test_what_differs_without_scatter_has_no_interval(self):
        mean, *rest = over_images_and_seeds(np.full(3, 0.5), np.full(100, 0.5))
        assert mean == 0.5
        assert np.isnan(rest).all()

    def test_intervals_are_around_the_estimate_and_within_bounds(self):
        resampled = np.random.default_rng(0).normal(0.6, 0.05, 20_000)
        low, high = interval(0.5, resampled, 0.9)
        assert (low, high) == pytest.approx((0.5 - 1.645 * 0.05, 0.5 + 1.645 * 0.05), abs=0.003)
        assert interval(0.99, resampled, 0.9)[1] == 1
