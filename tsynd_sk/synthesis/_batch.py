"""Targeted synthesis from one batch of real images, as networks see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsynd_sk._utils._names import UNMOVED
from tsynd_sk.ascent import (
    OBJECTIVES,
    AscentResult,
    Objective,
    StepCallback,
    ascend,
    normalise,
)
from tsynd_sk.synthesis._codec import Codec
from tsynd_sk.uncertainty import mean_log_proba, mutual_information

# A source that is used again starts so far from its code at least, as a share of the radius, to
# reach another maximum.
_LATER_START = 0.5

# Shares of its displacement that an image keeps, one after the other, until members predict its
# label. One whose source they misjudge stops at the third. No step is the source itself, for a copy
# is no new image.
_STEPS_BACK, _BESIDE = (0.5, 0.25, 0.1, 0.03, 0.01, 0.001), 0.1


@dataclass(frozen=True)
class BatchSynthesis:
    """What all batches of one pass of synthesis share; rows come and go as tensors.

    Attributes
    ----------
    codec : Codec
        Autoencoder.
    make_members : callable
        Makes the members from a seed: equal seeds, equal members.
    latent_scale : Tensor
        Standard deviation of the latent coordinates, broadcastable to codes.
    objective, keep_detail
        See `TargetedSynthesizer`.
    random_start : float
        Length of the random first step as a share of `radius`.
    radius, max_iter
        See `tsynd_sk.ascent.ascend`.
    constrain : bool
        Whether images go back towards their sources until members predict their labels.
    device : torch.device
        Where everything is computed.
    callback : callable or None, default=None
        See `tsynd_sk.ascent.ascend`.
    """

    codec: Codec
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
        moving = self.objective not in UNMOVED
        if moving:
            name, direction = self.objective, normalise(_noise(seed, rows, z_0))
            share = max(self.random_start, _LATER_START) if occurrence else self.random_start
            if name == "random":
                share = 1.0
            else:
                moves["objective"] = OBJECTIVES[name] if isinstance(name, str) else name
            moves["start"] = share * self.radius * direction
        result = ascend(
            members,
            self._decoder(x, z_0),
            z_0,
            y,
            scale=self.latent_scale.to(z_0),
            radius=self.radius,
            max_iter=self.max_iter,
            callback=self.callback,
            **moves,
        )
        with torch.no_grad():
            log_probs = members(x)
            if self.constrain and moving:
                had_label = mean_log_proba(log_probs).argmax(-1) == y
                result = self._back(result, x, z_0, y, had_label, members)
            error = (self.codec.decode(z_0) - x).flatten(1).square().mean(1).sqrt()
            info = {
                "uncertainty_source": mutual_information(log_probs),
                "uncertainty": result.uncertainty,
                "displacement": result.displacement,
                "reconstruction_error": error,
                "label_agreement": result.agreement,
            }
        return result.images, {name: value.cpu().numpy() for name, value in info.items()}

    def _decoder(self, x: Tensor, z_0: Tensor) -> Callable[[Tensor], Tensor]:
        return self.codec.decoder(x, z_0) if self.keep_detail else self.codec.decode

    def _back(
        self, result: AscentResult, x: Tensor, z_0: Tensor, y: Tensor, had_label: Tensor, members
    ) -> AscentResult:
        """Bring images that lost their label back towards their sources until they have it."""
        # Coordinates that never vary do not move.
        scale = self.latent_scale.to(z_0)
        moved = (result.latents - z_0) / torch.where(scale > 0, scale, 1.0)
        for share in _STEPS_BACK:
            strayed = ~result.agreement & (had_label | (share >= _BESIDE))
            rows = strayed.nonzero()[:, 0]
            if len(rows) == 0:
                break
            there = ascend(
                members,
                self._decoder(x[rows], z_0[rows]),
                z_0[rows],
                y[rows],
                objective=None,
                start=share * moved[rows],
                scale=scale,
                radius=self.radius,
            )
            # What an autoencoder has lost does not come back by going nearer.
            kept = there.agreement | (share == _BESIDE)
            result = result.with_rows(rows[kept], there.rows(kept))
        return result


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
