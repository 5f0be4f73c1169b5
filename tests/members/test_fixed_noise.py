"""How all members of a network are computed at once."""

import pickle

import pytest
import torch
import torchvision
from helpers.noisy_nets import NETWORKS, SequenceFirst, build, decided, log_softmax
from torch import nn

from tsynd_sk.members import (
    DropoutMembers,
    LaplaceMembers,
    _fixed_noise,
    last_layer_posterior,
)

NOT_LOOPED = [name for name, case in NETWORKS.items() if case.decision != "loop"]


def decision(net, x, **params):
    """What is decided for a network."""
    decisions = {}
    DropoutMembers(net, log_softmax, decisions=decisions, **params)(x)
    (answer,) = decisions.values()
    return answer


def predicted(net, x, decisions=None, n_members=4, **params):
    """Values of the members, and the gradient of a weighted sum of them all."""
    x = x.clone().requires_grad_()
    members = DropoutMembers(net, log_softmax, n_members=n_members, decisions=decisions, **params)
    log_probs = members(x)
    weights = torch.linspace(-1, 1, log_probs.numel(), dtype=x.dtype).reshape(log_probs.shape)
    (gradient,) = torch.autograd.grad((weights * log_probs).sum(), x)
    return log_probs.detach(), gradient


def assert_as_one_by_one(net, x, tolerance, **params):
    together = predicted(net, x, **params)
    one_by_one = predicted(net, x, decided(x, "loop"), **params)
    for a, b in zip(together, one_by_one, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()
        assert b.abs().max() > 0


class TestMembersTogether:
    """A batch of all members gives what they give one by one."""

    @pytest.mark.parametrize("name", NOT_LOOPED)
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)]
    )
    def test_for_every_network(self, name, dtype, tolerance):
        net, x = build(name, dtype=dtype)
        for rows in (x, x[:1], x[:4]):  # 4 is also the number of members
            assert_as_one_by_one(net, rows, tolerance)

    def test_for_a_residual_network_of_torchvision(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = torchvision.models.resnet18(num_classes=4)
            for block in net.layer4:
                block.relu = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.2))
            assert_as_one_by_one(net, torch.randn(2, 3, 32, 32), 1e-5, n_members=3)

    def test_when_images_change_their_size_from_call_to_call(self):
        net, x = build("convolutional", dtype=torch.float64)
        members = DropoutMembers(net, log_softmax, n_members=3)
        x_large = nn.functional.interpolate(x, scale_factor=2)
        small, large = members(x), members(x_large)
        assert torch.equal(members(x), small)
        alone = DropoutMembers(net, log_softmax, n_members=3, decisions=decided(x_large, "loop"))
        torch.testing.assert_close(large, alone(x_large), rtol=0, atol=1e-13)

    def test_when_rows_are_as_many_as_a_sequence_is_long(self):
        # Folded, (length, n, ...) could be taken for (members x n, ...).
        net = SequenceFirst().double()
        for length, n_samples in [(12, 3), (8, 2), (4, 4), (4, 1), (1, 1)]:
            x = torch.randn(n_samples, length, 6, dtype=torch.float64)
            assert_as_one_by_one(net, x, 1e-13)

    def test_when_activations_of_all_rows_and_members_exceed_the_cache(self, monkeypatch):
        net, x = build("convolutional", dtype=torch.float64)
        expected = predicted(net, x)
        # Two of the five rows at a time: 4 members of 4 x 8 x 8 numbers.
        monkeypatch.setattr(_fixed_noise, "_CACHE", 2 * 4 * 4 * 8 * 8 * 8)
        for one, other in zip(predicted(net, x), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)

    @pytest.mark.parametrize("n_samples", [1, 3])
    def test_for_a_single_member(self, n_samples):
        net, x = build("convolutional", n_samples, torch.float64)
        assert DropoutMembers(net, log_softmax, n_members=1)(x).shape == (1, n_samples, 3)
        assert_as_one_by_one(net, x, 1e-13, n_members=1)


class TestDecision:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_is_to_share_what_can_be_shared(self, name):
        net, x = build(name)
        assert decision(net, x) == NETWORKS[name].decision

    def test_is_a_loop_where_values_decide_for_all_members_at_once(self):
        net, x = build("branching")
        # For these rows every member goes the same way, so that a folded batch would agree.
        assert decision(net, x.abs()) == "loop"

    def test_is_to_fold_where_only_the_images_decide(self):
        class Scaling(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                return self.drop(x / 255 if x.max() > 1 else x)

        assert decision(Scaling(), 200 * torch.rand(3, 4)) == "fold"

    def test_is_not_to_fold_where_rows_would_meet_those_of_other_members(self):
        class Centred(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                x = self.drop(x)
                return x - x.mean(0)

        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        assert decision(Centred(), x) == "loop"

    def test_is_a_loop_for_networks_that_have_no_gradient(self):
        class Rounded(torch.autograd.Function):
            @staticmethod
            def forward(x):
                return x.round()

            @staticmethod
            def setup_context(ctx, inputs, output):
                pass

        class Rounding(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                return Rounded.apply(self.drop(x))

        assert decision(Rounding(), torch.ones(2, 4)) == "loop"
        assert DropoutMembers(Rounding(), log_softmax)(torch.ones(2, 4)).shape == (16, 2, 4)

    def test_serves_networks_whose_output_is_not_a_number(self):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
        nn.init.constant_(net[1].weight, torch.nan)
        assert DropoutMembers(net, log_softmax)(torch.ones(2, 4)).isnan().all()


class Placed(nn.Module):
    """A residual block that adds what all rows share, as a transformer adds its places."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x, shared):
        return x + self.drop(x) + shared.mean(0)


class SharedPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Placed(), nn.Linear(6, 3)
        self.register_buffer("places", torch.arange(30.0).reshape(5, 6) / 30)

    def forward(self, x):
        return self.head(self.block(x, self.places))


def test_what_all_rows_share_may_be_as_long_as_a_batch():
    members, x = DropoutMembers(SharedPlaces(), log_softmax, n_members=4), torch.randn(7, 6)
    torch.testing.assert_close(members(x[:5]), members(x)[:, :5])


class Counted(nn.Module):
    """Counts the rows that pass."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return self.layer(x)

    def __deepcopy__(self, memo):
        return self


def counted_net():
    layers = [Counted(nn.Linear(4, 4)), nn.Dropout(0.5), Counted(nn.Linear(4, 4))]
    return nn.Sequential(*layers, nn.Dropout(0.5), Counted(nn.Linear(4, 2)))


class TestKeptDecisions:
    """Nothing is decided twice for a network and a shape."""

    def n_passes(self, net, x, make):
        net[0].seen.clear()
        make(net)(x)
        return len(net[0].seen)

    def test_are_used_by_later_members_of_the_network(self):
        net, x, decisions = counted_net(), torch.ones(3, 4), {}

        def make(net):
            return DropoutMembers(net, log_softmax, decisions=decisions)

        first, second = (self.n_passes(net, x, make) for _ in range(2))
        assert decisions == {(4,): "fold"}
        # One row in evaluation mode, one in training mode, and the batch itself.
        assert second == 3 < first
        decisions = pickle.loads(pickle.dumps(decisions))
        assert self.n_passes(net, x, make) == 3

    def test_serve_the_last_layer_too(self):
        net, x, decisions = counted_net(), torch.ones(3, 4), {}
        net[4] = net[4].layer
        posterior = last_layer_posterior(net, log_softmax, [x])

        def make(net):
            return LaplaceMembers(net, log_softmax, posterior, decisions=decisions)

        first, second = (self.n_passes(net, x, make) for _ in range(2))
        assert decisions == {(4,): "fold"}
        # Its dropout is off, so training mode tells nothing.
        assert second == 2 < first

    def test_change_nothing_in_the_members(self):
        for name in NETWORKS:
            net, x = build(name)
            decisions = {}
            first, second = (
                DropoutMembers(net, log_softmax, n_members=3, decisions=decisions)(x)
                for _ in range(2)
            )
            assert torch.equal(first, second)

    def test_are_not_made_again_for_other_draws(self):
        net, x = counted_net(), torch.ones(3, 4)
        members = DropoutMembers(net, log_softmax)
        members(x)
        net[0].seen.clear()
        members.redrawn(3)(x)
        assert net[0].seen == [3]


class TestWorkDone:
    """What is common to all members is computed once."""

    def rows_seen(self, x, **params):
        net = counted_net()
        members = DropoutMembers(net, log_softmax, n_members=8, **params)
        members(x)
        counters = [part for part in net if isinstance(part, Counted)]
        for part in counters:
            part.seen.clear()
        members(x)
        return [part.seen for part in counters]

    def test_up_to_the_first_dropout(self):
        assert self.rows_seen(torch.ones(3, 4)) == [[3], [24], [24]]

    def test_up_to_a_block_with_a_connection_around_its_dropout(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                return x + self.drop(x)

        net = nn.Sequential(Counted(nn.Linear(4, 4)), Block(), Counted(nn.Linear(4, 2)))
        x, decisions = torch.ones(3, 4), {}
        members = DropoutMembers(net, log_softmax, n_members=8, decisions=decisions)
        members(x)
        assert decisions == {(4,): "fold in 1"}
        net[0].seen.clear()
        members(x)
        assert net[0].seen == [3]

    def test_up_to_the_last_dropout_if_earlier_ones_rest(self):
        assert self.rows_seen(torch.ones(3, 4), restrict="last") == [[3], [3], [24]]

    def test_member_by_member_in_a_loop(self):
        x = torch.ones(3, 4)
        assert self.rows_seen(x, decisions=decided(x, "loop")) == [[3] * 8] * 3
