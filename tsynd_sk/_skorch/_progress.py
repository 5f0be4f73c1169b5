"""Report the progress of a fit, by bars and to scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from skorch.callbacks import Callback
from tqdm.auto import tqdm

from tsynd_sk._skorch._nets import copy_for_prediction, scoped_seed

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replaces the mixin of scikit-learn, which has callbacks from version 1.9 on."""


def rows_in_epoch(net: Any, dataset: Any) -> int:
    """Return the number of rows that a net draws from a data set in an epoch."""
    return getattr(net, "epoch_size", len(dataset))


class TrainingBar(Callback):
    """Progress bar of a net's training, which counts the images that pass through networks.

    `image_passes` returns, for a net and its training rows, how many images pass in each epoch, by
    part of the work: `label` stands for the batches, and other parts precede them.
    """

    def __init__(self, label: str, image_passes: Callable[..., dict[str, Any]] | None = None):
        self.label = label
        self.image_passes = image_passes

    def on_train_begin(self, net, **kwargs):
        """Wait for the training rows."""
        self.bar_: Any = None

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Draw the bar before the first epoch; advance it by the work before the batches."""
        if self.bar_ is None:
            passes = {self.label: np.full(net.max_epochs, rows_in_epoch(net, dataset_train))}
            if self.image_passes is not None:
                passes = self.image_passes(net, dataset_train)
            ends = np.cumsum(sum(passes.values()))
            self.starts_ = iter((ends - passes[self.label]).tolist())
            # Inside another bar it vanishes when it is full. Time left is estimated by the mean
            # speed, because the latest batches do not include syntheses.
            shown = {"unit": "image", "unit_scale": True, "leave": None, "smoothing": 0}
            self.bar_ = tqdm(desc=self.label, total=int(ends[-1]), **shown)
        self.bar_.update(next(self.starts_, self.bar_.n) - self.bar_.n)

    def on_batch_end(self, net, training=False, **kwargs):
        """Advance by the rows of a batch."""
        if training:
            self.bar_.update(net.history[-1, "batches", -1, "train_batch_size"])

    def on_epoch_end(self, net, **kwargs):
        """Show the losses."""
        losses = {name: net.history[-1].get(name) for name in ("train_loss", "valid_loss")}
        self.bar_.set_postfix({k: v for k, v in losses.items() if v is not None}, refresh=False)

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        if self.bar_ is not None:
            self.bar_.close()

    def __getstate__(self):
        # A net that is saved while it trains must not hold the terminal.
        return {"label": self.label, "image_passes": None}


@dataclass
class Task:
    """A task of an estimator's fit, reported to scikit-learn's callbacks.

    Where nobody listens, `context` is None. `data` are ``X`` and ``y`` of the fit.
    """

    estimator: Any
    context: Any
    data: dict[str, Any]

    @classmethod
    def of_fit(cls, estimator: Any, X: Any, y: Any, *, n_subtasks: Any) -> Task:
        """Start the outermost task, which `_fit_context` of the estimator's method ends."""
        whole = cls(estimator, None, {"X": X, "y": y})
        if getattr(estimator, "_skl_callbacks", None):
            n_subtasks = n_subtasks if isinstance(n_subtasks, int) else None
            whole.context = estimator._init_callback_context(max_subtasks=n_subtasks)
            whole.context.call_on_fit_task_begin(estimator=estimator, **whole.data)
        return whole

    def subtask(self, name: str, n_subtasks: Any = 0) -> Task:
        """Start a part of this task."""
        if self.context is None:
            return self
        n_subtasks = n_subtasks if isinstance(n_subtasks, int) else None
        context = self.context.subcontext(task_name=name, max_subtasks=n_subtasks)
        context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        return Task(self.estimator, context, self.data)

    def end(self, attributes: Callable[[], dict] | dict | None = None) -> bool:
        """End this task; return whether a callback asks to stop.

        `attributes`, or what it returns, are the fitted attributes if training stopped now.
        """
        if self.context is None:
            return False
        return bool(
            self.context.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=attributes, **self.data
            )
        )


class EpochTasks(Callback):
    """Report every epoch of a net to a task.

    `attributes` makes the estimator's fitted attributes from a copy of the net.
    """

    def __init__(self, task: Task, attributes: Callable[[Any], dict] | None = None):
        self.task = task
        self.attributes = attributes

    def on_epoch_begin(self, net, **kwargs):
        """Start an epoch."""
        self.epoch_ = self.task.subtask("epoch")

    def on_epoch_end(self, net, **kwargs):
        """End an epoch, and the training if a callback asks for it."""
        attributes = self.attributes
        learnt = None if attributes is None else lambda: attributes(copy_for_prediction(net))
        with scoped_seed(None):
            stop = self.epoch_.end(learnt)
        if stop:
            # As skorch's own callbacks end a training.
            raise KeyboardInterrupt

    def __getstate__(self):
        # A net that is saved while it trains must not hold the fit.
        return {"task": Task(None, None, {}), "attributes": None}
