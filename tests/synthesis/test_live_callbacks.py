"""Callbacks that hold what cannot be copied, and schedules that count batches."""

import math
import threading

import numpy as np
import pytest
import torch
from helpers.tiny_nets import X, augmented, own_net, refreshed, synthesizer, y
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, LRScheduler

from tsynd_sk.autoencoders import AutoencoderNet


class Run:
    """An experiment tracker's run, a log's writer, or a trial: it cannot be copied."""

    def __init__(self):
        self.lock, self.losses = threading.Lock(), []


class Track(Callback):
    def __init__(self, run, patience=None):
        self.run = run
        self.patience = patience

    def on_train_begin(self, net, **kwargs):
        self.n_epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        self.run.losses.append(net.history[-1, "train_loss"])
        if self.n_epochs_ == self.patience:
            raise Pruned


class Pruned(Exception):
    """As optuna ends a trial."""


@pytest.fixture
def run():
    run = Run()
    with pytest.raises(TypeError, match="pickle"):
        __import__("copy").deepcopy(run)
    return run


@pytest.mark.parametrize("named", [False, True])
def test_a_run_gets_every_epoch(run, named):
    callback = Track(run)
    callbacks = [("track", callback)] if named else [callback]
    learned = augmented(own_net(callbacks=callbacks)).fit(X, y)
    assert run.losses == learned.history_[:, "train_loss"]
    assert len(run.losses) == 8
    assert refreshed(learned.history_) == [2, 7]
    # The callback itself is a parameter, which no fit changes.
    assert vars(callback) == {"run": run, "patience": None}
    assert learned.estimator.callbacks is callbacks


def test_a_trial_is_pruned(run):
    learned = augmented(own_net(callbacks=[Track(run, patience=3)]))
    with pytest.raises(Pruned):
        learned.fit(X, y)
    assert len(run.losses) == 3


def test_of_synthesizers_and_their_autoencoders(run):
    autoencoder = AutoencoderNet(max_epochs=2, epoch_size=64, callbacks=[Track(run)])
    augmented(own_net(max_epochs=2), synthesizer(autoencoder=autoencoder)).fit(X, y)
    assert len(run.losses) == 2
    estimator = own_net(max_epochs=3, callbacks=[Track(run)])
    fitted = synthesizer(classifier=[estimator, own_net(max_epochs=1)], autoencoder=autoencoder)
    fitted.fit(X, y)
    assert len(run.losses) == 2 + 3 + 2


def test_of_frozen_nets_that_a_file_is_loaded_into(run, tmp_path):
    estimator = own_net(max_epochs=1, callbacks=[Track(run)]).fit(X[:, None], y)
    fitted = synthesizer(classifier=FrozenEstimator(estimator)).fit(X, y)
    fitted.save_params(tmp_path / "x.safetensors")
    loaded = synthesizer(classifier=FrozenEstimator(estimator), autoencoder=fitted.autoencoder)
    loaded.load_params(tmp_path / "x.safetensors")
    assert loaded.classifier_ is not estimator
    np.testing.assert_array_equal(loaded.uncertainty(X[:9]), fitted.uncertainty(X[:9]))


@pytest.mark.parametrize("batches", ["apart", "mixed"])
@pytest.mark.parametrize(("ratio", "warm_up", "size"), [(0.5, 0.25, 16), (0.3, 0.5, 32)])
def test_a_schedule_by_batches_has_the_documented_count_of_steps(batches, ratio, warm_up, size):
    n_first = math.ceil(warm_up * 6)
    n_rows = [80] * n_first + [80 + round(ratio * 80)] * (6 - n_first)
    total_steps = sum(math.ceil(n / size) for n in n_rows)

    def learn(total_steps):
        schedule = LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR,
            max_lr=0.1,
            total_steps=total_steps,
            step_every="batch",
        )
        estimator = own_net(max_epochs=6, batch_size=size, callbacks=[schedule], train_split=None)
        params = {"synthetic_ratio": ratio, "warm_up": warm_up, "batches": batches}
        learned = augmented(estimator, **params).fit(X, y)
        schedule = dict(learned.estimator_.callbacks_)["LRScheduler"]
        return schedule.lr_scheduler_

    # The last step ends the schedule, and a further one would raise.
    assert learn(total_steps).last_epoch == total_steps
    with pytest.raises(ValueError, match="Tried to step"):
        learn(total_steps - 1)
