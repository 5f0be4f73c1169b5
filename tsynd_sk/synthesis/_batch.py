"""Targeted synthesis from one batch of real images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsynd_sk._utils._names import UNMOVED
from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.ascent import (
    OBJECTIVES,
    Objective,
    StepCallback,
    ascend,
    normalise,
)
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis._codec import Codec
from tsynd_sk.uncertainty import mean_log_proba, mutual_information

Columns = dict[str, np.ndarray]

# A source that is used again starts at this share of the radius at least, to reach another maximum.
_LATER_START = 0.5

# Shares of its displacement that an image keeps, one after the other, until members predict its
# label; one whose source they misjudge stops at the third.
_STEPS_BACK, _BESIDE = (0.5, 0.25, 0.1, 0.03, 0.01, 0.001), 0.1


@dataclass(frozen=True)
class BatchSynthesis:
    """What all batches of one pass of synthesis share; see `TargetedSynthesizer` and `ascend`."""

    codec: Codec
    # From a seed.
    make_members: Callable[[int], Callable[[Tensor], Tensor]]
    latent_scale: Tensor
    objective: str | Objective
    keep_detail: bool
    random_start: float
    radius: float
    max_iter: int
    constrain: bool
    device: torch.device
    callback: StepCallback | None = None

    def __call__(
        self, x: Tensor, y: Tensor, *, rows: np.ndarray, occurrence: int, seed: int
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """Synthesise one image from each of `x`, real images (n, ...) of the classes `y`.

        `rows` are their numbers in the pass, from which each draws its random numbers;
        `occurrence`, how often these sources have been used before, decides on the members.
        Return the images, and the columns of `info` of `TargetedSynthesizer.sample`.
        """
        x, y = x.to(self.device), y.to(self.device)
        members = self.make_members(derived_seed(seed, occurrence))
        z_0 = self.codec.encode(x)
        scale, start, moving = self.latent_scale.to(z_0), None, self.objective not in UNMOVED
        if moving:
            share = max(self.random_start, _LATER_START) if occurrence else self.random_start
            share = 1.0 if self.objective == "random" else share
            start = share * self.radius * normalise(_noise(seed, rows, z_0))
        objective: Any = self.objective
        if isinstance(objective, str):
            # Controls have none.
            objective = OBJECTIVES.get(objective)
        climb = partial(ascend, members, scale=scale, radius=self.radius)
        result = climb(
            self.codec.decoder(x, z_0, self.keep_detail),
            z_0,
            y,
            objective=objective,
            start=start,
            max_iter=self.max_iter,
            callback=self.callback,
        )
        with torch.no_grad():
            log_probs = members(x)
            steps_back = _STEPS_BACK if self.constrain and moving else ()
            had_label = mean_log_proba(log_probs).argmax(-1) == y
            # Coordinates that never vary do not move.
            moved = (result.latents - z_0) / torch.where(scale > 0, scale, 1.0)
            for share in steps_back:
                strayed = ~result.agreement & (had_label | (share >= _BESIDE))
                back = strayed.nonzero()[:, 0]
                if len(back) == 0:
                    break
                there = climb(
                    self.codec.decoder(x[back], z_0[back], self.keep_detail),
                    z_0[back],
                    y[back],
                    objective=None,
                    start=share * moved[back],
                )
                # What an autoencoder has lost does not come back by going nearer.
                kept = there.agreement | (share == _BESIDE)
                result = result.with_rows(back[kept], there.rows(kept))
            error = (self.codec.decode(z_0) - x).flatten(1).square().mean(1).sqrt()
        info: dict[str, Any] = {
            "uncertainty_source": mutual_information(log_probs),
            "uncertainty": result.uncertainty,
            "displacement": result.displacement,
            "reconstruction_error": error,
            "label_agreement": result.agreement,
        }
        for name, values in info.items():
            info[name] = values.cpu().numpy()
        return result.images, info


def derived_seed(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


def _noise(seed: int, rows: np.ndarray, like: Tensor) -> Tensor:
    """Draw normal numbers row by row, so that they do not depend on the batch."""
    noise = np.empty((len(rows), *like.shape[1:]), np.float32)
    for row, draw in zip(rows, noise, strict=True):
        np.random.default_rng((seed, int(row), 1)).standard_normal(dtype=np.float32, out=draw)
    return torch.from_numpy(noise).to(like)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a job works on."""

    # Large arrays by themselves, joblib would leave to one worker of a dask cluster.

    X: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    occurrence: int


def synthesize_batch(
    synthesis: BatchSynthesis, image_format: ImageFormat, seed: int, batch: Batch
) -> list[tuple[np.ndarray, np.ndarray, Columns]]:
    """Synthesise from a batch, in halves if it does not fit."""
    rows, message = batch.rows, ""
    try:
        with torch.inference_mode(False), torch.enable_grad(), single_threaded():
            x, codes = image_format.to_tensor(batch.X), torch.from_numpy(batch.y)
            images, info = synthesis(x, codes, rows=rows, occurrence=batch.occurrence, seed=seed)
        array = image_format.to_array(images)
        return [(rows, synthesis.codec.value_range.clip_array(array), info)]
    except RuntimeError as error:
        if len(rows) == 1 or not _is_out_of_memory(error):
            raise
        message = str(error).splitlines()[0]
    # In the handler above, the traceback would keep tensors alive.
    half = (len(rows) + 1) // 2
    warnings.warn(
        f"out of memory with {len(rows)} images at a time, going on with {half}: give a smaller "
        f"batch_size to avoid this ({message})",
        RuntimeWarning,
        stacklevel=2,
    )
    if synthesis.device.type == "cuda":
        torch.cuda.empty_cache()
    halves = (slice(None, half), slice(half, None))
    parts = [Batch(batch.X[h], batch.y[h], rows[h], batch.occurrence) for h in halves]
    return [
        done for part in parts for done in synthesize_batch(synthesis, image_format, seed, part)
    ]


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # Metal and processors have no type of their own for it.
    message = str(error).lower()
    return "out of memory" in message or "can't allocate memory" in message


def batches_of(X: Any, y: np.ndarray, occurrence: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Split rows into batches that share their members."""
    order = np.argsort(occurrence, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(occurrence[order])) + 1):
        for first in range(0, len(rows), batch_size):
            part = rows[first : first + batch_size]
            yield Batch(X[part], y[part], part, int(occurrence[part[0]]))
