"""Synthesis from rows of the user's array, batch by batch, on one core or on many."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis._batch import BatchSynthesis

Columns = dict[str, np.ndarray]

# Where no number of images is given, so many are computed at a time, and on a processor so many
# pixels: 83 images of 28 x 28, or 1 of 224 x 224. More take memory for activations, of which there
# are hundreds of bytes a pixel, and are slower, for they do not stay in the caches.
_IMAGES, _PIXELS = 256, 2**16


def images_at_a_time(shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many images of a shape, (C, H, W) or (n_features,), to compute at a time."""
    # An accelerator needs many at a time; batches that do not fit are halved.
    n_pixels = math.prod(shape[-2:]) if device.type == "cpu" else 1
    return max(min(_IMAGES, _PIXELS // n_pixels), 1)


def synthesize_in_batches(
    synthesis: BatchSynthesis,
    X: Any,
    y: np.ndarray,
    occurrence: np.ndarray,
    image_format: ImageFormat,
    *,
    seed: int,
    batch_size: int,
    n_jobs: int | None,
    verbose: int,
    empty: Callable[..., np.ndarray] = np.empty,
) -> tuple[np.ndarray, Columns]:
    """Synthesise one image from each row, in the user's format.

    Parameters are those of `Engine.synthesize`, and of `TargetedSynthesizer`; only the rows of the
    batches at work are in memory. Return the images, and columns of what is known of each.
    """
    X_new = empty((len(y), *image_format.row_shape), dtype=image_format.dtype)
    columns: Columns = {}
    job = delayed(partial(_job, synthesis, image_format, seed))
    jobs = (
        job(_Batch(X[rows], y[rows], rows, int(occurrence[rows[0]])))
        for rows in _batches(occurrence, batch_size)
    )
    # Within a job of a dask cluster, joblib would run these small ones on its busy workers.
    dask = sys.modules.get("distributed.utils")
    in_dask = dask is not None and hasattr(dask.thread_state, "execution_state")
    kind = {"backend": "sequential"} if n_jobs is None and in_dask else {}
    workers = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered", **kind)
    # Inside another bar, as that of a training, it vanishes when it is full.
    bar = tqdm(total=len(y), desc="synthesis", unit="image", leave=None, disable=not verbose)
    with bar as progress:
        for done in workers(jobs):
            for rows, images, info in done:
                X_new[rows] = images
                for name, values in info.items():
                    columns.setdefault(name, np.empty(len(y), values.dtype))[rows] = values
                progress.update(len(rows))
    return X_new, columns


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a job works on.

    On a dask cluster, joblib would leave large arrays to a single worker, and lose them with it;
    an object that it does not know, it sends with the job.
    """

    X: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    occurrence: int


def _job(
    synthesis: BatchSynthesis, image_format: ImageFormat, seed: int, batch: _Batch
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
    # Not within the handler above, where the traceback keeps tensors alive.
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
    parts = [_Batch(batch.X[h], batch.y[h], rows[h], batch.occurrence) for h in halves]
    return [done for part in parts for done in _job(synthesis, image_format, seed, part)]


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # Metal and the allocator of the processor have no type of their own for it.
    message = str(error).lower()
    return "out of memory" in message or "can't allocate memory" in message


def _batches(occurrence: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Split rows into batches that share their members, in an order of their own."""
    order = np.argsort(occurrence, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(occurrence[order])) + 1):
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]
