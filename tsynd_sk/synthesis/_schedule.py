"""When synthetic rows are exchanged in a training, and how many images pass through networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tsynd_sk import _skorch
from tsynd_sk.synthesis._fitting import default_autoencoder


def first_refresh(max_epochs: int, warm_up: float) -> int:
    """Return the epoch, counted from 0, at whose beginning the first synthetic rows come."""
    # In floating point 0.28 * 25 is a little more than 7.
    return math.ceil(round(warm_up * max_epochs, 6))


def is_refresh(epoch: int, max_epochs: int, warm_up: float, refresh_every: int) -> bool:
    """Return whether synthetic rows are exchanged at the beginning of an epoch, from 0 on."""
    first = first_refresh(max_epochs, warm_up)
    return epoch >= first and (epoch - first) % refresh_every == 0


def n_synthetic(ratio: float, n_real: int) -> int:
    """Return how many synthetic rows come beside so many real ones."""
    return max(round(ratio * n_real), 1)


def image_passes(synthesis: Any, synthesizer: Any, net: Any, dataset: Any) -> dict[str, np.ndarray]:
    """Count how often an image will pass through a network, in each epoch of a training.

    Parameters
    ----------
    synthesis : object
        With the parameters `synthetic_ratio`, `warm_up` and `refresh_every`.
    synthesizer : TargetedSynthesizer
        How to synthesise.
    net : skorch classifier
        The net that trains.
    dataset : Dataset
        Its training rows.

    Returns
    -------
    dict of str to ndarray of shape (max_epochs,)
        "classifier", "synthesis" and "autoencoder": the last takes as many at most, for it can
        stop early. A pass of synthesis is one for all members.
    """
    n_epochs, n_real = net.max_epochs, len(dataset)
    passes = {name: np.zeros(n_epochs, int) for name in ("classifier", "synthesis", "autoencoder")}
    passes["classifier"] += n_real
    schedule = n_epochs, synthesis.warm_up, synthesis.refresh_every
    refreshes = [epoch for epoch in range(n_epochs) if is_refresh(epoch, *schedule)]
    if not synthesis.synthetic_ratio or not refreshes:
        return passes
    ratio = synthesis.synthetic_ratio
    # How many even the classes out, only the labels tell; about as many as there are, say.
    n_new = n_real if ratio == "balanced" else n_synthetic(ratio, n_real)
    passes["classifier"][refreshes[0] :] += n_new
    still = synthesizer.objective in ("duplicate", "reconstruction")
    passes["synthesis"][refreshes] = n_new * (1 if still else synthesizer.max_iter)
    autoencoder = synthesizer.autoencoder
    if autoencoder is None:
        shape = np.shape(dataset[0][0])
        autoencoder = default_autoencoder(None if len(shape) == 1 else shape, verbose=0)
    if not _skorch.is_frozen(autoencoder):
        n_rows = _skorch.rows_in_epoch(autoencoder, dataset)
        passes["autoencoder"][refreshes[0]] = autoencoder.max_epochs * n_rows
    return passes
