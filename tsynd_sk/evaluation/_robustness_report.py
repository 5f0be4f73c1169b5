"""Classifiers side by side on clean, corrupted and attacked images, with intervals and tests."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from numbers import Integral
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from tsynd_sk._utils._labels import labels_of
from tsynd_sk._utils._table import format_table
from tsynd_sk._utils._validation import check_int_at_least, check_number
from tsynd_sk.evaluation._attacks import GradientMaskingWarning, adversarial_scores
from tsynd_sk.evaluation._corruptions import CORRUPTIONS
from tsynd_sk.evaluation._perturbed_scores import corrupted_images, flat_image_shape
from tsynd_sk.evaluation._scores import (
    METRICS,
    TITLES,
    check_predictions,
    draw_within_classes,
    holm,
    interval,
    names_among,
    over_images_and_seeds,
    resampled_scores,
    weighted_scores,
)


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessReport:
    """What :func:`robustness_report` found; printing it shows a table.

    Attributes
    ----------
    scores : list of dict
        "condition", "estimator", "metric", "score" (mean over seeds and settings), "low", "high".
    comparisons : list of dict
        "condition", "estimator", "reference", "metric", "difference", "low", "high", "p", "p_holm".
    rows : list of dict
        Single measurements: "condition", "estimator", "seed", the setting ("kind" and "severity",
        or "attack" and "eps") and all metrics.
    notes : list of str
        What was left out, and signs of gradient masking.
    reference : str
        What the others are compared with.
    n_images, n_seeds, n_resamples : int
        Images, fitted estimators of each name, resamples.
    confidence_level : float
        Of all intervals.

    See Also
    --------
    robustness_report : Makes it.
    tsynd_sk.inspection.RobustnessDisplay : Draws it.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import robustness_report
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> few, many = (LogisticRegression().fit(X[:n], y[:n]) for n in (50, 200))
    >>> report = robustness_report({"few": few, "many": many}, X[200:300], y[200:300], kinds=())
    >>> len(report.to_frame()), len(report.differences())
    (8, 4)
    """

    scores: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    notes: list[str]
    reference: str
    n_images: int
    n_seeds: int
    n_resamples: int
    confidence_level: float

    def to_frame(self):
        """Return the scores as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each of `scores`.
        """
        import pandas as pd

        return pd.DataFrame(self.scores)

    def differences(self):
        """Return the differences to the reference as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each of `comparisons`.
        """
        import pandas as pd

        names = ["condition", "estimator", "reference", "metric", "difference", "low", "high"]
        return pd.DataFrame(self.comparisons, columns=[*names, "p", "p_holm"])

    def __repr__(self) -> str:
        several, alpha = self.n_seeds > 1, 1 - self.confidence_level
        keys = itemgetter("condition", "estimator", "metric")
        differing = {keys(row) for row in self.comparisons if row["p_holm"] < alpha}
        table: list[list[str]] = []
        for condition, in_condition in groupby(self.scores, itemgetter("condition")):
            table.append([condition])
            for name, rows in groupby(in_condition, itemgetter("estimator")):
                suffix = " (reference)" if self.comparisons and name == self.reference else ""
                cells = [
                    f"{row['score']:.3f}{'*' if keys(row) in differing else ' '} "
                    f"[{row['low']:.3f}, {row['high']:.3f}]"
                    for row in rows
                ]
                table.append([f"  {name}{suffix}", *cells])
        headings = ["", *dict.fromkeys(TITLES[row["metric"]][0] for row in self.scores)]
        lines = [
            f"{self.n_images} images, {self.n_seeds} seed{'s' if several else ''}; "
            f"{100 * self.confidence_level:.4g} % intervals by {self.n_resamples} resamples of "
            f"images {'and seeds' if several else 'alone'}",
            "",
            format_table(headings, table, align="<" * len(headings)),
            "",
        ]
        if self.comparisons:
            lines.append(f"* differs from {self.reference!r} (Holm-corrected p < {alpha:.2g})")
        return "\n".join([*lines, *self.notes]).rstrip()


def robustness_report(
    estimators: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    *,
    kinds: Iterable[str] = CORRUPTIONS,
    severities: Iterable[int] = (1, 2, 3, 4, 5),
    attacks: Iterable[str] = (),
    eps: Iterable[float] = (2 / 255, 4 / 255),
    attack_params: Mapping[str, int] | None = None,
    metrics: Iterable[str] = METRICS,
    reference: str | None = None,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> RobustnessReport:
    """Compare fitted classifiers on clean, corrupted and attacked images.

    Parameters
    ----------
    estimators : dict
        From names to fitted classifiers, or to lists of one length, one a seed: the first of every
        list have a seed (and its training images) in common, and so on.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Clean images that none of them was fitted on.
    y : array-like of shape (n,)
        True labels.
    kinds, severities : list, default=all of them
        Corruptions, see :func:`corruption_scores`, the same for all; ``kinds=()`` for none.
    attacks, eps : list of str, default=(), and iterable of float, default=(2 / 255, 4 / 255)
        Attacks, each by the estimator's own gradients, and their strengths, see
        :func:`adversarial_scores`.
    attack_params : dict or None, default=None
        Budgets for :func:`adversarial_scores`.
    metrics : iterable of str, default=METRICS
        Those to measure.
    reference : str or None, default=None
        Name of what the others are compared with; ``None``: the first.
    n_resamples : int, default=2000
        Resamples of the bootstrap, 100 at least.
    confidence_level : float, default=0.95
        Of the intervals; a difference counts as one if its "p_holm" is below the rest.
    random_state : int, RandomState instance or None, default=None
        Seed of corruptions, attacks and resamples. With the same integer, `corruption_scores` and
        `adversarial_scores` give the same rows.

    Returns
    -------
    RobustnessReport
        Call its ``to_frame`` and ``differences``, or print it. Its conditions are "clean",
        "corrupted" (mean over kinds and severities), and attacks such as "pgd 2/255".

    Raises
    ------
    TypeError
        If attacks are asked for and an estimator has no gradients.
    ValueError
        If lists differ in length, `y` has a single label, or a parameter is out of its range.

    Warns
    -----
    GradientMaskingWarning
        If the gradients of an estimator seem to be masked, see :func:`adversarial_scores`.

    See Also
    --------
    RobustnessReport : What it returns.
    corruption_scores, augmentation_scores, adversarial_scores : Scores of one classifier.
    tsynd_sk.inspection.RobustnessDisplay : Draws what is measured.
    tsynd_sk.AugmentedClassifier : A classifier that is meant to be robust.

    Notes
    -----
    :ref:`guide_evaluation` says how intervals and tests are made and read. "p_holm" is corrected
    for all tests of the report, the intervals are not.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import robustness_report
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> few, many = (LogisticRegression().fit(X[:n], y[:n]) for n in (50, 200))
    >>> few.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> report = robustness_report(
    ...     {"few": few, "many": many}, X[200:300], y[200:300], kinds=["noise"], severities=[3],
    ...     metrics=["roc_auc", "accuracy"], random_state=0
    ... )
    >>> report.differences()[["condition", "estimator", "reference", "metric"]].head(2)
      condition estimator reference    metric
    0     clean      many       few   roc_auc
    1     clean      many       few  accuracy
    """
    panel = _panel(estimators)
    reference = next(iter(panel)) if reference is None else reference
    if reference not in panel:
        raise ValueError(f"reference must be one of {list(panel)}; got {reference!r}")
    metrics = names_among(METRICS, metrics, "metric")
    n_resamples = check_int_at_least("n_resamples", n_resamples, 100)
    check_number("confidence_level", confidence_level, 0.5, 0.9999)
    labels = labels_of(y)
    if len(np.unique(labels)) < 2:
        raise ValueError("y has one label only: give test images of at least two classes")
    X = np.asarray(X)
    drawn = int(check_random_state(random_state).randint(2**31 - 1))
    # An integer is handed on, so that the rows are those of the single functions.
    seed = random_state if isinstance(random_state, Integral) else drawn
    shape = flat_image_shape((e for seeds in panel.values() for e in seeds), X)
    corrupted = corrupted_images(X, kinds, severities, seed, shape)
    notes = []
    trial = Trial(panel, labels, n_resamples, np.random.default_rng(drawn))
    trial.measure([({"condition": "clean"}, X)])
    if attacks:
        settings = {"attacks": attacks, "eps": eps, **(attack_params or {})}
        # First, for it checks its settings.
        notes += trial.measure_attacked(X, y, random_state=seed, **settings)
        if notes:
            warnings.warn(
                f"attacks may have missed what there is: {' '.join(notes)} Trust no accuracy under "
                "attack but the lowest; see adversarial_scores.",
                GradientMaskingWarning,
                stacklevel=2,
            )
    else:
        notes.append("No attacks were asked for.")
    trial.measure(({"condition": "corrupted", **key}, images) for key, images in corrupted)
    trial.rows.sort(key=lambda row: "attack" in row)
    if not any("kind" in row for row in trial.rows):
        notes.append("No corruptions were asked for.")
    scores, comparisons = trial.summary(metrics, reference, confidence_level)
    numbers = len(labels), trial.n_seeds, n_resamples, confidence_level
    return RobustnessReport(scores, comparisons, trial.rows, notes, reference, *numbers)


def _panel(estimators: Any) -> dict[str, list[Any]]:
    """Return a list of fitted classifiers, one for each seed, for every name."""
    if not isinstance(estimators, Mapping):
        raise TypeError(
            f"estimators must be a dict from names to fitted classifiers; got {estimators!r:.100}"
        )
    panel = {
        name: list(given) if isinstance(given, list | tuple) else [given]
        for name, given in estimators.items()
    }
    lengths = {name: len(seeds) for name, seeds in panel.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            "estimators must be fitted classifiers, or lists of equal length, one for each seed; "
            f"got lists of these lengths: {lengths}"
        )
    return panel


class Trial:
    """Measurements of a panel of classifiers (lists by name, one a seed), resampled too."""

    def __init__(
        self,
        panel: dict[str, list[Any]],
        labels: np.ndarray,
        n_resamples: int,
        rng: np.random.Generator,
    ):
        self.panel, self.labels = panel, labels
        self.n_seeds = len(next(iter(panel.values())))
        self._seeds = list(product(panel, range(self.n_seeds)))
        self.rows: list[dict[str, Any]] = []
        # Sums over settings, of the scores measured and then of those in the resamples.
        self._totals: dict[tuple[str, str, int], Any] = defaultdict(float)
        codes = np.unique(labels, return_inverse=True)[1]
        self._counts = draw_within_classes(codes, n_resamples, rng)
        # How often each seed is drawn in each resample.
        shares = np.full(self.n_seeds, 1 / self.n_seeds)
        self._draws = rng.multinomial(self.n_seeds, shares, size=n_resamples).T

    def measure(self, settings: Iterable[tuple[dict[str, Any], np.ndarray]]) -> None:
        """Score all classifiers on the images of each setting, which are made once for all."""
        for key, images in settings:
            for name, seed in self._seeds:
                self._add(key, name, seed, self.panel[name][seed].predict_proba(images))

    def measure_attacked(self, X: np.ndarray, y, **settings) -> list[str]:
        """Score on images that were changed to mislead each classifier; return signs of masking."""
        signs = defaultdict(list)
        for name, seed in self._seeds:
            with warnings.catch_warnings():
                # It would not name the classifier.
                warnings.simplefilter("ignore", GradientMaskingWarning)
                found = adversarial_scores(self.panel[name][seed], X, y, **settings)
            # The first row is of clean images.
            for row, proba in zip(found.rows[1:], found.proba[1:], strict=True):
                setting = {key: row[key] for key in ("attack", "eps")}
                condition = f"{row['attack']} {format_strength(row['eps'])}"
                self._add({"condition": condition, **setting}, name, seed, proba)
            if masking := found.gradient_masking:
                signs[name].append(f"seed {seed}: {'; '.join(masking)}")
        return [
            f"Signs of gradient masking in {name!r}: {'. '.join(of)}." for name, of in signs.items()
        ]

    def _add(self, key: dict[str, Any], name: str, seed: int, proba: Any) -> None:
        classes = self.panel[name][seed].classes_
        codes, proba = check_predictions(self.labels, proba, classes)
        point = weighted_scores(codes, proba)
        named = dict(zip(METRICS, point[:, 0].tolist(), strict=True))
        self.rows.append({**key, "estimator": name, "seed": seed, **named})
        scores = np.hstack([point, resampled_scores(codes, proba, self._counts)])
        self._totals[key["condition"], name, seed] += scores

    def summary(
        self, metrics: list[str], reference: str, confidence_level: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return scores with intervals, and differences to the reference with tests."""
        scores, comparisons = [], []
        n_rows = Counter(row["condition"] for row in self.rows)
        for condition, name, metric in product(n_rows, self.panel, metrics):
            # Over the settings of the condition.
            n_settings, m = n_rows[condition] / len(self._seeds), METRICS.index(metric)
            measured, base = (
                np.stack([self._totals[condition, one, seed][m] for seed in range(self.n_seeds)])
                / n_settings
                for one in (name, reference)
            )
            score = float(measured[:, 0].mean())
            resampled = (measured[:, 1:] * self._draws).sum(axis=0) / self.n_seeds
            low, high = interval(score, resampled, confidence_level)
            key = {"condition": condition, "estimator": name}
            scores.append({**key, "metric": metric, "score": score, "low": low, "high": high})
            if name != reference:
                differences = measured - base
                resampled = differences[:, 1:].mean(axis=0)
                found = over_images_and_seeds(differences[:, 0], resampled, confidence_level)
                outcome = dict(zip(("difference", "low", "high", "p"), found, strict=True))
                comparisons.append({**key, "reference": reference, "metric": metric, **outcome})
        corrected = holm(np.array([row["p"] for row in comparisons]))
        for row, p in zip(comparisons, corrected.tolist(), strict=True):
            row["p_holm"] = p
        return scores, comparisons


def format_strength(eps: float) -> str:
    """Write the strength of an attack as people do."""
    levels = eps * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.3g}"
