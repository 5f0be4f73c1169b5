"""Ascents of a fitted synthesizer, recorded step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.ascent import AscentResult

# All iterates of so many images are in memory at a time.
_BATCH = 32


def trace_ascents(
    synthesizer: Any, X: np.ndarray, codes: np.ndarray, random_state: Any, n_pictured: int
) -> tuple[dict[str, np.ndarray], np.ndarray, list[np.ndarray]]:
    """Do as ``synthesize``, and keep what happens at each step.

    Return what `AscentDisplay` stores of each ascent, by the names of its parameters; all images
    that were taken; and those of all steps for each of the first `n_pictured` sources.
    """
    rng = check_random_state(synthesizer.random_state if random_state is None else random_state)
    # As in ``synthesize``, which draws the seed of a pass from that of the call.
    seed = check_random_state(rng).randint(2**31 - 1)
    size = min(synthesizer.engine_.batch_size(synthesizer), _BATCH)
    steps: list[AscentResult] = []

    def record(step: int, *points: Any) -> None:
        steps.append(points[-1])

    synthesize = synthesizer.engine_.batch_synthesis(synthesizer, callback=record)

    def in_format(images: Tensor) -> np.ndarray:
        return synthesizer.value_range_.clip_array(synthesizer.format_.to_array(images))

    parts: list[dict[str, np.ndarray]] = []
    synthetic: list[np.ndarray] = []
    pictured: list[np.ndarray] = []
    for first in range(0, len(X), size):
        rows = np.arange(first, min(first + size, len(X)))
        x, y = synthesizer.format_.to_tensor(X[rows]), torch.from_numpy(codes[rows])
        steps.clear()
        with torch.inference_mode(False), torch.enable_grad(), single_threaded():
            images, info = synthesize(x, y, rows=rows, occurrence=0, seed=seed)
        iterates = torch.stack([step.images for step in steps], 1)
        # The last of the steps whose image was taken; -1 if it is of none of them.
        is_taken = (iterates == images[:, None]).flatten(2).all(2).cpu().numpy()
        n_later = is_taken[:, ::-1].argmax(1)
        chosen = np.where(is_taken.any(1), len(steps) - 1 - n_later, -1)
        parts.append(
            {
                "uncertainty": torch.stack([s.uncertainty for s in steps], 1).cpu().numpy(),
                "label_agreement": torch.stack([s.agreement for s in steps], 1).cpu().numpy(),
                "chosen": chosen,
                "uncertainty_source": info["uncertainty_source"],
                "uncertainty_synthetic": info["uncertainty"],
            }
        )
        synthetic.append(in_format(images))
        pictured += map(in_format, iterates[: max(n_pictured - first, 0)])
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, np.concatenate(synthetic), pictured
