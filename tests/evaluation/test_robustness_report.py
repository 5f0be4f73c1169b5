import sys
import warnings
from itertools import pairwise

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.tiny_nets import own_net
from matplotlib.figure import Figure
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.datasets._loaders import load_digits_images
from tsynd_sk.evaluation import _trial
from tsynd_sk.evaluation._attacks import GradientMaskingWarning, adversarial_scores
from tsynd_sk.evaluation._bootstrap import (
    METRICS,
    Resamples,
    compare,
    holm,
    interval,
    seed_draws,
    weighted_auc,
    weighted_scores,
)
from tsynd_sk.evaluation._perturbed_scores import corruption_scores
from tsynd_sk.evaluation._robustness_report import (
    RobustnessReport,
    expected_calibration_error,
    robustness_report,
)
from tsynd_sk.evaluation._scores import classification_scores
from tsynd_sk.evaluation._trial import strength


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


class Guess:
    """Takes bright images for "b", with an error of its own for each image and seed."""

    classes_ = np.array(["a", "b"])

    def __init__(self, skill=2.0, seed=0):
        self.skill, self.seed = skill, seed
        self.seen = []

    def predict_proba(self, X):
        self.seen.append(X)
        noise = np.random.default_rng(self.seed).normal(size=len(X))
        logits = self.skill * (X.reshape(len(X), -1).mean(axis=1) - 0.5) * 8 + noise
        p = 1 / (1 + np.exp(-logits))
        return np.c_[1 - p, p]


@pytest.fixture(scope="module")
def problem():
    """Ninety grey images of 9 x 9 pixels, the brighter two thirds of which are mostly "b"."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.2, 0.8, 90)
    X = np.clip(level[:, None, None] + rng.normal(0, 0.1, (90, 9, 9)), 0, 1)
    y = np.where(level + rng.normal(0, 0.1, 90) > 0.4, "b", "a")
    return X, y


CLEAN = {"kinds": (), "attacks": ()}


class TestCalibrationError:
    def test_hand_made_case(self):
        # Two bins: three predictions at 0.8, two of them right; one at 0.6, wrong.
        proba = [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]]
        error = expected_calibration_error([0, 1, 1, 0], proba, [0, 1], n_bins=4)
        assert error == pytest.approx(3 / 4 * (0.8 - 2 / 3) + 1 / 4 * (0.6 - 0))

    def test_one_bin_sees_the_means_alone(self):
        proba = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        error = expected_calibration_error(["x", "y", "y", "y"], proba, ["x", "y"], n_bins=1)
        assert error == pytest.approx(0.75 - 0.75)
        apart = expected_calibration_error(["x", "y", "y", "y"], proba, ["x", "y"], n_bins=100)
        assert apart == pytest.approx((0.1 + 0.3 + 0.6 + 0.2) / 4)

    def test_bins_are_closed_on_the_right(self):
        # 0.5 and 0.4 fall into one bin of width a half, 0.6 into the other.
        proba = [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]
        error = expected_calibration_error([0, 1, 1], proba, [0, 1, 2], n_bins=2)
        assert error == pytest.approx(2 / 3 * 0.05 + 1 / 3 * 0.6)

    def test_more_than_two_classes_and_perfect_confidence(self):
        assert expected_calibration_error([2, 0, 1], np.eye(3)[[2, 0, 1]], [0, 1, 2]) == 0
        assert expected_calibration_error([2, 0, 1], np.eye(3)[[0, 1, 2]], [0, 1, 2]) == 1

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match="2 columns, but there are 3 classes"):
            expected_calibration_error([0, 1], np.eye(2), [0, 1, 2])
        with pytest.raises(ValueError, match="n_bins"):
            expected_calibration_error([0, 1], np.eye(2), [0, 1], n_bins=0)


class TestResamples:
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("ties", [False, True])
    def test_scores_are_those_of_sklearn_on_every_resample(self, n_classes, ties):
        rng = np.random.default_rng(1)
        y = rng.integers(0, n_classes, 60)
        proba = rng.dirichlet(np.ones(n_classes), 60) + 0.4 * np.eye(n_classes)[y]
        proba = (proba / 1.4).round(1 if ties else 12)
        resamples = Resamples(y, 40, rng)
        scores = resamples.scores(y, proba, 15)
        (weights,) = resamples
        assert scores.shape == (len(METRICS), 40)
        for drawn, found in zip(weights.T.astype(int), scores.T, strict=True):
            rows = np.repeat(np.arange(60), drawn)
            named = dict(zip(METRICS, found, strict=True))
            tested = [1] if n_classes == 2 else range(n_classes)
            areas = [roc_auc_score(y[rows] == k, proba[rows, k]) for k in tested]
            assert named["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-12)
            predicted = proba[rows].argmax(axis=1)
            balanced = balanced_accuracy_score(y[rows], predicted)
            assert named["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
            accuracy = accuracy_score(y[rows], predicted)
            assert named["accuracy"] == pytest.approx(accuracy, abs=1e-12)
            error = expected_calibration_error(y[rows], proba[rows], range(n_classes))
            assert named["expected_calibration_error"] == pytest.approx(error, abs=1e-12)

    def test_every_class_is_drawn_as_often_as_it_is_there(self):
        codes = np.repeat([0, 1, 2], [1, 20, 300])
        weights = np.concatenate(list(Resamples(codes, 50, np.random.default_rng(0))), axis=1)
        for code, count in enumerate([1, 20, 300]):
            np.testing.assert_array_equal(weights[codes == code].sum(axis=0), count)
        assert weights.std(axis=1)[1:].min() > 0
        # With replacement: an image stays away with a probability of 1 / e.
        assert np.mean(weights[codes == 2] == 0) == pytest.approx(np.exp(-1), abs=0.01)

    def test_blocks_do_not_change_scores(self, monkeypatch):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 30)
        proba = np.c_[1 - y * 0.6, y * 0.6] * rng.random((30, 1))
        resamples = Resamples(y, 25, rng)
        whole = resamples.scores(y, proba, 15)
        monkeypatch.setattr("tsynd_sk.evaluation._bootstrap._BLOCK", 30 * 4)
        assert [part.shape[1] for part in resamples] == [4] * 6 + [1]
        np.testing.assert_allclose(resamples.scores(y, proba, 15), whole, rtol=1e-12)

    def test_the_second_column_is_what_two_classes_are_told_apart_by(self):
        proba = np.array([[0.5, 0.1], [0.1, 0.2], [0.9, 0.3]])
        found = weighted_scores(np.array([0, 0, 1]), proba, np.ones((3, 1)), 15)
        assert found[0, 0] == classification_scores([0, 0, 1], proba, [0, 1])["roc_auc"] == 1

    def test_missing_classes_do_not_count_and_empty_ones_have_no_area(self):
        codes = np.array([0, 2, 2, 0])
        proba = np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.6, 0.1, 0.3], [0.7, 0.2, 0.1]])
        found = weighted_scores(codes, proba, np.ones((4, 1)), 15)[:2, 0]
        expected = classification_scores(codes, proba, [0, 1, 2])
        np.testing.assert_allclose(found, list(expected.values()))
        area = weighted_auc(proba[:, 0], codes == 0, np.array([[1.0, 0], [1, 1], [1, 1], [1, 0]]))
        np.testing.assert_array_equal(np.isnan(area), [False, True])


class TestStatistics:
    def test_holm_by_hand(self):
        # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06 and again 0.06.
        corrected = holm(np.array([0.03, 0.01, 0.04, 0.02]))
        np.testing.assert_allclose(corrected, [0.06, 0.04, 0.06, 0.06])
        np.testing.assert_allclose(holm(np.array([0.5, 0.001, 0.9])), [1, 0.003, 1])
        assert len(holm(np.array([]))) == 0

    def test_without_error_of_images_it_is_the_paired_t_test(self):
        one, other = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.7, 0.75, 0.8, 0.7])
        outcome = compare(one - other, np.full(500, 0.1375), 0.9)
        expected = stats.ttest_rel(one, other)
        assert outcome.p == pytest.approx(expected.pvalue)
        bounds = expected.confidence_interval(0.9)
        assert (outcome.low, outcome.high) == pytest.approx((bounds.low, bounds.high))
        assert outcome.difference == pytest.approx(0.1375)

    def test_a_single_seed_has_the_error_of_images_alone(self):
        resampled = np.random.default_rng(0).normal(0.1, 0.04, 4000)
        outcome = compare(np.array([0.1]), resampled, 0.95)
        error = resampled.std(ddof=1)
        assert outcome.p == pytest.approx(2 * stats.norm.sf(0.1 / error))
        assert outcome.low == pytest.approx(0.1 - stats.norm.ppf(0.975) * error)

    def test_errors_of_seeds_and_images_add_up(self):
        differences = np.array([0.1, 0.2, 0.3])
        resampled = np.random.default_rng(0).normal(0.2, 0.05, 4000)
        seeds, images = differences.var(ddof=1) / 3, resampled.var(ddof=1)
        freedom = (seeds + images) ** 2 / (seeds**2 / 2)
        outcome = compare(differences, resampled, 0.95)
        statistic = 0.2 / (seeds + images) ** 0.5
        assert outcome.p == pytest.approx(2 * stats.t.sf(statistic, freedom))

    def test_what_never_differs_is_certain(self):
        same = compare(np.zeros(3), np.zeros(100), 0.95)
        assert tuple(same) == (0, 0, 0, 1)
        assert compare(np.full(3, 0.5), np.full(100, 0.5), 0.95).p == 0

    def test_intervals_are_around_the_estimate_and_within_bounds(self):
        resampled = np.random.default_rng(0).normal(0.6, 0.05, 20_000)
        low, high = interval(0.5, resampled, 0.9)
        assert (low, high) == pytest.approx((0.5 - 1.645 * 0.05, 0.5 + 1.645 * 0.05), abs=0.003)
        assert interval(0.99, resampled, 0.9)[1] == 1

    def test_seeds_are_drawn_with_replacement(self):
        draws = seed_draws(4, 2000, np.random.default_rng(0))
        np.testing.assert_array_equal(draws.sum(axis=0), 4)
        assert draws.mean(axis=1) == pytest.approx(1, abs=0.1)
        np.testing.assert_array_equal(seed_draws(1, 5, np.random.default_rng(0)), 1)

    @pytest.mark.parametrize(("eps", "text"), [(2 / 255, "2/255"), (0.1, "0.1"), (1, "255/255")])
    def test_strengths_are_named_as_people_do(self, eps, text):
        assert strength(eps) == text


class TestReport:
    def test_rows_are_those_of_the_single_functions(self, problem):
        X, y = problem
        guesses = {"weak": Guess(0.5), "strong": Guess(4)}
        settings = {"kinds": ["gamma", "shift"], "severities": [1, 4]}
        report = robustness_report(guesses, X, y, attacks=(), **settings, random_state=3)
        for name, guess in guesses.items():
            rows = [row for row in report.rows if row["estimator"] == name]
            proba = guess.predict_proba(X)
            clean = classification_scores(y, proba, guess.classes_)
            assert {key: rows[0][key] for key in clean} == clean
            assert rows[0]["accuracy"] == np.mean((proba[:, 1] > 0.5) == (y == "b"))
            error = expected_calibration_error(y, proba, guess.classes_)
            assert rows[0]["expected_calibration_error"] == error
            expected = corruption_scores(guess, X, y, **settings, random_state=3).rows
            assert [{key: row[key] for key in expected[0]} for row in rows[1:]] == expected
            [score] = [
                row["score"]
                for row in report.scores
                if (row["condition"], row["estimator"], row["metric"])
                == ("corrupted", name, "roc_auc")
            ]
            assert score == pytest.approx(np.mean([row["roc_auc"] for row in expected]))

    def test_all_see_the_same_corrupted_images(self, problem):
        guesses = [Guess(seed=seed) for seed in range(3)]
        robustness_report(
            {"one": guesses[:1], "two": guesses[1:2], "three": guesses[2]},
            *problem,
            kinds="noise",
            severities=2,
            attacks=(),
        )
        for guess in guesses:
            assert len(guess.seen) == 2
            np.testing.assert_array_equal(guess.seen[1], guesses[0].seen[1])

    def test_settings_are_averaged_in_every_resample(self, problem):
        def made(kinds):
            guesses = {"one": [Guess(1, 0), Guess(1, 1)], "two": [Guess(2, 2), Guess(2, 3)]}
            settings = {"severities": [3], "attacks": (), "n_resamples": 200, "random_state": 0}
            return robustness_report(guesses, *problem, kinds=kinds, **settings)

        once, twice = made(["gamma"]), made(["gamma", "gamma"])
        for rows, others in ((once.scores, twice.scores), (once.comparisons, twice.comparisons)):
            for row, other in zip(rows, others, strict=True):
                assert other == pytest.approx(row)
        assert len(twice.rows) == 12

    def test_equal_seeds_give_equal_reports_and_others_do_not(self, problem):
        def made(seed, **more):
            guesses = {"one": [Guess(1, 0), Guess(1, 1)], "two": [Guess(2, 2), Guess(2, 3)]}
            settings = {"kinds": ["noise"], "severities": [3], "attacks": (), "n_resamples": 200}
            return robustness_report(guesses, *problem, **settings, random_state=seed, **more)

        first, again, other = made(0), made(0), made(1)
        assert first.scores == again.scores
        assert first.comparisons == again.comparisons
        assert first.rows == again.rows
        assert first.scores != other.scores
        generated = made(np.random.RandomState(0))
        assert generated.scores == made(np.random.RandomState(0)).scores

    def test_what_equals_the_reference_does_not_differ(self, problem):
        report = robustness_report(
            {"one": Guess(), "same": Guess(), "other": Guess(0, 5)}, *problem, **CLEAN
        )
        for row in report.comparisons:
            assert row["reference"] == "one"
            if row["estimator"] == "same":
                outcome = [row[key] for key in ("difference", "low", "high", "p", "p_holm")]
                assert outcome == [0, 0, 0, 1, 1]
        differing = {
            row["metric"]: row for row in report.comparisons if row["estimator"] == "other"
        }
        assert differing["roc_auc"]["p_holm"] < 0.001
        assert differing["roc_auc"]["high"] < 0
        raw = np.array([row["p"] for row in report.comparisons])
        corrected = [row["p_holm"] for row in report.comparisons]
        np.testing.assert_array_equal(corrected, holm(raw))

    def test_pairing_makes_differences_sharper_than_scores(self, problem):
        near = {"one": Guess(2, 0), "nearly": Guess(2.1, 0)}
        report = robustness_report(near, *problem, **CLEAN, metrics="roc_auc", random_state=0)
        [difference] = report.comparisons
        widths = [row["high"] - row["low"] for row in report.scores]
        assert difference["high"] - difference["low"] < min(widths) / 5

    def test_seeds_widen_intervals(self, problem):
        seeds = [Guess(skill, seed) for seed, skill in enumerate([0.2, 0.5, 1, 4])]
        together = robustness_report({"all": seeds}, *problem, **CLEAN, metrics="roc_auc")
        alone = robustness_report({"all": seeds[2]}, *problem, **CLEAN, metrics="roc_auc")
        [many], [one] = together.scores, alone.scores
        assert many["high"] - many["low"] > 1.3 * (one["high"] - one["low"])
        areas = [row["roc_auc"] for row in together.rows]
        assert many["score"] == pytest.approx(np.mean(areas))
        assert (together.n_seeds, alone.n_seeds) == (4, 1)
        assert together.comparisons == []

    def test_intervals_hold_what_is_true_as_often_as_they_say(self):
        # The area of two normal distributions, one standard deviation apart.
        truth, hits = stats.norm.cdf(1 / 2**0.5), 0
        for trial in range(60):
            rng = np.random.default_rng(trial)
            y = np.repeat([0, 1], 40)
            p = stats.norm.cdf(rng.normal(y, 1))
            scores = Resamples(y, 300, rng).scores(y, np.c_[1 - p, p], 15)[0]
            low, high = interval(roc_auc_score(y, p), scores, 0.8)
            hits += low < truth < high
        assert 0.65 <= hits / 60 <= 0.93

    def test_reference_metrics_and_level_are_as_asked(self, problem):
        guesses = {"one": Guess(1), "two": Guess(2)}
        wide, narrow = (
            robustness_report(
                guesses,
                *problem,
                **CLEAN,
                reference="two",
                metrics=["accuracy", "roc_auc"],
                confidence_level=level,
                n_resamples=300,
                random_state=0,
            )
            for level in (0.99, 0.8)
        )
        assert [row["metric"] for row in wide.scores] == ["accuracy", "roc_auc"] * 2
        assert {(row["estimator"], row["reference"]) for row in wide.comparisons} == {
            ("one", "two")
        }
        for rows, others in ((wide.scores, narrow.scores), (wide.comparisons, narrow.comparisons)):
            for row, other in zip(rows, others, strict=True):
                assert row["high"] - row["low"] > other["high"] - other["low"]

    def test_mistakes_are_refused_before_predicting(self, problem):
        X, y = problem
        guess = Guess()

        def refused(error, match, given=None, *, labels=y, **params):
            with pytest.raises(error, match=match):
                robustness_report({"a": guess} if given is None else given, X, labels, **params)

        refused(TypeError, "dict from names to fitted", [guess])
        refused(ValueError, "estimators is empty", {})
        refused(TypeError, "names of estimators must be strings, got 1", {1: guess})
        refused(TypeError, r"estimators\['b'\] must be a fitted", {"a": guess, "b": "net"})
        refused(ValueError, r"estimators\['a'\] is empty", {"a": []})
        refused(ValueError, r"numbers differ: {'a': 1, 'b': 2}", {"a": guess, "b": [guess] * 2})
        refused(ValueError, "Unknown metric 'f1'; known: roc_auc", metrics=["f1"], **CLEAN)
        refused(ValueError, "metrics is empty", metrics=[], **CLEAN)
        refused(ValueError, r"one of \['a'\]; got 'b'", reference="b", **CLEAN)
        refused(ValueError, "n_resamples must be an int of at least 100", n_resamples=99, **CLEAN)
        refused(ValueError, "confidence_level", confidence_level=95, **CLEAN)
        refused(ValueError, "'fog'; known", kinds=["fog"], attacks=())
        refused(ValueError, "no other keys than max_iter", attack_params={"steps": 3}, **CLEAN)
        refused(ValueError, "fewer than two labels", labels=np.full(90, "a"), **CLEAN)
        assert guess.seen == []

    def test_other_mistakes_are_told_by_the_scores(self, problem):
        X, y = problem
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            robustness_report({"a": Guess()}, X, y[:-1], **CLEAN)
        with pytest.raises(ValueError, match=r"\['c'\] that are not in classes"):
            robustness_report({"a": Guess()}, X, np.where(y == "b", "c", y), **CLEAN)
        with pytest.raises(ValueError, match="from 1 to 5"):
            robustness_report({"a": Guess()}, X, y, severities=[6], attacks=())

    def test_flat_images_are_unfolded_by_whoever_knows_how(self, problem):
        X, y = problem
        flat, knowing = X.reshape(90, -1), Guess()
        knowing.image_shape_ = (1, 9, 9)
        settings = {"kinds": "rotation", "severities": 3, "attacks": (), "random_state": 0}
        report = robustness_report({"a": Guess(), "b": knowing}, flat, y, **settings)
        unfolded = robustness_report({"a": Guess(), "b": Guess()}, X, y, **settings)
        assert [row["roc_auc"] for row in report.rows] == pytest.approx(
            [row["roc_auc"] for row in unfolded.rows]
        )


@pytest.fixture(scope="module")
def nets():
    pytest.importorskip("art", reason="attacks need the extra robustness")
    X, y, _ = load_digits_images()
    nets = {"one": [], "two": []}
    for i, name in enumerate(["one", "two", "one", "two"]):
        with scoped_seed(i):
            nets[name].append(own_net(max_epochs=6).fit(X[:150, None], y[:150]))
    return nets, X[150:200, None], y[150:200]


class TestAttacks:
    def test_rows_are_those_of_adversarial_scores(self, nets):
        nets, X, y = nets
        budget = {"max_iter": 2, "n_restarts": 1}
        settings = {"attacks": ["fgsm", "pgd"], "eps": [0.02, 8 / 255]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradientMaskingWarning)
            report = robustness_report(
                nets, X, y, kinds=(), **settings, attack_params=budget, random_state=4
            )
            conditions = list(dict.fromkeys(row["condition"] for row in report.scores))
            assert conditions == ["clean", "fgsm 0.02", "fgsm 8/255", "pgd 0.02", "pgd 8/255"]
            for name, seeds in nets.items():
                for seed, net in enumerate(seeds):
                    expected = adversarial_scores(net, X, y, **settings, **budget, random_state=4)
                    rows = [
                        {key: row[key] for key in expected.rows[0]}
                        for row in report.rows
                        if (row["estimator"], row["seed"]) == (name, seed) and "attack" in row
                    ]
                    assert rows == expected.rows[1:]

    def test_pgd_by_default(self, nets):
        nets, X, y = nets
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradientMaskingWarning)
            report = robustness_report(
                {"one": nets["one"][0]}, X[:12], y[:12], kinds=(), attack_params={"max_iter": 1}
            )
        assert [row.get("attack") for row in report.rows] == [None, "pgd", "pgd"]
        assert [row.get("eps") for row in report.rows[1:]] == [2 / 255, 4 / 255]

    def test_masking_is_told_by_name(self, nets, monkeypatch):
        nets, X, y = nets

        def masked(estimator, *args, **kwargs):
            found = adversarial_scores(estimator, *args, **kwargs)
            found.gradient_masking = ["it is too good"] if estimator is nets["two"][1] else []
            return found

        monkeypatch.setattr(_trial, "adversarial_scores", masked)
        with pytest.warns(GradientMaskingWarning, match="in 'two': seed 1: it is too good") as told:
            report = robustness_report(
                nets, X, y, kinds=(), attacks="fgsm", eps=0.01, random_state=0
            )
        assert len(told) == 1
        assert told[0].filename == __file__
        assert any("'two': seed 1: it is too good" in note for note in report.notes)

    def test_left_out_with_a_word_where_there_are_no_gradients(self, problem):
        X, y = problem
        flat = X.reshape(90, -1)
        table = LogisticRegression().fit(flat, y)
        with pytest.warns(UserWarning, match="'a' is a LogisticRegression, whose") as told:
            report = robustness_report({"a": table}, flat, y, kinds=())
        assert told[0].filename == __file__
        assert "LogisticRegression" in str(report)
        assert {row["condition"] for row in report.scores} == {"clean"}
        pytest.importorskip("art", reason="attacks need the extra robustness")
        with pytest.raises(TypeError, match="cannot attack all of estimators: 'a' is a Log"):
            robustness_report({"a": table}, flat, y, attacks=["fgsm"])

    def test_left_out_with_a_word_without_the_toolbox(self, problem, monkeypatch):
        monkeypatch.setattr(_trial, "find_spec", lambda name: None)
        with pytest.warns(UserWarning, match=r'pip install "tsynd_sk\[robustness\]"'):
            report = robustness_report({"a": Guess()}, *problem, kinds=())
        assert "Attacks were left out" in report.notes[0]
        monkeypatch.setitem(sys.modules, "art", None)
        with pytest.raises(ImportError, match="robustness_report with attacks needs"):
            robustness_report({"a": Guess()}, *problem, attacks=["pgd"])

    def test_left_out_in_silence_on_request(self, problem):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = robustness_report({"a": Guess()}, *problem, **CLEAN)
        assert report.notes == ["No attacks were asked for.", "No corruptions were asked for."]


@pytest.fixture(scope="module")
def report(problem):
    skills = {"plain": 0.3, "better": 9, "like plain": 0.35}
    return robustness_report(
        {name: [Guess(skill, seed) for seed in range(4)] for name, skill in skills.items()},
        *problem,
        kinds=["noise"],
        severities=[2],
        attacks=(),
        random_state=0,
    )


class TestViews:
    def test_frames_hold_a_row_for_each_value(self, report):
        frame = report.to_frame()
        assert len(frame) == 2 * 3 * len(METRICS)
        assert frame.columns.tolist() == [
            "condition", "estimator", "metric", "score", "low", "high"
        ]  # fmt: skip
        assert frame.to_dict("records") == report.scores
        assert ((frame.low <= frame.score) & (frame.score <= frame.high)).all()
        differences = report.differences()
        assert len(differences) == 2 * 2 * len(METRICS)
        assert differences.to_dict("records") == report.comparisons
        assert (differences.p <= differences.p_holm).all()

    def test_a_single_estimator_has_an_empty_frame_of_differences(self, problem):
        report = robustness_report({"a": Guess()}, *problem, **CLEAN)
        assert len(report.differences()) == 0
        assert "p_holm" in report.differences().columns
        assert "*" not in str(report)

    def test_text_is_a_table_with_stars(self, report):
        lines = str(report).splitlines()
        assert lines[0] == (
            "90 images, 4 seeds; 95 % intervals by 2000 resamples of images and seeds"
        )
        assert lines[2].split()[-3:] == ["accuracy", "calibration", "error"]
        starred = {
            (row["condition"], row["estimator"], row["metric"])
            for row in report.comparisons
            if row["p_holm"] < 0.05
        }
        assert ("clean", "better", "roc_auc") in starred
        [better, *_] = [line for line in lines if line.startswith("  better")]
        scores = [row for row in report.scores if row["estimator"] == "better"]
        assert f"{scores[0]['score']:.3f}* [{scores[0]['low']:.3f}, " in better
        assert sum(line.count("*") for line in lines[3:-2]) == len(starred)
        assert "* differs from 'plain' (Holm-corrected p < 0.05)" in lines
        assert lines[-1] == "No attacks were asked for."
        assert max(map(len, lines)) <= 120

    def test_forest_shows_every_interval(self, report):
        figure = report.plot("accuracy")
        scores, differences = figure.axes
        figure.canvas.draw()
        labels = [label.get_text() for label in scores.get_yticklabels()]
        names = ["plain", "better", "like plain"]
        assert labels == ["clean", *names, "corrupted", *names]
        drawn = [line.get_xdata() for line in scores.get_lines() if len(line.get_xdata()) == 2]
        wanted = [row for row in report.scores if row["metric"] == "accuracy"]
        np.testing.assert_allclose(drawn, [[row["low"], row["high"]] for row in wanted])
        points = [line for line in differences.get_lines() if line.get_marker() == "o"]
        compared = [row for row in report.comparisons if row["metric"] == "accuracy"]
        for point, row in zip(points, compared, strict=True):
            np.testing.assert_allclose(point.get_xdata(), row["difference"])
            filled = point.get_markerfacecolor() != "white"
            assert filled == (row["p_holm"] < 0.05)
        assert scores.get_xlabel() == "accuracy\n(share of images)"
        assert differences.get_xlabel() == "difference of accuracy\nto plain"

    def test_nothing_overlaps_or_leaves_the_figure(self, report):
        figure = report.plot()
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [
            text
            for ax in figure.axes
            for text in [*ax.get_yticklabels(), ax.xaxis.label]
            if text.get_visible() and text.get_text() and ax.get_yticklabels()
        ]
        boxes = [
            text.get_window_extent(renderer) for text in texts if text.get_window_extent().width
        ]
        low = min(box.x0 for box in boxes), min(box.y0 for box in boxes)
        high = max(box.x1 for box in boxes), max(box.y1 for box in boxes)
        assert min(low) >= 0
        assert high[0] <= figure.bbox.width
        assert high[1] <= figure.bbox.height
        labels = figure.axes[0].get_yticklabels()
        edges = [label.get_window_extent(renderer) for label in labels]
        for upper, lower in pairwise(edges):
            assert upper.y0 > lower.y1

    def test_a_figure_may_be_given_and_one_estimator_has_one_panel(self, report, problem):
        figure = Figure(figsize=(9, 5), layout="constrained")
        assert report.plot(figure=figure) is figure
        assert len(figure.axes) == 2
        alone = robustness_report({"a": Guess()}, *problem, **CLEAN)
        assert len(alone.plot().axes) == 1

    def test_what_cannot_be_drawn_is_told(self, report, monkeypatch):
        with pytest.raises(ValueError, match=r"one of this report, \['roc_auc', .*; got 'f1'"):
            report.plot("f1")
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match=r'pip install "tsynd_sk\[plot\]"'):
            report.plot()
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            report.to_frame()
        assert isinstance(report, RobustnessReport)
