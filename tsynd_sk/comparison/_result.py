"""What a comparison found: scores of all runs, differences between arms, a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk.comparison._arms import Arm
from tsynd_sk.comparison._differences import (
    SCORES,
    Difference,
    corrected,
    over_hold_outs,
    over_images_and_seeds,
    predicted_scores,
    resampled_images,
)
from tsynd_sk.comparison._picture import Sample
from tsynd_sk.comparison._summary import summary_of
from tsynd_sk.comparison._verdict import recommended, verdict_of

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from tsynd_sk.inspection import DifferenceDisplay


@dataclass(frozen=True)
class ComparisonResult:
    """Scores and test predictions of all runs of a comparison, and what follows from them.

    Made by `compare`. Everything is computed from the predicted probabilities that each run
    keeps, so that another primary score needs no training: ``replace(result, primary="nll")``.

    Parameters
    ----------
    arms : dict of str to Arm
        What was compared, by name.
    references : dict of str to str
        For each arm that has one, the arm that it is set against: the same augmentation without
        synthesis, its *twin*, and "plain" for an augmentation.
    rows : list of dict
        One for each run and arm: "run", "arm", the scores on clean test images, the same with
        ``perturbed_`` before them (means over the corruptions), attacks' accuracy if there were
        attacks, "steps", "seconds" (processor time of the training), "converged".
    probabilities : dict of (int, str) to ndarray of shape (n_test, n_classes)
        Predictions for the test images of a run, by run and arm.
    train_rows, test_rows : list of ndarray
        For each run, rows of `X` that it was trained and scored on.
    codes : ndarray of shape (n,), int64
        For each row of `X`, the place of its label in `classes`.
    classes : ndarray of shape (n_classes,)
        Labels.
    groups : ndarray of shape (n,) or None
        For each row of `X`, what it belongs to (a patient, a slide).
    primary : {"roc_auc", "balanced_accuracy", "nll"}
        Score that decides.
    base : estimator or None
        The network, unfitted, as `compare` got it.
    options : dict
        What `Arm.make_classifier` has to know of images and network.
    losses : dict of (int, str) to list of float
        Mean training loss of each epoch, by run and arm.
    samples : dict of str to dict of ndarray
        Images that arms synthesised in the first run, by the parameters of
        `tsynd_sk.inspection.SynthesisDisplay`; empty unless `compare` had a folder to keep them in.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.comparison import compare
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> net = NetClassifier(module__width=4, max_epochs=4)
    >>> result = compare(net, X[:80], y[:80] > 4, arms=["plain", "standard"], n_repeats=2)
    >>> result.values("plain", "roc_auc").shape
    (2,)
    >>> [found.arm for found in replace(result, primary="nll").differences()]
    ['standard']
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
        """Return a column of the rows of an arm, in the order of its runs.

        Parameters
        ----------
        arm : str
            Name of an arm.
        column : str
            Name of a column of `rows`.

        Returns
        -------
        ndarray of shape (n_runs,)
            Numbers; nan where a run has none.
        """
        values = [row.get(column) for row in self._by_arm[arm]]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    def difference(self, arm: str, reference: str, score: str) -> Difference:
        """Compare two arms in one score, run by run.

        Parameters
        ----------
        arm, reference : str
            Names of arms.
        score : str
            A column of `rows`, for instance "roc_auc", "nll" or "perturbed_roc_auc".

        Returns
        -------
        Difference
            Of the arm minus its reference, with a 95 % interval and a p-value, uncorrected.

        Notes
        -----
        Where runs hold out parts of their own, the interval has the correction of Nadeau and
        Bengio (2003). Where all are scored on the same images, runs and test images (or groups)
        are resampled jointly; scores that are not computed from `probabilities` alone, as those
        under corruption, are then compared over runs only, for these test images.
        """
        each = self.values(arm, score) - self.values(reference, score)
        if not self.has_one_test_split:
            ratio = np.mean([len(b) / len(a) for a, b in self._parts()])
            found = over_hold_outs(each, float(ratio))
        elif score in SCORES:
            pairs = [
                self._resampled(run, arm)[score] - self._resampled(run, reference)[score]
                for run in range(self.n_runs)
            ]
            found = over_images_and_seeds(each, np.mean(pairs, axis=0))
        else:
            found = over_hold_outs(each, 0.0)
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
        score = score or self.primary
        paired = [(arm, self.references[arm]) for arm in self.arms if arm in self.references]
        return corrected([self.difference(*pair, score) for pair in paired])

    def _parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.train_rows, self.test_rows, strict=True))

    @cached_property
    def _weights(self) -> np.ndarray:
        rows = self.test_rows[0]
        groups = None if self.groups is None else self.groups[rows]
        return resampled_images(self.codes[rows], groups, seed=0)

    @cached_property
    def _resampled_scores(self) -> dict[tuple[int, str], dict[str, np.ndarray]]:
        return {}

    def _resampled(self, run: int, arm: str) -> dict[str, np.ndarray]:
        known = self._resampled_scores
        if (run, arm) not in known:
            codes = self.codes[self.test_rows[run]]
            proba = self.probabilities[run, arm].astype(np.float64)
            known[run, arm] = predicted_scores(codes, proba, self._weights)
        return known[run, arm]

    @property
    def recommended(self) -> str | None:
        """Arm to take: the best of those that were found better, or else the first.

        It is better than its reference, after correction for all arms, and than the first arm. None
        after a single run, which decides nothing.
        """
        return recommended(self)

    @property
    def verdict(self) -> str:
        """What the comparison says, in plain words."""
        return verdict_of(self)

    def summary(self) -> str:
        """Return the table of all arms, and the verdict below it.

        Returns
        -------
        str
            Lines of 80 columns at most, unless names of arms are long.
        """
        return f"{summary_of(self)}\n\n{self.verdict}"

    def __str__(self) -> str:
        return self.summary()

    def to_frame(self) -> Any:
        """Return the rows as a table of pandas.

        Returns
        -------
        DataFrame
            A row for each run and arm.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def plot(self, score: str | None = None, *, ax: Any = None) -> DifferenceDisplay:
        """Draw the differences of all arms to their references, with their intervals.

        Parameters
        ----------
        score : str or None, default=None
            As in `difference`; by default `primary`.
        ax : matplotlib Axes or None, default=None
            Where to draw; by default on a new figure.

        Returns
        -------
        DifferenceDisplay
            With ``ax_`` and ``figure_``.
        """
        from tsynd_sk.inspection import DifferenceDisplay

        score = score or self.primary
        text = SCORES.get(score, score.replace("_", " "))
        return DifferenceDisplay.from_differences(self.differences(score), text).plot(ax=ax)

    def make_estimator(self, arm: str | None = None, **params: Any) -> BaseEstimator:
        """Make the classifier of an arm, unfitted, to be fitted on all images.

        Parameters
        ----------
        arm : str or None, default=None
            Name of an arm; by default the one that is `recommended`.
        **params
            Parameters to set, ``random_state=0`` for instance.

        Returns
        -------
        AugmentedClassifier
            Its ``fit`` takes images and labels as `compare` does.

        Raises
        ------
        ValueError
            If there is no such arm, or nothing is recommended.
        """
        arm = self.recommended if arm is None else arm
        if arm is None:
            raise ValueError(
                "no arm is recommended after a single run: name an arm, or compare over several "
                "runs"
            )
        if arm not in self.arms:
            raise ValueError(f"arm must be one of {', '.join(self.arms)}; got {arm!r}")
        made = self.arms[arm].make_classifier(self.base, **self.options)
        return made.set_params(**params)
