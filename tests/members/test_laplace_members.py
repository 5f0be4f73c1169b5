"""Members by draws of the last layer, and a prior for which they remain classifiers."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.noisy_nets import Functional, build, decided, identity, log_softmax
from torch import nn

from tsynd_sk.members import (
    LaplaceMembers,
    last_layer_posterior,
    strengthen_prior,
)
from tsynd_sk.uncertainty import mutual_information


def fitted(net, n_features=6):
    return last_layer_posterior(net, log_softmax, [torch.ones(4, n_features)])


def laplace(n_members=16, dtype=torch.float64, prior_precision=None, **params):
    net, x = build("late", 12, dtype)
    posterior = last_layer_posterior(net, log_softmax, [x], prior_precision=prior_precision)
    return LaplaceMembers(net, log_softmax, posterior, n_members=n_members, **params), net, x


class TestLaplaceMembers:
    def test_mean_of_many_members_is_near_the_network(self):
        net, x = build("late", 12, torch.float64)
        posterior = last_layer_posterior(net, log_softmax, [x], prior_precision=1.0)
        outputs = LaplaceMembers(net, identity, posterior, n_members=2000)(x)
        error = outputs.mean(0) - net.eval()(x).detach()
        assert (error.abs() < 4 * outputs.std(0) / 2000**0.5).all()
        assert outputs.std(0).min() > 0.1

    def test_gradients_are_those_of_finite_differences(self):
        members, _, x = laplace(3)
        assert torch.autograd.gradcheck(
            lambda values: mutual_information(members(values)), x[:2].requires_grad_()
        )

    def test_are_the_same_one_by_one(self):
        members, _, x = laplace()
        one_by_one, _, _ = laplace(decisions=decided(x, "loop"))
        torch.testing.assert_close(members(x), one_by_one(x), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "make", [lambda: build("late")[0], Functional, lambda: nn.Linear(6, 3)]
    )
    def test_dropout_of_the_network_rests(self, make):
        net, x = make(), build("late")[1]
        posterior = last_layer_posterior(net, log_softmax, [x])
        # Then members are the network itself.
        certain = replace(posterior, prior_precision=1e15)
        log_probs = LaplaceMembers(net, log_softmax, certain, n_members=5)(x)
        expected = net.eval()(x).log_softmax(-1).detach().expand(5, -1, -1)
        torch.testing.assert_close(log_probs, expected)
        wide = LaplaceMembers(net, log_softmax, replace(posterior, prior_precision=1.0))
        assert (mutual_information(wide(x)) > 1e-3).all()

    def test_redrawn_members_are_those_of_a_new_object_with_that_seed(self):
        members, _, x = laplace(seed=1)
        assert torch.equal(members.redrawn(5)(x), laplace(seed=5)[0](x))
        assert not torch.equal(members.redrawn(5)(x), members(x))

    @pytest.mark.parametrize(
        "other",
        [
            lambda net: nn.Sequential(net[1]),
            lambda net: nn.Sequential(net[1], nn.ReLU()),
            lambda net: nn.Sequential(net[0], nn.Linear(6, 4)),
            lambda net: nn.Sequential(net[0], nn.Linear(6, 3, bias=False)),
            lambda net: nn.Sequential(net[0], nn.Linear(6, 3)),
        ],
    )
    def test_of_another_network_are_refused(self, other):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        with pytest.raises(
            ValueError, match=r"posterior does not belong to this Sequential .* layer '1'"
        ):
            LaplaceMembers(other(net), log_softmax, fitted(net))

    @pytest.mark.parametrize("name", ["weight", "bias"])
    def test_of_a_network_that_was_trained_since_are_refused(self, name):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        posterior = fitted(net)
        for dtype in (torch.float64, torch.bfloat16):
            LaplaceMembers(copy.deepcopy(net).to(dtype), log_softmax, posterior)
        with torch.no_grad():
            getattr(net[1], name).add_(1e-3)
        with pytest.raises(ValueError, match=r"other weights\. Fit it for this network, after its"):
            LaplaceMembers(net, log_softmax, posterior)


class AroundTheLayer(nn.Module):
    """What follows the last layer needs more of the images than its outputs."""

    def __init__(self):
        super().__init__()
        self.trunk, self.last = nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = torch.tanh(self.trunk(x))
        return x + self.last(x)


def certain(kind):
    """A network that is certain of a few images, and these."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "around":
            net = AroundTheLayer()
        else:
            net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=3)
        return net, torch.randn(12, 6)


def strengthened_by_hand(posterior, net, x):
    proba = net(x).softmax(-1)
    while posterior.prior_precision < 1e4:
        members = LaplaceMembers(net, log_softmax, posterior, n_members=16)
        chosen = members(x).argmax(-1, keepdim=True)
        theirs = proba.expand(16, -1, -1).gather(-1, chosen).mean(0).sum()
        if theirs / proba.amax(-1).sum() >= 0.99:
            break
        stronger = min(10**0.5 * posterior.prior_precision, 1e4)
        posterior = replace(posterior, prior_precision=stronger)
    return posterior.prior_precision


class TestStrongerPrior:
    """Members of a network that has learnt its images by heart repeat what it says of them."""

    @pytest.mark.parametrize("kind", ["logits", "around"])
    @pytest.mark.parametrize("sizes", [[12], [5, 0, 7]])
    def test_is_the_first_under_which_members_agree_with_their_network(self, kind, sizes):
        net, x = certain(kind)
        posterior = last_layer_posterior(net, log_softmax, [x])
        stronger = strengthen_prior(posterior, net, log_softmax, x.split(sizes))
        assert stronger.prior_precision > 3 * posterior.prior_precision
        assert stronger.prior_precision == strengthened_by_hand(posterior, net, x)
        again = strengthen_prior(stronger, net, log_softmax, [x])
        assert again.prior_precision == stronger.prior_precision

    def test_of_a_net_that_ends_in_softmax_is_that_of_its_logits(self):
        net, x = certain("logits")
        posterior = last_layer_posterior(net, log_softmax, [x])
        ending = nn.Sequential(*net, nn.Softmax(-1))
        one = strengthen_prior(posterior, net, log_softmax, [x])
        other = strengthen_prior(posterior, ending, torch.log, [x])
        assert one.prior_precision == other.prior_precision

    def test_computes_what_comes_before_the_last_layer_once(self):
        rows = []
        net, x = certain("logits")
        net[0].register_forward_hook(lambda layer, args, output: rows.append(len(output)))
        posterior = last_layer_posterior(net, log_softmax, [x])
        rows.clear()
        with torch.inference_mode():
            strengthen_prior(posterior, net, log_softmax, [x])
        assert rows[0] == 12
        assert len(rows) > 3
        assert set(rows[1:]) == {1}


def two_moons(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angle = torch.pi * torch.rand(n, generator=generator)
    y = (torch.rand(n, generator=generator) < 0.5).long()
    x = torch.stack([angle.cos() + y, angle.sin() * (1 - 2 * y) + 0.5 * y], 1)
    return x + 0.1 * torch.randn(n, 2, generator=generator), y


def test_uncertainty_is_high_far_from_the_data_and_falls_with_their_number():
    x, y = two_moons(800)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    def members(n):
        posterior = last_layer_posterior(net, log_softmax, [x[:n]], prior_precision=1.0)
        return LaplaceMembers(net, log_softmax, posterior, n_members=32)

    angle = torch.linspace(0, 2 * torch.pi, 60)
    ring = torch.stack([angle.cos(), angle.sin()], 1) * 8
    near, far = (mutual_information(members(800)(rows)).mean() for rows in (x, ring))
    assert near > 1e-5
    assert far > 2 * near
    assert mutual_information(members(40)(x)).mean() > 2 * near
    # The members are plausible: on the data they still know the classes.
    assert (members(800)(x).argmax(-1) == y).float().mean() > 0.85
