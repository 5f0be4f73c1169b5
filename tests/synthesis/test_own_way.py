"""Nets that prepare images on the way to their module, of which members would not know."""

import numpy as np
import pytest
import torch
from helpers.tiny_nets import Dense, X, augmented, own_net, row_set, synthesizer, y
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import default_collate

from tsynd_sk import TargetedSynthesis
from tsynd_sk._skorch import check_own_way


class Prepared(NeuralNetClassifier):
    """Normalises in `infer`."""

    def infer(self, x, **fit_params):
        return super().infer((x - 0.5) / 0.5, **fit_params)


class Halved(Dataset):
    def __getitem__(self, i):
        image, target = super().__getitem__(i)
        return image / 2, target


def collate_inverted(rows):
    x, targets = default_collate(rows)
    return 1 - x, targets


class Cooler(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        return super().infer(x, **fit_params) / 2


class Twice(NeuralNetClassifier):
    """Averages over a mirrored image."""

    def infer(self, x, **fit_params):
        return super().infer(x, **fit_params) + super().infer(x.flip(-1), **fit_params)


class NotTrained(Callback):
    def on_batch_end(self, net, **kwargs):
        pytest.fail("a batch was trained on")


NETS = {
    "infer": {"cls": Prepared},
    "data set": {"dataset": Halved},
    "collate function": {"iterator_valid__collate_fn": collate_inverted},
    "output": {"cls": Cooler},
    "two calls": {"cls": Twice},
}


@pytest.mark.parametrize("name", NETS)
class TestRefused:
    def message(self, name):
        return {
            "output": "changes what its module returns",
            "two calls": "calls its module 2 times",
        }.get(name, r"prepares images on the way to its module.*from 0 to 1, the module gets")

    def test_before_training(self, name):
        estimator = own_net(**NETS[name], callbacks=[NotTrained()])
        with pytest.raises(ValueError, match=self.message(name)):
            augmented(estimator).fit(X, y)
        with pytest.raises(ValueError, match=self.message(name)):
            synthesizer(classifier=estimator).fit(X, y)

    def test_frozen_nets(self, name):
        estimator = own_net(**NETS[name], max_epochs=1).fit(X[:, None], y)
        with pytest.raises(ValueError, match=self.message(name)):
            synthesizer(classifier=FrozenEstimator(estimator)).fit(X, y)

    def test_where_only_uncertainty_is_asked_for(self, name):
        learned = augmented(own_net(**NETS[name], max_epochs=1), synthetic_ratio=0).fit(X, y)
        learned.predict_proba(X)
        with pytest.raises(ValueError, match=self.message(name)):
            learned.uncertainty(X)

    def test_bare_nets_with_the_callback(self, name):
        estimator = own_net(
            **NETS[name], max_epochs=2, callbacks=[TargetedSynthesis(synthesizer())]
        )
        if name == "data set":
            # Its rows are what is synthesised from, and the module gets them as they are.
            estimator.fit(X[:, None], y)
            members = dict(estimator.callbacks_)["TargetedSynthesis"].synthesizer_
            assert row_set(members.engine_.images) <= row_set(X / 2)
        else:
            with pytest.raises(ValueError, match=self.message(name)):
                estimator.fit(X[:, None], y)


def test_data_sets_that_are_random_are_drawn_once():
    class Flipped(torch.utils.data.Dataset):
        def __len__(self):
            return 80

        def __getitem__(self, i):
            image = torch.from_numpy(X[i : i + 1])
            return image.flip(-1) if torch.rand(()) < 0.5 else image, int(y[i])

    estimator = own_net(
        max_epochs=2, callbacks=[TargetedSynthesis(synthesizer())], train_split=None
    )
    estimator.fit(Flipped(), None)
    assert "synthesis_uncertainty" in estimator.history[-1]


class Half(nn.Module):
    """Prepares images itself, as the message advises, and returns more than logits."""

    def __init__(self):
        super().__init__()
        self.inner = Dense(dropout=0.1)

    def forward(self, x):
        return self.inner((x - 0.5) / 0.5), x


def test_members_of_a_module_that_prepares_images_predict_as_the_net_does():
    learned = augmented(own_net(module=Half, criterion=FirstLogits, max_epochs=10)).fit(X, y)
    params = learned.synthesizer_
    members = params.engine_.members(params, seed=0)
    with torch.no_grad():
        mean = members(torch.from_numpy(X[:, None])).exp().mean(0).argmax(1).numpy()
    assert np.mean(mean == learned.predict(X)) > 0.8


class FirstLogits(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output[0] if isinstance(output, tuple) else output, target)


@pytest.mark.parametrize(
    "params",
    [
        {"cls": NeuralNetBinaryClassifier, "module__n_out": 1},
        {"module__extra": True, "criterion": FirstLogits},
        {"iterator_train__collate_fn": default_collate, "iterator_valid__batch_size": 3},
    ],
    ids=["binary", "tuple", "training alone"],
)
def test_others_train_to_the_bit_as_without_the_check(params, monkeypatch):
    labels = y > 4 if "cls" in params else y
    first = augmented(own_net(**params, max_epochs=2)).fit(X, labels)
    monkeypatch.setattr("tsynd_sk._skorch.check_own_way", lambda net, rows: None)
    second = augmented(own_net(**params, max_epochs=2)).fit(X, labels)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_the_net_is_left_as_it_was():
    estimator = own_net().initialize()
    module = estimator.module_
    module.layers[1].eval()
    modes = [part.training for part in module.modules()]
    before = torch.get_rng_state()
    check_own_way(estimator, X[:, None])
    assert estimator.module_ is module
    assert [part.training for part in module.modules()] == modes
    assert not module._forward_hooks
    assert torch.equal(torch.get_rng_state(), before)
