import numpy as np
import pytest
from helpers.image_cases import cases, synthesizer_of, y
from helpers.saved_files import TABLE
from matplotlib.colors import to_hex
from sklearn.exceptions import NotFittedError

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.inspection._sample_displays import SynthesisDisplay


@pytest.fixture
def images():
    """Twenty colour images (n, 12, 10, 3), uint8, of which each has a level of its own."""
    rng = np.random.default_rng(0)
    levels = np.arange(20)[:, None, None, None] * 10
    return (levels + rng.integers(0, 60, (20, 12, 10, 3))).astype(np.uint8)


def display_of(source, synthetic, **options):
    n = len(source)
    defaults = {
        "uncertainty_source": np.linspace(0.01, 0.02, n),
        "uncertainty": np.linspace(0.1, 0.2, n),
        "label_agreement": np.ones(n, bool),
    }
    return SynthesisDisplay(source, synthetic, **(defaults | options))


def drawn(ax):
    (image,) = ax.get_images()
    return image


class TestFromEstimator:
    def test_sample_stands_beside_its_sources(self, case):
        params = {"y": int(y[0]), "random_state": 3}
        display = SynthesisDisplay.from_estimator(case.fitted, case.X, n_samples=5, **params)
        X_new, y_new, info = synthesizer_of(case.fitted).sample(5, return_info=True, **params)
        flat = display.source.reshape(5, -1), display.synthetic.reshape(5, -1)
        # Whatever the layout, (n, H, W) or (n, H, W, C), and nothing else about it.
        for shown, expected in zip(flat, (case.X[info.source_index], X_new), strict=True):
            expected = np.sort(expected.reshape(5, -1), axis=1)
            np.testing.assert_array_equal(np.sort(shown, axis=1), expected)
        assert display.source.shape[1:] in ((8, 8), (8, 7, 3))
        for name in ("uncertainty_source", "uncertainty", "label_agreement"):
            np.testing.assert_array_equal(getattr(display, name), info[name])
        np.testing.assert_array_equal(display.labels, y_new)
        # All images, so that pictures of different samples can be compared.
        assert display.value_range == (case.X.min(), case.X.max())
        assert all(isinstance(value, np.ndarray | tuple) for value in vars(display).values())

    def test_wrong_inputs_are_named(self, table):
        with pytest.raises(ValueError, match=r"Synthesizer was fitted on a table.*image_shape"):
            SynthesisDisplay.from_estimator(table, TABLE[:80])
        case = cases("TargetedSynthesizer", "HWC")
        with pytest.raises(ValueError, match=r"rows of shape \(8, 7\)"):
            SynthesisDisplay.from_estimator(case.fitted, case.X[..., 0])
        with pytest.raises(ValueError, match=r"X has 2 images, but row .*whole X of fit"):
            SynthesisDisplay.from_estimator(case.fitted, case.X[:2])
        with pytest.raises(NotFittedError):
            SynthesisDisplay.from_estimator(TargetedSynthesizer(), case.X)


class TestPlot:
    def test_sources_and_synthetic_images_are_in_colour(self, images):
        display = display_of(images[:2], images[2:4]).plot()
        assert display.axes_.shape == (3, 2)
        assert display.colorbar_.ax is display.figure_.axes[-1]
        names = [ax.get_ylabel() for ax in display.axes_[:, 0]]
        assert names == ["source", "synthetic", "difference"]
        for row, shown in zip(display.axes_, (images[:2], images[2:4]), strict=False):
            for ax, image in zip(row, shown, strict=True):
                np.testing.assert_allclose(drawn(ax).get_array(), image / 255, atol=1e-6)

    @pytest.mark.parametrize(
        ("value_range", "low", "high"), [(None, 0, 255), ((-50, 300), -50, 300), ((80, 90), 80, 90)]
    )
    def test_grey_images_share_their_limits(self, images, value_range, low, high):
        source, synthetic = images[:3, ..., 0], images[10:13, ..., 0]
        axes = display_of(source, synthetic, value_range=value_range).plot().axes_
        for row, shown in zip(axes, (source, synthetic), strict=False):
            for ax, image in zip(row, shown, strict=True):
                assert drawn(ax).get_cmap().name == "gray"
                assert drawn(ax).get_clim() == (0, 1)
                expected = np.clip((image - float(low)) / (high - low), 0, 1)
                np.testing.assert_allclose(drawn(ax).get_array(), expected, atol=1e-6)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_unusual_channels_are_averaged_to_grey(self, images, channels):
        source = np.concatenate([images, images[::-1]], axis=-1)[:3, ..., :channels]
        axes = display_of(source, source).plot().axes_
        for ax, image in zip(axes[0], source, strict=True):
            np.testing.assert_allclose(drawn(ax).get_array(), image.mean(axis=-1) / 255, atol=1e-6)

    def test_differences_are_signed_and_symmetric_over_the_figure(self, images):
        source, synthetic = images[10:14], images[[9, 10, 11, 16]]
        display = display_of(source, synthetic).plot()
        expected = (synthetic.astype(float) - source).mean(axis=-1)
        assert expected.min() < 0 < expected.max()
        bound = np.abs(expected).max()
        for ax, difference in zip(display.axes_[2], expected, strict=True):
            np.testing.assert_allclose(drawn(ax).get_array(), difference)
            assert drawn(ax).get_clim() == pytest.approx((-bound, bound))
            assert drawn(ax).get_cmap().name == "RdBu_r"
        assert (display.colorbar_.vmin, display.colorbar_.vmax) == pytest.approx((-bound, bound))
        assert display.colorbar_.ax.get_ylabel() == "synthetic − source,\npixels of 0 to 255"

    def test_equal_images_differ_by_white(self, images):
        display = display_of(images[:2], images[:2]).plot()
        assert drawn(display.axes_[2, 0]).get_clim() == (-1, 1)
        display.figure_.canvas.draw()

    def test_every_column_says_what_happened(self, images):
        display = display_of(
            images[:2],
            images[2:4],
            uncertainty_source=[0.012, 0.3],
            uncertainty=[0.0944, 0.25],
            label_agreement=[True, False],
            labels=[7, "normal, benign"],
        ).plot()
        (top, middle, bottom) = display.axes_
        assert [ax.get_title() for ax in top] == ["class 7", "normal, benign"]
        assert [ax.get_title() for ax in middle] == ["label agreed", "label denied"]
        assert [to_hex(ax.title.get_color()) for ax in middle] == ["#000000", "#d55e00"]
        assert [" ".join(ax.get_xlabel().split()) for ax in bottom] == [
            "MI 0.012 → 0.094 nats",
            "MI 0.300 → 0.250 nats",
        ]
