import matplotlib.pyplot as plt
import numpy as np
import pytest

from tsynd_sk.evaluation._robustness_report import robustness_report
from tsynd_sk.inspection._forest_displays import RobustnessDisplay


class Guess:
    """Takes bright images for "b", with an error of its own for each image."""

    classes_ = np.array(["a", "b"])

    def __init__(self, skill=2.0, seed=0):
        self.skill, self.seed = skill, seed

    def predict_proba(self, X):
        noise = np.random.default_rng(self.seed).normal(size=len(X))
        logits = self.skill * (X.reshape(len(X), -1).mean(axis=1) - 0.5) * 8 + noise
        p = 1 / (1 + np.exp(-logits))
        return np.c_[1 - p, p]


GUESSES = {"plain": Guess(0.1), "better": Guess(5), "like plain": Guess(0.1, 1)}
FEW = {"kinds": ["noise"], "severities": [2], "attacks": (), "n_resamples": 200, "random_state": 0}


@pytest.fixture(scope="module")
def problem():
    """Colour images, the brighter half of which are "b"."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.2, 0.8, 80)
    X = np.clip(level[:, None, None, None] + rng.normal(0, 0.1, (80, 9, 9, 3)), 0, 1)
    return X, np.where(level > 0.5, "b", "a")


@pytest.fixture(scope="module")
def report(problem):
    return robustness_report(GUESSES, *problem, **FEW)


ARRAYS = {
    "scores": [[0.9, 0.95], [0.6, 0.8]],
    "low": [[0.8, 0.9], [0.5, 0.7]],
    "high": [[0.95, 0.99], [0.7, 0.9]],
    "conditions": ["clean", "corrupted"],
    "names": ["plain", "augmented"],
    "metric": "roc_auc",
}
COMPARED = ARRAYS | {
    "differences": [[np.nan, 0.05], [np.nan, 0.2]],
    "difference_low": [[np.nan, -0.01], [np.nan, 0.1]],
    "difference_high": [[np.nan, 0.1], [np.nan, 0.3]],
    "p_holm": [[np.nan, 0.3], [np.nan, 0.02]],
    "reference": "plain",
}


def points(ax):
    """Markers by height, from top to bottom: (value, marker, filled)."""
    lines = [line for line in ax.get_lines() if line.get_marker() in ("o", "s")]
    lines.sort(key=lambda line: np.ravel(line.get_ydata())[0])
    return [
        (float(np.ravel(line.get_xdata())[0]), line.get_marker(),
         line.get_markerfacecolor() != "white")
        for line in lines
    ]  # fmt: skip


def intervals(ax):
    lines = [line for line in ax.get_lines() if line.get_marker() == "None"]
    spans = [line for line in lines if np.ptp(line.get_xdata()) > 0]
    spans.sort(key=lambda line: line.get_ydata()[0])
    return [list(line.get_xdata()) for line in spans]


def rows(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


class TestFromReport:
    @pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "expected_calibration_error"])
    def test_arrays_are_those_of_the_report(self, report, metric):
        display = RobustnessDisplay.from_report(report, metric)
        assert display.conditions == ["clean", "corrupted"]
        assert display.names == list(GUESSES)
        assert (display.metric, display.reference) == (metric, "plain")
        wanted = [row for row in report.scores if row["metric"] == metric]
        for key, grid in (
            ("score", display.scores), ("low", display.low), ("high", display.high)
        ):  # fmt: skip
            assert grid.ravel().tolist() == [row[key] for row in wanted]
        compared = [row for row in report.comparisons if row["metric"] == metric]
        for key, grid in (
            ("difference", display.differences),
            ("low", display.difference_low),
            ("high", display.difference_high),
            ("p_holm", display.p_holm),
        ):
            assert np.isnan(grid[:, 0]).all()
            assert grid[:, 1:].ravel().tolist() == [row[key] for row in compared]

    def test_reference_need_not_come_first(self, problem):
        report = robustness_report(GUESSES, *problem, **{**FEW, "reference": "like plain"})
        display = RobustnessDisplay.from_report(report).plot()
        assert [marker for _, marker, _ in points(display.ax_)] == ["o", "o", "s"] * 2
        assert len(points(display.axes_[1])) == 4
        assert display.axes_[1].get_xlabel() == "difference of ROC AUC\nto like plain"

    def test_a_single_estimator_has_nothing_to_compare(self, problem):
        alone = robustness_report({"a": Guess()}, *problem, **FEW)
        display = RobustnessDisplay.from_report(alone).plot()
        assert display.differences is None
        assert len(display.axes_) == 1
        assert display.ax_.get_legend() is None

    def test_metric_must_be_in_the_report(self, report):
        with pytest.raises(ValueError, match=r"metric must be one of this report.*got 'f1'"):
            RobustnessDisplay.from_report(report, "f1")


class TestFromEstimators:
    def test_it_is_the_report_of_one_metric(self, problem):
        display = RobustnessDisplay.from_estimator(GUESSES, *problem, metric="accuracy", **FEW)
        report = robustness_report(GUESSES, *problem, metrics=["accuracy"], **FEW)
        expected = RobustnessDisplay.from_report(report)
        assert vars(display).keys() == vars(expected).keys()
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(display, name), value)
        assert not plt.get_fignums()


class TestPlot:
    def test_scores_and_differences_stand_side_by_side(self):
        display = RobustnessDisplay(**COMPARED)
        assert display.plot() is display
        scores, differences = display.axes_
        assert display.ax_ is scores
        assert rows(scores) == ["clean", "plain", "augmented", "corrupted", "plain", "augmented"]
        weights = [label.get_fontweight() for label in scores.get_yticklabels()]
        assert weights == ["bold", "normal", "normal"] * 2
        assert points(scores) == [
            (0.9, "s", False), (0.95, "o", False), (0.6, "s", False), (0.8, "o", True)
        ]  # fmt: skip
        assert points(differences) == [(0.05, "o", False), (0.2, "o", True)]
        assert intervals(scores) == [[0.8, 0.95], [0.9, 0.99], [0.5, 0.7], [0.7, 0.9]]
        assert intervals(differences) == [[-0.01, 0.1], [0.1, 0.3]]
        assert scores.get_xlabel() == "ROC AUC\n(0.5: chance, 1: perfect)"
        assert differences.get_xlabel() == "difference of ROC AUC\nto plain"
        legend = [text.get_text() for text in scores.get_legend().get_texts()]
        assert legend == ["reference", "Holm p < 0.05", "≥ 0.05"]

    def test_own_metrics_are_named_as_they_are(self):
        display = RobustnessDisplay(**{**COMPARED, "metric": "mean Dice score"}).plot()
        assert display.ax_.get_xlabel() == "mean Dice score"
        assert display.axes_[1].get_xlabel() == "difference of mean Dice score\nto plain"
