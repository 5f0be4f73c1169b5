"""Classifiers side by side on clean, corrupted and attacked images, with intervals and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from tsynd_sk._utils._labels import labels_of
from tsynd_sk._utils._validation import check_int_at_least, check_number
from tsynd_sk.evaluation._bootstrap import METRICS, N_BINS, weighted_scores
from tsynd_sk.evaluation._corruptions import CORRUPTIONS, check_kinds
from tsynd_sk.evaluation._report_tables import frame, table
from tsynd_sk.evaluation._scores import classification_scores
from tsynd_sk.evaluation._trial import (
    Trial,
    checked_attacks,
    checked_metrics,
    checked_panel,
    measure_attacked,
    measure_clean,
    measure_corrupted,
)

__all__ = ["RobustnessReport", "expected_calibration_error", "robustness_report"]


def expected_calibration_error(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike, *, n_bins: int = N_BINS
) -> float:
    """Tell how far the confidence of predictions is from their accuracy.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels.
    proba : array-like of shape (n, n_classes)
        Predicted probabilities.
    classes : array-like of shape (n_classes,)
        Label that each column of `proba` is for.
    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    float
        Between 0, perfectly calibrated, and 1.

    Raises
    ------
    ValueError
        As :func:`classification_scores`, or if `n_bins` is below one.
    TypeError
        If `n_bins` is no int.

    Notes
    -----
    Rows are put in bins by their confidence, the probability of the class that is predicted. In
    each bin the mean confidence is compared with the share of correct predictions; the absolute
    differences are averaged, weighted by the number of rows [1]_ [2]_. With few rows the error is
    too high even for perfect predictions, for the shares of small bins scatter.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using
       Bayesian Binning", AAAI 2015.
    .. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017.

    Examples
    --------
    >>> from tsynd_sk.evaluation import expected_calibration_error
    >>> proba = [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]
    >>> round(expected_calibration_error([0, 1, 1, 1], proba, [0, 1]), 3)  # 90 % sure, 75 % right
    0.15
    """
    n_bins = check_int_at_least("n_bins", n_bins, 1)
    # It refuses what does not fit together.
    classification_scores(y, proba, classes)
    columns = np.asarray(classes).tolist()
    codes = np.array([columns.index(label) for label in labels_of(y).tolist()])
    scores = weighted_scores(codes, np.asarray(proba), np.ones((len(codes), 1)), n_bins)
    return float(scores[METRICS.index("expected_calibration_error"), 0])


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessReport:
    """What :func:`robustness_report` found; printing it shows a table.

    Attributes
    ----------
    scores : list of dict
        One for each condition, estimator and metric: "condition", "estimator", "metric", "score"
        (mean over seeds and settings), "low" and "high" (its interval).
    comparisons : list of dict
        One for each condition, estimator but the reference, and metric: "condition", "estimator",
        "reference", "metric", "difference", "low", "high", "p", "p_holm".
    rows : list of dict
        Every single measurement: "condition", "estimator", "seed", the setting ("kind" and
        "severity", or "attack" and "eps") and all metrics. Made for ``pandas.DataFrame(rows)``.
    notes : list of str
        What was left out and why, and signs of gradient masking.
    reference : str
        Name of the estimator that the others are compared with.
    n_images, n_seeds, n_resamples : int
        Images, fitted estimators of each name, resamples.
    confidence_level : float
        Of all intervals.

    See Also
    --------
    robustness_report : Makes it.
    tsynd_sk.inspection.RobustnessDisplay : Draws it, also on axes that are there.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import robustness_report
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> few, many = (LogisticRegression().fit(X[:n], y[:n]) for n in (50, 200))
    >>> report = robustness_report(
    ...     {"few": few, "many": many}, X[200:300], y[200:300], kinds=(), attacks=()
    ... )
    >>> report.reference, report.n_images, len(report.scores), len(report.comparisons)
    ('few', 100, 8, 4)
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
        """Give the scores as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each of `scores`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame(self.scores, ["condition", "estimator", "metric", "score", "low", "high"])

    def differences(self):
        """Give the differences to the reference as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each of `comparisons`; none if there is a single estimator.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        names = ["condition", "estimator", "reference", "metric", "difference", "low", "high"]
        return frame(self.comparisons, [*names, "p", "p_holm"])

    def __repr__(self) -> str:
        return table(self)


def robustness_report(
    estimators: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    *,
    kinds: Iterable[str] = CORRUPTIONS,
    severities: Iterable[int] = (1, 2, 3, 4, 5),
    attacks: Iterable[str] | None = None,
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
        From names to fitted classifiers, or to lists of them, one a seed: the first of every list
        have a seed (and its training images) in common, and so on. All lists have one length.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Clean images that none of them was fitted on.
    y : array-like of shape (n,)
        True labels.
    kinds, severities : iterable, default=all of them
        Corruptions, see :func:`corruption_scores`; all estimators see the same corrupted images.
        ``kinds=()`` leaves them out.
    attacks : iterable of str or None, default=None
        See :func:`adversarial_scores`; every estimator is attacked by its own gradients. ``()``
        leaves attacks out. ``None`` stands for "pgd", left out with a warning where the Adversarial
        Robustness Toolbox is not installed or an estimator has no gradients.
    eps : iterable of float, default=(2 / 255, 4 / 255)
        Strengths of the attacks, as shares of the range of values.
    attack_params : dict or None, default=None
        Any of "max_iter", "n_restarts", "n_queries" and "batch_size" for
        :func:`adversarial_scores`.
    metrics : iterable of str, default=all of them
        "roc_auc" and "balanced_accuracy", see :func:`classification_scores`, "accuracy" and
        "expected_calibration_error", see :func:`expected_calibration_error`.
    reference : str or None, default=None
        Name of the estimator that the others are compared with; ``None``: the first.
    n_resamples : int, default=2000
        Resamples of the bootstrap, 100 at least.
    confidence_level : float, default=0.95
        Of the intervals; a difference counts as one if its Holm-corrected p is below the rest.
    random_state : int, RandomState instance or None, default=None
        Seed of corruptions, attacks and resamples. With the same integer, `corruption_scores` and
        `adversarial_scores` give the same rows.

    Returns
    -------
    RobustnessReport
        Call its ``to_frame``, ``differences`` and ``plot``, or print it. Its conditions are
        "clean", "corrupted" (the mean over kinds and severities), and each attack with its
        strength, such as "pgd 2/255".

    Raises
    ------
    ImportError
        If attacks are asked for and the Adversarial Robustness Toolbox is not installed.
    TypeError
        If `estimators` is no dict, if an estimator predicts no probabilities, or attacks are asked
        for and it has no gradients, or if a number is none.
    ValueError
        If lists differ in length, `y` has a single label, `reference` or a metric is unknown, a
        number is out of its range, or as `corruption_scores` and `adversarial_scores`.

    Warns
    -----
    GradientMaskingWarning
        If the gradients of an estimator seem to be masked, see :func:`adversarial_scores`.
    UserWarning
        If ``attacks=None`` could not be done.

    Notes
    -----
    *Scores* have percentile intervals of the bootstrap [1]_: images are drawn with replacement
    within their classes, the same for all estimators and conditions, and so are seeds if there are
    several, independently of the images [2]_. With a single seed an interval says nothing about
    other trainings, and with fewer than five it says too little. The mean of the resampled scores
    is moved to what was measured, for duplicates among the images raise the calibration error.

    *Differences* are means over seeds of paired differences. Their intervals, and tests whether
    there is a difference at all, are those of Student's t with two sources of error, the variance
    over seeds divided by their number and the bootstrap's variance over images, and with the
    degrees of freedom of Satterthwaite [3]_. They hold for other images and, with several seeds,
    for other trainings, and are rather too wide than too narrow. "p_holm" is corrected [4]_ for all
    the tests of the report: the fewer metrics and attacks are asked for, the fewer they are. The
    intervals are not corrected.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993.
    .. [2] A. B. Owen, "The Pigeonhole Bootstrap", Annals of Applied Statistics 1, 2007.
    .. [3] F. E. Satterthwaite, "An Approximate Distribution of Estimates of Variance Components",
       Biometrics Bulletin 2, 1946.
    .. [4] S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal
       of Statistics 6, 1979.

    Examples
    --------
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import robustness_report
    >>> X, y, _ = load_digits_images()
    >>> X = X[:, None]
    >>> nets = {
    ...     f"{n} images": NetClassifier(max_epochs=2).fit(X[:n], y[:n]) for n in (50, 150)
    ... }
    >>> report = robustness_report(
    ...     nets, X[200:300], y[200:300], kinds=["noise", "blur"], severities=[3], attacks=(),
    ...     metrics=["roc_auc", "accuracy"], random_state=0
    ... )
    >>> report.to_frame().columns.tolist()
    ['condition', 'estimator', 'metric', 'score', 'low', 'high']
    >>> report.differences()[["condition", "estimator", "reference", "metric"]].head(2)
      condition   estimator  reference    metric
    0     clean  150 images  50 images   roc_auc
    1     clean  150 images  50 images  accuracy
    """
    panel = checked_panel(estimators)
    reference = next(iter(panel)) if reference is None else reference
    if reference not in panel:
        raise ValueError(f"reference must be one of {list(panel)}; got {reference!r}")
    metrics = checked_metrics(metrics)
    n_resamples = check_int_at_least("n_resamples", n_resamples, 100)
    check_number("confidence_level", confidence_level, 0.5, 0.9999)
    wanted, notes = checked_attacks(attacks, eps, attack_params, panel)
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    check_kinds(kinds)
    labels = labels_of(y)
    if len(np.unique(labels)) < 2:
        raise ValueError("y has fewer than two labels, which leaves nothing to tell apart")

    drawn = int(check_random_state(random_state).randint(2**31 - 1))
    # An integer is handed on, so that the rows are those of the single functions.
    seed = random_state if isinstance(random_state, Integral) else drawn
    trial = Trial(panel, labels, n_resamples, np.random.default_rng(drawn))
    X = np.asarray(X)
    measure_clean(trial, X)
    if kinds:
        measure_corrupted(trial, X, y, kinds=kinds, severities=severities, random_state=seed)
    else:
        notes.append("No corruptions were asked for.")
    if wanted:
        notes += measure_attacked(trial, X, y, random_state=seed, **wanted)
    scores, comparisons = trial.summary(metrics, reference, confidence_level)
    return RobustnessReport(
        scores=scores,
        comparisons=comparisons,
        rows=trial.rows,
        notes=notes,
        reference=reference,
        n_images=len(labels),
        n_seeds=trial.n_seeds,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )
