"""skorch's own callbacks, splits and ways to go on, while synthetic rows come and go."""

import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import IMAGES as ALL_IMAGES
from helpers.tiny_nets import (
    LABELS,
    Recorder,
    X,
    augmented,
    dense_synthesizer,
    own_net,
    recorder_of,
    refreshed,
    synthesizer,
    y,
)
from helpers.ways import IMAGES, around, both_ways, inside
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Freezer,
    GradientNormClipping,
    InputShapeSetter,
    LRScheduler,
)
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim import lr_scheduler

from tsynd_sk import TargetedSynthesis

UNSEEN, UNSEEN_LABELS = ALL_IMAGES[80:120, None], LABELS[80:120]


def weights(net):
    return [p.detach().clone() for p in net.module_.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestStopAndKeep:
    @both_ways
    def test_early_stopping_ends_training_as_without_synthesis(self, train):
        def stopped(ratio):
            # It learns nothing, so that the validation loss is the same for ever.
            stop = EarlyStopping("valid_loss", patience=4, threshold=1e-3)
            net = own_net(lr=1e-9, max_epochs=20, callbacks=[stop])
            return train(net, synthetic_ratio=ratio, warm_up=0.1)

        net = stopped(1)
        assert len(net.history) == len(stopped(0).history) == 5
        assert refreshed(net.history) == [2]
        assert net.predict(IMAGES).shape == (80,)

    @both_ways
    def test_checkpoint_loads_the_best_epoch_at_the_end(self, train, tmp_path):
        checkpoint = Checkpoint("fourth_epoch", dirname=tmp_path, load_best=True)
        net = train(own_net(callbacks=[Keeper(), checkpoint]))
        assert len(kept(net)) == 8
        assert same(weights(net), kept(net)[3])

    @both_ways
    def test_a_net_that_is_pickled_in_mid_training_has_no_trace_of_synthesis(self, train, tmp_path):
        files = {"f_params": None, "f_optimizer": None, "f_criterion": None, "f_history": None}
        checkpoint = Checkpoint("fourth_epoch", dirname=tmp_path, f_pickle="net.pkl", **files)
        net = train(own_net(callbacks=[Keeper(), checkpoint]))
        loaded = pickle.loads((tmp_path / "net.pkl").read_bytes())
        assert same(weights(loaded), kept(net)[3])
        assert loaded.predict_proba(IMAGES).shape == (80, 10)
        assert loaded.get_params(deep=False).keys() == own_net().get_params(deep=False).keys()
        assert type(loaded.train_split) is ValidSplit
        # It can be trained on, by the schedule of the callback, or from the beginning.
        loaded.partial_fit(IMAGES, y)
        assert len(loaded.history) == 12
        assert refreshed(loaded.history) == [2, 6, 11]
        fresh = clone(loaded).set_params(callbacks=None, batch_size=80, train_split=None)
        fresh.fit(IMAGES, y)
        assert len(fresh.history[0, "batches"]) == 1


class Keeper(Callback):
    """Keeps the weights after each epoch; names the fourth in the history."""

    def initialize(self):
        self.kept_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        self.kept_.append(weights(net))
        net.history.record("fourth_epoch", len(net.history) == 4)


def kept(net):
    return dict(net.callbacks_)["Keeper"].kept_


def constant(net):
    return 1.0


def tenth(epoch):
    return 1 / (1 + epoch / 10)


POLICIES = {
    "StepLR": {"step_size": 3},
    "ReduceLROnPlateau": {"monitor": constant, "patience": 1},
    "CosineAnnealingLR": {"T_max": 8},
    lr_scheduler.CosineAnnealingWarmRestarts: {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    lr_scheduler.OneCycleLR: {"max_lr": 0.1, "total_steps": 8},
    "LambdaLR": {"lr_lambda": tenth},
    "WarmRestartLR": {"min_lr": 0.01, "max_lr": 0.1, "base_period": 3},
}


SLOW = [pytest.param(policy, marks=pytest.mark.slow) for policy in list(POLICIES)[1:]]


class TestLearningRates:
    @pytest.mark.parametrize("policy", ["StepLR", *SLOW], ids=str)
    def test_are_those_of_a_training_without_synthesis(self, policy):
        synthetic, plain = (
            inside(
                own_net(callbacks=[LRScheduler(policy, **POLICIES[policy]), Rates()]),
                synthetic_ratio=ratio,
            )
            for ratio in (1, 0)
        )
        rates = synthetic.history[:, "rate"]
        assert refreshed(synthetic.history) == [2, 7]
        assert rates == plain.history[:, "rate"]
        assert len(set(rates)) > 1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "policy", [p for p in POLICIES if p not in ("ReduceLROnPlateau", lr_scheduler.OneCycleLR)]
    )
    def test_of_batches_go_on_with_the_batches_that_synthetic_rows_make(self, policy):
        check_rates_of_batches(LRScheduler(policy, step_every="batch", **POLICIES[policy]))

    def test_of_one_cycle_are_spread_over_all_batches(self):
        cycle = {"max_lr": 0.5, "total_steps": 2 * 5 + 6 * 10}
        schedule = LRScheduler(lr_scheduler.OneCycleLR, step_every="batch", **cycle)
        rates = check_rates_of_batches(schedule)
        assert rates[-1] < 1e-4 < max(rates)


def check_rates_of_batches(schedule):
    net = inside(own_net(train_split=None, callbacks=[schedule]))
    rates = [batch["event_lr"] for row in net.history for batch in row["batches"]]
    assert len(rates) == 2 * 5 + 6 * 10
    np.testing.assert_allclose(rates, schedule.simulate(len(rates), 0.1), rtol=1e-6)
    return rates


class Rates(Callback):
    """Records the learning rate with which an epoch has trained."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            net.history.record("rate", net.optimizer_.param_groups[0]["lr"])


class GradientNorms(Callback):
    """Keeps the norm of each step's gradient."""

    seen = []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        gradients = [p.grad.flatten() for _, p in net.module_.named_parameters()]
        self.seen.append(float(torch.cat(gradients).norm()))


@pytest.mark.slow
@both_ways
class TestParameters:
    def test_gradients_are_clipped_for_synthetic_rows_too(self, train):
        GradientNorms.seen.clear()
        callbacks = [GradientNormClipping(0.01), GradientNorms()]
        train(own_net(train_split=None, callbacks=callbacks))
        assert len(GradientNorms.seen) == 70
        np.testing.assert_allclose(GradientNorms.seen, 0.01, rtol=1e-3)

    def test_frozen_ones_stay(self, train):
        net = train(own_net(callbacks=[Freezer("layers.1.*"), Recorder()]))
        before, after = recorder_of(net).weights_, weights(net)
        assert same(before[:2], after[:2])
        assert not same(before[2:], after[2:])
        assert [p.requires_grad for p in net.module_.parameters()] == [False] * 2 + [True] * 2


class Sized(nn.Module):
    """Takes rows of a table whose length it has to be told."""

    def __init__(self, n_in=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
        )

    def forward(self, x):
        return self.layers(x)


@both_ways
def test_a_callback_may_size_the_module_by_the_data(train):
    setter = InputShapeSetter(param_name="n_in")
    estimator = own_net(module=Sized, callbacks=[setter])
    rows = X.reshape(80, -1)
    if train is around:
        net = augmented(estimator, dense_synthesizer()).fit(rows, y).estimator_
    else:
        net = inside(estimator, dense_synthesizer(), data=(rows, y))
    assert net.module_.layers[0].in_features == 64
    assert refreshed(net.history) == [2, 7]


class Own(NeuralNetClassifier):
    """Overrides what users override, and tells of it."""

    calls = []

    def fit(self, X, y, **fit_params):
        self.calls.append("fit")
        return super().fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        self.calls.append("partial_fit")
        return super().partial_fit(X, y, classes=classes, **fit_params)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        self.calls.append("get_loss")
        return super().get_loss(y_pred, y_true, *args, **kwargs)

    def train_step_single(self, batch, **fit_params):
        self.calls.append("train_step_single")
        return super().train_step_single(batch, **fit_params)

    def get_iterator(self, dataset, training=False):
        self.calls.append("get_iterator, training" if training else "get_iterator")
        return super().get_iterator(dataset, training)


class Anew(NeuralNetClassifier):
    """Its fit initialises, whatever `warm_start` says."""

    def fit(self, X, y=None, **fit_params):
        self.initialize()
        return self.partial_fit(X, y, **fit_params)


class TestOwnMethods:
    @both_ways
    def test_are_called(self, train):
        Own.calls.clear()
        net = train(own_net(Own, train_split=None))
        assert refreshed(net.history) == [2, 7]
        assert Own.calls.count("fit") == Own.calls.count("partial_fit") == 1
        assert Own.calls.count("train_step_single") == 70
        assert Own.calls.count("get_loss") >= 70
        assert Own.calls.count("get_iterator, training") == 1
        Own.calls.clear()
        net.predict(IMAGES)
        assert Own.calls == ["get_iterator"]

    def test_fit_that_loses_the_synthesis_is_no_silent_training_without(self):
        with pytest.raises(RuntimeError, match=r"Anew\.fit initialises the net again"):
            around(own_net(Anew))

    def test_fit_that_initialises_is_fine_where_the_callback_is_the_nets(self):
        assert refreshed(inside(own_net(Anew)).history) == [2, 7]


class TestGoingOn:
    def test_optimizer_goes_on(self):
        net = inside(own_net(optimizer=torch.optim.Adam, lr=0.01, train_split=None))
        net.partial_fit(IMAGES, y)
        assert refreshed(net.history) == [2, 7, 10, 15]
        steps = {int(state["step"]) for state in net.optimizer_.state.values()}
        assert steps == {140}


def test_a_second_synthesis_is_refused_around_a_net_that_has_one():
    net = own_net(callbacks=[("first", TargetedSynthesis(synthesizer()))])
    with pytest.raises(ValueError, match="AugmentedClassifier adds its own"):
        around(net)
