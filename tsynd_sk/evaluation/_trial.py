"""Fitted classifiers that are put to the same tests, and what the outcomes say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from skorch import NeuralNet

from tsynd_sk import _skorch
from tsynd_sk._utils._validation import check_list, type_name
from tsynd_sk.evaluation._art import check_installed
from tsynd_sk.evaluation._attacks import (
    GradientMaskingWarning,
    _check_attacks,
    _check_eps,
    adversarial_scores,
)
from tsynd_sk.evaluation._bootstrap import (
    METRICS,
    N_BINS,
    Resamples,
    compare,
    holm,
    interval,
    over_seeds,
    seed_draws,
    weighted_scores,
)
from tsynd_sk.evaluation._scores import classification_scores
from tsynd_sk.synthesis import AugmentedClassifier

#: Fitted classifiers by name, in lists of one for each seed.
Panel = dict[str, list[Any]]

_MISSING = (
    'the Adversarial Robustness Toolbox is not installed (pip install "tsynd_sk[robustness]").'
)
_BUDGETS = ("max_iter", "n_restarts", "n_queries", "batch_size")


class Trial:
    """Collects measurements, and scores in resamples of the images, condition by condition.

    Parameters
    ----------
    panel : dict of list
        Fitted classifiers.
    labels : ndarray of shape (n,)
        True labels.
    n_resamples : int
        Resamples of the images.
    rng : numpy.random.Generator
        Source of their randomness.
    """

    def __init__(
        self, panel: Panel, labels: np.ndarray, n_resamples: int, rng: np.random.Generator
    ):
        self.panel, self.labels = panel, labels
        self.n_seeds = len(next(iter(panel.values())))
        self.rows: list[dict[str, Any]] = []
        self._sums: dict[tuple[str, str], np.ndarray] = {}
        self._resamples = Resamples(np.unique(labels, return_inverse=True)[1], n_resamples, rng)
        self._draws = seed_draws(self.n_seeds, n_resamples, rng)

    def __iter__(self) -> Iterator[tuple[str, int, Any]]:
        """Go through the classifiers by name and seed."""
        for name, seeds in self.panel.items():
            for seed, estimator in enumerate(seeds):
                yield name, seed, estimator

    def measure(self, key: dict[str, Any], name: str, seed: int, proba: np.ndarray) -> None:
        """Score one classifier's probabilities in one setting."""
        classes = np.asarray(self.panel[name][seed].classes_)
        # It refuses what does not fit together.
        checked = classification_scores(self.labels, proba, classes)
        places = {label: code for code, label in enumerate(classes.tolist())}
        codes = np.array([places[label] for label in self.labels.tolist()])
        point = weighted_scores(codes, proba, np.ones((len(codes), 1)), N_BINS)[:, 0]
        scores = {**dict(zip(METRICS, point.tolist(), strict=True)), **checked}
        self.rows.append({**key, "estimator": name, "seed": seed, **scores})
        resampled = self._resamples.scores(codes, proba, N_BINS)
        place = key["condition"], name
        if place not in self._sums:
            self._sums[place] = np.zeros((self.n_seeds, *resampled.shape))
        self._sums[place][seed] += resampled

    def summary(
        self, metrics: list[str], reference: str, confidence_level: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Give scores with intervals, and differences to the reference with tests."""
        scores, comparisons = [], []
        conditions = list(dict.fromkeys(row["condition"] for row in self.rows))
        for condition in conditions:
            measured = {name: self._means(condition, name) for name in self.panel}
            for name, (points, resampled) in measured.items():
                for metric in metrics:
                    m = METRICS.index(metric)
                    key = {"condition": condition, "estimator": name}
                    score = float(points[:, m].mean())
                    drawn = over_seeds(resampled[:, m], self._draws)
                    low, high = interval(score, drawn, confidence_level)
                    scores.append(
                        {**key, "metric": metric, "score": score, "low": low, "high": high}
                    )
                    if name == reference:
                        continue
                    base, base_resampled = measured[reference]
                    outcome = compare(
                        points[:, m] - base[:, m],
                        (resampled[:, m] - base_resampled[:, m]).mean(axis=0),
                        confidence_level,
                    )
                    key |= {"reference": reference, "metric": metric}
                    comparisons.append({**key, **outcome._asdict()})
        corrected = holm(np.array([row["p"] for row in comparisons]))
        for row, p in zip(comparisons, corrected.tolist(), strict=True):
            row["p_holm"] = p
        return scores, comparisons

    def _means(self, condition: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Average over the settings of a condition: (n_seeds, n_metrics[, n_resamples])."""
        rows = [r for r in self.rows if (r["condition"], r["estimator"]) == (condition, name)]
        points = [
            np.mean([[r[metric] for metric in METRICS] for r in rows if r["seed"] == seed], axis=0)
            for seed in range(self.n_seeds)
        ]
        n_settings = len(rows) // self.n_seeds
        return np.array(points), self._sums[condition, name] / n_settings


class _Chorus:
    """All classifiers of a trial as one, for which every corruption is made once."""

    def __init__(self, trial: Trial):
        self._answers = 0
        self._trial = trial
        estimators = [estimator for *_, estimator in trial]
        self.classes_ = estimators[0].classes_
        # By these flat images are unfolded.
        knowing = [e for e in estimators if hasattr(e, "image_shape_")]
        self.image_shape_ = knowing[0].image_shape_ if knowing else None
        self.format_ = getattr(knowing[0], "format_", None) if knowing else None

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        key = {"condition": "corrupted", "setting": self._answers}
        self._answers += 1
        first = None
        for name, seed, estimator in self._trial:
            proba = np.asarray(estimator.predict_proba(X))
            self._trial.measure(key, name, seed, proba)
            first = proba if first is None else first
        assert first is not None
        return first


def measure_clean(trial: Trial, X: np.ndarray) -> None:
    """Score on the images as they are."""
    for name, seed, estimator in trial:
        proba = np.asarray(estimator.predict_proba(X))
        trial.measure({"condition": "clean"}, name, seed, proba)


def measure_corrupted(trial: Trial, X: np.ndarray, y, **settings) -> None:
    """Score on corrupted images."""
    # It comes after this room, whose report it passes on.
    from tsynd_sk.evaluation._perturbed_scores import corruption_scores

    found = corruption_scores(_Chorus(trial), X, y, **settings)
    for row in trial.rows:
        if (setting := row.pop("setting", None)) is not None:
            corruption = found.rows[setting]
            row |= {"kind": corruption["kind"], "severity": corruption["severity"]}


def measure_attacked(trial: Trial, X: np.ndarray, y, **settings) -> list[str]:
    """Score on images that were changed to mislead each classifier; give signs of masking."""
    signs: dict[str, list[str]] = {}
    for name, seed, estimator in trial:
        with warnings.catch_warnings():
            # It would not tell which of the classifiers it is about.
            warnings.simplefilter("ignore", GradientMaskingWarning)
            found = adversarial_scores(estimator, X, y, **settings)
        for row, proba in zip(found.rows[1:], found.proba[1:], strict=True):
            key = {"attack": row["attack"], "eps": row["eps"]}
            condition = f"{row['attack']} {strength(row['eps'])}"
            trial.measure({"condition": condition, **key}, name, seed, proba)
        if found.gradient_masking:
            signs.setdefault(name, []).append(f"seed {seed}: {'; '.join(found.gradient_masking)}")
    notes = [f"Signs of gradient masking in {name!r}: {'. '.join(signs[name])}." for name in signs]
    if notes:
        warnings.warn(
            f"{' '.join(notes)} Trust no accuracy under attack but the lowest; see "
            "adversarial_scores.",
            GradientMaskingWarning,
            stacklevel=3,
        )
    return notes


def strength(eps: float) -> str:
    """Name the strength of an attack as people do."""
    levels = eps * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.3g}"


def checked_panel(estimators: Any) -> Panel:
    """Refuse what are no fitted classifiers by name, or not as many seeds of each."""
    if not isinstance(estimators, Mapping):
        raise TypeError(
            f"estimators must be a dict from names to fitted classifiers, got {type_name(estimators)}"
        )
    if not estimators:
        raise ValueError("estimators is empty; give at least one fitted classifier")
    panel = {}
    for name, given in estimators.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of estimators must be strings, got {name!r}")
        what = f"estimators[{name!r}]"
        seeds = (
            check_list(what, given, "classifiers") if isinstance(given, list | tuple) else [given]
        )
        for estimator in seeds:
            if not hasattr(estimator, "predict_proba"):
                raise TypeError(
                    f"{what} must be a fitted classifier with predict_proba, or a list of such; "
                    f"got {type_name(estimator)}"
                )
        panel[name] = list(seeds)
    lengths = {name: len(seeds) for name, seeds in panel.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"estimators are compared seed by seed, but their numbers differ: {lengths}. Give "
            "lists of one length, of which the first have a seed in common, and so on."
        )
    return panel


def checked_metrics(metrics: Any) -> list[str]:
    """Refuse scores that there are none of."""
    known = f"the metrics, {', '.join(METRICS)}"
    metrics = [metrics] if isinstance(metrics, str) else check_list("metrics", metrics, known)
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"Unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}")
    return list(dict.fromkeys(metrics))


def checked_attacks(
    attacks: Any, eps: Any, attack_params: Any, panel: Panel
) -> tuple[dict[str, Any] | None, list[str]]:
    """Settle what attacks there shall be before anything takes time, and say why there are none."""
    params = {} if attack_params is None else attack_params
    if not isinstance(params, Mapping) or not set(params) <= set(_BUDGETS):
        raise ValueError(
            f"attack_params must be a dict with no other keys than {', '.join(_BUDGETS)}; got "
            f"{attack_params!r}"
        )
    installed, unknown = find_spec("art") is not None, _without_gradients(panel)
    if attacks is None:
        if reason := unknown if installed else _MISSING:
            warnings.warn(
                f"Attacks are left out: {reason} Give attacks=() to leave them out without a word.",
                stacklevel=3,
            )
            return None, [f"Attacks were left out: {reason}"]
        attacks = ["pgd"]
    given = [attacks] if isinstance(attacks, str) else list(attacks)
    if not given:
        return None, ["No attacks were asked for."]
    check_installed("robustness_report with attacks")
    if unknown:
        raise TypeError(f"robustness_report cannot attack all of estimators: {unknown}")
    return {"attacks": _check_attacks(given), "eps": _check_eps(eps), **params}, []


def _without_gradients(panel: Panel) -> str | None:
    """Say which of the classifiers attacks cannot follow."""
    for name, seeds in panel.items():
        for estimator in map(_skorch.unfreeze, seeds):
            if not isinstance(estimator, AugmentedClassifier | NeuralNet):
                return (
                    f"{name!r} is {type_name(estimator)}, whose gradients are not known, for it is "
                    "neither an AugmentedClassifier nor a skorch net."
                )
    return None
