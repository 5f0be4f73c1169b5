"""What holds for members of all kinds: the user's network, threads, pickling."""

import pickle
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import build, decided, log_softmax
from torch import nn

from tsynd_sk.members import (
    DropoutMembers,
    EnsembleMembers,
    JoinedMembers,
    LaplaceMembers,
    last_layer_posterior,
)
from tsynd_sk.uncertainty import predictive_entropy


def make_members(kind, net, x, head=log_softmax):
    kind, _, decision = kind.partition(" ")
    if kind == "dropout":
        decisions = decided(x, decision) if decision else None
        return DropoutMembers(net, head, n_members=3, decisions=decisions)
    if kind == "laplace":
        posterior = last_layer_posterior(net, log_softmax, [x])
        return LaplaceMembers(net, head, posterior, n_members=3)
    if kind == "ensemble":
        return EnsembleMembers([net, net], [head, head])
    return JoinedMembers([make_members(k, net, x, head) for k in ("dropout", "ensemble")])


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_scripted_networks_are_refused():
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
    scripted, message = torch.jit.script(net), "RecursiveScriptModule.* module that was scripted"
    with pytest.raises(TypeError, match=message):
        DropoutMembers(scripted, log_softmax)
    with pytest.raises(TypeError, match=message):
        last_layer_posterior(scripted, log_softmax, [torch.ones(4, 6)])


def test_seeds_may_be_numbers_of_numpy():
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)), torch.ones(1, 6)
    for joined in (lambda members: members, lambda members: JoinedMembers([members]).redrawn(1)):
        members = joined(DropoutMembers(net, log_softmax, n_members=np.int64(2), seed=np.uint8(3)))
        expected = joined(DropoutMembers(net, log_softmax, n_members=2, seed=3))
        assert torch.equal(members(x), expected(x))
        assert torch.equal(members.redrawn(np.int32(4))(x), expected.redrawn(4)(x))


def snapshot(net):
    return {
        "state": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "modules": [(type(m), m.training, sorted(vars(m))) for m in net.modules()],
        "parameters": [(id(p), p.requires_grad, id(p.grad), p.stride()) for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "hooks": [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in net.modules()],
    }


def surroundings():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
        numpy_state[1].tolist(),
        numpy_state[2:],
        random.getstate(),
    )


KINDS = ["dropout fold", "dropout loop", "laplace", "ensemble", "joined"]


@pytest.fixture
def hasty_threads():
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("kind", KINDS)
class TestUsersNetwork:
    """The user's network is never touched."""

    @pytest.mark.parametrize("training", [True, False])
    def test_and_all_around_it_stays_as_it_was_after_success_and_after_errors(self, kind, training):
        net, x = build("convolutional")
        net(x).sum().backward()
        net.train(training)
        net[1].eval()
        net[0].requires_grad_(False)
        net[0].register_forward_hook(lambda *args: None)
        before, state = snapshot(net), surroundings()

        def failing(output):
            raise KeyError("head")

        with pytest.raises(KeyError, match="head"):
            make_members(kind, net, x, failing)(x)
        with pytest.raises(RuntimeError, match="channels"):
            make_members(kind, net, x)(x[:, :1])
        assert surroundings() == state
        x.requires_grad_()
        predictive_entropy(make_members(kind, net, x)(x)).sum().backward()
        assert x.grad.abs().max() > 0
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            inner = surroundings()
            make_members(kind, net, x)(x)
            assert surroundings() == inner
        assert surroundings() == state
        after = snapshot(net)
        for part in ("modules", "parameters", "hooks"):
            assert after[part] == before[part], part
        torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)
        torch.testing.assert_close(after["grads"], before["grads"], rtol=0, atol=0)

    def test_can_be_trained_on_without_moving_the_members(self, kind):
        net, x = build("convolutional")
        members = make_members(kind, net, x)
        before = members(x)
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.add_(1)
        assert torch.equal(members(x), before)

    def test_may_hold_tensors_of_its_last_training_step(self, kind):
        class Remembering(nn.Sequential):
            def forward(self, x):
                self.features = super().forward(x)
                return self.features

        first = nn.utils.spectral_norm(nn.Linear(6, 9))
        net = Remembering(first, nn.Dropout(0.5), nn.Linear(9, 3))
        x = torch.ones(2, 6)
        net(x).sum().backward()
        features = net.features
        assert make_members(kind, net, x)(x).isfinite().all()
        assert net.features is features

    def test_members_survive_pickling_to_the_last_bit(self, kind):
        net, x = build("convolutional")
        members = make_members(kind, net, x)
        fresh = pickle.loads(pickle.dumps(members))
        expected = members(x)
        used = pickle.loads(pickle.dumps(members))
        for other in (fresh, used):
            assert torch.equal(other(x), expected)
            assert torch.equal(other.redrawn(3)(x), members.redrawn(3)(x))

    def test_threads_may_share_members_from_the_first_call_on(self, kind, hasty_threads):
        net, x = build("convolutional")
        large = F.interpolate(x, scale_factor=2)
        alone = make_members(kind, net, x)
        expected = [alone(x), alone(large)]
        for _ in range(3):
            members, start = make_members(kind, net, x), threading.Barrier(4, timeout=20)

            def predict(images, members=members, start=start):
                start.wait()
                return [members(images) for _ in range(3)]

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(predict, [x, large, x, large]))
            for answer, values in zip(answers, expected * 2, strict=True):
                for value in answer:
                    torch.testing.assert_close(value, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["transformer", "functional", "stochastic depth"])
def test_members_of_every_kind_of_noise_survive_pickling(name):
    net, x = build(name)
    members = DropoutMembers(net, log_softmax, n_members=3)
    members(x)
    assert torch.equal(pickle.loads(pickle.dumps(members))(x), members(x))
