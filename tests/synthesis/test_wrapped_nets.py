"""Nets that something wraps for training: `torch.compile`, and accelerate."""

import pickle

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from helpers.tiny_nets import (
    Recorder,
    X,
    augmented,
    own_net,
    recorder_of,
    refreshed,
    y,
)
from helpers.ways import IMAGES, around, inside
from skorch import NeuralNetClassifier
from skorch.hf import AccelerateMixin
from torch import nn

EAGER = {"compile": True, "compile__backend": "eager"}


@pytest.fixture
def compiling():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiling")
class TestCompiled:
    def test_does_what_it_does_without(self):
        plain, compiled = (
            augmented(own_net(train_split=None, **params)).fit(X, y) for params in ({}, EAGER)
        )
        assert hasattr(compiled.estimator_.module_, "_orig_mod")
        assert refreshed(compiled.history_) == [2, 7]
        for learned in (plain, compiled):
            learned.estimator_.module_.eval()
        np.testing.assert_allclose(
            compiled.predict_proba(X), plain.predict_proba(X), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(compiled.uncertainty(X), plain.uncertainty(X), atol=1e-5)
        assert compiled.synthesizer_.sample(12)[0].shape == (12, 8, 8)

    @pytest.mark.slow
    def test_survives_pickling(self):
        learned = augmented(own_net(**EAGER)).fit(X, y)
        copied = pickle.loads(pickle.dumps(learned))
        assert (copied.predict_proba(X) == learned.predict_proba(X)).all()
        assert (copied.uncertainty(X) == learned.uncertainty(X)).all()
        assert (copied.synthesizer_.sample(5)[0] == learned.synthesizer_.sample(5)[0]).all()

    def test_misfits_are_explained_all_the_same(self):
        with pytest.raises(ValueError, match="not probabilities"):
            around(own_net(criterion=nn.NLLLoss, **EAGER))
        with pytest.warns(UserWarning, match="CrossEntropyLoss expects logits"):
            around(own_net(module__softmax=True, max_epochs=2, **EAGER))

    @pytest.mark.slow
    def test_is_not_compiled_to_be_looked_at(self):
        graphs = []

        def counting(graph, inputs):
            graphs.append(torch.is_grad_enabled())
            return graph.forward

        around(
            own_net(max_epochs=2, train_split=None, compile=True, compile__backend=counting),
            synthetic_ratio=0,
        )
        # Module and criterion, in training alone.
        assert graphs == [True, True]


class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
    pass


PLAIN = {"mixed_precision": "no", "gradient_accumulation_steps": 1}
BOTH = {"mixed_precision": "bf16", "gradient_accumulation_steps": 2}
SLOW = [(around, BOTH), (around, PLAIN), (inside, PLAIN)]


def forget_accelerators():
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


@pytest.fixture
def accelerated():
    """Make nets on the processor; the state of accelerate is that of the process."""
    forget_accelerators()

    def make(accelerator=None, **params):
        accelerator = accelerator or Accelerator(cpu=True)
        return own_net(AcceleratedNet, accelerator=accelerator, **params)

    yield make
    forget_accelerators()


class Optimized(torch.optim.SGD):
    """Counts its steps."""

    steps = []

    def step(self, *args, **kwargs):
        self.steps.append(1)
        return super().step(*args, **kwargs)


class TestAccelerated:
    @pytest.mark.parametrize(
        ("train", "params"),
        [(inside, BOTH), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    )
    def test_trains_as_skorch_has_it(self, accelerated, train, params):
        Optimized.steps.clear()
        net = accelerated(
            Accelerator(cpu=True, **params),
            optimizer=Optimized,
            train_split=None,
            callbacks=[Recorder()],
        )
        net = train(net)
        assert refreshed(net.history) == [2, 7]
        assert recorder_of(net).n_rows() == [80] * 2 + [160] * 6
        # Five batches an epoch, then ten; the last one of an epoch makes a step of its own.
        accumulating = params["gradient_accumulation_steps"] == 2
        assert len(Optimized.steps) == (2 * 3 + 6 * 5 if accumulating else 2 * 5 + 6 * 10)
        assert type(net.module_.forward(torch.zeros(1, 64))) is torch.Tensor
        assert net.train_split is None
        copied = pickle.loads(pickle.dumps(net.module_))
        assert all(map(torch.equal, copied.parameters(), net.module_.parameters()))

    def test_does_what_it_does_without(self, accelerated):
        plain, learned = (augmented(net).fit(X, y) for net in (own_net(), accelerated()))
        assert learned.history_[:, "valid_loss"] == plain.history_[:, "valid_loss"]
        np.testing.assert_array_equal(learned.uncertainty(X), plain.uncertainty(X))
        np.testing.assert_array_equal(
            learned.synthesizer_.sample(5)[0], plain.synthesizer_.sample(5)[0]
        )

    def test_mixed_precision_is_not_that_of_the_members(self, accelerated):
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        net = accelerated(accelerator, unwrap_after_train=False, callbacks=[])
        inside(net)
        synthesizer = net.callbacks[-1].synthesizer_
        prepared = net.module_
        assert "_original_forward" in vars(prepared)
        uncertainty = synthesizer.uncertainty(IMAGES)
        # As it was: prepared for more training.
        assert net.module_ is prepared
        assert "_original_forward" in vars(prepared)
        before = net.predict_proba(IMAGES)
        net._unwrap_accelerator()
        assert (net.predict_proba(IMAGES) != before).any()
        np.testing.assert_array_equal(synthesizer.uncertainty(IMAGES), uncertainty)

    @pytest.mark.slow
    def test_saves_its_weights(self, accelerated, tmp_path):
        net = around(accelerated())
        net.save_params(f_params=tmp_path / "params.pt")
        fresh = own_net().initialize()
        fresh.load_params(f_params=tmp_path / "params.pt")
        np.testing.assert_array_equal(fresh.predict_proba(IMAGES), net.predict_proba(IMAGES))
