"""What targeted synthesis is compared with, at the same number of rows and steps.

Copies or SMOTE's rows, mixup, and training on attacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.dataset import Dataset, unpack_data
from skorch.utils import to_device
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, default_collate

from tsynd_sk._utils._batches import load
from tsynd_sk._utils._inference import modes_kept
from tsynd_sk.classifiers import ConvNet, NetClassifier

# imbalanced-learn's default.
_NEIGHBOURS = 5


class MoreRows:
    """Training iterator that adds as many rows as `TargetedSynthesis`, in the same epochs.

    Without them, synthesis would win by training longer. `kind` is "copies" of real rows or
    "smote"; `ratio` is their number for each real row, or "balanced" for as many as balance the
    classes; `apart` says whether they come in separate batches, as synthetic rows do.
    """

    def __init__(
        self,
        dataset,
        *,
        kind: str,
        ratio: Any,
        first_epoch: int,
        refresh_every: int,
        apart: bool = True,
        random_state: int | None = None,
        batch_size: int = 1,
        **params: Any,
    ):
        self.real = self.rows = dataset
        self.kind = kind
        self.ratio = ratio
        self.since = -first_epoch
        self.refresh_every = refresh_every
        self.rng = check_random_state(random_state)
        n_real = len(dataset) if apart else None
        self.params = {"batch_size": batch_size, "shuffle": True, "n_real": n_real, **params}

    def __len__(self) -> int:
        return len(self._loader())

    def __iter__(self) -> Iterator:
        # skorch makes one iterator for a training, and passes through it once in each epoch.
        if self.ratio and self.since >= 0 and self.since % self.refresh_every == 0:
            self.rows = ConcatDataset([self.real, self._further()])
        self.since += 1
        return iter(self._loader())

    def _loader(self) -> DataLoader:
        return load(self.rows, **self.params)

    def _further(self) -> Dataset:
        columns = default_collate([self.real[i] for i in range(len(self.real))])
        X, y = (column.numpy() for column in columns)
        order = self.rng.permutation(len(X))
        if self.ratio == "balanced":
            n = np.bincount(y.astype(np.int64))
            sources = np.concatenate(
                [np.resize(order[y[order] == k], n.max() - n[k]) for k in np.flatnonzero(n)]
            )
        else:
            # Every row equally often, up to one.
            sources = np.resize(order, max(round(self.ratio * len(X)), 1))
        rows = X[sources] if self.kind == "copies" else smote(X, y, sources, self.rng)
        return Dataset(rows, y[sources])


def smote(X: np.ndarray, y: np.ndarray, sources: np.ndarray, random_state) -> np.ndarray:
    """Interpolate between rows and their neighbours of the same class, by imbalanced-learn.

    A class of a single row has no neighbours, and is copied.
    """
    from imblearn.over_sampling import SMOTE

    rng = check_random_state(random_state)
    flat, y_new = X.reshape(len(X), -1), y[sources]
    new = flat[sources]
    n_real, n_new = (np.bincount(labels, minlength=y.max() + 1) for labels in (y, y_new))
    n_neighbours = np.minimum(_NEIGHBOURS, n_real - 1)
    # SMOTE uses one number of neighbours for all classes of a call.
    for k in np.unique(n_neighbours[(n_new > 0) & (n_real > 1)]):
        classes = np.flatnonzero((n_neighbours == k) & (n_new > 0))
        sampler = SMOTE(
            sampling_strategy={int(c): int(n_real[c] + n_new[c]) for c in classes},
            k_neighbors=int(k),
            random_state=rng.randint(2**31 - 1),
        )
        made, labels = (both[len(X) :] for both in sampler.fit_resample(flat, y))
        for c in classes:
            new[y_new == c] = made[labels == c]
    return new.reshape(-1, *X.shape[1:])


def mixed_rows(n_classes: int, rows: Any, alpha: float = 0.2) -> Any:
    """Collate a batch to mixtures of its images and labels.

    For mixup, Zhang et al. (2018) recommend an `alpha` of 0.1 to 0.4, and 0.2 for ImageNet; with
    more, small networks underfit.
    """
    # torchvision takes a second to import, and most arms do not need it.
    from torchvision.transforms import v2

    return v2.MixUp(alpha=alpha, num_classes=n_classes)(*default_collate(rows))


class AdversarialNetClassifier(NetClassifier):
    """Default classifier that trains on attacks by projected gradient descent (Madry et al., 2018).

    Attacks change a value by at most `eps`, a fraction of the range from `low` to `high`, in
    `n_steps` from a random start.
    """

    def __init__(self, module=ConvNet, *, eps=4 / 255, n_steps=7, low=0.0, high=1.0, **kwargs):
        super().__init__(module, **kwargs)
        self.eps = eps
        self.n_steps = n_steps
        self.low = low
        self.high = high

    def train_step(self, batch, **fit_params):
        """Train on an attacked batch; see skorch."""
        x, y = to_device(unpack_data(batch), self.device)
        return super().train_step((self._attacked(x, y), y), **fit_params)

    def _attacked(self, x: Tensor, y: Tensor) -> Tensor:
        radius = self.eps * (self.high - self.low)
        # More than the radius in all, so that every corner of the ball can be reached.
        step = 2.5 * radius / self.n_steps
        # Attack the network as it predicts: dropout would hide its gradients, and batch statistics
        # must come from training batches only.
        with modes_kept(self.module_):
            self.module_.eval()
            attacked = self._projected(x + radius * (2 * torch.rand_like(x) - 1), x, radius)
            for _ in range(self.n_steps):
                attacked.requires_grad_(True)
                loss = self.get_loss(self.infer(attacked), y, X=attacked, training=False)
                # Unlike `backward`, this does not change the gradients of parameters.
                (slope,) = torch.autograd.grad(loss, attacked)
                attacked = self._projected(attacked.detach() + step * slope.sign(), x, radius)
        return attacked

    def _projected(self, moved: Tensor, x: Tensor, radius: float) -> Tensor:
        return (x + (moved - x).clamp(-radius, radius)).clamp(self.low, self.high)
