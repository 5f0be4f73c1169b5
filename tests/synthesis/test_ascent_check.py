"""What keeps an ascent from working is said before autoencoder and first epoch."""

import numpy as np
import pytest
import torch
from helpers.tiny_nets import Dense, X, augmented, own_net, synthesizer, y
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn
from torch.utils.checkpoint import checkpoint

from tsynd_sk import TargetedSynthesis
from tsynd_sk.autoencoders import AutoencoderNet

X = X.astype(np.float32) / 16


class Backbone(nn.Module):
    """With a backbone through which no gradient passes, in the `way` that it is told."""

    def __init__(self, way="no_grad", dropout=0.0):
        super().__init__()
        self.way = way
        self.backbone = nn.Linear(64, 16)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(16, 10))

    def forward(self, x):
        x = x.flatten(1)
        if self.way == "no_grad":
            with torch.no_grad():
                features = self.backbone(x)
        elif self.way == "numpy":
            features = self.backbone(torch.from_numpy(x.detach().numpy() * 2))
        else:
            features = self.backbone(x).detach()
        return self.head(features.relu())


class Checkpointed(nn.Module):
    """With a checkpoint around its dropout, or before it."""

    def __init__(self, around=True, reentrant=False, always=True, function=False):
        super().__init__()
        self.around, self.reentrant, self.always = around, reentrant, always
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.drop = Function() if function else nn.Dropout(0.5)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        part = nn.Sequential(self.first, self.drop) if self.around else self.first
        if self.always or self.training:
            x = checkpoint(part, x, use_reentrant=self.reentrant)
        else:
            x = part(x)
        return self.head(x if self.around else self.drop(x))


class Function(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


class Never(Callback):
    """Fails if a training begins its first epoch."""

    def on_epoch_begin(self, net, **kwargs):
        raise AssertionError("it trains")


def fits(module, given=None, ensemble=True, **params):
    """Ways in which a fit takes a net of a module, none of which may begin to train."""
    never = {"callbacks": [Never()]}
    autoencoder = AutoencoderNet(max_epochs=1, **never)
    made = synthesizer(autoencoder=autoencoder, **(given or {}))
    net = own_net(module=module, **never, **params)
    yield lambda: augmented(net, made).fit(X, y)
    yield lambda: clone(made).set_params(classifier=net).fit(X, y)
    if ensemble:
        yield lambda: clone(made).set_params(classifier=[own_net(**never), net]).fit(X, y)
    synthesis = [TargetedSynthesis(made, random_state=0), *never["callbacks"]]
    yield lambda: clone(net).set_params(callbacks=synthesis).fit(X[:, None], y)
    fitted = clone(net).set_params(callbacks=[]).fit(X[:, None], y)
    yield lambda: clone(made).set_params(classifier=FrozenEstimator(fitted)).fit(X, y)


@pytest.mark.parametrize("members", ["laplace", "dropout"])
@pytest.mark.parametrize("way", ["no_grad", "detach", "numpy"])
def test_no_gradient_of_the_images(way, members):
    dropout = 0.5 if members == "dropout" else 0.0
    params = {"module__way": way, "module__dropout": dropout}
    told = r"predictions of Backbone have no gradient .*requires_grad_\(False\).*objective='random'"
    for fit in fits(Backbone, given={"members": members}, **params):
        with pytest.raises(ValueError, match=told):
            fit()


@pytest.mark.parametrize("objective", ["random", "duplicate"])
def test_controls_need_none(objective):
    made = synthesizer(objective=objective)
    fitted = augmented(own_net(module=Backbone), made).fit(X, y)
    assert fitted.synthesizer_.sample(3)[0].shape == (3, 8, 8)


def test_without_synthesis_none_is_needed():
    fitted = augmented(own_net(module=Backbone), synthetic_ratio=0).fit(X, y)
    assert fitted.predict(X).shape == (80,)


def not_differentiable(log_probs, y):
    return log_probs.detach().exp().var(0).sum(-1)


def of_another_shape(log_probs, y):
    return log_probs.exp().var(0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (not_differentiable, "objective must be differentiable"),
        (of_another_shape, r"objective must return a tensor of shape \(n_samples,\), here \(2,\)"),
    ],
)
def test_objectives_of_ones_own(objective, message):
    for i, fit in enumerate(fits(Dense, given={"objective": objective})):
        with pytest.raises(ValueError, match=message if i < 4 else message.replace("2,", "1,")):
            fit()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "layer .*drop.* runs again in the backward pass, as in torch.utils.checkpoint"),
        ({"module__reentrant": True}, "use_reentrant=True"),
        ({"module__reentrant": True, "module__around": False}, "use_reentrant=True"),
        ({"module__function": True}, "torch.utils.checkpoint"),
    ],
)
def test_checkpoints_that_cannot_work_are_named(params, message):
    # The dropout of an ensemble rests.
    for fit in fits(Checkpointed, ensemble=False, **params):
        with pytest.raises(ValueError, match=message):
            fit()


@pytest.mark.parametrize(
    "params",
    [
        {"module__around": False},
        {"module__always": False},
    ],
)
def test_checkpoints_that_work_climb_as_without(params):
    """The same noise, the same images."""
    answers = []
    for module_params in (params, {**params, "module__always": False}):
        net = own_net(module=Checkpointed, **module_params)
        fitted = augmented(net).fit(X, y)
        answers.append(fitted.synthesizer_.sample(5)[0])
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_it_leaves_the_training_as_it_is():
    """Nothing of the check is seen in weights or random numbers."""
    answers = []
    for objective in ("mutual_info", "random"):
        made = synthesizer(objective=objective)
        fitted = augmented(own_net(max_epochs=2), made, warm_up=1.0).fit(X, y)
        answers.append(fitted.predict_proba(X))
    np.testing.assert_array_equal(*answers)
