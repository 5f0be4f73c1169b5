"""Paired differences of a comparison: intervals and tests, on numbers that are made."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_results import made, of_two_arms
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from tsynd_sk.comparison import Difference
from tsynd_sk.comparison._differences import (
    corrected,
    over_hold_outs,
    predicted_scores,
    resampled_images,
)
from tsynd_sk.evaluation import over_images_and_seeds


class TestHoldOuts:
    def test_are_corrected_for_what_trainings_share(self):
        each = np.array([0.01, 0.03, 0.02, 0.06])
        mean, low, high, p = over_hold_outs(each, 1 / 3)
        # By hand: 1/4 + 1/3 of the variance, a t of 3 degrees of freedom.
        error = np.sqrt(each.var(ddof=1) * (1 / 4 + 1 / 3))
        assert mean == pytest.approx(0.03)
        assert (low, high) == pytest.approx((0.03 - 3.182446 * error, 0.03 + 3.182446 * error))
        assert p == pytest.approx(2 * stats.t.sf(0.03 / error, 3))

    def test_without_shared_images_are_those_of_a_t_test(self):
        each = np.random.default_rng(0).normal(0.1, 1, 7)
        found = stats.ttest_1samp(each, 0)
        interval = found.confidence_interval()
        assert over_hold_outs(each, 0.0) == pytest.approx(
            (each.mean(), interval.low, interval.high, found.pvalue)
        )

    def test_arms_that_never_differ_have_no_width(self):
        assert over_hold_outs(np.zeros(3), 0.3) == (0, 0, 0, 1)

    @pytest.mark.parametrize("each", [[0.5] * 3, [0.3 - 0.2, 0.4 - 0.3, 0.1]])
    def test_equal_differences_have_no_interval(self, each):
        mean, *rest = over_hold_outs(np.array(each), 0.3)
        assert mean == pytest.approx(each[0])
        assert np.isnan(rest).all()


class TestImagesAndSeeds:
    def test_both_variances_count(self):
        rng = np.random.default_rng(0)
        each, resampled = rng.normal(0.1, 0.02, 5), rng.normal(0.1, 0.03, 1000)
        mean, low, high, p = over_images_and_seeds(each, resampled)
        seeds, images = each.var(ddof=1) / 5, resampled.var(ddof=1)
        freedom = 4 * ((seeds + images) / seeds) ** 2
        width = stats.t.isf(0.025, freedom) * np.sqrt(seeds + images)
        assert (low, high) == pytest.approx((mean - width, mean + width))
        assert p == pytest.approx(2 * stats.t.sf(mean / np.sqrt(seeds + images), freedom))
        # Seeds alone would promise more.
        assert width > np.subtract(*over_hold_outs(each, 0.0)[2:0:-1]) / 2

    def test_resamples_keep_the_size_of_classes(self):
        codes = np.repeat([0, 1, 2], [5, 20, 1])
        weights = resampled_images(codes, None, seed=0)
        for code, n in enumerate((5, 20, 1)):
            assert (weights[codes == code].sum(0) == n).all()
        assert len(np.unique(weights[0])) > 2
        np.testing.assert_array_equal(weights, resampled_images(codes, None, seed=0))

    def test_groups_are_drawn_whole(self):
        codes, groups = np.arange(30) % 2, np.repeat(list("abcdef"), 5)
        weights = resampled_images(codes, groups, seed=0)
        assert all((weights[groups == g] == weights[groups == g][0]).all() for g in "abcdef")
        assert (weights.sum(0) == 30).all()
        assert weights[::5].max() > 1

    def test_groups_widen_the_interval(self):
        # Three copies of each image, in one group, tell no more than the image; seeds tell nothing.
        made_once = of_two_arms({"standard": 0.5}, n_test=120)
        test = made_once.test_rows[0][:40].repeat(3)
        first = {arm: made_once.probabilities[0, arm] for arm in made_once.arms}
        result = replace(
            made_once,
            test_rows=[test] * 5,
            probabilities={
                (k, arm): proba[:40].repeat(3, axis=0)
                for k in range(5)
                for arm, proba in first.items()
            },
            rows=[{**row, "run": k} for k in range(5) for row in made_once.rows if row["run"] == 0],
        )
        blind, seeing = (
            replace(result, groups=groups).difference("standard", "plain", "nll")
            for groups in (None, np.arange(240))
        )
        ratio = (seeing.high - seeing.low) / (blind.high - blind.low)
        assert 1.4 < ratio < 2.2


class TestScores:
    def test_are_those_of_scikit_learn(self):
        rng = np.random.default_rng(0)
        codes, proba = rng.integers(3, size=60), rng.dirichlet(np.ones(3), 60)
        weights = rng.integers(0, 3, (60, 4)).astype(float)
        scores = predicted_scores(codes, proba, weights)
        assert {value.shape for value in scores.values()} == {(4,)}
        for k, weight in enumerate(weights.T):
            rows = np.repeat(np.arange(60), weight.astype(int))
            y, p = codes[rows], proba[rows]
            assert scores["nll"][k] == pytest.approx(log_loss(y, p))
            assert scores["balanced_accuracy"][k] == pytest.approx(
                balanced_accuracy_score(y, p.argmax(1))
            )
            assert scores["roc_auc"][k] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))

    def test_a_certain_error_is_finite(self):
        assert np.isfinite(predicted_scores(np.array([0, 1]), np.eye(2)[::-1])["nll"]).all()


class TestCorrection:
    def difference(self, p):
        return Difference("a", "b", "roc_auc", 0.1, 0.0, 0.2, p)

    def test_is_that_of_holm(self):
        found = corrected([self.difference(p) for p in (0.03, 0.01, np.nan, 0.5)])
        np.testing.assert_allclose(
            [each.p_corrected for each in found], [0.06, 0.03, np.nan, 0.5], equal_nan=True
        )
        assert [each.is_found for each in found] == [False, True, False, False]
        assert found[0].p == 0.03

    def test_of_nothing_is_nothing(self):
        assert corrected([]) == []

    @pytest.mark.parametrize(("score", "gain"), [("roc_auc", True), ("nll", False)])
    def test_a_gain_is_what_is_better(self, score, gain):
        assert Difference("a", "b", score, 0.1, 0.0, 0.2, 0.1).is_gain == gain


class TestOfResults:
    @pytest.mark.parametrize("official", [True, False])
    def test_one_run_says_nothing(self, official):
        result = made({"standard": 0.5}, n_runs=1, official=official)
        found = result.difference("standard", "plain", "nll")
        assert found.mean < 0
        assert np.isnan([found.low, found.high, found.p]).all()

    def test_hold_outs_know_their_sizes(self):
        result = made({"standard": 0.5}, official=False)
        each = result.values("standard", "nll") - result.values("plain", "nll")
        found = result.difference("standard", "plain", "nll")
        assert (found.mean, found.low, found.high, found.p) == over_hold_outs(each, 1.0)

    def test_scores_that_are_not_kept_by_image_are_compared_over_runs(self):
        result = made({"standard": 0.5})
        each = result.values("standard", "perturbed_nll") - result.values("plain", "perturbed_nll")
        found = result.difference("standard", "plain", "perturbed_nll")
        assert (found.mean, found.low, found.high, found.p) == over_hold_outs(each, 0.0)

    def test_an_official_split_resamples_images(self):
        result = made({"standard": 0.5})
        found = result.difference("standard", "plain", "nll")
        each = result.values("standard", "nll") - result.values("plain", "nll")
        assert found.high - found.low > np.subtract(*over_hold_outs(each, 0.0)[2:0:-1])
        assert found.low < each.mean() < found.high

    def test_all_arms_are_corrected_at_once(self):
        found = made({"standard": 0.5}).differences()
        assert [(d.arm, d.reference) for d in found] == [
            ("standard", "plain"),
            ("standard+random", "standard"),
            ("standard+mutual_info", "standard"),
        ]
        assert all(d.p_corrected >= d.p for d in found)
        assert found[0].p_corrected >= min(1, 1.9 * found[0].p)
