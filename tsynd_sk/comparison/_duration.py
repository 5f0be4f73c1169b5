"""Estimate how long a comparison takes: image passes through the network, and their speed."""

from __future__ import annotations

import warnings
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from joblib import effective_n_jobs

from tsynd_sk import _skorch
from tsynd_sk._utils._threads import single_threaded

if TYPE_CHECKING:
    from tsynd_sk.comparison._runs import Runs

# Batches to measure the speed by.
_N_BATCHES = 4


def image_passes(plan: Runs, arm: str) -> int:
    """Return about how many images pass through the network in one run of an arm."""
    train = plan.runs[0].train
    n = len(train)
    made = plan.arms[arm].make_classifier(plan.net, **plan.options(n))
    epochs, params = made.estimator.max_epochs, made.estimator.get_params()
    ratio = made.synthetic_ratio or params.get("iterator_train__ratio", 0)
    if ratio == "balanced":
        counts = np.unique(plan.codes[train], return_counts=True)[1]
        ratio = (counts.max() - counts).sum() / n
    after = epochs - round(made.warm_up * epochs)
    passes = n * (epochs + ratio * after)
    if plan.arms[arm].synthesises:
        refreshes = -(-after // made.refresh_every)
        passes += refreshes * ratio * n * made.synthesizer.max_iter
    return max(round(passes), 1)


def estimated_duration(plan: Runs, n_passes: int) -> str:
    """Time one epoch of a few batches, and say how long these passes will take."""
    with warnings.catch_warnings(), single_threaded():
        # The training itself will warn.
        warnings.simplefilter("ignore")
        # Without the user's callbacks, which may write files or report to a tracker.
        net = _skorch.clone_net(plan.net).set_params(max_epochs=1, verbose=0, callbacks=None)
        train = plan.runs[0].train
        codes = plan.codes[train]
        # At least one row of each class, for nets that are sized by their labels.
        first = np.unique(codes, return_index=True)[1]
        batch_size = net.batch_size if net.batch_size > 0 else len(train)
        rows = np.union1d(first, np.arange(min(_N_BATCHES * batch_size, len(train))))
        X = plan.X[train[rows]]
        x = plan.image_format.to_tensor(X).numpy()
        try:
            _skorch.fit_classifier(net, x, codes[rows], seed=0)
            start = perf_counter()
            _skorch.fit_classifier(net, x, codes[rows], seed=0)
            seconds = (perf_counter() - start) / len(rows)
        except Exception:
            # The training itself will raise the error.
            return "its duration is not known"
    total = seconds * n_passes / effective_n_jobs(plan.n_jobs)
    return f"about {_text(total)}"


def _text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds / 10) * 10, 10)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
