"""Ascents of a fitted synthesizer, recorded step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from tsynd_sk.ascent import AscentResult
from tsynd_sk.synthesis import single_threaded

# All iterates of so many images are in memory at a time.
_BATCH = 32


@dataclass(frozen=True)
class AscentTrace:
    """What happened on the ways of n sources.

    Attributes
    ----------
    uncertainty : ndarray of shape (n, n_steps + 1)
        Mutual information in nats; nan after the end of an ascent.
    label_agreement : ndarray of shape (n, n_steps + 1), bool
        Whether the members' mean prediction was the label; False after the end.
    chosen : ndarray of shape (n,), int64
        Step that was taken; -1 for an image off the way.
    uncertainty_source, uncertainty_synthetic : ndarray of shape (n,)
        Mutual information in nats.
    images : list of ndarray of shape (n_steps + 1, ...)
        For the first sources, all images up to the end of the ascent, in the user's format.
    synthetic : ndarray of shape (n, ...)
        What was taken, in the user's format.
    """

    uncertainty: np.ndarray
    label_agreement: np.ndarray
    chosen: np.ndarray
    uncertainty_source: np.ndarray
    uncertainty_synthetic: np.ndarray
    images: list[np.ndarray]
    synthetic: np.ndarray


class _Record:
    """Callback that keeps what a batch of ascents goes through."""

    def __init__(self, n_rows: int, n_steps: int):
        self.uncertainty = np.full((n_rows, n_steps + 1), np.nan, dtype=np.float32)
        self.agreement = np.zeros((n_rows, n_steps + 1), dtype=bool)
        self.images: list[list[Tensor]] = [[] for _ in range(n_rows)]

    def __call__(self, step: int, points: AscentResult) -> None:
        self.uncertainty[:, step] = points.uncertainty.cpu().numpy()
        self.agreement[:, step] = points.agreement.cpu().numpy()
        for images, image in zip(self.images, points.images.cpu(), strict=True):
            images.append(image)

    def chosen(self, images: Tensor) -> np.ndarray:
        """Find the last step at which each row had the image that was taken."""
        return np.array(
            [
                max((i for i, seen in enumerate(way) if torch.equal(seen, image)), default=-1)
                for way, image in zip(self.images, images.cpu(), strict=True)
            ]
        )


def trace_ascents(
    synthesizer: Any, X: np.ndarray, codes: np.ndarray, random_state: Any, n_pictured: int
) -> AscentTrace:
    """Do as ``synthesize``, and keep what happens on the way.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer
        Fitted.
    X : ndarray of shape (n, ...)
        Images as in `fit`.
    codes : ndarray of shape (n,), int64
        Their classes.
    random_state : int, RandomState instance or None
        As in ``synthesize``.
    n_pictured : int
        Sources, the first ones, whose images on the way are kept.
    """
    seed = check_random_state(synthesizer._generator(random_state)).randint(2**31 - 1)
    image_format, size = synthesizer.format_, min(synthesizer.batch_size, _BATCH)
    synthesis = synthesizer._synthesis()
    records, infos, synthetic, chosen = [], [], [], []
    ways: list[np.ndarray] = []
    for first in range(0, len(X), size):
        rows = np.arange(first, min(first + size, len(X)))
        record = _Record(len(rows), synthesizer.max_iter)
        x, y = image_format.to_tensor(X[rows]), torch.from_numpy(codes[rows])
        with torch.inference_mode(False), torch.enable_grad(), single_threaded():
            images, info = replace(synthesis, callback=record)(
                x, y, rows=rows, occurrence=0, seed=seed
            )
        records.append(record)
        infos.append(info)
        chosen.append(record.chosen(images))
        synthetic.append(_in_format(synthesizer, images))
        pictured = record.images[: max(n_pictured - first, 0)]
        ways += [_in_format(synthesizer, torch.stack(way)) for way in pictured]
        record.images.clear()
    uncertainty = np.concatenate([record.uncertainty for record in records])
    # Controls take no steps, and all ascents may be over before the last one.
    taken = np.isfinite(uncertainty).any(axis=0)
    agreement = np.concatenate([record.agreement for record in records])
    told = {name: np.concatenate([info[name] for info in infos]) for name in infos[0]}
    return AscentTrace(
        uncertainty[:, taken],
        agreement[:, taken],
        np.concatenate(chosen),
        told["uncertainty_source"],
        told["uncertainty"],
        images=ways,
        synthetic=np.concatenate(synthetic),
    )


def _in_format(synthesizer: Any, images: Tensor) -> np.ndarray:
    return synthesizer.value_range_.clip_array(synthesizer.format_.to_array(images))
