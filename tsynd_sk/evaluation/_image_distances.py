"""Images as vectors, and distances between two sets of them, one by one and as distributions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._inference import private_copy


class ImageSpace:
    """Vectors of the real images of a fitted synthesizer, and of others like them."""

    def __init__(self, synthesizer: Any, real: Any):
        self.synthesizer, self.real = synthesizer, real
        self._scale: Any = 1.0
        if synthesizer.image_shape_ is None:
            # Columns of a table have units of their own.
            spread = np.asarray(real, dtype=np.float32).std(axis=0)
            self._scale = np.where(spread > 0, spread, 1)

    def keys(self, images: np.ndarray) -> list[bytes]:
        """Return bytes that are equal for equal images."""
        # Zero with either sign becomes the same bytes.
        return [row.tobytes() for row in self._values(images) + np.float32(0)]

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return vectors whose Euclidean distance is the root-mean-square difference of values."""
        values = self._values(images)
        return (values / self._scale / np.sqrt(values.shape[1])).astype(np.float32)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return what the last linear layer of the (first) classifier receives."""
        engine = self.synthesizer.engine_
        x = self.synthesizer.format_.to_tensor(images)
        return last_layer_features(engine.nets[0], x.split(engine.batch_size(self.synthesizer)))

    def _values(self, images: np.ndarray) -> np.ndarray:
        return self.synthesizer.format_.to_tensor(images).flatten(1).numpy()


def last_layer_features(net: Any, batches: Any) -> np.ndarray:
    """Return what the linear layer that a fitted net calls last receives, in evaluation mode."""
    network, device = private_copy(_skorch.network_of(net)), _skorch.device_of(net)
    received: list[Tensor] = []
    for part in network.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(
                lambda _, args, kwargs: received.append(args[0] if args else kwargs["input"]),
                with_kwargs=True,
            )
    features = []
    with torch.no_grad():
        for x in batches:
            received.clear()
            network(x.to(device))
            if not received or received[-1].shape[:-1] != x.shape[:1]:
                raise ValueError(
                    f"{network._get_name()} must end in a torch.nn.Linear that gets one "
                    "vector for each image"
                )
            features.append(received[-1].cpu().double().numpy())
    return np.concatenate(features)


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
    # Squares, which are computed exactly. The nearest of all is the centre itself.
    squares = partial(pairwise_distances_chunked, metric="sqeuclidean")
    radii = squares(centres, reduce_func=lambda d, _: np.partition(d, k, axis=1)[:, k])
    reach = np.concatenate(list(radii))
    within = squares(rows, centres, reduce_func=lambda d, _: (d <= reach).any(axis=1))
    return float(np.concatenate(list(within)).mean())
