"""Kinds of noise that are known: dropout layers and functions, stochastic depth, attention."""

import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import (
    Calling,
    decided,
    distinct,
    identity,
    log_softmax,
    members_of,
    outputs,
)
from torch import nn
from torchvision.ops import StochasticDepth

from tsynd_sk.members import DropoutMembers


class TestDropoutLayers:
    def test_members_are_the_network_under_inverted_dropout_masks(self):
        net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 3)).double()
        x = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
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
        output = outputs(nn.Sequential(layer), torch.ones(2, *shape), n_members=8)
        channels = output.flatten(3)
        assert (channels == channels[..., :1]).all()
        for member in channels[:, 0, :, 0]:
            assert len(member.unique()) == 2

    @pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.AlphaDropout(0.5)])
    def test_elementwise_layers_drop_within_channels(self, layer):
        channels = outputs(nn.Sequential(layer), torch.ones(2, 12, 3, 4), n_members=8).flatten(3)
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
            theirs = F.alpha_dropout(torch.ones(1000), p, training=True).unique()
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

    def test_hooks_of_a_layer_see_its_noise(self):
        layer = nn.Dropout(0.5)
        layer.register_forward_hook(lambda layer, inputs, output: output + 1)
        output = DropoutMembers(nn.Sequential(layer), identity)(torch.ones(1, 40))
        assert set(output.unique().tolist()) == {1.0, 3.0}

    def test_layers_may_be_called_with_named_arguments(self):
        output = members_of(lambda net, x: net.drop(input=x), torch.ones(1, 30), drop=nn.Dropout())
        assert set(output.unique().tolist()) == {0.0, 2.0}


class TestDropoutFunctions:
    @pytest.mark.parametrize(
        "function",
        [
            lambda net, x: F.dropout(x, 0.2, net.training),
            lambda net, x: F.dropout(x, training=net.training, p=0.2),
            lambda net, x: F.dropout(input=x, p=0.2),
            lambda net, x: F.dropout(x, 0.2),
            lambda net, x: F.dropout2d(x, 0.2, training=net.training),
            lambda net, x: F.feature_alpha_dropout(x, 0.2, net.training).clamp_min(0) / 0.9 * 1.25,
        ],
    )
    def test_are_fixed_whether_they_are_switched_on_or_off(self, function):
        x, state = torch.ones(2, 30, 4, 4), torch.get_rng_state()
        output = members_of(function, x)
        assert distinct(output) == 8
        assert (output > 0).float().mean() == pytest.approx(0.8, abs=0.1)
        assert torch.equal(output[:, 0], output[:, 1])
        assert torch.equal(members_of(function, x), output)
        assert torch.equal(torch.get_rng_state(), state)

    def test_default_to_a_half(self):
        output = members_of(lambda net, x: F.dropout(x), torch.ones(1, 100))
        assert set(output.unique().tolist()) == {0.0, 2.0}

    def test_drop_channels_where_they_are_meant_to(self):
        channels = members_of(lambda net, x: F.dropout3d(x, 0.5), torch.ones(1, 9, 2, 2, 2))
        assert (channels.flatten(3).std(-1) == 0).all()

    @pytest.mark.parametrize("decision", ["fold", "loop"])
    def test_each_call_has_masks_of_its_own_and_can_be_chosen(self, decision):
        net = Calling(lambda net, x: F.dropout(F.dropout(x, 0.2), 0.5))
        x = torch.ones(1, 200)
        values = {}
        for restrict in (None, "last", 2, ["functional.dropout.0"], ["functional"]):
            decisions = decided(x, decision)
            members = DropoutMembers(net, identity, decisions=decisions, restrict=restrict)
            values[str(restrict)] = {round(v, 4) for v in members(x).unique().tolist()}
        both = {0.0, 2.5}
        assert values == {
            "None": both,
            "2": both,
            "['functional']": both,
            "last": {0.0, 2.0},
            "['functional.dropout.0']": {0.0, 1.25},
        }

    def test_what_is_switched_off_in_training_too_is_not_random(self):
        def function(net, x):
            return F.dropout(F.dropout(x, 0.5, net.training), 0.5, training=False)

        output = members_of(function, torch.ones(1, 200))
        assert set(output.unique().tolist()) == {0.0, 2.0}

    def test_functions_of_torch_itself_are_found(self):
        output = members_of(lambda net, x: torch.dropout(x, 0.5, net.training), torch.ones(1, 40))
        assert set(output.unique().tolist()) == {0.0, 2.0}
        channels = members_of(
            lambda net, x: torch.feature_dropout(x, 0.5, net.training).flatten(1),
            torch.ones(1, 20, 3, 3),
        )
        assert set(channels.unflatten(-1, (20, 9)).sum(-1).unique().tolist()) == {0.0, 18.0}


class TestStochasticDepth:
    def timm_like(self, **attributes):
        kind = type("DropPath", (nn.Module,), {"forward": lambda self, x: x})
        kind.__module__ = "timm.layers.drop"
        layer = kind()
        vars(layer).update(attributes)
        return layer

    @pytest.mark.parametrize("mode", ["row", "batch"])
    def test_of_torchvision_leaves_out_whole_branches(self, mode):
        net = nn.Sequential(StochasticDepth(0.2, mode))
        output = outputs(net, torch.ones(3, 5, 2, 2), n_members=400)
        branches = output.flatten(1)
        assert (branches == branches[:, :1]).all()
        assert set(branches[:, 0].tolist()) == {0.0, 1.25}
        assert (branches[:, 0] > 0).float().mean() == pytest.approx(0.8, abs=0.05)

    @pytest.mark.parametrize(("scale", "kept"), [(True, 2.0), (False, 1.0)])
    def test_of_timm_is_known_by_its_name(self, scale, kept):
        net = nn.Sequential(self.timm_like(drop_prob=0.5, scale_by_keep=scale))
        output = DropoutMembers(net, identity, n_members=40)(torch.ones(3, 4))
        assert set(output.unique().tolist()) == {0.0, kept}

    @pytest.mark.parametrize("rate", [None, 0.0])
    def test_that_never_happens_is_nothing_random(self, rate):
        net = nn.Sequential(self.timm_like(drop_prob=rate), StochasticDepth(0.0, "row"))
        with pytest.raises(ValueError, match="nothing random"):
            DropoutMembers(net, identity)(torch.ones(3, 4))


def attention(p=0.5, **params):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, dropout=p, **params).double()
    for bias in (layer.in_proj_bias, layer.out_proj.bias):
        if bias is not None:
            nn.init.normal_(bias)
    return layer


def sequences(*widths):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(3, length, width, generator=generator, dtype=torch.float64)
        for length, width in zip((4, 6, 6), widths, strict=True)
    ]


class TestAttention:
    @pytest.fixture(autouse=True)
    def _seeded(self):
        with torch.random.fork_rng():
            yield

    @pytest.mark.parametrize("batch_first", [True, False])
    @pytest.mark.parametrize("params", [{}, {"bias": False}, {"kdim": 5, "vdim": 7}])
    @pytest.mark.parametrize("masks", ["", "attn", "attn per head", "padding", "both", "causal"])
    def test_with_nothing_dropped_is_the_layer_itself(self, batch_first, params, masks):
        rest = attention(1e-12, batch_first=batch_first, **params).eval()
        q, k, v = sequences(8, params.get("kdim", 8), params.get("vdim", 8))
        call = {}
        if masks in ("attn", "both"):
            call["attn_mask"] = torch.randn(4, 6, dtype=torch.float64)
        if masks == "attn per head":
            call["attn_mask"] = torch.randn(3 * 2, 4, 6) > 1
        if masks == "causal":
            call |= {"attn_mask": torch.ones(4, 6).triu(1) > 0, "is_causal": True}
        if masks in ("padding", "both"):
            call["key_padding_mask"] = torch.zeros(3, 6, dtype=torch.float64)
            call["key_padding_mask"][:, -2:] = -torch.inf

        def function(net, x):
            parts = (x, *(part[: len(x)] for part in (k, v)))
            mine = {name: m[: len(x)] if "pad" in name else m for name, m in call.items()}
            if masks == "attn per head":
                mine["attn_mask"] = mine["attn_mask"][: 2 * len(x)]
            if not batch_first:
                parts = [part.transpose(0, 1) for part in parts]
            output, weights = net.attend(*parts, **mine)
            output = output if batch_first else output.transpose(0, 1)
            return torch.cat([output.flatten(1), weights.flatten(1)], 1)

        expected = function(Calling(function, attend=rest), q).detach()
        output = members_of(function, q, n_members=2, attend=rest)
        torch.testing.assert_close(output, expected.expand_as(output))

    @pytest.mark.parametrize("batch_first", [True, False])
    def test_drops_weights_as_torch_does_in_training(self, batch_first, monkeypatch):
        layer = attention(batch_first=batch_first)
        q, k, v = sequences(8, 8, 8)

        def function(net, x):
            parts = x, k[: len(x)], v[: len(x)]
            if batch_first:
                return net.attend(*parts)[0]
            return net.attend(*(part.transpose(0, 1) for part in parts))[0].transpose(0, 1)

        output = members_of(function, q, n_members=1, seed=9, attend=layer)[0]
        # What torch does in training when it draws the same mask.
        kept = torch.rand(1, 2, 4, 6, generator=torch.Generator().manual_seed(9)) >= 0.5
        monkeypatch.setattr(
            F, "dropout", lambda w, p: (w.view(3, 2, 4, 6) * kept / (1 - p)).view(w.shape)
        )
        expected = function(Calling(function, attend=layer.train()), q).detach()
        torch.testing.assert_close(output, expected)

    @pytest.mark.parametrize("average", [True, False])
    @pytest.mark.parametrize("positional", [True, False])
    def test_gives_its_weights_as_they_are_asked_for(self, average, positional):
        q, k, v = sequences(8, 8, 8)

        def function(net, x):
            parts = x, k[: len(x)], v[: len(x)]
            if positional:
                return net.attend(*parts, None, True, None, average)[1]
            return net.attend(*parts, average_attn_weights=average)[1]

        weights = members_of(function, q, attend=attention(batch_first=True))
        assert weights.shape == ((8, 3, 4, 6) if average else (8, 3, 2, 4, 6))
        assert (weights == 0).any()
        output = members_of(
            lambda net, x: net.attend(x, x, x, need_weights=False)[0],
            q,
            attend=attention(batch_first=True),
        )
        assert output.shape == (8, 3, 4, 8)
        assert distinct(output) == 8

    @pytest.mark.parametrize("params", [{"add_bias_kv": True}, {"add_zero_attn": True}])
    def test_of_uncommon_kinds_is_refused_by_name(self, params):
        layer = attention(batch_first=True, **params)
        with pytest.raises(ValueError, match=r"layer 'attend'.*add_bias_kv.*cannot be fixed"):
            members_of(lambda net, x: net.attend(x, x, x)[0], torch.ones(2, 3, 8), attend=layer)
