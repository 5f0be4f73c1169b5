"""Targeted synthesis from a batch of real images, as networks see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tsynd_sk.ascent import (
    OBJECTIVES,
    AscentResult,
    Objective,
    StepCallback,
    ascend,
    displacement_norm,
    normalise,
)
from tsynd_sk.synthesis._codec import Codec
from tsynd_sk.uncertainty import mean_log_proba, mutual_information

# Shares of the radius. A source that is used again starts so far from its code at least, to reach
# another maximum. What stays beside its source is still told from an equal one.
_LATER_START, _BESIDE = 0.5, 0.1

# Shares of the source image that are tried where a reconstruction alone has lost the label.
# The source itself comes last, for it is no new image.
_BLENDS = (0.25, 0.5, 0.75, 0.9, 0.97, 1.0)


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
    random_start : float
        Length of the random first step as a share of `radius`.
    radius, max_iter, constrain
        See `tsynd_sk.ascent.ascend`.
    device : torch.device
        Where everything is computed.
    callback : callable or None, default=None
        See `tsynd_sk.ascent.ascend`.
    """

    codec: Codec
    make_members: Callable[[int], Callable[[Tensor], Tensor]]
    latent_scale: Tensor
    objective: str | Objective
    random_start: float
    radius: float
    max_iter: int
    constrain: bool
    device: torch.device
    callback: StepCallback | None = None

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
            share = max(self.random_start, _LATER_START) if occurrence else self.random_start
            if name == "random":
                share, moves["direction"] = _BESIDE, way
            else:
                moves["objective"] = OBJECTIVES[name] if isinstance(name, str) else name
            moves["start"] = share * self.radius * way
        result = ascend(
            members,
            self.codec.decode,
            z_0,
            y,
            scale=self.latent_scale.to(z_0),
            radius=self.radius,
            max_iter=self.max_iter,
            constrain=self.constrain,
            callback=self.callback,
            **moves,
        )
        with torch.no_grad():
            log_probs = members(x)
            if self.constrain and self.objective != "reconstruction":
                result = self._back(result, z_0, y, _BESIDE * self.radius * way, members)
                lost = (mean_log_proba(log_probs).argmax(-1) == y) & ~result.agreement
                if lost.any():
                    result = self._towards_source(result, x, y, lost, members)
            error = (self.codec.decode(z_0) - x).flatten(1).square().mean(1).sqrt()
            info = {
                "uncertainty_source": mutual_information(log_probs),
                "uncertainty": result.uncertainty,
                "displacement": result.displacement,
                "reconstruction_error": error,
                "label_agreement": result.agreement,
            }
        return result.images, {name: value.cpu().numpy() for name, value in info.items()}

    def _back(
        self, result: AscentResult, z_0: Tensor, y: Tensor, beside: Tensor, members
    ) -> AscentResult:
        """Bring rows that never had their label back beside their source."""
        strayed = ~result.agreement & (result.displacement > displacement_norm(beside))
        rows = strayed.nonzero()[:, 0]
        if len(rows) == 0:
            return result
        there = ascend(
            members,
            self.codec.decode,
            z_0[rows],
            y[rows],
            objective=None,
            start=beside[rows],
            scale=self.latent_scale.to(z_0),
            radius=self.radius,
            constrain=False,
        )
        return result.with_rows(rows, there)

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
            uncertainty[rows[mended]] = mutual_information(log_probs)[mended]
            agreement[rows[mended]] = True
            rows = rows[~mended]
            if len(rows) == 0:
                break
        return replace(result, images=images, uncertainty=uncertainty, agreement=agreement)


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
