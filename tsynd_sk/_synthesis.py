"""One pass of targeted synthesis over real images, as networks see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk.ascent import OBJECTIVES, AscentResult, Objective, ascend, normalise
from tsynd_sk.autoencoders import encode
from tsynd_sk.images import ValueRange
from tsynd_sk.uncertainty import mean_log_proba, mutual_information, private_copy

# Length of the random first step as a share of the radius: enough to tell equal images apart
# where a source is used for the first time, and to reach another maximum where it is used again.
_FIRST_START, _LATER_START = 0.1, 0.5

# Shares of the source image that are tried where a reconstruction alone has lost the label.
_BLENDS = (0.25, 0.5, 0.75, 1.0)


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

    module: nn.Module
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
        if self.objective == "random":
            moves["direction"] = _noise(seed, rows, z_0)
        elif self.objective != "reconstruction":
            name = self.objective
            moves["objective"] = OBJECTIVES[name] if isinstance(name, str) else name
            share = _LATER_START if occurrence else _FIRST_START
            moves["start"] = share * self.radius * normalise(_noise(seed, rows, z_0))
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


def derived_seed(seed: int, stream: int) -> int:
    """Seed of an independent stream of random numbers."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


def _noise(seed: int, rows: np.ndarray, like: Tensor) -> Tensor:
    """Standard normal numbers, row by row, so that they do not depend on the batch."""
    shape = tuple(like.shape[1:])
    draws = [
        np.random.default_rng((seed, int(row), 1)).standard_normal(shape, dtype=np.float32)
        for row in rows
    ]
    return torch.from_numpy(np.stack(draws)).to(like)


def batches(occurrence: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Split rows into batches that share their members, in an order of their own."""
    for value in np.unique(occurrence):
        rows = np.flatnonzero(occurrence == value)
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]
