"""Members by what is random in a network."""

import math

import pytest
import torch
from helpers.noisy_nets import NETWORKS, ROW_BY_ROW, build, identity, log_softmax
from torch import nn

from tsynd_sk.members import DropoutMembers, is_random
from tsynd_sk.uncertainty import mutual_information


@pytest.fixture(params=NETWORKS)
def network_name(request):
    return request.param


class TestDropoutMembers:
    def test_every_network_has_members_that_differ(self, network_name):
        net, x = build(network_name)
        log_probs = DropoutMembers(net, log_softmax, n_members=6)(x)
        assert log_probs.shape[:2] == (6, 5)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(6, 5))
        assert len({tuple(member.flatten().tolist()) for member in log_probs}) > 1
        information = mutual_information(log_probs)
        assert (information > 1e-7).all()
        assert (information <= math.log(min(6, log_probs.shape[-1]))).all()

    def test_members_hold_still_from_call_to_call(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=3)
        first = members(x)
        assert torch.equal(members(x), first)
        # With and without gradients, and on other rows in between.
        members(x.flip(0)[:2] + 1)
        torch.testing.assert_close(members(x.clone().requires_grad_()), first)

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_masks_are_shared_by_the_rows_of_a_batch(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=3)
        whole = members(x)
        rows = torch.cat([members(row) for row in x.split(1)], 1)
        torch.testing.assert_close(rows, whole, atol=1e-5, rtol=0)
        repeated = members(x[:1].expand(4, *x.shape[1:]))
        torch.testing.assert_close(repeated, repeated[:, :1].expand_as(repeated))

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_seeds_decide_on_members_whatever_batch_comes_first(self, network_name):
        net, x = build(network_name)
        expected = DropoutMembers(net, log_softmax, n_members=4, seed=1)(x)
        other_first = DropoutMembers(net, log_softmax, n_members=4, seed=1)
        other_first(x[-2:])
        torch.testing.assert_close(other_first(x), expected)
        other_seed = DropoutMembers(net, log_softmax, n_members=4, seed=2)(x)
        assert (other_seed - expected).abs().max() > 1e-3

    def test_redrawn_members_are_those_of_a_new_object_with_that_seed(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=4, seed=1)
        before = members(x)
        redrawn = members.redrawn(8)
        assert redrawn.n_members == 4
        assert torch.equal(redrawn(x), DropoutMembers(net, log_softmax, n_members=4, seed=8)(x))
        assert torch.equal(members(x), before)
        assert torch.equal(redrawn.redrawn(1)(x), before)

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_gradients_with_respect_to_images_are_those_of_finite_differences(self, network_name):
        net, x = build(network_name, n_samples=2, dtype=torch.float64)
        members = DropoutMembers(net, log_softmax, n_members=2)
        assert torch.autograd.gradcheck(
            lambda values: mutual_information(members(values)),
            x.requires_grad_(),
            atol=1e-6,
            fast_mode=True,
        )

    def test_mean_of_many_members_of_a_linear_network_is_the_network(self):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)).double()
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 6)
        outputs = DropoutMembers(net, identity, n_members=2000)(x)
        error = outputs.mean(0) - net.eval()(x).detach()
        assert (error.abs() < 4 * outputs.std(0) / 2000**0.5).all()

    def test_errors_of_the_network_come_back_as_they_are(self):
        members = DropoutMembers(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), log_softmax)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            members(torch.ones(2, 5))
        # Nothing sticks: the same members then serve images that fit.
        assert members(torch.ones(2, 4)).shape == (16, 2, 2)


class Blocks(nn.Module):
    """Random layers with names, two of them called twice and one never."""

    def __init__(self, rates=(0.2, 0.3, 0.25, 0.4)):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(rates[3]), nn.Linear(8, 3))
        self.body = nn.Sequential(
            nn.Linear(8, 8), nn.Dropout(rates[0]), nn.Tanh(), nn.Dropout(rates[1])
        )
        self.body_too = nn.Dropout(rates[2])
        self.unused = nn.Dropout(0.5)

    def forward(self, x):
        return self.head(self.body_too(self.body(self.body(x))))


class TestRestriction:
    @pytest.mark.parametrize(
        ("restrict", "rates"),
        [
            (None, (0.2, 0.3, 0.25, 0.4)),
            ("last", (0, 0, 0, 0.4)),
            (1, (0, 0, 0, 0.4)),
            (3, (0, 0.3, 0.25, 0.4)),
            (4, (0.2, 0.3, 0.25, 0.4)),
            (9, (0.2, 0.3, 0.25, 0.4)),
            (["body.1"], (0.2, 0, 0, 0)),
            (["body"], (0.2, 0.3, 0, 0)),
            (("head", "body.3"), (0, 0.3, 0, 0.4)),
        ],
    )
    def test_leaves_as_many_layers_random_as_if_the_others_had_no_dropout(self, restrict, rates):
        net, rest = Blocks(), Blocks(rates)
        rest.load_state_dict(net.state_dict())
        x = torch.linspace(-2, 2, 24).reshape(3, 8)
        restricted = DropoutMembers(net, log_softmax, restrict=restrict)(x)
        expected = DropoutMembers(rest, log_softmax)(x)
        torch.testing.assert_close(restricted, expected)
        every = mutual_information(DropoutMembers(net, log_softmax)(x))
        same = torch.allclose(mutual_information(restricted), every)
        assert same == (0 not in rates)

    def test_names_what_there_is_if_a_name_is_none(self):
        layers = r"\['body\.1', 'body\.3', 'body_too', 'head\.0'\]"
        for name in ("bod", "body.2", "unused", "head.0.1", ""):
            with pytest.raises(ValueError, match=layers) as error:
                DropoutMembers(Blocks(), log_softmax, restrict=["head", name])(torch.ones(1, 8))
            assert repr(name) in str(error.value)

    @pytest.mark.parametrize("restrict", [[], (), "first", 0, -1, True, 1.5])
    def test_that_chooses_no_layers_is_refused(self, restrict):
        with pytest.raises(ValueError, match=r"restrict must be None .*; got "):
            DropoutMembers(Blocks(), log_softmax, restrict=restrict)(torch.ones(1, 8))


def test_says_whether_a_network_is_random():
    x = torch.ones(1, 8)
    assert is_random(Blocks(), x)
    assert is_random(Blocks((0, 0, 0, 0.4)), x)
    assert not is_random(Blocks((0, 0, 0, 0)), x)
    assert not is_random(nn.Linear(8, 3), x)
    with pytest.raises(ValueError, match="Linear has nothing random"):
        DropoutMembers(nn.Linear(8, 3), log_softmax)(x)


def test_first_batch_may_be_empty():
    members = DropoutMembers(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), log_softmax)
    assert members(torch.ones(0, 4)).shape == (16, 0, 3)
    assert members(torch.ones(2, 4)).shape == (16, 2, 3)
