"""The result of a comparison: scores of all runs, differences between arms, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from tsynd_sk.comparison._arms import Arm
from tsynd_sk.comparison._results_folder import Sample
from tsynd_sk.comparison._runs import SCORES, is_better_low, predicted_scores
from tsynd_sk.comparison._summary import recommended, table_of, verdict_of
from tsynd_sk.evaluation import draw_within_classes, holm, over_images_and_seeds, t_interval
from tsynd_sk.inspection import DifferenceDisplay

_N_RESAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """Mean paired difference in a score between an arm and its reference.

    Attributes
    ----------
    arm, reference, score : str
        What is compared.
    mean, low, high : float
        Mean over runs, and its 95 % interval.
    p, p_corrected : float
        Two-sided p-value; the same corrected for all arms of the comparison (Holm, 1979). They and
        the ends of the interval are nan with a single run, or if all runs differ by the same.

    See Also
    --------
    ComparisonResult : Makes it.

    Examples
    --------
    >>> from tsynd_sk.comparison import Difference
    >>> found = Difference("random", "plain", "nll", -0.1, -0.15, -0.05, p=0.01, p_corrected=0.02)
    >>> found.is_found, found.is_gain
    (True, True)
    """

    arm: str
    reference: str
    score: str
    mean: float
    low: float
    high: float
    p: float
    p_corrected: float = float("nan")

    @property
    def is_found(self) -> bool:
        """Whether the difference is significant after correction, at the 5 % level."""
        return self.p_corrected < 0.05

    @property
    def is_gain(self) -> bool:
        """Whether the arm is better than its reference."""
        return self.mean < 0 if is_better_low(self.score) else self.mean > 0


@dataclass(frozen=True)
class ComparisonResult:
    """Scores and test predictions of all runs of a comparison, and its verdict.

    Returned by `compare`. For another primary score, without training again, use
    ``replace(result, primary="nll")``.

    Parameters
    ----------
    arms : dict of str to Arm
        What was compared, by name.
    references : dict of str to str
        What each arm is compared with: its *twin*, the same augmentation without synthesis; or
        "plain" for an augmentation.
    rows : list of dict
        One for each run and arm: "run", "arm", scores on clean test images, the same with the
        prefix ``perturbed_`` (means over corruptions), accuracy under attack, "steps", "seconds"
        (processor time of the training), "converged".
    probabilities : dict of (int, str) to ndarray of shape (n_test, n_classes)
        Predictions for the test images, by run and arm.
    train_rows, test_rows : list of ndarray
        For each run, the rows of `X` to train and to score on.
    codes : ndarray of shape (n,), int64
        For each row of `X`, the index of its label in `classes`.
    classes : ndarray of shape (n_classes,)
        Labels.
    groups : ndarray of shape (n,) or None
        For each row of `X`, what it belongs to (a patient, a slide).
    primary : {"roc_auc", "balanced_accuracy", "nll"}
        Score that decides.
    base : estimator or None
        The network, unfitted.
    options : dict
        Arguments of `Arm.make_classifier`.
    losses : dict of (int, str) to list of float
        Mean training loss of each epoch, by run and arm.
    samples : dict of str to dict of ndarray
        Synthetic images of the first run, by arm, for `tsynd_sk.inspection.SynthesisDisplay`; empty
        unless `compare` had a folder `out`.

    See Also
    --------
    Difference : An arm compared with its reference.
    tsynd_sk.inspection.DifferenceDisplay : Draws the differences.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.comparison import compare
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> net = NetClassifier(module__width=4, max_epochs=4)
    >>> result = compare(net, X[:80], y[:80] > 4, arms=["plain", "standard"], n_repeats=2)
    >>> result.recommended in ("plain", "standard"), result.verdict in result.summary()
    (True, True)
    >>> classifier = result.make_estimator(random_state=0).fit(X[:80], y[:80] > 4)
    >>> result.values("plain", "roc_auc").shape, result.n_runs, result.has_one_test_split
    ((2,), 2, False)
    >>> [found] = result.differences("nll")
    >>> result.difference(found.arm, found.reference, "nll").mean == found.mean
    True
    >>> display, table = result.plot(ax=Figure().subplots()), result.to_frame()
    """

    arms: Mapping[str, Arm]
    references: Mapping[str, str]
    rows: Sequence[dict[str, Any]]
    probabilities: Mapping[tuple[int, str], np.ndarray]
    train_rows: Sequence[np.ndarray]
    test_rows: Sequence[np.ndarray]
    codes: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None = None
    primary: str = "roc_auc"
    base: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[tuple[int, str], Sequence[float]] = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def n_runs(self) -> int:
        """Number of runs of each arm."""
        return len(self.test_rows)

    @property
    def has_one_test_split(self) -> bool:
        """Whether all runs were scored on the same images."""
        return all(np.array_equal(rows, self.test_rows[0]) for rows in self.test_rows)

    @cached_property
    def _by_arm(self) -> dict[str, list[dict[str, Any]]]:
        ordered = sorted(self.rows, key=lambda row: row["run"])
        return {arm: [row for row in ordered if row["arm"] == arm] for arm in self.arms}

    def values(self, arm: str, column: str) -> np.ndarray:
        """Return a column of an arm's rows, in the order of runs.

        Parameters
        ----------
        arm, column : str
            Names of an arm and of a column of `rows`.

        Returns
        -------
        ndarray of shape (n_runs,)
            Numbers; nan where a run has none.
        """
        return np.array([row.get(column) for row in self._by_arm[arm]], dtype=float)

    def difference(self, arm: str, reference: str, score: str) -> Difference:
        """Compare two arms in one score, paired by run.

        Parameters
        ----------
        arm, reference : str
            Names of arms.
        score : str
            A column of `rows`, such as "nll" or "perturbed_roc_auc".

        Returns
        -------
        Difference
            Arm minus reference, with a 95 % interval and an uncorrected p-value.

        Notes
        -----
        If each run holds out its own part, the interval is corrected by Nadeau and Bengio (2003).
        On the same test images, it covers runs and test images (or groups); for scores that need
        more than `probabilities`, such as those under corruption, runs alone.
        """
        each = self.values(arm, score) - self.values(reference, score)
        mean = float(each.mean())
        if self.n_runs == 1 or np.isnan(mean):
            found: tuple[float, ...] = (mean, np.nan, np.nan, np.nan)
        elif self.has_one_test_split and score in SCORES:
            resampled = [
                self._resampled[run, arm][score] - self._resampled[run, reference][score]
                for run in range(self.n_runs)
            ]
            found = over_images_and_seeds(each, np.mean(resampled, axis=0))
        else:
            parts = zip(self.train_rows, self.test_rows, strict=True)
            shares = [0.0 if self.has_one_test_split else len(b) / len(a) for a, b in parts]
            found = over_hold_outs(each, float(np.mean(shares)))
        return Difference(arm, reference, score, *found)

    def differences(self, score: str | None = None) -> list[Difference]:
        """Compare every arm with its reference in one score.

        Parameters
        ----------
        score : str or None, default=None
            As in `difference`; by default `primary`.

        Returns
        -------
        list of Difference
            In the order of the arms, with p-values corrected for all of them (Holm, 1979).
        """
        paired = [(arm, self.references[arm]) for arm in self.arms if arm in self.references]
        return corrected([self.difference(*pair, score or self.primary) for pair in paired])

    @cached_property
    def _resampled(self) -> dict[tuple[int, str], dict[str, np.ndarray]]:
        rows = self.test_rows[0]
        codes, groups = self.codes[rows], None if self.groups is None else self.groups[rows]
        weights = resampled_images(codes, groups, seed=0)
        return {
            pair: predicted_scores(codes, proba.astype(np.float64), weights)
            for pair, proba in self.probabilities.items()
        }

    @property
    def recommended(self) -> str | None:
        """Best of the arms that are better than their reference and the first, else the first.

        None after a single run.
        """
        return recommended(self)

    @property
    def verdict(self) -> str:
        """What the comparison found, in sentences."""
        return verdict_of(self)

    def summary(self) -> str:
        """Return the table of all arms and the verdict.

        Returns
        -------
        str
            Lines of at most 80 columns, but for long names.
        """
        return f"{table_of(self)}\n\n{self.verdict}"

    def __str__(self) -> str:
        return self.summary()

    def to_frame(self) -> Any:
        """Return the rows as a DataFrame of pandas.

        Returns
        -------
        DataFrame
            A row for each run and arm.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def plot(self, score: str | None = None, *, ax: Any = None) -> DifferenceDisplay:
        """Draw the differences between arms and their references, with intervals.

        Parameters
        ----------
        score : str or None, default=None
            As in `difference`; by default `primary`.
        ax : matplotlib Axes or None, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        DifferenceDisplay
            With ``ax_`` and ``figure_``.
        """
        score = score or self.primary
        text = SCORES.get(score, score.replace("_", " "))
        return DifferenceDisplay.from_differences(self.differences(score), text).plot(ax=ax)

    def make_estimator(self, arm: str | None = None, **params: Any) -> BaseEstimator:
        """Make the unfitted classifier of an arm, to fit on all images.

        Parameters
        ----------
        arm : str or None, default=None
            By default the `recommended` one.
        **params
            Parameters to set, such as ``random_state=0``.

        Returns
        -------
        AugmentedClassifier
            Its ``fit`` takes images and labels as `compare` does.

        Raises
        ------
        ValueError
            If nothing is recommended.
        """
        arm = self.recommended if arm is None else arm
        if arm is None:
            raise ValueError("no arm is recommended after a single run: name an arm")
        return self.arms[arm].make_classifier(self.base, **self.options).set_params(**params)


def resampled_images(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Return how often each image is drawn, with its group, in each resample."""
    # Every resample has as many images of each class as the split, or as many groups.
    place = np.arange(len(codes))
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        codes = np.zeros(place.max() + 1)
    drawn = draw_within_classes(codes, _N_RESAMPLES, np.random.default_rng(seed))
    return drawn[place].astype(float)


def over_hold_outs(differences: np.ndarray, n_test_to_train: float) -> tuple[float, ...]:
    """Return mean, interval and p-value of differences, each on another hold-out.

    They share training images, so the variance of their mean is ``1 / n + n_test / n_train`` times
    theirs (Nadeau and Bengio, 2003).
    """
    n = len(differences)
    variance = float(differences.var(ddof=1) * (1 / n + n_test_to_train))
    return t_interval(float(differences.mean()), variance, n - 1)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with p-values corrected for all of them, also those that have none."""
    p = holm(np.array([difference.p for difference in differences]))
    return [replace(d, p_corrected=float(each)) for d, each in zip(differences, p, strict=True)]
