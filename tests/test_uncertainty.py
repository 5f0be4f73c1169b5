import math

import numpy as np
import pytest
import torch
from torch import nn

from tsynd_sk.uncertainty import (
    DropoutMembers,
    EnsembleMembers,
    has_dropout,
    mean_log_proba,
    mutual_information,
    predictive_entropy,
)


def log_softmax(logits):
    return logits.log_softmax(-1)


def identity(output):
    return output


def random_log_probs(n_members, n_samples, n_classes, *, spread=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n_members + 10 * n_samples + 100 * n_classes)
    logits = torch.randn(n_members, n_samples, n_classes, generator=generator, dtype=dtype)
    return (spread * logits).log_softmax(-1)


def numpy_entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)


class TestMeasures:
    @pytest.mark.parametrize(("k", "n", "c"), [(2, 5, 2), (16, 7, 9), (3, 1, 10), (1, 4, 3)])
    def test_equal_the_textbook_formulas_in_nats(self, k, n, c):
        log_probs = random_log_probs(k, n, c, dtype=torch.float64)
        p = np.exp(log_probs.numpy())
        total = numpy_entropy(p.mean(0))
        expected = total - numpy_entropy(p).mean(0)
        np.testing.assert_allclose(mutual_information(log_probs), expected, atol=1e-12)
        np.testing.assert_allclose(predictive_entropy(log_probs), total, atol=1e-12)
        np.testing.assert_allclose(mean_log_proba(log_probs), np.log(p.mean(0)), atol=1e-12)

    @pytest.mark.parametrize(("k", "c"), [(2, 10), (10, 2), (5, 5)])
    @pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
    def test_stay_within_their_bounds(self, k, c, spread):
        log_probs = random_log_probs(k, 200, c, spread=spread)
        mi, entropy = mutual_information(log_probs), predictive_entropy(log_probs)
        assert mi.shape == entropy.shape == (200,)
        assert mi.min() >= -1e-6
        assert mi.max() <= math.log(min(k, c)) + 1e-6
        assert entropy.min() >= 0
        assert entropy.max() <= math.log(c) + 1e-6
        assert (mi <= entropy + 1e-6).all()

    def test_members_that_are_the_same_carry_no_epistemic_uncertainty(self):
        one = random_log_probs(1, 50, 4, dtype=torch.float64)
        assert mutual_information(one.expand(8, -1, -1)).abs().max() < 1e-15

    def test_small_disagreement_keeps_its_digits_in_float32(self):
        # Entropies near log(2), whose difference is of the order of one float32 ulp of either.
        logits = torch.zeros(2, 1, 2, dtype=torch.float64)
        logits[0, 0, 0] = 2e-3
        exact = mutual_information(log_softmax(logits)).item()
        assert 1e-7 < exact < 2e-7
        rounded = mutual_information(log_softmax(logits.float())).item()
        assert rounded == pytest.approx(exact, rel=0.05)

    @pytest.mark.parametrize("c", [2, 5])
    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_certain_members_that_contradict_each_other_reach_log_2(self, c, measure, dtype):
        p = torch.zeros(2, 1, c, dtype=dtype)
        p[0, 0, 0] = p[1, 0, 1] = 1
        log_probs = p.log().requires_grad_()
        assert log_probs.isneginf().any()
        value = measure(log_probs)
        assert value.item() == pytest.approx(math.log(2), abs=1e-7)
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    def test_certain_members_that_agree_are_certain_with_finite_gradients(self, measure):
        p = torch.zeros(3, 2, 4)
        p[..., 1] = 1
        log_probs = p.log().requires_grad_()
        value = measure(log_probs)
        assert value.tolist() == [0, 0]
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    def test_gradients_survive_logits_that_underflow_to_zero_probability(self, measure):
        logits = torch.tensor([[[0.0, -1e4, 3.0]], [[-1e4, 0.0, 3.0]]], requires_grad=True)
        value = measure(log_softmax(logits))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0

    def test_mean_log_probability_is_finite_where_every_member_says_zero(self):
        log_probs = torch.tensor([[[0.0, -torch.inf]]] * 2, requires_grad=True)
        value = mean_log_proba(log_probs)
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy, mean_log_proba])
    def test_gradients_are_those_of_finite_differences(self, measure):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda values: measure(log_softmax(values)), logits.requires_grad_()
        )


class Twice(nn.Module):
    """One dropout layer, called on two shapes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.last = nn.Linear(9, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(self.drop(x)))))


class Recurrent(nn.Module):
    """Recurrent kernels have no rule for vmap."""

    def __init__(self, kind):
        super().__init__()
        self.drop = nn.Dropout(0.4)
        self.rows = kind(6, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.rows(self.drop(x))[0][:, -1])


class Branching(nn.Module):
    """Control flow that depends on values behind the masks."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = self.drop(x)
        return self.last(x) if x.sum() > 0 else self.last(-2 * x)


class SequenceFirst(nn.Module):
    """Dropout that sees (length, n, features), as recurrent layers do by default."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.drop(x.transpose(0, 1)).mean(0))


class Attentive(nn.Module):
    """In evaluation mode, torch has a fast path here that passes over dropout layers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.3, batch_first=True)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.layer(x).mean(1))


def _same_layer_twice():
    drop = nn.Dropout(0.5)
    return nn.Sequential(drop, nn.Linear(6, 9), nn.Tanh(), drop, nn.Linear(9, 3))


NETWORKS = {
    "late": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 3)),
        (6,),
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.3)), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Dropout(0.2), nn.Linear(9, 3)),
        ),
        (6,),
    ),
    "twice in forward": (Twice, (6,)),
    "twice in one Sequential": (_same_layer_twice, (6,)),
    "dropout first": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)), (6,)),
    "nothing but dropout": (lambda: nn.Dropout(0.5), (6,)),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.5),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.BatchNorm2d(5),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        ),
        (2, 8, 8),
    ),
    "Dropout1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 8, 3), nn.Dropout1d(0.5), nn.Flatten(), nn.Linear(32, 3)
        ),
        (2, 6),
    ),
    "Dropout3d": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 8, 3), nn.Dropout3d(0.5), nn.Flatten(), nn.Linear(64, 3)
        ),
        (1, 4, 4, 4),
    ),
    "AlphaDropout": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.SELU(), nn.AlphaDropout(0.3), nn.Linear(9, 3)),
        (6,),
    ),
    "FeatureAlphaDropout": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.FeatureAlphaDropout(0.5), nn.Flatten(), nn.Linear(128, 3)
        ),
        (1, 6, 6),
    ),
    "GRU": (lambda: Recurrent(nn.GRU), (4, 6)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (4, 6)),
    "branching": (Branching, (6,)),
    "sequence first": (SequenceFirst, (4, 6)),
    "transformer": (Attentive, (4, 6)),
}
UNMAPPABLE = {"GRU", "LSTM", "branching"}
ROW_BY_ROW = [name for name in NETWORKS if name != "branching"]


@pytest.fixture(params=NETWORKS)
def network_name(request):
    return request.param


def build(name, n_samples=5, dtype=torch.float32):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().to(dtype), torch.randn(n_samples, *shape, dtype=dtype)


class TestDropoutMembers:
    def test_every_network_has_members_that_differ(self, network_name):
        net, x = build(network_name)
        log_probs = DropoutMembers(net, log_softmax, n_members=6)(x)
        assert log_probs.shape[:2] == (6, 5)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(6, 5))
        assert len({tuple(member.flatten().tolist()) for member in log_probs}) > 1
        assert (mutual_information(log_probs) > 1e-6).all()

    def test_mapped_members_equal_members_computed_one_by_one(self, network_name):
        net, x = build(network_name, dtype=torch.float64)
        x.requires_grad_()
        mapped = DropoutMembers(net, log_softmax, n_members=4, seed=5)
        one_by_one = DropoutMembers(net, log_softmax, n_members=4, seed=5)
        one_by_one._mapped = False
        first, second = mapped(x), one_by_one(x)
        assert mapped._mapped == (network_name not in UNMAPPABLE)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
        (g_1,) = torch.autograd.grad(mutual_information(first).sum(), x)
        (g_2,) = torch.autograd.grad(mutual_information(second).sum(), x)
        torch.testing.assert_close(g_1, g_2, rtol=0, atol=1e-12)

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

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_gradients_with_respect_to_images_are_those_of_finite_differences(self, network_name):
        net, x = build(network_name, n_samples=2, dtype=torch.float64)
        members = DropoutMembers(net, log_softmax, n_members=3)
        assert torch.autograd.gradcheck(
            lambda values: mutual_information(members(values)), x.requires_grad_(), atol=1e-6
        )

    def test_members_are_the_network_under_inverted_dropout_masks(self):
        net, x = build("late", dtype=torch.float64)
        log_probs = DropoutMembers(net, log_softmax, n_members=5, seed=7)(x)
        keep = torch.rand((5, 1, 9), generator=torch.Generator().manual_seed(7)) >= 0.5
        with torch.no_grad():
            hidden = net[1](net[0](x)) * keep.double() / 0.5
            expected = net[3](hidden).log_softmax(-1)
        torch.testing.assert_close(log_probs, expected)

    def test_units_are_kept_as_often_as_the_layer_says(self):
        members = DropoutMembers(nn.Sequential(nn.Dropout(0.2)), identity, n_members=200)
        output = members(torch.ones(1, 100))
        assert set(output.unique().tolist()) == {0.0, 1.25}
        assert (output > 0).float().mean() == pytest.approx(0.8, abs=0.01)

    def test_mean_of_many_members_of_a_linear_network_is_the_network(self):
        net, x = build("dropout first", dtype=torch.float64)
        mean = DropoutMembers(net, identity, n_members=20_000)(x).mean(0)
        with torch.no_grad():
            expected = net.eval()(x)
        torch.testing.assert_close(mean, expected, rtol=0, atol=0.05)

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.Dropout1d(0.5), (12, 5)),
            (nn.Dropout2d(0.5), (12, 3, 4)),
            (nn.Dropout3d(0.5), (12, 2, 3, 2)),
            (nn.FeatureAlphaDropout(0.5), (12, 3, 4)),
        ],
    )
    def test_channelwise_layers_drop_whole_channels(self, layer, shape):
        output = DropoutMembers(nn.Sequential(layer), identity, n_members=8)(torch.ones(2, *shape))
        channels = output.flatten(3)
        assert (channels == channels[..., :1]).all()
        for member in channels[:, 0, :, 0]:
            assert len(member.unique()) == 2

    @pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.AlphaDropout(0.5)])
    def test_elementwise_layers_drop_within_channels(self, layer):
        members = DropoutMembers(nn.Sequential(layer), identity, n_members=8)
        channels = members(torch.ones(2, 12, 3, 4)).flatten(3)
        assert (channels != channels[..., :1]).any(-1).float().mean() > 0.9

    @pytest.mark.parametrize("p", [0.1, 0.5])
    def test_alpha_dropout_keeps_mean_and_variance_as_torch_does(self, p):
        x = torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
        x = (x - x.mean()) / x.std()
        output = DropoutMembers(nn.Sequential(nn.AlphaDropout(p)), identity, n_members=500)(x)
        assert output.mean() == pytest.approx(0, abs=0.01)
        assert output.var() == pytest.approx(1, abs=0.01)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = nn.functional.alpha_dropout(torch.ones(1000), p, training=True).unique()
        ours = DropoutMembers(nn.Sequential(nn.AlphaDropout(p)), identity)(torch.ones(1, 100))
        torch.testing.assert_close(ours.unique(), theirs)

    def test_layers_that_drop_everything_do_not_divide_by_zero(self):
        net = nn.Sequential(nn.Dropout(1.0), nn.Linear(4, 2))
        expected = net[1].bias.detach().expand(16, 3, 2)
        assert torch.equal(DropoutMembers(net, identity)(torch.ones(3, 4)), expected)

    def test_one_layer_in_two_places_has_masks_of_its_own_in_each(self):
        drop = nn.Dropout(0.5)
        for net in (nn.Sequential(drop, drop), nn.Sequential(nn.Sequential(drop), drop)):
            output = DropoutMembers(net, identity, n_members=50)(torch.ones(1, 40))
            assert set(output.unique().tolist()) == {0.0, 4.0}
            assert (output > 0).float().mean() == pytest.approx(0.25, abs=0.03)

    @pytest.mark.parametrize(
        "net",
        [
            nn.Linear(4, 2),
            nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.0)),
            nn.Sequential(nn.LSTM(4, 2, num_layers=2, dropout=0.5)),
        ],
    )
    def test_network_without_active_dropout_is_told_the_ways_out(self, net):
        assert not has_dropout(net)
        with pytest.raises(ValueError, match=r"add torch\.nn\.Dropout.*list of several") as error:
            DropoutMembers(net, log_softmax)
        assert type(net).__name__ in str(error.value)

    def test_dropout_that_forward_does_not_call_is_reported(self):
        class Forgetful(nn.Module):
            def __init__(self):
                super().__init__()
                self.drop = nn.Dropout(0.5)
                self.last = nn.Linear(4, 2)

            def forward(self, x):
                return self.last(self.drop(x) if self.training else x)

        with pytest.raises(ValueError, match=r"Forgetful.*does not call them.*list of several"):
            DropoutMembers(Forgetful(), log_softmax)(torch.ones(2, 4))

    def test_errors_of_the_network_come_back_as_they_are(self):
        members = DropoutMembers(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), log_softmax)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            members(torch.ones(2, 5))
        # Nothing sticks: the same members then serve images that fit.
        assert members(torch.ones(2, 4)).shape == (16, 2, 2)

    def test_everything_before_the_first_dropout_is_computed_once(self):
        rows_seen = []

        class Costly(nn.Linear):
            def forward(self, x):
                rows_seen.append(x.shape)
                return super().forward(x)

        net = nn.Sequential(Costly(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        members = DropoutMembers(net, log_softmax, n_members=8)
        members(torch.ones(3, 4))
        rows_seen.clear()
        members(torch.ones(3, 4))
        assert rows_seen == [(3, 4)]


def snapshot(net):
    return (
        {name: tensor.clone() for name, tensor in net.state_dict().items()},
        [(module, module.training) for module in net.modules()],
        [(p, p.requires_grad, p.grad) for p in net.parameters()],
        [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in net.modules()],
    )


def assert_untouched(net, before):
    state, modes, parameters, hooks = before
    assert list(net.state_dict()) == list(state)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert [(module, module.training) for module in net.modules()] == modes
    for now, (p, requires_grad, grad) in zip(net.parameters(), parameters, strict=True):
        assert now is p
        assert now.requires_grad == requires_grad
        assert now.grad is grad
    assert [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in net.modules()] == hooks


def make_members(kind, net, head=log_softmax):
    if kind == "dropout":
        return DropoutMembers(net, head, n_members=3)
    return EnsembleMembers([net, net], [head, head])


@pytest.mark.parametrize("kind", ["dropout", "ensemble"])
class TestUsersNetwork:
    """The user's network is never touched."""

    @pytest.mark.parametrize("training", [True, False])
    def test_keeps_weights_statistics_modes_gradients_and_hooks(self, kind, training):
        net, x = build("convolutional")
        net.train(training)
        net[1].eval()
        net[0].requires_grad_(False)
        net[0].register_forward_hook(lambda *args: None)
        before = snapshot(net)
        x.requires_grad_()
        predictive_entropy(make_members(kind, net)(x)).sum().backward()
        assert x.grad.abs().max() > 0
        assert_untouched(net, before)

    def test_stays_as_it_was_when_a_call_fails(self, kind):
        net, x = build("convolutional")
        before = snapshot(net.train())

        def failing(output):
            raise KeyError("head")

        with pytest.raises(KeyError, match="head"):
            make_members(kind, net, failing)(x)
        with pytest.raises(RuntimeError, match="channels"):
            make_members(kind, net)(x[:, :1])
        assert_untouched(net, before)

    def test_can_be_trained_on_without_moving_the_members(self, kind):
        net, x = build("convolutional")
        members = make_members(kind, net)
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
        assert make_members(kind, net)(x).isfinite().all()
        assert net.features is features

    def test_leaves_the_global_random_numbers_alone(self, kind, network_name):
        net, x = build(network_name)
        torch.manual_seed(0)
        state = torch.get_rng_state()
        numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
        make_members(kind, net)(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


class TestEnsembleMembers:
    def test_stacks_the_predictions_of_networks_in_evaluation_mode(self):
        nets, x = [], None
        for seed in range(3):
            net, x = build("convolutional")
            with torch.no_grad():
                net[0].weight.add_(0.3 * seed)
            nets.append(net.train())
        log_probs = EnsembleMembers(nets, [log_softmax] * 3)(x)
        with torch.no_grad():
            expected = torch.stack([net.eval()(x).log_softmax(-1) for net in nets])
        torch.testing.assert_close(log_probs, expected, rtol=0, atol=0)
        assert (mutual_information(log_probs) > 0).all()

    def test_each_network_has_a_head_of_its_own(self):
        nets = [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(-1))]
        log_probs = EnsembleMembers(nets, [log_softmax, identity])(torch.ones(3, 2))
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3))
        with pytest.raises(ValueError, match="argument"):
            EnsembleMembers(nets, [log_softmax])(torch.ones(3, 2))

    @pytest.mark.parametrize("n_networks", [0, 1])
    def test_one_network_is_no_ensemble(self, n_networks):
        with pytest.raises(ValueError, match=f"at least two networks, got {n_networks}"):
            EnsembleMembers([nn.Linear(2, 2)] * n_networks, [log_softmax] * n_networks)
