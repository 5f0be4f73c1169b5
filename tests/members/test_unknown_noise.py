"""Layers whose noise is registered, and randomness that nobody has told of."""

import random
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import Calling, decided, distinct, identity, members_of
from torch import nn

from tsynd_sk._utils._inference import private_copy
from tsynd_sk.members import DropoutMembers, _noises, register_stochastic
from tsynd_sk.members._tracing import trace
from tsynd_sk.members._visits import mark_random_layers
from tsynd_sk.uncertainty import mutual_information


def traced(net, x):
    return trace(mark_random_layers(private_copy(net)), x)


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
    before = dict(_noises.NOISES)

    def register(kind, **params):
        register_stochastic(
            kind,
            draw=own_noise,
            apply=lambda layer, noise, x: torch.where(noise[0], x, x + noise[1]),
            **params,
        )

    yield register
    _noises.NOISES.clear()
    _noises.NOISES.update(before)


class TestRegistered:
    @pytest.mark.parametrize("kind", [Jitter, Restless])
    @pytest.mark.parametrize("by_name", [True, False])
    @pytest.mark.parametrize("decision", ["fold", "loop"])
    def test_layers_are_fixed_with_all_that_they_draw(self, registered, kind, by_name, decision):
        registered(f"{kind.__module__}.{kind.__qualname__}" if by_name else kind)
        x = torch.ones(3, 20)
        state = torch.get_rng_state()
        decisions = decided(x, decision)
        output = members_of(lambda net, x: net.own(x), x, decisions=decisions, own=kind())
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

    def test_subclasses_are_not_meant(self, registered):
        registered(Jitter)
        with pytest.raises(ValueError, match=r"layer 'own' \(Restless\)"):
            members_of(lambda net, x: net.own(x), torch.ones(1, 4), own=Restless())

    def test_layers_remain_what_they_are(self, registered):
        class Own(Jitter):
            kept = 0.5

            def scaled(self, x):
                return self.kept * x

        register_stochastic(
            Own,
            draw=lambda layer, generator, x: torch.rand(1, x.shape[1], generator=generator),
            apply=lambda layer, noise, x: layer(x) + noise,
        )
        x = torch.ones(2, 4)
        # In a network that calls their methods, and in `apply`, which may call them.
        output = members_of(lambda net, x: net.own.scaled(net.own(x)), x, own=Own())
        assert distinct(output) == 8
        assert ((output >= 0.5) & (output < 1)).all()

    def test_parts_of_layers_rest(self, registered):
        class Leaky(Jitter):
            def __init__(self):
                super().__init__()
                self.leak = nn.RReLU()

        register_stochastic(
            Leaky, draw=own_noise, apply=lambda layer, noise, x: layer.leak(x) + noise[1]
        )
        assert traced(nn.Sequential(Leaky()), torch.ones(1, 4)).resting is None

    def test_functions_within_layers_are_no_sites(self, registered):
        register_stochastic(
            Jitter,
            draw=own_noise,
            apply=lambda layer, noise, x: F.dropout(x, 0.5, layer.training) + noise[1],
        )
        net = Calling(lambda net, x: F.dropout(net.own(x), 0.5, net.training), own=Jitter())
        assert list(traced(net, torch.ones(1, 4)).sites) == ["own#0", "functional.dropout.0#0"]


class TestRegistering:
    @pytest.mark.parametrize("layer_type", [Jitter(), None, "Jitter"])
    def test_of_something_else_is_refused_and_changes_nothing(self, registered, layer_type):
        message = (
            f"must be a subclass of .*'package.module.Class'; got {re.escape(repr(layer_type))}"
        )
        with pytest.raises(TypeError, match=message):
            register_stochastic(layer_type, draw=own_noise, apply=torch.add)
        assert not {Jitter, "Jitter"} & _noises.NOISES.keys()


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
    @pytest.mark.parametrize("source", UNKNOWN)
    def test_is_refused_by_the_name_of_its_layer_and_nothing_is_drawn(self, source):
        part = nn.Sequential(nn.Linear(4, 4), Noisy(UNKNOWN[source]))
        net = nn.Sequential(nn.Dropout(0.5), part, nn.Linear(4, 2))
        members = DropoutMembers(net, identity)
        states = global_states()
        for _ in range(2):
            with pytest.raises(ValueError, match=r"layer '1\.1' \(Noisy\).*register_stochastic"):
                members(torch.ones(3, 4))
            assert global_states() == states
        assert not any(layer._forward_hooks for layer in net.modules())

    def test_in_the_forward_of_the_network_is_said_to_be_there(self):
        for source in ("randn_like", "own generator"):
            net = Noisy(lambda net, x, source=source: UNKNOWN[source](net, net.drop(x)))
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
        ways = r"nothing random.*'laplace'.*torch\.nn\.Dropout.*register_stochastic.*list of sev"
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

    def test_looks_for_functions_only_where_layers_are_not_all(self):
        x = torch.ones(1, 4)
        layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4))
        assert not traced(layers, x).functions
        function = Calling(
            lambda net, x: F.dropout(net.layers(x), 0.5, net.training), layers=layers
        )
        assert traced(function, x).functions
        # Members of the last layer, whose dropout is off.
        assert not trace(private_copy(function), x, training=False).functions
        assert trace(private_copy(Calling(lambda net, x: F.dropout(x))), x).functions

    def test_finds_functions_of_a_network_that_needs_other_inputs_in_training(self):
        net = Calling(lambda net, x: x.labels if net.training else F.dropout(x, training=False))
        assert list(traced(net, torch.ones(1, 4)).sites) == ["functional.dropout.0#0"]

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
        with pytest.warns(UserWarning, match=f"{name} of Calling draws.*is off in the members"):
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
