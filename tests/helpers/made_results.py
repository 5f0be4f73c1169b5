"""Results of comparisons in which nothing was trained: how much each arm gains is chosen."""

from functools import partial

import numpy as np

from tsynd_sk.comparison import ARMS, ComparisonResult
from tsynd_sk.comparison._arms import with_twins
from tsynd_sk.comparison._runs import predicted_scores

NAMES = ("plain", "standard", "standard+random", "standard+mutual_info")


def made(
    gains=None,
    *,
    n_runs=5,
    official=True,
    n_test=300,
    n_classes=3,
    seed=0,
    names=NAMES,
    late=(),
    groups=None,
    **params,
):
    """Make a result.

    `gains` are added to how clearly an arm tells the true class; `official` is for one test split,
    otherwise each run holds out its own part; arms in `late` did not converge.
    """
    rng = np.random.default_rng(seed)
    gains = gains or {}
    n = 2 * n_test
    codes = rng.permutation(np.arange(n) % n_classes)
    arms, references = with_twins({name: ARMS[name] for name in names})
    rows, probabilities, test_rows, train_rows = [], {}, [], []
    for run in range(n_runs):
        test = np.arange(n_test) if official else rng.permutation(n)[:n_test]
        test_rows.append(test)
        train_rows.append(np.setdiff1d(np.arange(n), test))
        # How hard each image is has all arms in common.
        base = rng.normal(size=(n, n_classes))[test]
        for arm in arms:
            clarity = 1.0 + gains.get(arm, 0) + 0.05 * rng.normal()
            logits = base + clarity * np.eye(n_classes)[codes[test]]
            logits += 0.3 * rng.normal(size=logits.shape)
            proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            probabilities[run, arm] = proba.astype(np.float32)
            scores = predicted_scores(codes[test], proba)
            clean = {name: float(value[0]) for name, value in scores.items()}
            rows.append(
                {
                    "run": run,
                    "arm": arm,
                    **clean,
                    **{f"perturbed_{name}": value - 0.1 for name, value in clean.items()},
                    "seconds": 10.0 * (1 + list(arms).index(arm)),
                    "steps": 100,
                    "converged": arm not in late,
                }
            )
    return ComparisonResult(
        arms,
        references,
        rows,
        probabilities,
        train_rows,
        test_rows,
        codes,
        np.array([f"class {k}" for k in range(n_classes)]),
        groups,
        **params,
    )


of_two_arms = partial(made, names=("plain", "standard"))
