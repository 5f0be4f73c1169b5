import copy

import numpy as np
import pytest
import torch
from torch import nn

from tsynd_sk.classifiers._default import ConvNet
from tsynd_sk.inspection._explanations import eigen_grad_cam


class Small(nn.Module):
    """Three convolutions, of which the last is followed by an activation in place."""

    def __init__(self, n_classes=3, inplace=False):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, n_classes)
        )

    def forward(self, x):
        return self.head(self.features(x))


class Weighted(nn.Module):
    """Score of class 1: a weighted sum of what a layer, known in closed form, gives."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Identity()
        self.register_buffer("weight", torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, x):
        score = (self.layer(x) * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)


def seeded(make, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*args, **kwargs)


@pytest.fixture
def module():
    """Has seen a few images, so that its running statistics are not trivial."""
    module = seeded(Small)
    module(images(20, seed=3))
    return module


def images(n=5, seed=0, shape=(2, 12, 10)):
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(seed))


def textbook(weighted):
    """Centred first principal component of (C, h, w), up to sign, and the mean over channels."""
    rows = weighted.reshape(len(weighted), -1).T.astype(np.float64)
    centred = rows - rows.mean(0)
    component = centred @ np.linalg.svd(centred)[2][0]
    return component.reshape(weighted.shape[1:]), rows.mean(1).reshape(weighted.shape[1:])


class TestValues:
    def test_they_are_the_first_principal_component_of_gradients_times_activations(self):
        weight = np.random.default_rng(0).normal(size=(4, 6, 7))
        x = images(6, shape=(4, 6, 7)) - 0.5
        maps = eigen_grad_cam(Weighted(weight), x, 1).numpy()
        for image, found in zip(x.numpy(), maps, strict=True):
            component, mean = textbook(image * weight)
            component *= np.sign((component * mean).sum())
            expected = np.maximum(component, 0) / component.max()
            np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_bright_spot_that_speaks_for_a_class_is_found(self):
        weight = seeded(torch.rand, 3, 8, 8) + 0.5
        x = torch.full((4, 3, 8, 8), 0.1)
        places = [(1, 2), (6, 6), (0, 7), (4, 3)]
        for image, (row, column) in zip(x, places, strict=True):
            image[:, row, column] = 1
        maps = eigen_grad_cam(Weighted(weight), x, 1)
        assert [divmod(int(m.argmax()), 8) for m in maps] == places
        assert (maps > 0.5).sum() == 4

    def test_maps_lie_between_zero_and_one_and_have_the_size_of_images(self, module):
        maps = eigen_grad_cam(module, images(30))
        assert maps.shape == (30, 12, 10)
        assert maps.dtype == torch.float32
        assert maps.min() == 0
        torch.testing.assert_close(maps.amax((1, 2)), torch.ones(30))
        assert eigen_grad_cam(module, images(2), size=(24, 5)).shape == (2, 24, 5)

    def test_images_without_variation_have_empty_maps(self):
        x = torch.full((2, 3, 6, 6), 0.3)
        # Rounding is no variation.
        x[:, :, 2, 3] = torch.nextafter(x[0, 0, 0, 0], torch.tensor(1.0))
        assert not eigen_grad_cam(Weighted(torch.ones(3, 6, 6)), x, 1).any()
        assert not eigen_grad_cam(Weighted(torch.zeros(3, 6, 6)), images(2, shape=(3, 6, 6))).any()


class TestTargets:
    def test_default_is_the_class_with_the_highest_score(self, module):
        x = images(12)
        predicted = copy.deepcopy(module).eval()(x).argmax(1)
        torch.testing.assert_close(eigen_grad_cam(module, x), eigen_grad_cam(module, x, predicted))

    def test_classes_have_maps_of_their_own(self, module):
        x = images()
        maps = torch.stack([eigen_grad_cam(module, x, k) for k in range(3)])
        assert (maps[0] - maps[1]).abs().max() > 0.1
        for targets in ([2, 0, 1, 1, 0], np.array([2, 0, 1, 1, 0]), torch.tensor([2, 0, 1, 1, 0])):
            mixed = eigen_grad_cam(module, x, targets)
            torch.testing.assert_close(mixed, maps[[2, 0, 1, 1, 0], range(5)])

    def test_one_logit_stands_for_two_classes(self):
        single = seeded(Small, n_classes=1)
        double = copy.deepcopy(single)
        double.head[3] = nn.Linear(32, 2)
        with torch.no_grad():
            for ours, given in zip(
                double.head[3].parameters(), single.head[3].parameters(), strict=True
            ):
                ours.copy_(torch.cat([-given, given]))
        for target in (0, 1, None):
            torch.testing.assert_close(
                eigen_grad_cam(single, images(), target), eigen_grad_cam(double, images(), target)
            )

    def test_other_outputs_are_turned_into_scores(self, module):
        class Packed(nn.Module):
            def __init__(self, pack):
                super().__init__()
                self.module, self.pack = module, pack

            def forward(self, x):
                return self.pack(self.module(x))

        expected = eigen_grad_cam(module, images())
        pair = Packed(lambda scores: (scores, "more"))
        torch.testing.assert_close(eigen_grad_cam(pair, images()), expected)
        named = Packed(lambda scores: {"scores": scores})
        found = eigen_grad_cam(named, images(), to_scores=lambda output: output["scores"])
        torch.testing.assert_close(found, expected)


class TestLayers:
    def test_default_is_the_last_with_a_spatial_output(self, module):
        # The pooling behind it gives 2 x 2 positions.
        last = eigen_grad_cam(module, images(), layer="head.0")
        torch.testing.assert_close(eigen_grad_cam(module, images()), last)
        net = seeded(ConvNet, (1, 28, 28), 2, width=4)
        x = images(2, shape=(1, 28, 28))
        # The one behind it gives a single position.
        assert isinstance(net.features[-2], nn.AdaptiveAvgPool2d)
        expected = eigen_grad_cam(net, x, layer=net.features[-3])
        torch.testing.assert_close(eigen_grad_cam(net, x), expected)

    def test_activations_in_place_change_nothing(self):
        plain, inplace = seeded(Small), seeded(Small, inplace=True)
        for layer in ("features.4", "features.5"):
            maps = [eigen_grad_cam(net, images(), layer=layer) for net in (plain, inplace)]
            torch.testing.assert_close(*maps)


class TestCare:
    def test_network_is_left_as_it_is(self, module):
        module.train()
        module.features[0].weight.requires_grad_(False)
        seen = []
        module.head.register_forward_hook(lambda *args: seen.append(None))
        before = copy.deepcopy(module.state_dict())
        eigen_grad_cam(module, images())
        assert all(part.training for part in module.modules())
        assert all(p.grad is None for p in module.parameters())
        assert [p.requires_grad for p in module.parameters()][:2] == [False, True]
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        hooks = {n: len(part._forward_hooks) for n, part in module.named_modules()}
        assert {n: count for n, count in hooks.items() if count} == {"head": 1}

    def test_mode_makes_no_difference(self, module):
        in_training = eigen_grad_cam(module.train(), images())
        torch.testing.assert_close(eigen_grad_cam(module.eval(), images()), in_training)
        torch.testing.assert_close(eigen_grad_cam(module, images()), in_training, rtol=0, atol=0)

    @pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
    def test_gradients_may_be_switched_off(self, module, off):
        expected = eigen_grad_cam(module, images())
        with off():
            torch.testing.assert_close(eigen_grad_cam(module, images()), expected)
            x = images()
        whole = Weighted(torch.ones(2, 12, 10))
        # Images that were made there serve afterwards, also where the layer passes them on.
        torch.testing.assert_close(eigen_grad_cam(whole, x, 1), eigen_grad_cam(whole, images(), 1))

    def test_batches_make_no_difference(self, module):
        x, targets = images(7), [0, 1, 2, 0, 1, 2, 0]
        whole = eigen_grad_cam(module, x, targets)
        for batch_size in (1, 3, 7):
            parts = eigen_grad_cam(module, x, targets, batch_size=batch_size)
            torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"layer": "features.9"}, r"layer must be one of .*features.0, .*; got 'features.9'"),
            ({"layer": "head.3"}, "layer must be one of .* more than one position, "),
            ({"layer": nn.ReLU()}, "one of Small that .* got ReLU"),
            (
                {"to_scores": lambda s: s[:, None]},
                r"scores of shape .*; got .* Convert what it returns by to_scores",
            ),
            ({"to_scores": lambda s: s / 0}, "NaN or infinite"),
        ],
    )
    def test_wrong_inputs_are_named(self, module, arguments, match):
        with pytest.raises(ValueError, match=match):
            eigen_grad_cam(module, images(), **arguments)

    def test_network_without_positions_is_refused(self):
        dense = nn.Sequential(nn.Flatten(), nn.Linear(240, 2))
        with pytest.raises(ValueError, match="Sequential must have a layer that returns tensors"):
            eigen_grad_cam(dense, images())

    def test_layer_that_has_no_say_is_refused(self):
        class Aside(Small):
            def forward(self, x):
                self.side(x)
                return super().forward(x)

        aside = seeded(Aside)
        aside.side = nn.Conv2d(2, 1, 1)
        with pytest.raises(ValueError, match="differentiable with respect to layer 'side'"):
            eigen_grad_cam(aside, images(), layer="side")
