import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers.tiny_nets import augmented, net, synthesizer
from helpers.two_digits import CODES, COLOUR, FIRST, GREY, fitted, y
from matplotlib.colors import to_hex
from torch import nn

from tsynd_sk.inspection._classifier_displays import PerturbationDisplay
from tsynd_sk.inspection._explanations import minimal_perturbation


class Linear(nn.Module):
    """Log-odds of class 1 grow along one direction."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x):
        odds = x.flatten(1) @ self.weight + self.bias
        return nn.functional.logsigmoid(torch.stack([-odds, odds], 1))


def down(module, x, targets=1, **params):
    codes = torch.full((len(x),), targets)
    defaults = {"limits": (0.0, 1.0), "threshold": 0.5, "eps": 1.0, "max_iter": 200}
    return minimal_perturbation(module, x, codes, **{**defaults, **params})


def rms(change):
    return np.sqrt(np.square(np.asarray(change, dtype=float)).mean(tuple(range(1, change.ndim))))


class TestSmallestChange:
    @pytest.mark.parametrize("threshold", [0.5, 0.1])
    def test_for_a_linear_network_it_is_the_step_to_the_border(self, threshold):
        weight = torch.linspace(-1, 2, 16)
        x = 0.4 + 0.2 * torch.rand(6, 16, generator=torch.Generator().manual_seed(0))
        bias = 1 - (x @ weight).min()
        end = down(Linear(weight, bias), x, threshold=threshold, limits=(-9, 9))
        odds = x @ weight + bias - np.log(threshold / (1 - threshold))
        expected = x - odds[:, None] * weight / weight.square().sum()
        torch.testing.assert_close(end, expected, atol=2e-3, rtol=0)
        assert (Linear(weight, bias)(end)[:, 1].exp() < threshold).all()

    @pytest.mark.parametrize(("limits", "scale"), [((0.0, 1.0), 1), ((-50.0, 150.0), 200)])
    def test_budget_is_kept_as_a_share_of_the_range(self, limits, scale):
        weight = torch.ones(16) / scale
        x = torch.full((2, 16), limits[0] + 0.9 * scale)
        end = down(Linear(weight, 100.0), x, eps=0.05, limits=limits)
        np.testing.assert_allclose(rms(end - x), 0.05 * scale, rtol=1e-4)
        # Nothing of it is given back, though the class stays likely.
        torch.testing.assert_close(end, x - 0.05 * scale, rtol=1e-4, atol=1e-4)

    def test_what_is_doubted_already_stays_as_it_is(self):
        x = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
        end = down(Linear(torch.ones(16), -20.0), x)
        torch.testing.assert_close(end, x, rtol=0, atol=0)

    def test_sure_networks_are_brought_to_doubt_too(self):
        # The probability is 1 to the last digit, and its gradient 0.
        weight = torch.linspace(-1, 2, 16) * 200
        x = torch.full((2, 16), 0.5)
        module = Linear(weight, 0.0)
        assert (module(x)[:, 1].exp() == 1).all()
        end = down(module, x)
        assert (module(end)[:, 1].exp() < 0.5).all()
        distance = weight.sum() / 2 / weight.norm()
        np.testing.assert_allclose(rms(end - x), distance / 4, rtol=1e-3)


class TestFromEstimators:
    def test_both_classifiers_come_to_doubt_by_the_least_change(self, plain, classifier):
        nets = {"plain": plain, "augmented": classifier}
        display = PerturbationDisplay.from_estimator(nets, COLOUR[:8], y[:8], eps=1.0)
        np.testing.assert_array_equal(display.start, COLOUR[:8])
        assert display.end.shape == (2, *COLOUR[:8].shape)
        assert display.labels.tolist() == y[:8].tolist()
        rows = np.arange(8), CODES[:8]
        for m, given in enumerate((plain, classifier.estimator_)):
            before = given.predict_proba(FIRST[:8])[rows]
            np.testing.assert_allclose(display.proba_before[m], before, atol=1e-5)
            seen = (np.moveaxis(display.end[m], -1, 1) / 255).astype(np.float32)
            after = given.predict_proba(seen)[rows]
            np.testing.assert_allclose(display.proba_after[m], after, atol=1e-4)
            moved = before >= 0.5
            assert moved.any()
            assert (display.proba_after[m] < 0.5).all()
            # No further than to the border.
            assert (display.proba_after[m][moved] > 0.48).all()
            sizes = rms(display.end[m] - COLOUR[:8])
            assert (sizes[moved] > 0).all()
            assert not sizes[~moved].any()
        assert display.end.min() >= 0
        assert display.end.max() <= 255
        assert not plt.get_fignums()

    def test_threshold_and_budget_are_those_given(self, plain):
        def display(**params):
            return PerturbationDisplay.from_estimator(plain, COLOUR[:8], CODES[:8], **params)

        lower = display(threshold=0.2, eps=1.0)
        assert lower.threshold == 0.2
        assert (lower.proba_after < 0.2).all()
        bound = display(threshold=0.01, eps=2 / 255)
        assert rms((bound.end - COLOUR[:8])[0]).max() <= 2 * (1 + 1e-4)
        assert (bound.proba_after >= 0.01).any()
        assert (bound.proba_after <= bound.proba_before).all()
        one = display(threshold=0.01, eps=0.1, max_iter=1)
        assert rms((one.end - COLOUR[:8])[0]).max() <= 25.5 * (1 + 1e-4)

    def test_floats_keep_their_scale_and_range(self):
        X = (GREY * 30 - 10).astype(np.float64)
        classifier = fitted(augmented(net(max_epochs=25), synthesizer(max_iter=1)), X, y)
        display = PerturbationDisplay.from_estimator(classifier, X[:4], y[:4], eps=1.0)
        assert display.value_range == (-10, 20)
        assert display.start.dtype == np.float64
        assert display.end.shape == (1, 4, 8, 8)
        assert display.end.min() >= -10
        assert display.end.max() <= 20
        assert (display.proba_after < 0.5).all()

    def test_neither_art_nor_gradients_need_be_on(self, plain, monkeypatch):
        expected = PerturbationDisplay.from_estimator(plain, COLOUR[:2], CODES[:2])
        monkeypatch.setitem(sys.modules, "art", None)
        with torch.inference_mode():
            display = PerturbationDisplay.from_estimator(plain, COLOUR[:2], CODES[:2])
        np.testing.assert_array_equal(display.end, expected.end)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "error", "match"),
        [
            ({"X": COLOUR[:40], "y": y[:40]}, ValueError, "PerturbationDisplay draws a column"),
            ({"y": None}, ValueError, "y should be a 1d array"),
            ({"threshold": 1}, ValueError, "threshold must be a probability.* got 1"),
            ({"eps": 4}, ValueError, "eps a fraction.*2/255.* 4"),
        ],
    )
    def test_wrong_inputs_are_named(self, classifier, arguments, error, match):
        given = {"estimator": {"ours": classifier}, "X": COLOUR[:2], "y": y[:2], **arguments}
        with pytest.raises(error, match=match):
            PerturbationDisplay.from_estimator(**given)


def display_of(images, n_classifiers=2, **options):
    n, start = len(images), images
    end = np.stack([start * (0.9 - 0.2 * m) for m in range(n_classifiers)])
    defaults = {
        "start": start,
        "end": end,
        "names": [f"net {m}" for m in range(n_classifiers)],
        "proba_before": np.full((n_classifiers, n), 0.9),
        "proba_after": np.full((n_classifiers, n), 0.49),
    }
    return PerturbationDisplay(**{**defaults, **options})


def drawn(ax):
    (image,) = ax.get_images()
    return image


class TestPlot:
    def test_start_ends_and_differences_have_rows(self):
        display = display_of(GREY[:3], labels=y[:3])
        assert display.plot() is display
        assert display.axes_.shape == (5, 3)
        assert display.figure_.axes[-1] is display.colorbar_.ax
        assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == [
            "start", "net 0\nend", "difference", "net 1\nend", "difference"
        ]  # fmt: skip
        assert [ax.get_title() for ax in display.axes_[0]] == y[:3].tolist()
        for k in range(3):
            np.testing.assert_allclose(drawn(display.axes_[0, k]).get_array(), GREY[k], atol=1e-6)
            for m in range(2):
                end = drawn(display.axes_[1 + 2 * m, k]).get_array()
                np.testing.assert_allclose(end, display.end[m, k], atol=1e-6)

    @pytest.mark.parametrize("kind", ["grey", "colour"])
    def test_differences_are_signed_and_share_a_symmetric_scale(self, kind):
        start = GREY[:3] if kind == "grey" else COLOUR[:3]
        end = np.stack([start[::-1].astype(float), 0.5 * start])
        display = display_of(start, end=end).plot()
        change = end - start
        change = change if kind == "grey" else change.mean(-1)
        assert change.min() < 0 < change.max()
        bound = np.abs(change).max()
        for m in range(2):
            for k, ax in enumerate(display.axes_[2 + 2 * m]):
                np.testing.assert_allclose(drawn(ax).get_array(), change[m, k], atol=1e-6)
                assert drawn(ax).get_clim() == pytest.approx((-bound, bound))
                assert drawn(ax).get_cmap().name == "RdBu_r"
        scale = "0 to 1" if kind == "grey" else "0 to 255, mean over channels"
        assert display.colorbar_.ax.get_ylabel() == f"end − start, pixels of {scale}"

    def test_size_is_the_root_mean_square_in_255ths_of_the_range(self):
        start = COLOUR[:2]
        end = np.stack([start + 3.0, start - np.arange(3.0)])
        axes = display_of(start, end=end).plot().axes_
        assert [ax.get_xlabel() for ax in axes[2]] == ["RMS 3.0/255"] * 2
        assert [ax.get_xlabel() for ax in axes[4]] == ["RMS 1.3/255"] * 2
        wide = display_of(GREY[:2], end=[GREY[:2] + 0.1], names=["a"], proba_before=[[1, 1]],
                          proba_after=[[0, 0]], value_range=(-1, 4)).plot()  # fmt: skip
        assert wide.axes_[2, 0].get_xlabel() == "RMS 5.1/255"

    def test_probabilities_tell_what_was_reached(self):
        display = display_of(
            GREY[:3],
            1,
            proba_before=[[0.98, 0.99, 0.3]],
            proba_after=[[0.499, 0.7, 0.3]],
            threshold=0.5,
        ).plot()
        titles = [ax.title for ax in display.axes_[1]]
        assert [t.get_text() for t in titles] == ["p 0.98 → 0.50", "p 0.99 → 0.70 ≥ 0.5",
                                                  "p 0.30 < 0.5"]  # fmt: skip
        assert [to_hex(t.get_color()) for t in titles] == ["#000000", "#d55e00", "#000000"]
