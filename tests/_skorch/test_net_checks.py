"""What is seen of a net before it trains: misfits of its parts, and weights that come along."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Dense,
    FirstOutput,
    X,
    augmented,
    own_net,
    refreshed,
    synthesizer,
    y,
)
from helpers.ways import IMAGES, around, both_ways, inside
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from tsynd_sk._skorch import scoped_seed
from tsynd_sk._skorch._net_checks import NetCheck

BINARY = (y > 4).astype(np.float32)


class Ending(Dense):
    """Logits, and what comes after them."""

    def __init__(self, n_out=10, last=None, dropout=0.5):
        super().__init__(n_out, dropout)
        self.last = nn.Identity() if last is None else last

    def forward(self, x):
        return self.last(super().forward(x))


class Flat(Ending):
    """A vector instead of a column."""

    def __init__(self, last=None):
        super().__init__(1, last)

    def forward(self, x):
        return super().forward(x)[:, 0]


class Lazy(nn.Module):
    def __init__(self, n_out=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Dropout(0.5), nn.LazyLinear(n_out)
        )

    def forward(self, x):
        return self.layers(x)


class Steps(NeuralNetClassifier):
    """Counts its training steps."""

    taken = []

    def train_step(self, *args, **kwargs):
        self.taken.append(1)
        return super().train_step(*args, **kwargs)


def as_classifier(net):
    """Fit a synthesizer of which a net is the classifier."""
    labels = BINARY if isinstance(net, NeuralNetBinaryClassifier) else y
    return synthesizer(classifier=net, random_state=0).fit(X, labels).classifier_


def trained(way, net):
    if not isinstance(net, NeuralNetBinaryClassifier):
        return way(net)
    if way is inside:
        return inside(net, data=(IMAGES, BINARY))
    return augmented(net).fit(X, BINARY).estimator_


def sharpened(logits):
    return (2 * logits).softmax(-1)


LOSS_WEIGHTS = torch.linspace(0.5, 2, 10)

# Parameters of nets whose module, criterion and non-linearity fit one another.
FITTING = {
    "logits": {},
    "likelihood": {"criterion": nn.NLLLoss, "module__softmax": True},
    "likelihood, class weights": {
        "criterion": nn.NLLLoss,
        "criterion__weight": LOSS_WEIGHTS,
        "module__softmax": True,
    },
    "log-softmax": {"module": Ending, "module__last": nn.LogSoftmax(-1)},
    "tuple": {"criterion": FirstOutput, "module__extra": True},
    "own non-linearity": {"predict_nonlinearity": sharpened},
    "lazy": {"module": Lazy},
    "binary, a column": {"cls": NeuralNetBinaryClassifier, "module__n_out": 1},
    "binary, a vector": {"cls": NeuralNetBinaryClassifier, "module": Flat},
    "binary, sigmoid": {
        "cls": NeuralNetBinaryClassifier,
        "criterion": nn.BCELoss,
        "module": Ending,
        "module__n_out": 1,
        "module__last": nn.Sigmoid(),
    },
}


class TestFitting:
    @pytest.mark.parametrize("params", FITTING.values(), ids=FITTING)
    @both_ways
    def test_nets_train_in_silence(self, train, params):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net = trained(train, own_net(max_epochs=4, **params))
        assert refreshed(net.history) == [1]
        proba = net.predict_proba(IMAGES)
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
        losses = net.history[:, "train_loss"]
        assert np.isfinite(losses).all()

    def test_a_look_changes_no_training(self):
        plain = own_net(max_epochs=2, train_split=None, module__dropout=0).initialize()
        looked_at = copy.deepcopy(plain)
        plain.partial_fit(IMAGES, y)
        assert inside(looked_at, how="partial_fit", warm_up=1).module_.training
        losses = looked_at.history[:, "train_loss"]
        assert losses == plain.history[:, "train_loss"]

    def test_a_look_leaves_modes_and_gradients(self):
        net = own_net().initialize()
        net.module_.train()
        net.module_.layers[1].eval()
        modes = [part.training for part in net.module_.modules()]
        NetCheck(IMAGES, 10).on_train_begin(net)
        assert [part.training for part in net.module_.modules()] == modes
        assert all(p.grad is None for p in net.module_.parameters())


MISFITS = {
    "logits under a likelihood": (
        {"criterion": nn.NLLLoss},
        r"criterion NLLLoss are not probabilities.*If its module returns logits.*CrossEntropyLoss",
    ),
    "log-softmax under a likelihood": (
        {"criterion": nn.NLLLoss, "module": Ending, "module__last": nn.LogSoftmax(-1)},
        "must end in a softmax, not in its logarithm",
    ),
    "non-linearity that is none": (
        {"predict_nonlinearity": None},
        "not probabilities.*for other criteria set predict_nonlinearity",
    ),
}


class TestMisfits:
    @pytest.mark.parametrize(("params", "message"), MISFITS.values(), ids=MISFITS)
    @pytest.mark.parametrize("way", [around, inside, as_classifier])
    def test_are_explained_before_any_training(self, way, params, message):
        Steps.taken.clear()
        net = own_net(**{"cls": Steps, **params})
        before = net.get_params(deep=False).keys()
        with pytest.raises(ValueError, match=message):
            trained(way, net) if way is not as_classifier else as_classifier(net)
        assert not Steps.taken
        if way is inside:
            assert len(net.history) == 0
        assert net.get_params(deep=False).keys() == before

    @pytest.mark.parametrize("n_out", [3, 12])
    @pytest.mark.parametrize("way", [around, as_classifier])
    def test_of_columns_and_classes(self, way, n_out):
        Steps.taken.clear()
        with pytest.raises(ValueError, match=rf"shape \(8, {n_out}\) for 8 rows; expected \(8, 10"):
            way(own_net(Steps, module__n_out=n_out))
        assert not Steps.taken

    def test_of_a_later_net_of_an_ensemble_before_the_first_one_trains(self):
        Steps.taken.clear()
        nets = [own_net(Steps), own_net(Steps, criterion=nn.NLLLoss)]
        with pytest.raises(ValueError, match="not probabilities"):
            synthesizer(classifier=nets).fit(X, y)
        assert not Steps.taken

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            (
                {"module__softmax": True},
                "returns probabilities, but its criterion CrossEntropyLoss.*torch.nn.NLLLoss",
            ),
            (
                {
                    "cls": NeuralNetBinaryClassifier,
                    "module": Flat,
                    "module__last": nn.Sigmoid(),
                },
                "returns probabilities, but its criterion BCEWithLogitsLoss.*torch.nn.BCELoss",
            ),
        ],
        ids=["softmax", "sigmoid"],
    )
    @pytest.mark.parametrize("way", [around, inside, as_classifier])
    def test_that_squash_twice_are_warned_of_once(self, way, params, message):
        net = own_net(max_epochs=4, **params)
        with pytest.warns(UserWarning, match=message) as caught:
            trained(way, net) if way is not as_classifier else as_classifier(net)
        assert len(caught) == 1


class Halved(Ending):
    """Returns another type of number."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return super().forward(x).to(self.dtype)


class TestNumbers:
    @pytest.mark.parametrize("way", [around, inside, as_classifier])
    def test_that_numpy_does_not_know_are_refused(self, way):
        with pytest.raises(TypeError, match=r"predicts bfloat16, .*return output.float\(\)"):
            way(own_net(module=Halved, module__dtype=torch.bfloat16))
        way(own_net(module=Halved, module__dtype=torch.float16, max_epochs=4))

    @pytest.mark.parametrize("way", [around, inside])
    def test_of_a_training_that_diverges_are_said_to_be(self, way):
        with pytest.raises(ValueError, match=r"predicts NaN .*diverged.*Scale .*or lower its lr"):
            way(own_net(lr=1e30, max_epochs=4))


class TestInstances:
    @pytest.mark.parametrize("way", ["estimator", "classifier", "ensemble"])
    def test_of_modules_are_warned_of(self, way):
        net = own_net(module=Dense(), max_epochs=2)
        role = "estimator" if way == "estimator" else "classifier"
        message = f"module of {role} is an instance of Dense.*every fold.*{role}__module__"
        fit = {
            "estimator": partial(around, net),
            "classifier": partial(as_classifier, net),
            "ensemble": partial(synthesizer(classifier=[net, own_net(max_epochs=2)]).fit, X, y),
        }[way]
        with pytest.warns(UserWarning, match=message) as caught:
            fit()
        assert len(caught) == 1

    def test_that_have_nothing_to_leak_are_not(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            around(own_net(module=Ending, module__last=nn.LogSoftmax(-1), max_epochs=2))
            around(own_net(module=Lazy(), max_epochs=2))

    def test_that_were_frozen_are_not(self):
        with scoped_seed(0):
            net = own_net(module=Dense(), max_epochs=2).fit(IMAGES, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            given = synthesizer(classifier=FrozenEstimator(net)).fit(X, y)
        assert given.classifier_ is net

    def test_keep_the_weights_that_they_came_with(self):
        module = Dense()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        with pytest.warns(UserWarning, match="is an instance of Dense"):
            net = around(own_net(module=module, lr=1e-12, train_split=None))
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])
            # What it trains begins with them.
            torch.testing.assert_close(net.module_.state_dict()[name], value)
