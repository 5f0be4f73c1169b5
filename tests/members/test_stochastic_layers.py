import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import identity, log_softmax
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from tsynd_sk._utils._inference import private_copy
from tsynd_sk.members._dropout import DropoutMembers
from tsynd_sk.members._stochastic_layers import noise_of, register_stochastic
from tsynd_sk.members._stochastic_sites import frozen, trace
from tsynd_sk.uncertainty import mutual_information


class Calling(nn.Module):
    """A net around any function of images; what the function calls layers are its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def outputs(net, x, **params):
    """What members of a net give that need not be a classifier."""
    shapes = []

    def head(output):
        shapes.append(output.shape[1:])
        return output.flatten(1)

    return DropoutMembers(net, head, **params)(x).unflatten(-1, shapes[-1])


def members_of(function, x, n_members=8, seed=0, plan="auto", **parts):
    return outputs(Calling(function, **parts), x, n_members=n_members, seed=seed, plan=plan)


def traced(net, x):
    return trace(frozen(private_copy(net)), x)


def distinct(members):
    return len({tuple(member.flatten().tolist()) for member in members})


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
    def test_are_frozen_whether_they_are_switched_on_or_off(self, function):
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

    @pytest.mark.parametrize("plan", ["fold", "vmap", "loop"])
    def test_each_call_has_masks_of_its_own_and_can_be_chosen(self, plan):
        net = Calling(lambda net, x: F.dropout(F.dropout(x, 0.2), 0.5))
        x = torch.ones(1, 200)
        values = {}
        for restrict in (None, "last", 2, ["functional.dropout.0"], ["functional"]):
            members = DropoutMembers(net, identity, plan=plan, restrict=restrict)
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
        for plan in ("vmap", "loop"):
            output = members_of(function, q, n_members=2, plan=plan, attend=rest)
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
        with pytest.raises(ValueError, match=r"layer 'attend'.*add_bias_kv.*cannot be frozen"):
            members_of(lambda net, x: net.attend(x, x, x)[0], torch.ones(2, 3, 8), attend=layer)


class Jitter(nn.Module):
    """Random in training only."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x + self.scale * torch.randn_like(x) if self.training else x


class Restless(Jitter):
    """Random always."""

    def forward(self, x):
        return x + self.scale * torch.randn_like(x)


def own_noise(layer, generator, x):
    kept = torch.rand(1, *x.shape[1:], generator=generator) > 0.5
    return kept, layer.scale * torch.randn(1, *x.shape[1:], generator=generator)


@pytest.fixture
def registered():
    """Types that are registered for one test, drawing a tuple of a mask and a shift."""
    from tsynd_sk import randomness

    before = dict(randomness._NOISES)

    def register(kind, **params):
        register_stochastic(
            kind,
            draw=own_noise,
            apply=lambda layer, noise, x: torch.where(noise[0], x, x + noise[1]),
            **params,
        )

    yield register
    randomness._NOISES.clear()
    randomness._NOISES.update(before)


class TestRegistered:
    @pytest.mark.parametrize("kind", [Jitter, Restless])
    @pytest.mark.parametrize("by_name", [True, False])
    @pytest.mark.parametrize("plan", ["fold", "vmap", "loop"])
    def test_layers_are_frozen_with_all_that_they_draw(self, registered, kind, by_name, plan):
        registered(f"{kind.__module__}.{kind.__qualname__}" if by_name else kind)
        x = torch.ones(3, 20)
        state = torch.get_rng_state()
        output = members_of(lambda net, x: net.own(x), x, plan=plan, own=kind())
        assert distinct(output) == 8
        assert torch.equal(output[:, 0], output[:, 2])
        assert (output == 1).float().mean() == pytest.approx(0.5, abs=0.15)
        assert torch.equal(torch.get_rng_state(), state)

    def test_layers_can_be_told_to_rest(self, registered):
        registered(Jitter, active=lambda layer: layer.scale > 0)
        net = nn.Sequential(Jitter(0.0), nn.Dropout(0.5), Jitter())
        found = traced(net, torch.ones(1, 4))
        assert [site.layer_name for site in found.sites.values()] == ["1", "2"]
        assert "layer '0'" in found.resting

    def test_noise_that_is_no_real_number_stays_so_in_low_precision(self, registered):
        registered(Jitter)
        net = nn.Sequential(nn.Linear(6, 4), Jitter(), nn.Linear(4, 3))
        output = DropoutMembers(net, log_softmax, precision="bfloat16")(torch.ones(2, 6))
        assert distinct(output) > 8

    def test_subclasses_are_not_meant(self, registered):
        registered(Jitter)
        with pytest.raises(ValueError, match=r"layer 'own' \(Restless\)"):
            members_of(lambda net, x: net.own(x), torch.ones(1, 4), own=Restless())


class TestRegistering:
    @pytest.mark.parametrize(
        ("layer_type", "params", "error", "message"),
        [
            (Jitter(), {}, TypeError, r"got Jitter\(\), an instance of Jitter: give its type"),
            (Tensor, {}, TypeError, "layer_type must be a subclass of torch.nn.Module or its qual"),
            (None, {}, TypeError, "layer_type must be .* got None$"),
            ("Jitter", {}, ValueError, r"qualified name such as 'package\.module.* got 'Jitter'"),
            (Jitter, {"draw": 1}, TypeError, "draw must be callable, got a int"),
            (Jitter, {"apply": None}, TypeError, "apply must be callable, got a NoneType"),
            (Jitter, {"active": True}, TypeError, "active must be callable, got a bool"),
        ],
    )
    def test_of_something_else_is_refused_and_changes_nothing(
        self, registered, layer_type, params, error, message
    ):
        functions = {"draw": own_noise, "apply": torch.add} | params
        with pytest.raises(error, match=message):
            register_stochastic(layer_type, **functions)
        assert noise_of(Jitter()) is None


class Noisy(nn.Module):
    """Draws in its forward, in some way."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.generator = torch.Generator()

    def forward(self, x):
        return x + self.draw(self, x)


UNKNOWN = {
    "randn_like": lambda net, x: torch.randn_like(x),
    "bernoulli_ of a tensor": lambda net, x: torch.empty_like(x).bernoulli_(x.sigmoid()),
    "native dropout": lambda net, x: torch.native_dropout(x, 0.5, True)[0],
    "attention": lambda net, x: F.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None], dropout_p=0.5
    )[:, 0],
    "own generator": lambda net, x: torch.rand(x.shape[1:], generator=net.generator),
    "numpy": lambda net, x: float(np.random.rand()),  # noqa: NPY002
    "python": lambda net, x: random.random(),
}


class TestUnknownRandomness:
    @pytest.mark.parametrize("way", UNKNOWN)
    @pytest.mark.parametrize("plan", ["auto", "fold", "vmap", "loop"])
    def test_is_refused_by_the_name_of_its_layer_and_nothing_is_drawn(self, way, plan):
        part = nn.Sequential(nn.Linear(4, 4), Noisy(UNKNOWN[way]))
        net = nn.Sequential(nn.Dropout(0.5), part, nn.Linear(4, 2))
        members = DropoutMembers(net, log_softmax, plan=plan)
        states = global_states()
        for _ in range(2):
            with pytest.raises(ValueError, match=r"layer '1\.1' \(Noisy\).*register_stochastic"):
                members(torch.ones(3, 4))
            assert global_states() == states
        assert not any(layer._forward_hooks for layer in net.modules())

    def test_in_the_forward_of_the_network_is_said_to_be_there(self):
        for way in ("randn_like", "own generator"):
            net = Noisy(lambda net, x, way=way: UNKNOWN[way](net, net.drop(x)))
            net.drop = nn.Dropout(0.5)
            with pytest.raises(ValueError, match="the forward of Noisy"):
                DropoutMembers(net, identity)(torch.ones(3, 4))

    @pytest.mark.parametrize("layer", [nn.RReLU(), nn.LSTM(4, 4, 2, dropout=0.5), nn.Dropout(0.0)])
    def test_that_rests_in_evaluation_mode_is_no_obstacle(self, layer):
        def function(net, x):
            output = net.layer(net.drop(x))
            return output[0] if isinstance(output, tuple) else output

        output = members_of(function, torch.ones(2, 3, 4), drop=nn.Dropout(0.5), layer=layer)
        assert distinct(output) > 1

    @pytest.mark.parametrize(
        "net",
        [
            nn.Linear(4, 2),
            nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.0)),
            Calling(lambda net, x: net.rows(x[:, None])[0][:, 0], rows=nn.LSTM(4, 2)),
            Calling(lambda net, x: net.drop(x) if net.training else x, drop=nn.Dropout(0.5)),
        ],
    )
    def test_network_with_nothing_random_is_told_the_ways_out(self, net):
        ways = r"nothing random.*torch\.nn\.Dropout.*register_stochastic.*'laplace'.*list of sev"
        with pytest.raises(ValueError, match=f"^{type(net).__name__} has {ways}"):
            DropoutMembers(net, identity)(torch.ones(2, 4))


def global_states():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(),
        numpy_state[1].tolist(),
        numpy_state[2:],
        random.getstate(),
    )


class TestTrace:
    """What a network is asked before it predicts."""

    def test_names_the_layers_in_the_order_of_the_forward_pass(self):
        net = Calling(
            lambda net, x: F.dropout(net.last(net.first(x)), 0.5, net.training),
            last=nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
            first=nn.Dropout2d(0.5),
            unused=nn.Dropout(0.5),
        )
        found = traced(net, torch.ones(1, 4))
        names = [site.layer_name for site in found.sites.values()]
        assert names == ["first", "last.1", "functional.dropout.0"]
        assert found.resting is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            DropoutMembers(net, identity)(torch.ones(2, 4))

    @pytest.mark.parametrize(
        ("part", "name"),
        [(nn.LSTM(4, 4, 2, dropout=0.5), r"'rows' \(LSTM\)"), (Jitter(), r"'rows' \(Jitter\)")],
    )
    def test_warns_of_noise_in_training_that_is_not_known(self, part, name):
        def function(net, x):
            output = net.rows(net.norm(net.drop(x)))
            return output[0] if isinstance(output, tuple) else output

        net = Calling(function, drop=nn.Dropout(0.5), rows=part, norm=nn.BatchNorm1d(4))
        states = global_states()
        with pytest.warns(UserWarning, match=f"{name} of Calling draws.*rests in the members"):
            DropoutMembers(net, identity)(torch.ones(1, 4))
        found = traced(net, torch.ones(1, 4))
        assert [site.layer_name for site in found.sites.values()] == ["drop"]
        assert global_states() == states
        assert net.training

    def test_members_of_such_a_network_rest_where_the_warning_says(self):
        net = nn.Sequential(nn.Dropout(0.5), Jitter())
        output = DropoutMembers(net, identity)(torch.ones(1, 8))
        assert set(output.unique().tolist()) == {0.0, 2.0}
        assert mutual_information(output.log_softmax(-1)).item() > 0
