import warnings

import numpy as np
import pytest
from helpers.tiny_nets import own_net

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.datasets import load_digits_images
from tsynd_sk.evaluation import (
    METRICS,
    GradientMaskingWarning,
    _robustness_report,
    adversarial_scores,
    classification_scores,
    corruption_scores,
    expected_calibration_error,
    robustness_report,
)
from tsynd_sk.evaluation._robustness_report import format_strength
from tsynd_sk.evaluation._scores import holm


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


CLEAN = {"kinds": ()}


def report_on_two_seeds(problem, kinds, random_state):
    guesses = {"one": [Guess(1, 0), Guess(1, 1)], "two": [Guess(2, 2), Guess(2, 3)]}
    settings = {"severities": [3], "n_resamples": 200}
    return robustness_report(guesses, *problem, kinds=kinds, **settings, random_state=random_state)


class TestReport:
    def test_rows_are_those_of_the_single_functions(self, problem):
        X, y = problem
        guesses = {"weak": Guess(0.5), "strong": Guess(4)}
        settings = {"kinds": ["gamma", "shift"], "severities": [1, 4]}
        report = robustness_report(guesses, X, y, **settings, random_state=3)
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
        )
        for guess in guesses:
            assert len(guess.seen) == 2
            np.testing.assert_array_equal(guess.seen[1], guesses[0].seen[1])

    def test_equal_seeds_give_equal_reports_and_others_do_not(self, problem):
        first, again, other = (report_on_two_seeds(problem, ["noise"], seed) for seed in (0, 0, 1))
        assert first.scores == again.scores
        assert first.comparisons == again.comparisons
        assert first.rows == again.rows
        assert first.scores != other.scores
        one, same = (
            report_on_two_seeds(problem, ["noise"], np.random.RandomState(0)) for _ in range(2)
        )
        assert one.scores == same.scores

    def test_what_equals_the_reference_does_not_differ(self, problem):
        guesses = {"one": Guess(), "same": Guess(), "other": Guess(0, 5)}
        comparisons = robustness_report(guesses, *problem, **CLEAN).comparisons
        same, other = comparisons[: len(METRICS)], comparisons[len(METRICS) :]
        for row in same:
            assert (row["reference"], row["estimator"]) == ("one", "same")
            outcome = [row[key] for key in ("difference", "low", "high", "p", "p_holm")]
            assert outcome == [0, 0, 0, 1, 1]
        assert (other[0]["estimator"], other[0]["metric"]) == ("other", "roc_auc")
        assert other[0]["p_holm"] < 0.001
        assert other[0]["high"] < 0
        corrected = holm(np.array([row["p"] for row in comparisons]))
        np.testing.assert_array_equal([row["p_holm"] for row in comparisons], corrected)

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

    def test_reference_metrics_and_level_are_as_asked(self, problem):
        asked = {"reference": "two", "metrics": ["accuracy", "roc_auc"], "random_state": 0}
        wide, narrow = (
            robustness_report(
                {"one": Guess(1), "two": Guess(2)},
                *problem,
                **CLEAN,
                **asked,
                confidence_level=level,
            )
            for level in (0.99, 0.8)
        )
        assert [row["metric"] for row in wide.scores] == ["accuracy", "roc_auc"] * 2
        compared = {(row["estimator"], row["reference"]) for row in wide.comparisons}
        assert compared == {("one", "two")}
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
        refused(ValueError, r"of these lengths: {'a': 1, 'b': 2}", {"a": guess, "b": [guess] * 2})
        refused(ValueError, "of these lengths: {}", {})
        refused(ValueError, "Unknown metric 'f1'; known: roc_auc", metrics=["f1"], **CLEAN)
        refused(ValueError, r"one of \['a'\]; got 'b'", reference="b", **CLEAN)
        refused(ValueError, "n_resamples must be an int of at least 100", n_resamples=99, **CLEAN)
        refused(ValueError, "confidence_level", confidence_level=95, **CLEAN)
        refused(ValueError, "'fog'; known", kinds=["fog"])
        refused(ValueError, "severity 6; known: 1, 2", severities=[6])
        refused(ValueError, "one label only", labels=np.full(90, "a"), **CLEAN)
        assert guess.seen == []

    def test_flat_images_are_unfolded_by_whoever_knows_how(self, problem):
        X, y = problem
        flat, knowing = X.reshape(90, -1), Guess()
        knowing.image_shape_ = (1, 9, 9)
        settings = {"kinds": "rotation", "severities": 3, "random_state": 0}
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
            nets[name].append(own_net(max_epochs=3).fit(X[:150, None], y[:150]))
    return nets, X[150:200, None], y[150:200]


class TestAttacks:
    @pytest.mark.parametrize(("eps", "text"), [(2 / 255, "2/255"), (0.1, "0.1"), (1, "255/255")])
    def test_strengths_are_named_as_people_do(self, eps, text):
        assert format_strength(eps) == text

    def test_rows_are_those_of_adversarial_scores(self, nets):
        nets, X, y = nets
        budget = {"max_iter": 2, "n_restarts": 1}
        settings = {"attacks": ["fgsm", "pgd"], "eps": [0.02, 8 / 255]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradientMaskingWarning)
            report = robustness_report(
                nets,
                X,
                y,
                kinds="noise",
                severities=1,
                **settings,
                attack_params=budget,
                random_state=4,
            )
            conditions = list(dict.fromkeys(row["condition"] for row in report.scores))
            attacked = ["fgsm 0.02", "fgsm 8/255", "pgd 0.02", "pgd 8/255"]
            assert conditions == ["clean", "corrupted", *attacked]
            for name, seeds in nets.items():
                for seed, net in enumerate(seeds):
                    expected = adversarial_scores(net, X, y, **settings, **budget, random_state=4)
                    rows = [
                        {key: row[key] for key in expected.rows[0]}
                        for row in report.rows
                        if (row["estimator"], row["seed"]) == (name, seed) and "attack" in row
                    ]
                    assert rows == expected.rows[1:]

    def test_masking_is_told_by_name(self, nets, monkeypatch):
        nets, X, y = nets

        def masked(estimator, *args, **kwargs):
            found = adversarial_scores(estimator, *args, **kwargs)
            found.gradient_masking = ["it is too good"] if estimator is nets["two"][1] else []
            return found

        monkeypatch.setattr(_robustness_report, "adversarial_scores", masked)
        with pytest.warns(GradientMaskingWarning, match="in 'two': seed 1: it is too good") as told:
            report = robustness_report(nets, X, y, kinds=(), attacks="fgsm", eps=0.01)
        assert len(told) == 1
        assert told[0].filename == __file__
        assert any("'two': seed 1: it is too good" in note for note in report.notes)

    def test_estimators_without_gradients_are_named(self, problem):
        pytest.importorskip("art", reason="attacks need the extra robustness")
        with pytest.raises(TypeError, match="which has gradients; got a Guess"):
            robustness_report({"a": Guess()}, *problem, attacks="fgsm", kinds=())


@pytest.fixture(scope="module")
def report(problem):
    skills = {"plain": 0.3, "better": 9, "like plain": 0.35}
    return robustness_report(
        {name: [Guess(skill, seed) for seed in range(4)] for name, skill in skills.items()},
        *problem,
        kinds=["noise"],
        severities=[2],
        random_state=0,
    )


class TestViews:
    def test_frames_hold_a_row_for_each_value(self, report, problem):
        frame, differences = report.to_frame(), report.differences()
        assert len(frame) == 2 * 3 * len(METRICS)
        assert frame.to_dict("records") == report.scores
        assert ((frame.low <= frame.score) & (frame.score <= frame.high)).all()
        assert len(differences) == 2 * 2 * len(METRICS)
        assert differences.to_dict("records") == report.comparisons
        assert (differences.p <= differences.p_holm).all()
        alone = robustness_report({"a": Guess()}, *problem, **CLEAN)
        assert len(alone.differences()) == 0
        assert "p_holm" in alone.differences().columns
        assert "*" not in str(alone)

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
