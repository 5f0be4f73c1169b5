"""Finding the last linear layer of a network, and networks whose last layer has no posterior."""

from functools import partial

import pytest
import torch
from helpers.noisy_nets import log_softmax
from helpers.small_mlp import mlp, rows, seeded
from torch import nn

from tsynd_sk.members import last_layer_posterior


def assert_same_curvature(one, other):
    torch.testing.assert_close(one.feature_eigenvalues, other.feature_eigenvalues)
    torch.testing.assert_close(one.output_eigenvalues, other.output_eigenvalues)


class _Custom(nn.Module):
    """Layers and a forward given as a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.pass_through = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.pass_through(self, x)


class TestLayer:
    def test_is_named_as_in_the_module(self):
        net = nn.Sequential(mlp(), nn.Identity())
        assert last_layer_posterior(net, log_softmax, [rows(5, 4)]).layer == "0.2"
        layer = seeded(lambda: nn.Linear(4, 3))
        assert last_layer_posterior(layer, log_softmax, [rows(5, 4)]).layer == ""

    def test_is_the_last_one_executed_not_the_last_one_defined(self):
        def forward(net, x):
            return net.head(net.body(x).relu())

        net = seeded(lambda: _Custom(forward, head=nn.Linear(6, 3), body=nn.Linear(4, 6)))
        assert last_layer_posterior(net, log_softmax, [rows(5, 4)]).layer == "head"

    def test_is_one_that_the_prediction_depends_on(self):
        def forward(net, x):
            h = net.body(x).relu()
            return net.head(h), net.auxiliary(h)

        layers = {"body": nn.Linear(4, 6), "head": nn.Linear(6, 3), "auxiliary": nn.Linear(6, 2)}
        net = seeded(lambda: _Custom(forward, **layers))
        posterior = last_layer_posterior(net, lambda out: log_softmax(out[0]), [rows(5, 4)])
        assert posterior.layer == "head"

    def test_may_be_followed_by_an_activation_in_place_or_called_by_keyword(self):
        def forward(net, x):
            return net.act(net.fc(input=x))

        def make(inplace):
            return _Custom(forward, fc=nn.Linear(4, 3), act=nn.ReLU(inplace))

        posteriors = [
            last_layer_posterior(seeded(partial(make, inplace)), log_softmax, [rows(9, 4)])
            for inplace in (True, False)
        ]
        assert_same_curvature(*posteriors)

    def test_counts_what_hooks_of_the_user_make_of_its_output(self):
        hooked, tempered = mlp(), mlp()
        hooked[2].register_forward_hook(lambda layer, args, output: output / 3)
        expected = last_layer_posterior(tempered, lambda f: log_softmax(f / 3), [rows(9, 4)])
        posterior = last_layer_posterior(hooked, log_softmax, [rows(9, 4)])
        assert_same_curvature(posterior, expected)


class _Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class TestRefusals:
    ways_out = "torch.nn.Dropout.* a list of several classifiers"

    def refused(self, net, x, match, to_log_proba=log_softmax):
        with pytest.raises(ValueError, match=match) as error:
            last_layer_posterior(net, to_log_proba, x)
        return str(error.value)

    def test_no_linear_layer(self):
        net = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()).double()
        self.refused(net, [rows(5, 16).view(5, 1, 4, 4)], f"Sequential calls no.*{self.ways_out}")

    def test_linear_layer_that_is_not_called_or_does_not_matter(self):
        unused = _Custom(lambda net, x: x, fc=nn.Linear(4, 3)).double()
        self.refused(unused, [rows(5, 4)], f"_Custom calls no.*{self.ways_out}")

        def forward(net, x):
            net.fc(x)
            return x

        beside = _Custom(forward, fc=nn.Linear(4, 3)).double()
        self.refused(beside, [rows(5, 4)], "_Custom calls no")

    def test_layer_called_twice(self):
        net = _Custom(lambda net, x: net.fc(net.fc(x)), fc=nn.Linear(4, 4)).double()
        self.refused(net, [rows(5, 4)], f"'fc' is called 2 times.*{self.ways_out}")

    def test_features_that_are_not_vectors(self):
        net = _Custom(lambda net, x: net.fc(x).mean(1), fc=nn.Linear(4, 3)).double()
        match = r"'fc' receives an array of shape \(5, 2, 4\) for 5 rows.*" + self.ways_out
        self.refused(net, [rows(10, 4).view(5, 2, 4)], match)

    def test_weights_that_are_computed(self):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)).double()
        match = f"Parametrized.*weight_norm.*{self.ways_out}"
        assert "last linear layer is" in self.refused(layer, [rows(5, 4)], match)
        net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))).double()
        self.refused(net, [rows(5, 4)], "linear layer '0' is")

    def test_linear_layers_that_do_something_else(self):
        self.refused(_Doubling(4, 3).double(), [rows(5, 4)], "_Doubling.*overrides forward")

    @pytest.mark.parametrize("batches", [[], [torch.zeros(0, 4)]])
    def test_no_rows(self, batches):
        self.refused(mlp(), batches, "batches must hold at least one row")

    def test_a_tensor_in_place_of_batches(self):
        with pytest.raises(TypeError, match=r"batches is a tensor: .* batches\.split\(256\)"):
            last_layer_posterior(mlp(), log_softmax, rows(5, 4))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_features_that_are_not_finite(self, value):
        x = rows(5, 4)
        x[2, 1] = value
        net = nn.Sequential(nn.Identity(), seeded(lambda: nn.Linear(4, 3)))
        self.refused(net, [rows(5, 4), x], "what the last linear layer '1' receives is not finite")

    def test_curvature_that_is_not_finite(self):
        net = mlp()
        with torch.no_grad():
            net[2].bias[0] = float("nan")
        self.refused(net, [rows(5, 4)], "curvature.*linear layer '2' is not finite")

    def test_logarithm_of_zero(self):
        net = nn.Sequential(seeded(lambda: nn.Linear(4, 3)), nn.Softmax(-1))
        match = "curvature.*not finite.*no logarithm of zero is computed"
        self.refused(net, [1e4 * rows(5, 4)], match, torch.log)
