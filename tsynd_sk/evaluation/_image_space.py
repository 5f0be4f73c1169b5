"""Images as vectors: in the units of networks, and as a classifier's last layer sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
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
