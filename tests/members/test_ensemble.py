"""Members that are networks of their own, and members of several networks."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import build, identity, log_softmax
from torch import nn

from tsynd_sk.members import DropoutMembers, EnsembleMembers, JoinedMembers
from tsynd_sk.uncertainty import mutual_information


def ensemble(dtype=torch.float32, n_networks=3):
    nets = [build("convolutional", dtype=dtype)[0] for _ in range(n_networks)]
    with torch.no_grad():
        for k, net in enumerate(nets):
            net[0].weight.add_(0.3 * k)
            net[1].running_mean.add_(0.1 * k)
    return nets, build("convolutional", dtype=dtype)[1]


class TestEnsembleMembers:
    def test_stacks_the_predictions_of_networks_in_evaluation_mode(self):
        nets, x = ensemble()
        log_probs = EnsembleMembers([net.train() for net in nets], [log_softmax] * 3)(x)
        with torch.no_grad():
            expected = torch.stack([net.eval()(x).log_softmax(-1) for net in nets])
        torch.testing.assert_close(log_probs, expected)
        assert (mutual_information(log_probs) > 0).all()

    def test_each_network_has_a_head_of_its_own(self):
        nets = [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(-1))]
        log_probs = EnsembleMembers(nets, [log_softmax, identity])(torch.ones(3, 2))
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3))

    def test_have_one_head_for_each_network(self):
        with pytest.raises(ValueError, match="shorter"):
            EnsembleMembers([nn.Linear(2, 2)] * 2, [log_softmax])

    def test_nothing_is_random_in_them(self):
        class AlwaysOn(nn.Linear):
            def forward(self, x):
                return F.dropout(super().forward(x), 0.5)

        class Shaking(nn.Linear):
            def forward(self, x):
                return super().forward(x) + torch.randn_like(x)

        net, x = AlwaysOn(4, 4), torch.ones(2, 4)
        members = EnsembleMembers([net, net], [identity] * 2)
        expected = F.linear(x, net.weight, net.bias).expand(2, 2, 4)
        torch.testing.assert_close(members(x), expected)
        torch.testing.assert_close(members.redrawn(3)(x), expected)
        with pytest.raises(ValueError, match=r"randn_like in layer '0' \(Shaking\)"):
            EnsembleMembers([nn.Sequential(Shaking(4, 4))], [identity])(x)


class TestJoinedMembers:
    def test_are_all_members_of_an_ensemble_whose_networks_have_several(self):
        nets, x = ensemble()
        groups = [DropoutMembers(net, log_softmax, n_members=2 + k) for k, net in enumerate(nets)]
        members = JoinedMembers([*groups, EnsembleMembers(nets, [log_softmax] * 3)])
        assert members.n_members == 2 + 3 + 4 + 3
        log_probs = members(x)
        assert torch.equal(log_probs, torch.cat([group(x) for group in members.groups]))
        assert (mutual_information(log_probs) <= math.log(3)).all()

    def test_groups_are_redrawn_independently(self):
        net, x = build("late")
        members = JoinedMembers([DropoutMembers(net, log_softmax, n_members=3) for _ in range(2)])
        redrawn = members.redrawn(4)
        first, second = redrawn(x).split(3)
        assert not torch.equal(first, second)
        assert torch.equal(redrawn(x), members.redrawn(4)(x))
        assert not torch.equal(redrawn(x), members.redrawn(5)(x))
