"""Compare ways to train a network on the same images."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.utils import check_array, check_consistent_length, check_random_state
from tqdm.auto import tqdm

from tsynd_sk import _skorch
from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk._utils._names import KEPT
from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison._arms import Arm, check_arms, check_net, with_twins
from tsynd_sk.comparison._report import About, write_report
from tsynd_sk.comparison._result import ComparisonResult
from tsynd_sk.comparison._results_folder import ResultsFolder
from tsynd_sk.comparison._runs import Run, Runs, Scoring
from tsynd_sk.comparison._splits import hold_outs
from tsynd_sk.datasets import subsample
from tsynd_sk.images import check_images
from tsynd_sk.synthesis import AugmentedClassifier


def compare(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    arms: Sequence[str] | Mapping[str, Arm] | None = None,
    cv: Any = None,
    n_repeats: int | None = None,
    groups: ArrayLike | None = None,
    scoring: str = "roc_auc",
    n_train: int | None = None,
    flip: bool = True,
    eps: ArrayLike = (),
    attacks: Sequence[str] = ("pgd",),
    n_attacked: int | None = 256,
    n_jobs: int | None = None,
    random_state: Any = 0,
    out: str | Path | None = None,
    verbose: int = 0,
) -> ComparisonResult:
    """Train a network in several ways, at equal budgets, and say which of them helps.

    Every arm (a way to augment) trains on the same splits, from the same initial weights, for the
    same number of gradient steps on the same number of rows. Differences are paired by run.

    Parameters
    ----------
    estimator : skorch classifier or None
        The network, unfitted; None for `NetClassifier`.
    X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
        Images, uint8 or float.
    y : array-like of shape (n,)
        Labels.
    arms : list of str, dict of str to Arm, or None, default=None
        Names of `ARMS`, or your own arms by name; by default `DEFAULT_ARMS`. The *twin* of an arm
        with synthesis, the same augmentation without it, joins if it is missing.
    cv : splitter of scikit-learn, int, iterable of pairs, or None, default=None
        How to split the images. None: every run holds out another quarter, stratified by class,
        with groups and images of equal pixels on one side. For a test split of your own, pass
        `sklearn.model_selection.PredefinedSplit`.
    n_repeats : int or None, default=None
        Number of hold-outs, or of trainings on each split of `cv`, each with its own seed. None: 5
        for hold-outs and for a single split, otherwise 1.
    groups : array-like of shape (n,) or None, default=None
        What each image belongs to (a patient, a slide): no group is in both training and test. A
        warning says so where your own splitter puts one there.
    scoring : {"roc_auc", "balanced_accuracy", "nll"}, default="roc_auc"
        Primary score, which decides the verdict; the others are reported too.
    n_train : int or None, default=None
        Number of training images, drawn by class anew for each run; None: all.
    flip : bool, default=True
        Whether a mirrored image is still one of its class.
    eps : float or list of float, default=()
        Strengths of attacks, as fractions of the range of values, such as 2/255.
    attacks : str or list, default=("pgd",)
        Attacks of `tsynd_sk.evaluation.adversarial_scores`, in 20 steps.
    n_attacked : int or None, default=256
        Maximum number of test images to corrupt and attack. None: all.
    n_jobs : int or None, default=None
        Trainings at a time, each in one thread; -1: all cores. Results do not depend on it.
    random_state : int, RandomState instance or None, default=0
        Seed of the first run; each further one has the next. None: a random one, with which an
        interrupted comparison cannot continue.
    out : str, Path or None, default=None
        Folder for ``report.html``, ``results.csv``, predictions, settings and synthetic images. An
        interrupted comparison continues there, and repeats and arms can join later. None: nothing
        is kept.
    verbose : int, default=0
        1: print the expected duration, and show a progress bar.

    Returns
    -------
    ComparisonResult
        Print it for the table and the verdict.

    Raises
    ------
    ValueError, TypeError, ImportError
        Before any training: if an argument is not valid, images are too few, an arm cannot train
        this network, `out` holds another comparison, or a package is missing.
    BlockingIOError
        If another process uses `out`.

    See Also
    --------
    Arm : A way to augment, with parameters of your own.
    load_splits, make_network : Images and network by name.
    tsynd_sk.AugmentedClassifier : Classifier of arms that synthesise.

    Examples
    --------
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.comparison import compare
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> net = NetClassifier(module__width=4, max_epochs=4)
    >>> result = compare(net, X[:80], y[:80] > 4, arms=["plain", "standard"], n_repeats=2)
    >>> result.references, result.recommended in ("plain", "standard")
    ({'standard': 'plain'}, True)
    """
    given = dict(locals())
    chosen, references = with_twins(check_arms(arms))
    net = NetClassifier() if estimator is None else estimator
    _skorch.check_net(net, "estimator")
    if isinstance(net, FrozenEstimator):
        raise TypeError("estimator is frozen, but compare trains it: unwrap it")
    for name, arm in chosen.items():
        check_net(name, arm, net)
    if scoring not in ("roc_auc", "balanced_accuracy", "nll"):
        raise ValueError(f"scoring must be roc_auc, balanced_accuracy or nll; got {scoring!r}")
    # Raise what every classifier would raise, and learn the format of the images.
    images = AugmentedClassifier()
    X = np.asarray(check_images(images, X, reset=True))
    if images.image_shape_ is None:
        raise ValueError(
            f"X has shape {X.shape}, that of a table; expected images, such as (n, height, width): "
            "reshape flat ones, and pass a single one as X[np.newaxis]"
        )
    labels = check_array(labels_of(y), ensure_2d=False, dtype=None, input_name="y")
    check_consistent_length(X, labels, groups)
    classes = np.unique(labels)
    codes = encode_labels(labels, classes)
    group_codes = None if groups is None else np.unique(labels_of(groups), return_inverse=True)[1]
    attacks = [attacks] if isinstance(attacks, str) else attacks
    scores = Scoring(tuple(np.ravel(eps).astype(float).tolist()), tuple(attacks), n_attacked)
    if not isinstance(random_state, Integral):
        random_state = check_random_state(random_state).randint(2**31 - 1)
    with_smote = any(arm.augmentation == "smote" for arm in chosen.values())
    for user, is_used, package, extra in (
        ("the augmentation 'smote'", with_smote, "imblearn", "benchmark"),
        ("eps (attacks)", scores.eps, "art", "robustness"),
    ):
        if is_used and find_spec(package) is None:
            raise ImportError(
                f'{user} needs {package}: pip install "tsynd_sk[{extra}]", or leave it out'
            )
    runs = _runs(codes, classes, X, cv, n_repeats, group_codes, n_train, int(random_state))
    n_scored = max(len(np.unique(codes[run.test])) for run in runs)
    if n_attacked is not None and n_attacked < n_scored:
        raise ValueError(
            f"n_attacked must be at least {n_scored}, one test image for each class, or None for "
            f"all; got {n_attacked}"
        )
    parts = images.format_, images.value_range_, codes, classes.tolist(), net, chosen, runs, scores
    plan = Runs(X, *parts, flip, n_jobs, show=out is not None)
    plan.check()
    with ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out
        folder = ResultsFolder(Path(path), plan.described())
        passes = {name: plan.image_passes(name) for name in chosen}
        done, pairs = plan.done(folder), plan.pairs()
        total = sum(passes[pair[1]] for pair in pairs if pair not in done)
        if verbose:
            told = f"{len(runs)} runs x {len(chosen)} arms"
            if done:
                told += f", {len(done)} of {len(pairs)} trainings already done"
            print(f"{told}; {plan.duration(total)}" if total else told)
        params = {"unit": "image", "unit_scale": True, "smoothing": 0}
        bar = stack.enter_context(tqdm(total=total, disable=not (verbose and total), **params))

        def report(pair: tuple[int, str]) -> None:
            bar.set_postfix_str("run {}: {}".format(*pair), refresh=False)
            bar.update(passes[pair[1]])

        try:
            plan.work(folder, report)
        except BaseException as error:
            if out is not None:
                error.add_note(KEPT)
            raise
        done = plan.done(folder)
    result = ComparisonResult(
        arms=chosen,
        references=references,
        rows=[outcome.row for outcome in done.values()],
        probabilities={pair: outcome.probabilities for pair, outcome in done.items()},
        train_rows=[run.train for run in runs],
        test_rows=[run.test for run in runs],
        codes=codes,
        classes=classes,
        groups=group_codes,
        primary=scoring,
        base=net,
        options=plan.options(len(X)),
        losses={pair: outcome.losses for pair, outcome in done.items() if outcome.losses},
        samples={pair[1]: outcome.sample for pair, outcome in done.items() if outcome.sample},
    )
    if out is not None:
        name, notes = Path(out).resolve().name, [division_text(result, cv)]
        about = About(name, images.image_shape_, notes, call_text(given))
        write_report(Path(out) / "report.html", result, about)
    return result


def _runs(
    codes: np.ndarray,
    classes: np.ndarray,
    X: np.ndarray,
    cv: Any,
    n_repeats: int | None,
    groups: np.ndarray | None,
    n_train: int | None,
    seed: int,
) -> list[Run]:
    parts = []
    if cv is not None:
        if groups is not None and isinstance(cv, Integral):
            cv = StratifiedGroupKFold(int(cv))
        parts = list(check_cv(cv, codes, classifier=True).split(X, codes, groups))
    n = n_repeats if n_repeats is not None else (1 if len(parts) > 1 else 5)
    seeds = range(seed, seed + check_int_at_least("n_repeats", n, 1))
    divisions = parts * n or hold_outs(X, codes, classes.tolist(), groups, seeds)
    runs, divided = [], set()
    for k, (train, test) in enumerate(divisions):
        train, test = np.sort(train), np.sort(test)
        if groups is not None:
            divided.update(np.intersect1d(groups[train], groups[test]).tolist())
        trained = np.unique(codes[train])
        if len(lost := np.setdiff1d(codes[test], trained)):
            raise ValueError(
                f"there are test images but no training images of {classes[lost].tolist()}: add "
                "some, leave these test images out, or use a stratified cv"
            )
        if len(trained) < 2:
            raise ValueError(
                "y has one class only in the training images of a run; expected two or more: add "
                "images of another class, or use a stratified cv"
            )
        if n_train is not None:
            n = check_int_at_least("n_train", n_train, 1)
            if not len(trained) <= n <= len(train):
                raise ValueError(
                    f"n_train must be from {len(trained)}, one image of each class, to "
                    f"{len(train)}, all training images; got {n}"
                )
            train = train[subsample(codes[train], n, random_state=seed + k)]
        runs.append(Run(seed + k, train, test))
    if divided:
        warnings.warn(
            f"cv puts images of {len(divided)} groups into both training and test parts, so "
            "scores may be too high: use a cv such as StratifiedGroupKFold",
            stacklevel=3,
        )
    return runs


def division_text(result: ComparisonResult, cv: Any) -> str:
    if cv is None:
        groups = "groups and " if result.groups is not None else ""
        what = (
            "a quarter drawn anew for each run, stratified by class, "
            f"with {groups}images of equal pixels kept together"
        )
    elif result.has_one_test_split:
        what = f"the same {len(result.test_rows[0])} images in all runs"
    else:
        what = f"parts that cv={_shown(cv) or 'your own'} holds out"
    return f"scored on: {what}"


def call_text(given: Mapping[str, Any]) -> str:
    """Write a call of `compare`, without defaults."""
    parts = []
    for name, parameter in inspect.signature(compare).parameters.items():
        if parameter.default is parameter.empty:
            parts.append(name)
        elif repr(given[name]) != repr(parameter.default):
            parts.append(f"{name}={_shown(given[name]) or name}")
    return f"compare({', '.join(parts)})"


def _shown(value: Any) -> str:
    """Return a value as code; "" for arrays and anything long."""
    text = repr(str(value) if isinstance(value, Path) else value)
    return "" if "array(" in text or " at 0x" in text or len(text) > 500 else text
