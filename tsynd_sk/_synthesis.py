"""One pass of targeted synthesis over real images, as networks see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm.auto import tqdm

from tsynd_sk.ascent import OBJECTIVES, AscentResult, Objective, ascend, normalise
from tsynd_sk.autoencoders import encode
from tsynd_sk.images import ImageFormat, ValueRange
from tsynd_sk.uncertainty import mean_log_proba, mutual_information, private_copy

# Length of the random first step as a share of the radius: enough to tell equal images apart
# where a source is used for the first time, and to reach another maximum where it is used again.
_FIRST_START, _LATER_START = 0.1, 0.5

# Shares of the source image that are tried where a reconstruction alone has lost the label.
# The source itself comes last, for it is no new image.
_BLENDS = (0.25, 0.5, 0.75, 0.9, 0.97, 1.0)


@dataclass(frozen=True)
class Codec:
    """Private, frozen copy of an autoencoder that decodes into the range of real images.

    Attributes
    ----------
    module : Module
        With ``encode`` and ``decode``.
    value_range : ValueRange
        Range of the real images.
    """

    module: Any
    value_range: ValueRange

    @classmethod
    def of(cls, module: nn.Module, value_range: ValueRange, device: torch.device) -> Codec:
        """Copy a user's module."""
        return cls(private_copy(module, device), value_range)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of images."""
        with torch.no_grad():
            return encode(self.module, x)

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes, in the range of real images; differentiable."""
        images = self.module.decode(z)
        if isinstance(images, tuple | list):
            images = images[0]
        if not isinstance(images, Tensor):
            # Variational autoencoders of diffusers and pythae wrap what they decode.
            images = getattr(images, "sample", getattr(images, "reconstruction", images))
        return self.value_range.clip(images)


@dataclass(frozen=True)
class Synthesis:
    """All that one pass of synthesis needs to know; rows come and go as tensors.

    Attributes
    ----------
    codec : Codec
        Autoencoder.
    make_members : callable
        Makes the members from a seed: equal seeds, equal members.
    latent_scale : Tensor
        Standard deviation of the latent coordinates, broadcastable to codes.
    objective : str or callable
        See `TargetedSynthesizer`.
    radius, max_iter, constrain
        See `tsynd_sk.ascent.ascend`.
    device : torch.device
        Where everything is computed.
    """

    codec: Codec
    make_members: Callable[[int], Callable[[Tensor], Tensor]]
    latent_scale: Tensor
    objective: str | Objective
    radius: float
    max_iter: int
    constrain: bool
    device: torch.device

    def __call__(
        self, x: Tensor, y: Tensor, *, rows: np.ndarray, occurrence: int, seed: int
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """Synthesise one image from each given.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Real images.
        y : Tensor of shape (n,), int64
            Their classes.
        rows : ndarray of shape (n,)
            Number of each row in the whole pass, from which it draws its own random numbers.
        occurrence : int
            How often these sources have been used before in the pass; members depend on it.
        seed : int
            Seed of the whole pass.

        Returns
        -------
        images : Tensor of shape (n, ...)
        info : dict of ndarrays of shape (n,)
            See `TargetedSynthesizer.sample`.
        """
        x, y = x.to(self.device), y.to(self.device)
        members = self.make_members(derived_seed(seed, occurrence))
        z_0 = self.codec.encode(x)
        moves: dict = {"objective": None}
        if self.objective != "reconstruction":
            name, way = self.objective, normalise(_noise(seed, rows, z_0))
            share = _LATER_START if occurrence and name != "random" else _FIRST_START
            moves["start"] = share * self.radius * way
            if name == "random":
                moves["direction"] = way
            else:
                moves["objective"] = OBJECTIVES[name] if isinstance(name, str) else name
        result = ascend(
            members,
            self.codec.decode,
            z_0,
            y,
            scale=self.latent_scale.to(z_0),
            radius=self.radius,
            max_iter=self.max_iter,
            constrain=self.constrain,
            **moves,
        )
        with torch.no_grad():
            log_probs = members(x)
            if self.constrain and self.objective != "reconstruction":
                lost = (mean_log_proba(log_probs).argmax(-1) == y) & ~result.agreement
                if lost.any():
                    result = self._towards_source(result, x, y, lost, members)
            error = (self.codec.decode(z_0) - x).flatten(1).square().mean(1).sqrt()
            info = {
                "uncertainty_source": mutual_information(log_probs).clamp_min(0),
                "uncertainty": result.uncertainty,
                "displacement": result.displacement,
                "reconstruction_error": error,
                "label_agreement": result.agreement,
            }
        return result.images, {name: value.cpu().numpy() for name, value in info.items()}

    def stream(
        self,
        X: np.ndarray | Rows,
        y: np.ndarray,
        occurrence: np.ndarray,
        image_format: ImageFormat,
        *,
        seed: int,
        batch_size: int,
        n_jobs: int | None,
        verbose: int,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Synthesise from rows of the user's array, batch by batch, in the user's format.

        Parameters
        ----------
        X : array of shape (n, ...)
            Real images in the user's layout; only the rows of a batch are read at a time.
        y : ndarray of shape (n,), int64
            Their classes.
        occurrence : ndarray of shape (n,)
            How often each source has been used before.
        image_format : ImageFormat
            The user's layout and dtype.
        seed : int
            Seed of the whole pass.
        batch_size, n_jobs, verbose
            See `TargetedSynthesizer`.

        Returns
        -------
        X_new : ndarray of shape (n, ...)
        info : dict of ndarrays of shape (n,)
        """

        def one_batch(rows):
            x, codes = image_format.to_tensor(X[rows]), torch.from_numpy(y[rows])
            images, info = self(x, codes, rows=rows, occurrence=int(occurrence[rows[0]]), seed=seed)
            return rows, image_format.to_array(images), info

        X_new = np.empty((len(y), *image_format.row_shape), dtype=image_format.dtype)
        columns: dict[str, np.ndarray] = {}
        jobs = (delayed(one_batch)(rows) for rows in _batches(occurrence, batch_size))
        workers = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered")
        with tqdm(total=len(y), desc="synthesis", disable=not verbose) as progress:
            for rows, images, info in workers(jobs):
                X_new[rows] = images
                for name, values in info.items():
                    columns.setdefault(name, np.empty(len(y), values.dtype))[rows] = values
                progress.update(len(rows))
        return X_new, columns

    def _towards_source(
        self, result: AscentResult, x: Tensor, y: Tensor, lost: Tensor, members
    ) -> AscentResult:
        """Mend rows whose autoencoder lost the label of a source that was classified correctly."""
        images, uncertainty = result.images.clone(), result.uncertainty.clone()
        agreement = result.agreement.clone()
        rows = lost.nonzero()[:, 0]
        for blend in _BLENDS:
            mixed = self.codec.value_range.clip(torch.lerp(result.images[rows], x[rows], blend))
            log_probs = members(mixed)
            mended = mean_log_proba(log_probs).argmax(-1) == y[rows]
            images[rows[mended]] = mixed[mended]
            uncertainty[rows[mended]] = mutual_information(log_probs)[mended].clamp_min(0)
            agreement[rows[mended]] = True
            rows = rows[~mended]
            if len(rows) == 0:
                break
        return replace(result, images=images, uncertainty=uncertainty, agreement=agreement)


def latent_scale(codec: Codec, x: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Measure the deviations of codes: by channel of a spatial code, by coordinate of a flat one.

    Raises
    ------
    ValueError
        If codes do not decode to the shape of the images.
    """
    codes = torch.cat([codec.encode(part.to(device)) for part in x.split(batch_size)])
    with torch.no_grad():
        decoded = codec.decode(codes[:1])
    if decoded.shape != x[:1].shape:
        raise ValueError(
            f"autoencoder decodes the code of an image of shape {tuple(x.shape[1:])} to shape "
            f"{tuple(decoded.shape[1:])}; the two must be equal"
        )
    return codes.std((0, *range(2, codes.ndim)), correction=0, keepdim=True).cpu()


def derived_seed(seed: int, stream: int) -> int:
    """Seed of an independent stream of random numbers."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


def _noise(seed: int, rows: np.ndarray, like: Tensor) -> Tensor:
    """Draw standard normal numbers row by row, so that they do not depend on the batch."""
    shape = tuple(like.shape[1:])
    draws = [
        np.random.default_rng((seed, int(row), 1)).standard_normal(shape, dtype=np.float32)
        for row in rows
    ]
    return torch.from_numpy(np.stack(draws)).to(like)


def _batches(occurrence: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Split rows into batches that share their members, in an order of their own."""
    for value in np.unique(occurrence):
        rows = np.flatnonzero(occurrence == value)
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]


class Rows:
    """Rows of an array under new numbers, without a copy of them all."""

    def __init__(self, X: np.ndarray, index: np.ndarray):
        self.X, self.index = X, index

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.X[self.index[rows]]
