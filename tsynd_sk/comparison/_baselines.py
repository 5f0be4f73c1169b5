"""What targeted synthesis is compared with, at the same cost in rows and in steps.

Rows that are no synthetic ones, from the epoch on from which there would be such; mixup; and
training on attacks.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from skorch.utils import to_device
from torch import Tensor
from torch.utils.data import default_collate

from tsynd_sk.classifiers import ConvNet, NetClassifier
from tsynd_sk.synthesis import is_refresh, join, leave, training_rows

# imbalanced-learn's default.
_NEIGHBOURS = 5


class MoreRows(Callback):
    """Give a net as many further training rows as `TargetedSynthesis` would, at the same epochs.

    Without them, the other arms of a comparison would take fewer steps and see fewer rows, and
    synthesis would win by training longer.

    Parameters
    ----------
    kind : {"copies", "smote"}
        Copies of the real rows, or what SMOTE makes of them, anew at each refresh.
    ratio, warm_up, refresh_every
        As `synthetic_ratio` and the like of `TargetedSynthesis`.
    random_state : int, RandomState instance or None, default=None
        Seed of SMOTE, and of which rows are copied where not all are copied alike.
    """

    def __init__(self, kind, ratio=1.0, warm_up=0.25, refresh_every=5, random_state=None):
        self.kind = kind
        self.ratio = ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.random_state = random_state

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.rng_ = check_random_state(self.random_state)
        self.first_epoch_ = len(net.history)
        join(net)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        leave(net)

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        leave(net)
        epoch = len(net.history) - 1 - self.first_epoch_
        if not self.ratio or not is_refresh(
            epoch, net.max_epochs, self.warm_up, self.refresh_every
        ):
            return
        X, y = training_rows(dataset_train.real)
        X = np.asarray(X[:])
        # Every row as often as any other, but for one.
        sources = np.resize(self.rng_.permutation(len(X)), max(round(self.ratio * len(X)), 1))
        rows = X[sources] if self.kind == "copies" else smote(X, y, sources, self.rng_)
        dataset_train.exchange(rows, y[sources], sources)


def smote(X: np.ndarray, y: np.ndarray, sources: np.ndarray, random_state) -> np.ndarray:
    """Interpolate between rows and their neighbours of the same class, by imbalanced-learn.

    Parameters
    ----------
    X : ndarray of shape (n, ...), float32
        Rows.
    y : ndarray of shape (n,)
        Class indices.
    sources : ndarray of shape (n_new,)
        Rows whose classes are wanted.
    random_state : int, RandomState instance or None
        Seed.

    Returns
    -------
    ndarray of shape (n_new, ...), float32
        New rows, of the classes ``y[sources]``. A class of a single row has no neighbours, and is
        copied.
    """
    from imblearn.over_sampling import SMOTE

    rng = check_random_state(random_state)
    flat, y_new = X.reshape(len(X), -1), y[sources]
    new = flat[sources]
    n_real, n_new = (np.bincount(labels, minlength=y.max() + 1) for labels in (y, y_new))
    n_neighbours = np.minimum(_NEIGHBOURS, n_real - 1)
    # SMOTE has one number of neighbours for all classes that it is asked for.
    for k in np.unique(n_neighbours[n_new > 0]):
        if k < 1:
            continue
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


class MixedRows:
    """Collate function: mixup of the rows of a batch, and of their labels.

    Parameters
    ----------
    n_classes : int
        Number of classes; a batch need not have them all.
    alpha : float, default=0.2
        Parameter of the Beta distribution of shares. Zhang et al. (2018) advise 0.1 to 0.4 and
        train on ImageNet with 0.2; with more, networks of little capacity underfit.
    """

    def __init__(self, n_classes: int, alpha: float = 0.2):
        # Importing torchvision takes a second, and most arms do not need it.
        from torchvision.transforms import v2

        self.mix = v2.MixUp(alpha=alpha, num_classes=n_classes)

    def __call__(self, rows):
        x, y = default_collate(rows)
        return self.mix(x, y)


class AdversarialNetClassifier(NetClassifier):
    """Default classifier that trains on attacks by projected gradient descent (Madry et al., 2018).

    Every batch is replaced by what misleads the network as it is most. It has the parameters of
    `NetClassifier`, and these.

    Parameters
    ----------
    eps : float, default=4 / 255
        Largest change of a value, as a share of the range of values.
    n_steps : int, default=7
        Steps of an attack, as in the paper, from a random start.
    low, high : float, default=0.0, 1.0
        Range of values. Attacks stay within it.
    """

    def __init__(self, module=ConvNet, *, eps=4 / 255, n_steps=7, low=0.0, high=1.0, **kwargs):
        super().__init__(module, **kwargs)
        self.eps = eps
        self.n_steps = n_steps
        self.low = low
        self.high = high

    def train_step(self, batch, **fit_params):
        """Train on an attacked batch; see skorch."""
        x, y = unpack_data(batch)
        x, y = to_device(x, self.device), to_device(y, self.device)
        return super().train_step((self._attacked(x, y), y), **fit_params)

    def _attacked(self, x: Tensor, y: Tensor) -> Tensor:
        radius = self.eps * (self.high - self.low)
        # Farther than from the middle of the ball to its end, so that every corner is in reach.
        step = 2.5 * radius / self.n_steps
        modes = [(part, part.training) for part in self.module_.modules()]
        # What is attacked is the network that predicts: dropout would hide its gradients, and its
        # batch statistics are to be learnt from what it trains on, not from steps on the way.
        self.module_.eval()
        try:
            attacked = self._projected(x + radius * (2 * torch.rand_like(x) - 1), x, radius)
            for _ in range(self.n_steps):
                attacked.requires_grad_(True)
                loss = self.get_loss(self.infer(attacked), y, X=attacked, training=False)
                # Unlike `backward`, it leaves the gradients of the parameters alone.
                (slope,) = torch.autograd.grad(loss, attacked)
                attacked = self._projected(attacked.detach() + step * slope.sign(), x, radius)
        finally:
            for part, training in modes:
                part.training = training
        return attacked

    def _projected(self, moved: Tensor, x: Tensor, radius: float) -> Tensor:
        return (x + (moved - x).clamp(-radius, radius)).clamp(self.low, self.high)
