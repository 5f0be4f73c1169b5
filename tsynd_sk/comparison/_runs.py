"""The runs of a comparison: every arm trains and is scored on every split, and is saved then."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from time import perf_counter, process_time
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs

from tsynd_sk import _skorch
from tsynd_sk._utils._names import UNMOVED
from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.augmentation import TransformRows
from tsynd_sk.comparison._arms import Arm
from tsynd_sk.comparison._results_folder import (
    Outcome,
    ResultsFolder,
    Sample,
    definition_of,
    part_defaults,
)
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import (
    ATTACKS,
    CORRUPTIONS,
    GradientMaskingWarning,
    adversarial_scores,
    check_eps,
    corrupt,
    names_among,
    weighted_scores,
)
from tsynd_sk.images import ImageFormat, ValueRange
from tsynd_sk.inspection import SynthesisDisplay
from tsynd_sk.synthesis import (
    AugmentedClassifier,
    TargetedSynthesis,
    check_trainable,
    image_passes,
)

#: Scores of predicted probabilities, and how people call them.
#: Lower is better for "nll" and "expected_calibration_error".
#:
#: Examples
#: --------
#: >>> from tsynd_sk.comparison import SCORES
#: >>> SCORES["roc_auc"]
#: 'ROC AUC'
SCORES = {
    "roc_auc": "ROC AUC",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL",
    "expected_calibration_error": "calibration error",
}

Pair = tuple[int, str]

# Batches to measure the speed by.
_N_BATCHES = 4
# Of corruptions, from 1 to 5, and of attacks.
_SEVERITY, _STEPS = 3, 20


@dataclass(frozen=True)
class Run:
    """A split of the images: rows to train on and to score on, and the seed of the training."""

    seed: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Runs:
    """What to train and to score; `flip` and `n_jobs` are those of `compare`."""

    X: np.ndarray
    image_format: ImageFormat
    value_range: ValueRange
    codes: np.ndarray
    class_names: Sequence[Any]
    net: Any
    arms: Mapping[str, Arm]
    runs: Sequence[Run]
    scoring: Scoring
    flip: bool
    n_jobs: int | None
    #: Whether to keep synthetic images of the first run.
    show: bool = True

    def options(self, n_train: int) -> dict[str, Any]:
        """Return the arguments of `Arm.make_classifier`."""
        is_scaled = self.image_format.divisor != 1
        low, high = (0, 1) if is_scaled else (self.value_range.low, self.value_range.high)
        return {
            "n_classes": len(self.class_names),
            "max_epochs": n_epochs(self.net, n_train),
            "low": float(low),
            "high": float(high),
            "flip": self.flip,
        }

    def described(self) -> dict[str, Any]:
        """Return what determines the results, in types of JSON."""
        return {
            "images": joblib.hash([self.X, self.codes]),
            "net": definition_of(self.net),
            "flip": self.flip,
            "scoring": definition_of(vars(self.scoring)),
            "runs": [{"seed": r.seed, "rows": joblib.hash([r.train, r.test])} for r in self.runs],
            "arms": {name: arm.definition() for name, arm in self.arms.items()},
            "defaults": part_defaults(),
        }

    def check(self) -> None:
        """Raise now what trainings would raise before their first step."""
        rows = np.unique(self.codes, return_index=True)[1]
        # On one image of each class, once for each way to use the network.
        arms = self.arms.values()
        ways = {(arm.augmentation == "adversarial", arm.objective): arm for arm in arms}
        for arm in ways.values():
            classifier = arm.make_classifier(self.net, **self.options(len(rows)))
            check_trainable(classifier, self.X[rows], self.codes[rows])
        with _skorch.scoped_seed(0):
            for arm in arms:
                if callable(arm.augmentation):
                    TransformRows(arm.augmentation)(self._rows(1))

    def _rows(self, n: int) -> list[tuple[Any, int]]:
        return [(self.image_format.to_tensor(self.X[:1])[0], 0)] * n

    def image_passes(self, name: str) -> int:
        """Estimate how many images pass through networks in one run of an arm."""
        arm, train = self.arms[name], self.runs[0].train
        made = arm.make_classifier(self.net, **self.options(len(train)))
        ratio = made.synthetic_ratio or made.estimator.get_params().get("iterator_train__ratio", 0)
        if ratio == "balanced":
            counts = np.unique(self.codes[train], return_counts=True)[1]
            ratio = (counts.max() - counts).sum() / len(train)
        schedule = {"warm_up": made.warm_up, "refresh_every": made.refresh_every}
        synthesis = TargetedSynthesis(made.synthesizer, synthetic_ratio=ratio, **schedule)
        passes = image_passes(synthesis, made.estimator, self._rows(len(train)))
        parts = passes if arm.synthesises else ["classifier"]
        return int(sum(passes[part].sum() for part in parts))

    def duration(self, n_passes: int) -> str:
        """Time one epoch of a few batches, and say how long these passes will take."""
        with warnings.catch_warnings(), single_threaded():
            # The training itself will warn.
            warnings.simplefilter("ignore")
            # Without the user's callbacks, which may write files or report to a tracker.
            net = _skorch.clone_net(self.net).set_params(max_epochs=1, verbose=0, callbacks=None)
            train = self.runs[0].train
            codes = self.codes[train]
            # At least one row of each class, for nets that are sized by their labels.
            first = np.unique(codes, return_index=True)[1]
            batch_size = net.batch_size if net.batch_size > 0 else len(train)
            rows = np.union1d(first, np.arange(min(_N_BATCHES * batch_size, len(train))))
            x = self.image_format.to_tensor(self.X[train[rows]]).numpy()
            try:
                _skorch.fit_net(net, x, codes[rows], seed=0)
                start = perf_counter()
                _skorch.fit_net(net, x, codes[rows], seed=0)
                seconds = (perf_counter() - start) / len(rows)
            except Exception:
                # The training itself will raise the error.
                return "its duration is not known"
        return f"about {in_words(seconds * n_passes / effective_n_jobs(self.n_jobs))}"

    def pairs(self) -> list[Pair]:
        return list(product(range(len(self.runs)), self.arms))

    def done(self, folder: ResultsFolder) -> dict[Pair, Outcome]:
        loaded = {pair: folder.load(*pair) for pair in self.pairs()}
        return {pair: outcome for pair, outcome in loaded.items() if outcome is not None}

    def work(self, folder: ResultsFolder, report: Callable[[Pair], None]) -> None:
        """Train what is missing in a folder; call `report` with each pair when it is done."""
        with folder.reserved():
            done, warned = self.done(folder), set()
            parallel = Parallel(self.n_jobs, return_as="generator_unordered", batch_size=1)
            missing = (pair for pair in self.pairs() if pair not in done)
            try:
                # An error or Ctrl-C ends the processes at once.
                with closing(parallel(delayed(self._train)(*pair) for pair in missing)) as finished:
                    for outcome in finished:
                        folder.save(outcome)
                        report((outcome.row["run"], outcome.row["arm"]))
                        for category, text in outcome.warnings:
                            if text not in warned:
                                warnings.warn(text, category, stacklevel=3)
                            warned.add(text)
            finally:
                folder.write_table([outcome.row for outcome in self.done(folder).values()])

    def _train(self, number: int, name: str) -> Outcome:
        run, arm = self.runs[number], self.arms[name]
        X, codes = self.X[run.train], self.codes[run.train]
        # The classifier leaves out classes without training images.
        options = {**self.options(len(X)), "n_classes": len(np.unique(codes))}
        classifier = arm.make_classifier(self.net, **options, random_state=run.seed)
        with warnings.catch_warnings(record=True) as caught, single_threaded():
            warnings.simplefilter("default")
            start = process_time()
            classifier.fit(X, codes)
            fitted = process_time()
            X_test, n_classes = self.X[run.test], len(self.class_names)
            scores, proba = self.scoring(classifier, X_test, self.codes[run.test], n_classes)
            scored = process_time()
            sample = None
            if self.show and number == 0 and arm.synthesises and arm.objective not in UNMOVED:
                sample = sample_synthesis(classifier, X, self.class_names)
        history = classifier.history_
        losses = _losses(history)
        refreshed = [epoch for epoch in history if "synthesis_dur" in epoch]
        measured = ("uncertainty_source", "uncertainty", "label_agreement")
        row = {
            "run": number,
            "arm": name,
            "seed": run.seed,
            "n_train": len(X),
            "n_test": len(run.test),
            "epochs": options["max_epochs"],
            "steps": sum(epoch["train_batch_count"] for epoch in history),
            **scores,
            **{n: refreshed[-1][f"synthesis_{n}"] if refreshed else None for n in measured},
            "converged": is_converged(losses),
            "seconds": fitted - start,
            "seconds_scoring": scored - fitted,
        }
        told = [(each.category, str(each.message)) for each in caught]
        return Outcome(row, losses, proba, sample, told)


@dataclass(frozen=True)
class Scoring:
    """Scores of runs, on clean, corrupted and attacked images; for the fields see `compare`."""

    eps: tuple[float, ...] = ()
    attacks: tuple[str, ...] = ("pgd",)
    n_attacked: int | None = 256

    def __post_init__(self):
        if self.eps:
            check_eps(self.eps)
        names_among(ATTACKS, self.attacks, "attack")

    def __call__(
        self, classifier: AugmentedClassifier, X: np.ndarray, codes: np.ndarray, n_classes: int
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Return columns of the results, and predictions for the clean images."""
        proba = _predict(classifier, X, n_classes)
        # Images to corrupt and attack, the same for all arms.
        n = len(codes) if self.n_attacked is None else min(self.n_attacked, len(codes))
        rows = np.sort(subsample(codes, n, random_state=0))
        changed = (corrupt(X[rows], kind, _SEVERITY, random_state=0) for kind in CORRUPTIONS)
        corrupted = [_scores(codes[rows], _predict(classifier, x, n_classes)) for x in changed]
        clean = _scores(codes, proba)
        means = {f"perturbed_{n}": float(np.mean([each[n] for each in corrupted])) for n in clean}
        return {**clean, **means, **self._attacked(classifier, X[rows], codes[rows])}, proba

    def _attacked(self, classifier: Any, X: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        if not self.eps:
            return {}
        with warnings.catch_warnings():
            # The results say it too.
            warnings.simplefilter("ignore", GradientMaskingWarning)
            result = adversarial_scores(
                classifier,
                X,
                codes,
                attacks=self.attacks,
                eps=list(self.eps),
                max_iter=_STEPS,
                n_restarts=1,
                random_state=0,
            )
        # The first row is that of clean images.
        columns = {
            f"{row['attack']}_{255 * row['eps']:.4g}_{metric}": row[metric]
            for row in result.rows[1:]
            for metric in ("accuracy", "balanced_accuracy")
        }
        return {**columns, "gradient_masking": "; ".join(result.gradient_masking)}


def _predict(classifier: AugmentedClassifier, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Predict all classes, 0 for those without training images."""
    proba = np.zeros((len(X), n_classes), dtype=np.float32)
    proba[:, classifier.classes_] = classifier.predict_proba(X)
    return proba


def _scores(codes: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    scores = predicted_scores(codes, proba.astype(np.float64))
    return {name: float(value[0]) for name, value in scores.items()}


def predicted_scores(
    codes: np.ndarray, proba: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the scores of predicted probabilities, one for each weighting of the images.

    `codes` are columns of the true classes, `weights` of shape (n, n_weightings); None: one, equal.
    """
    weights = np.ones((len(codes), 1)) if weights is None else weights
    area, balanced, _, calibration = weighted_scores(codes, proba, weights)
    # Probabilities come from float32.
    likelihood = proba[np.arange(len(codes)), codes].clip(np.finfo(np.float32).tiny)
    nll = -np.log(likelihood) @ weights / weights.sum(0)
    return dict(zip(SCORES, (area, balanced, nll, calibration), strict=True))


def is_better_low(score: str) -> bool:
    return score.removeprefix("perturbed_") in ("nll", "expected_calibration_error")


def sample_synthesis(
    classifier: AugmentedClassifier, X: np.ndarray, class_names: Sequence[Any]
) -> Sample | None:
    """Synthesise a few images, and return the parameters of their `SynthesisDisplay`."""
    try:
        shown = SynthesisDisplay.from_estimator(classifier, X, n_samples=8, random_state=0)
    except Exception as error:  # pictures are not worth a training
        warnings.warn(f"no synthetic images could be shown: {error}", stacklevel=2)
        return None
    labels = [str(class_names[code]) for code in shown.labels]
    return {name: np.asarray(value) for name, value in {**vars(shown), "labels": labels}.items()}


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds / 10) * 10, 10)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def n_epochs(net: Any, n_train: int) -> int:
    return net.n_epochs(n_train) if hasattr(net, "n_epochs") else net.max_epochs


def is_converged(losses: Sequence[float]) -> bool:
    """Return whether the loss, a mean over a tenth of epochs, fell by a tenth or 0.01 nats at most.

    The last tenth is compared with the one before.
    """
    width = max(len(losses) // 10, 1)
    if len(losses) < 2 * width:
        return False
    before, after = (float(np.mean(losses[i : (i + width) or None])) for i in (-2 * width, -width))
    return before - after <= max(0.1 * before, 0.01)


def _losses(history) -> list[float]:
    """Return the mean loss of each epoch, also of nets with disabled callbacks."""
    means = []
    for epoch in history:
        batches = [b for b in epoch["batches"] if "train_loss" in b]
        losses, n = ([b[name] for b in batches] for name in ("train_loss", "train_batch_size"))
        means.append(float(np.average(losses, weights=n)))
    return means
