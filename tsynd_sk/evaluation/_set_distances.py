"""Distances between two sets of vectors: one by one, and as distributions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor


def nearest(
    queries: np.ndarray, parts: Iterable[np.ndarray], *, but: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return index and distance of the nearest row to each query; row ``but[i]`` does not count."""
    queries = queries.astype(np.float64)
    best, index, n_before = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64), 0
    for rows in parts:
        k = min(1 if but is None else 2, len(rows))
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows)
        for found in search.kneighbors(queries, return_distance=False).T:
            # Anew, for the square of a sum leaves rounding where nothing should be.
            distance = np.linalg.norm(queries - rows[found], axis=1)
            better = distance < best
            if but is not None:
                better &= n_before + found != but
            best[better], index[better] = distance[better], n_before + found[better]
        n_before += len(rows)
    return index, best


def gaussian_frechet(
    mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray
) -> float:
    """Fréchet distance, squared as usual, between two Gaussians (Dowson and Landau, 1982).

    ``|m_1 - m_2|² + tr(C_1 + C_2 - 2 (C_1 C_2)^½)``; the product has the eigenvalues of a
    symmetric matrix without negative ones.
    """
    shared = np.sqrt(np.linalg.eigvals(cov_1 @ cov_2).real.clip(0)).sum()
    # Of equal distributions rounding may leave less than nothing.
    return max(float(((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1 + cov_2) - 2 * shared), 0.0)


def frechet_distance(features_1: np.ndarray, features_2: np.ndarray) -> float:
    """Fréchet distance between Gaussians with shrunk covariances, fitted to two sets."""
    gaussians = []
    for features in (features_1, features_2):
        gaussians += [features.mean(axis=0), ledoit_wolf(features)[0]]
    return gaussian_frechet(*gaussians)


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int) -> tuple[float, float]:
    """Estimate precision and recall by manifolds of nearest neighbours (Kynkäänniemi, 2019)."""
    return _share_within(synthetic, real, k), _share_within(real, synthetic, k)


def _share_within(rows: np.ndarray, centres: np.ndarray, k: int) -> float:
    # The nearest of all is the centre itself.
    radii = torch.cat([d.kthvalue(k + 1, dim=1).values for d in _distances(centres, centres)])
    return float(
        torch.cat([(d <= radii).any(dim=1).double() for d in _distances(rows, centres)]).mean()
    )


def _distances(rows: np.ndarray, centres: np.ndarray) -> Iterator[Tensor]:
    """Iterate over exact distances of rows, some at a time, to all centres."""
    exact = "donot_use_mm_for_euclid_dist"
    for part in torch.from_numpy(rows).split(256):
        yield torch.cdist(part, torch.from_numpy(centres), compute_mode=exact)
