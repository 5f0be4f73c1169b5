import gc
import weakref

import pytest
import torch
import torchvision
from helpers.noisy_nets import NETWORKS, Residual, SequenceFirst, build, log_softmax
from torch import nn

from tsynd_sk._utils._inference import InferenceCopy
from tsynd_sk.members._dropout import DropoutMembers
from tsynd_sk.members._ensemble import EnsembleMembers
from tsynd_sk.members._plans import PLANS

RUNNABLE = [(name, plan) for name, case in NETWORKS.items() for plan in case.plans.split()]
REFUSED = [(name, plan) for name in NETWORKS for plan in PLANS if (name, plan) not in RUNNABLE]


def predicted(net, x, plan, n_members=4, **params):
    """Values of the members, and the gradient of a weighted sum of them all."""
    x = x.clone().requires_grad_()
    log_probs = DropoutMembers(net, log_softmax, n_members=n_members, plan=plan, **params)(x)
    weights = torch.linspace(-1, 1, log_probs.numel(), dtype=x.dtype).reshape(log_probs.shape)
    (gradient,) = torch.autograd.grad((weights * log_probs).sum(), x)
    return log_probs.detach(), gradient


def assert_as_far_as_rounding(one, other, tolerance):
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()
        assert b.abs().max() > 0


def resnet(dropout=0.2):
    """Of torchvision, for small images, with dropout within its blocks."""
    net = torchvision.models.resnet18(num_classes=4)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    for block in net.layer4:
        block.relu = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(dropout))
    net.fc = nn.Sequential(nn.Dropout(0.5), net.fc)
    return net


class TestPlansAgree:
    @pytest.mark.parametrize(("name", "plan"), [pair for pair in RUNNABLE if pair[1] != "loop"])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)]
    )
    def test_in_values_and_gradients(self, name, plan, dtype, tolerance):
        net, x = build(name, dtype=dtype)
        for rows in (x, x[:1], x[:4]):  # 4 is also the number of members
            loop = predicted(net, rows, "loop")
            assert_as_far_as_rounding(predicted(net, rows, plan), loop, tolerance)

    @pytest.mark.parametrize("plan", ["fold", "vmap"])
    def test_for_a_transformer_whose_attention_drops_nothing(self, plan):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            head = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
            net, x = nn.Sequential(nn.Dropout(0.5), layer, head), torch.randn(5, 4, 8)
        loop = predicted(net, x, "loop", n_members=3)
        assert_as_far_as_rounding(predicted(net, x, plan, n_members=3), loop, 1e-5)

    def test_for_a_residual_network_of_torchvision(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net, x = resnet(), torch.randn(2, 3, 28, 28)
        loop = predicted(net, x, "loop", n_members=3)
        for plan in ("fold", "vmap"):
            assert_as_far_as_rounding(predicted(net, x, plan, n_members=3), loop, 1e-5)

    @pytest.mark.parametrize("plan", PLANS)
    def test_when_images_change_their_size_from_call_to_call(self, plan):
        net, x = build("convolutional", dtype=torch.float64)
        members = DropoutMembers(net, log_softmax, n_members=3, plan=plan)
        small, large = members(x), members(nn.functional.interpolate(x, scale_factor=2))
        assert torch.equal(members(x), small)
        alone = DropoutMembers(net, log_softmax, n_members=3, plan="loop")
        torch.testing.assert_close(
            large, alone(nn.functional.interpolate(x, scale_factor=2)), rtol=0, atol=1e-13
        )

    def test_when_rows_are_as_many_as_a_sequence_is_long(self):
        # Folded, (length, n, ...) could be taken for (members x n, ...).
        net = SequenceFirst().double()
        members = DropoutMembers(net, log_softmax, n_members=4)
        alone = DropoutMembers(net, log_softmax, n_members=4, plan="loop")
        for length, n_samples in [(12, 3), (8, 2), (4, 4), (4, 1), (1, 1)]:
            x = torch.randn(n_samples, length, 6, dtype=torch.float64)
            torch.testing.assert_close(members(x), alone(x), rtol=0, atol=1e-13)

    @pytest.mark.parametrize("n_samples", [1, 3])
    def test_for_a_single_member(self, n_samples):
        net, x = build("convolutional", n_samples, torch.float64)
        one, two, three = (
            DropoutMembers(net, log_softmax, n_members=1, plan=plan)(x) for plan in PLANS
        )
        assert one.shape == (1, n_samples, 3)
        torch.testing.assert_close(one, two, rtol=0, atol=1e-13)
        torch.testing.assert_close(one, three, rtol=0, atol=1e-13)


class TestChoice:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_is_among_the_plans_that_can_run_the_network_and_the_same_again(self, name):
        net, x = build(name)
        plans = [DropoutMembers(net, log_softmax, n_members=4).plan(x) for _ in range(2)]
        assert plans[0] == plans[1]
        assert plans[0] in NETWORKS[name].plans

    @pytest.mark.parametrize(("name", "plan"), REFUSED)
    def test_of_a_plan_that_cannot_run_a_network_is_refused_with_the_reason(self, name, plan):
        net, x = build(name)
        network = type(net).__name__
        reason = r"\w+Error: .{10,}|its (values|forward) .{10,}"
        with pytest.raises(ValueError, match=f"plan='{plan}' cannot run {network}: ({reason})"):
            DropoutMembers(net, log_softmax, n_members=4, plan=plan)(x)

    def test_folds_what_follows_late_dropout(self):
        net, x = build("late", 64)
        assert DropoutMembers(net, log_softmax).plan(x) == "fold"

    def test_maps_networks_with_connections_around_their_dropout(self):
        costly = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.AdaptiveAvgPool2d(1))
        net = nn.Sequential(costly, nn.Flatten(), nn.Linear(32, 6), Residual())
        assert DropoutMembers(net, log_softmax).plan(torch.randn(16, 3, 16, 16)) == "vmap"

    def test_loops_on_a_processor_where_activations_of_all_members_leave_the_cache(self):
        net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 32, 3, padding=1), nn.ReLU())
        net = net.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        members = DropoutMembers(net, log_softmax)
        few, many = torch.randn(1, 3, 16, 16), torch.empty(256, 3, 16, 16)
        assert members.plan(few) == "fold"
        assert members.plan(many) == "loop"

    @pytest.mark.parametrize("plan", ["clever", None, ""])
    def test_of_unknown_plans_is_refused(self, plan):
        with pytest.raises(ValueError, match=r"plan must be 'auto' or one of .*'fold'"):
            DropoutMembers(nn.Dropout(0.5), log_softmax, plan=plan)

    def test_does_not_fall_on_a_plan_by_which_values_decide_for_all_members_at_once(self):
        net, x = build("branching")
        members = DropoutMembers(net, log_softmax, n_members=4)
        # For these rows every member goes the same way, so that a folded batch would agree.
        members(x.abs())
        torch.testing.assert_close(members(x), predicted(net, x, "loop")[0])

    def test_does_not_fall_on_a_plan_that_gives_other_values(self):
        class Centred(nn.Module):
            """Folded, it would centre by the rows of all members."""

            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                x = self.drop(x)
                return x - x.mean(0)

        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        assert DropoutMembers(Centred(), log_softmax).plan(x) != "fold"
        with pytest.raises(ValueError, match="cannot run Centred: its values would differ"):
            DropoutMembers(Centred(), log_softmax, plan="fold")(x)

    def test_repeats_images_where_that_costs_less_than_mapping(self):
        net, x = build("residual")
        assert DropoutMembers(net, log_softmax, n_members=32).plan(x) == "fold"

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

        members = DropoutMembers(Rounding(), log_softmax, n_members=3)
        assert members.plan(torch.ones(2, 4)) == "loop"
        assert members(torch.ones(2, 4)).shape == (3, 2, 4)

    def test_lets_errors_without_words_pass_as_reasons(self):
        class Strict(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                x = self.drop(x)
                assert len(x) < 4
                return x

        assert DropoutMembers(Strict(), log_softmax).plan(torch.ones(2, 4)) == "vmap"
        with pytest.raises(ValueError, match="plan='fold' cannot run Strict: AssertionError"):
            DropoutMembers(Strict(), log_softmax, plan="fold").plan(torch.ones(2, 4))

    def test_serves_networks_whose_output_is_not_a_number(self):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
        nn.init.constant_(net[1].weight, torch.nan)
        assert DropoutMembers(net, log_softmax)(torch.ones(2, 4)).isnan().all()


class TestWorkDone:
    """What is common to all members is computed once."""

    def rows_seen(self, net, x, **params):
        seen = []

        class Counted(nn.Module):
            def __init__(self, layer):
                super().__init__()
                self.layer = layer

            def forward(self, x):
                seen.append(len(x))
                return self.layer(x)

        counted = nn.Sequential(*[Counted(p) if isinstance(p, nn.Linear) else p for p in net])
        members = DropoutMembers(counted, log_softmax, n_members=8, **params)
        members(x)
        seen.clear()
        members(x)
        return seen

    def net(self):
        return nn.Sequential(
            nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)
        )

    def test_up_to_the_first_dropout_in_a_folded_batch(self):
        assert self.rows_seen(self.net(), torch.ones(3, 4), plan="fold") == [3, 24, 24]

    def test_up_to_the_last_dropout_if_earlier_ones_rest(self):
        seen = self.rows_seen(self.net(), torch.ones(3, 4), plan="fold", restrict="last")
        assert seen == [3, 3, 24]

    def test_member_by_member_in_a_loop(self):
        assert self.rows_seen(self.net(), torch.ones(3, 4), plan="loop") == [3] * 24

    def test_as_seen_by_one_member_under_vmap(self):
        assert self.rows_seen(self.net(), torch.ones(3, 4), plan="vmap") == [3] * 3


class TestInferenceCopy:
    def test_normalises_as_the_network_does(self):
        net, x = build("convolutional", dtype=torch.float64)
        with torch.no_grad():
            for norm in (net[1], net[6]):
                norm.running_mean.uniform_(-1, 1)
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 2)
                norm.bias.uniform_(-1, 1)
        network = InferenceCopy(net, log_softmax)
        network.prepare(x)
        assert not any(isinstance(part, nn.BatchNorm2d) for part in network.module.children())
        with torch.no_grad():
            expected = log_softmax(net.eval()(x))
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-13)

    @pytest.mark.parametrize(
        "norm",
        [
            nn.BatchNorm2d(2, affine=False),
            nn.BatchNorm2d(2, track_running_stats=False),
            nn.InstanceNorm2d(2, affine=True),
            nn.GroupNorm(1, 2),
        ],
    )
    def test_knows_other_kinds_of_normalisation(self, norm):
        net, x = nn.Sequential(norm, nn.Flatten()).eval(), build("convolutional")[1]
        network = InferenceCopy(net, log_softmax)
        network.prepare(x)
        torch.testing.assert_close(network(x), log_softmax(net(x)))

    def test_lays_activations_out_as_convolutions_like_them_unless_the_network_cannot(self):
        layouts = {}
        for name in ("convolutional", "viewed"):
            net, x = build(name)
            network = InferenceCopy(net, log_softmax)
            network.prepare(x)
            weight = next(iter(network.module.parameters()))
            layouts[name] = weight.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(network(x), log_softmax(net.eval()(x)).detach())
            assert next(iter(net.parameters())).is_contiguous()
        assert layouts == {"convolutional": True, "viewed": False}

    @pytest.mark.parametrize("plan", ["auto", "loop"])
    @pytest.mark.parametrize("leaf", [True, False])
    def test_leaves_images_alone_that_the_network_writes_on(self, plan, leaf):
        net, x = build("writing")
        expected = x.clone()
        members = DropoutMembers(net, log_softmax, n_members=3, plan=plan)
        members(x.requires_grad_(leaf)).sum().backward() if leaf else members(x)
        assert torch.equal(x.detach(), expected)
        # No member sees what another one wrote.
        first = members(x)[:1]
        alone = DropoutMembers(net, log_softmax, n_members=1)(x)
        torch.testing.assert_close(first, alone)

    def test_answers_padded_sequences_alike_with_and_without_gradients(self):
        net, x = build("padded transformer")
        network = InferenceCopy(net, log_softmax)
        network.prepare(x)
        with torch.no_grad():
            without = network(x)
        torch.testing.assert_close(network(x.requires_grad_()).detach(), without)

    @pytest.mark.parametrize(
        "make",
        [
            lambda net: DropoutMembers(net, log_softmax, n_members=3),
            lambda net: EnsembleMembers([net], [log_softmax]),
        ],
    )
    def test_serves_gradients_after_a_first_call_in_inference_mode(self, make):
        net, x = build("convolutional")
        members = make(net)
        with torch.inference_mode():
            first = members(x).clone()
        log_probs = members(x.requires_grad_())
        log_probs.sum().backward()
        torch.testing.assert_close(log_probs.detach(), first.clone())

    def test_does_not_compute_in_the_format_that_its_surroundings_ask_for(self):
        net, x = build("late")
        expected = DropoutMembers(net, log_softmax, n_members=3)(x)
        members = DropoutMembers(net, log_softmax, n_members=3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(members(x), expected)
        assert torch.equal(members(x), expected)

    def test_keeps_no_images(self):
        net, x = build("late")
        members = DropoutMembers(net, log_softmax)
        members(x)
        memory = weakref.ref(x)
        del x
        gc.collect()
        assert memory() is None

    def test_refuses_unknown_precisions(self):
        with pytest.raises(ValueError, match=r"precision must be one of .*bfloat16"):
            InferenceCopy(nn.Linear(2, 2), log_softmax, precision="int8")
