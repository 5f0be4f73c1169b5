import inspect
import pickle
import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch

from tsynd_sk import inspection
from tsynd_sk.images._format import ImageFormat
from tsynd_sk.inspection._ascent_display import AscentDisplay
from tsynd_sk.inspection._attribution_display import AttributionDisplay
from tsynd_sk.inspection._perturbation_display import PerturbationDisplay
from tsynd_sk.inspection._synthesis_display import SynthesisDisplay
from tsynd_sk.inspection._uncertainty_display import UncertaintyDisplay


class StubSynthesizer(BaseEstimator):
    """Darkens the rows of its training images in reverse order."""

    def fit(self, X, image_shape=None):
        self.X_ = X
        self.format_ = ImageFormat.infer(X, image_shape)
        self.image_shape_ = self.format_.image_shape
        return self

    def sample(self, n_samples=1, *, y=None, random_state=None, return_info=False):
        self.called_with_ = {"n_samples": n_samples, "y": y, "random_state": random_state}
        assert return_info
        source_index = np.arange(len(self.X_))[::-1][:n_samples]
        X_new = (self.X_[source_index] * 0.5).astype(self.X_.dtype)
        info = Bunch(
            source_index=source_index,
            uncertainty_source=0.012 + 0.01 * np.arange(n_samples),
            uncertainty=0.094 + 0.01 * np.arange(n_samples),
            displacement=np.full(n_samples, 0.5),
            reconstruction_error=np.zeros(n_samples),
            label_agreement=np.arange(n_samples) % 3 != 1,
        )
        return X_new, source_index % 2, info


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


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
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    @pytest.mark.parametrize("layout", ["hw", "hwc", "chw", "flat hwc", "flat hw", "1hw"])
    def test_every_layout_becomes_what_matplotlib_shows(self, images, layout, dtype):
        expected = images.astype(dtype)
        if layout.endswith("hw") and layout != "chw":
            expected = expected[..., 0]
        X, image_shape = expected, None
        if layout == "chw":
            X = np.moveaxis(expected, -1, 1)
        elif layout == "1hw":
            X = expected[:, np.newaxis]
        elif layout.startswith("flat"):
            X, image_shape = expected.reshape(20, -1), expected.shape[1:]
        display = SynthesisDisplay.from_estimator(StubSynthesizer().fit(X, image_shape), X)
        assert display.source.dtype == dtype
        np.testing.assert_array_equal(display.source, expected[::-1][:8])
        np.testing.assert_array_equal(display.synthetic, (expected[::-1][:8] * 0.5).astype(dtype))

    def test_sample_is_asked_and_its_answer_stored(self, images):
        synthesizer = StubSynthesizer().fit(images)
        display = SynthesisDisplay.from_estimator(
            synthesizer, images, n_samples=5, y="rare", random_state=3
        )
        assert synthesizer.called_with_ == {"n_samples": 5, "y": "rare", "random_state": 3}
        np.testing.assert_allclose(display.uncertainty_source, 0.012 + 0.01 * np.arange(5))
        np.testing.assert_allclose(display.uncertainty, 0.094 + 0.01 * np.arange(5))
        assert display.label_agreement.tolist() == [True, False, True, True, False]
        assert display.labels.tolist() == [1, 0, 1, 0, 1]
        assert not plt.get_fignums()

    def test_display_holds_arrays_and_no_estimator(self, images):
        display = SynthesisDisplay.from_estimator(StubSynthesizer().fit(images), images)
        assert all(isinstance(value, np.ndarray | tuple) for value in vars(display).values())

    def test_range_is_that_of_the_type_or_of_all_images(self, images):
        def value_range(X):
            return SynthesisDisplay.from_estimator(StubSynthesizer().fit(X), X).value_range

        assert value_range(images) == (0, 255)
        floats = images / 100 - 1
        assert value_range(floats) == (floats.min(), floats.max())

    def test_classifier_lends_its_synthesizer(self, images):
        classifier = Bunch(synthesizer_=StubSynthesizer().fit(images))
        display = SynthesisDisplay.from_estimator(classifier, images, n_samples=3)
        np.testing.assert_array_equal(display.source, images[::-1][:3])

    def test_tables_are_refused_with_the_way_out(self, images):
        table = images.reshape(20, -1)
        synthesizer = StubSynthesizer().fit(table)
        with pytest.raises(ValueError, match=r"StubSynthesizer was fitted on a table.*image_shape"):
            SynthesisDisplay.from_estimator(synthesizer, table)
        assert not hasattr(synthesizer, "called_with_")

    def test_other_images_than_in_fit_are_refused(self, images):
        synthesizer = StubSynthesizer().fit(images)
        with pytest.raises(ValueError, match=r"rows of shape \(12, 10\).*\(12, 10, 3\)"):
            SynthesisDisplay.from_estimator(synthesizer, images[..., 0])
        with pytest.raises(ValueError, match=r"X has 12 images, but row 19 .*whole X of fit"):
            SynthesisDisplay.from_estimator(synthesizer, images[:12])

    def test_unfitted_is_refused(self, images):
        with pytest.raises(NotFittedError, match="StubSynthesizer"):
            SynthesisDisplay.from_estimator(StubSynthesizer(), images)


class TestPlot:
    def test_one_column_a_sample_and_three_rows(self, images):
        display = display_of(images[:5], images[5:10])
        assert display.plot() is display
        assert display.axes_.shape == (3, 5)
        assert len(display.figure_.axes) == 15 + 1
        assert display.colorbar_.ax is display.figure_.axes[-1]
        assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == [
            "source",
            "synthetic",
            "difference",
        ]

    def test_colour_images_are_shown_in_their_range(self, images):
        axes = display_of(images[:2], images[2:4]).plot().axes_
        for row, shown in zip(axes, (images[:2], images[2:4]), strict=False):
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

    def test_floats_without_range_span_both_rows(self, images):
        source, synthetic = images[:2, ..., 0] / 7.0, images[10:12, ..., 0] / 7.0
        axes = display_of(source, synthetic).plot().axes_
        assert min(drawn(ax).get_array().min() for ax in axes[0]) == 0
        assert max(drawn(ax).get_array().max() for ax in axes[1]) == pytest.approx(1)
        assert max(drawn(ax).get_array().max() for ax in axes[0]) < 0.6

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

    def test_labels_are_optional_and_shortened(self, images):
        two = images[:2], images[2:4]
        assert display_of(*two).plot().axes_[0, 0].get_title() == ""
        names = ["moderate nonproliferative", "x" * 18]
        axes = display_of(*two, labels=names).plot().axes_
        assert [ax.get_title() for ax in axes[0]] == ["moderate nonproli…", "x" * 18]

    @pytest.mark.parametrize("n", [1, 4, 8, 12])
    @pytest.mark.parametrize("shape", [(28, 28), (16, 64), (40, 20)])
    def test_nothing_overlaps_or_leaves_the_figure(self, n, shape):
        X = np.random.default_rng(0).random((n, *shape))
        display = display_of(X, X[::-1], labels=["malignant, stage 3"] * n).plot()
        display.figure_.canvas.draw()
        boxes = [ax.get_window_extent() for ax in display.axes_.flat]
        boxes += [
            text.get_window_extent()
            for ax in display.axes_.flat
            for text in (ax.title, ax.xaxis.label, ax.yaxis.label)
            if text.get_text()
        ]
        boxes.append(display.colorbar_.ax.get_tightbbox())
        for i, box in enumerate(boxes):
            # Labels may come within a pixel of the images' frames.
            inner = box.padded(-1)
            assert display.figure_.bbox.padded(1).containsx(inner.x0)
            assert display.figure_.bbox.padded(1).containsx(inner.x1)
            assert display.figure_.bbox.padded(1).containsy(inner.y0)
            assert display.figure_.bbox.padded(1).containsy(inner.y1)
            assert inner.count_overlaps(boxes[i + 1 :]) == 0
        # Pictures of a thumbnail's size would not be readable.
        assert min(max(box.width, box.height) for box in boxes[: 3 * n]) > 75

    def test_given_figure_is_drawn_on_and_pyplot_left_alone(self, images):
        figure = Figure()
        left, right = figure.subfigures(1, 2)
        first = display_of(images[:2], images[2:4]).plot(figure=left)
        second = display_of(images[:3], images[2:5]).plot(figure=right)
        assert first.figure_ is left
        assert len(left.axes), len(right.axes) == (7, 10)
        assert second.axes_.shape == (3, 3)
        assert not plt.get_fignums()

    def test_new_figure_leaves_the_current_axes_of_others_alone(self, images):
        figure, ax = plt.subplots()
        display_of(images[:2], images[2:4]).plot()
        assert figure.axes == [ax]
        assert not ax.has_data()

    def test_without_matplotlib_the_extra_is_named(self, images, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match=r'pip install "tsynd_sk\[plot\]"'):
            display_of(images[:2], images[2:4]).plot()

    def test_images_are_left_as_they_are(self, images):
        source, synthetic = images[:2].copy(), images[2:4].copy()
        display_of(source, synthetic).plot()
        np.testing.assert_array_equal(source, images[:2])
        np.testing.assert_array_equal(synthetic, images[2:4])

    def test_pickled_display_draws_the_same(self, images):
        display = pickle.loads(pickle.dumps(display_of(images[:2], images[2:4])))
        assert display.plot(figure=Figure()).axes_.shape == (3, 2)


def test_room_of_displays_has_them_all_and_nothing_else():
    names = [name for name in vars(inspection) if not name.startswith("_")]
    assert sorted(names) == sorted(inspection.__all__)
    assert all(hasattr(getattr(inspection, name), "plot") for name in names)


def displays():
    """One of each kind that draws several axes, of arrays alone."""
    rng = np.random.default_rng(0)
    images, maps = rng.random((3, 6, 6)), rng.random((2, 3, 6, 6))
    two = ["plain", "augmented"]
    return {
        "synthesis": SynthesisDisplay(
            images,
            images[::-1],
            uncertainty_source=[0.1] * 3,
            uncertainty=[0.2] * 3,
            label_agreement=[True] * 3,
        ),
        "ascent": AscentDisplay(
            rng.random((3, 4)),
            label_agreement=np.ones((3, 4), bool),
            chosen=[1, 2, 3],
            uncertainty_source=[0.1] * 3,
            uncertainty_synthetic=[0.2] * 3,
        ),
        "uncertainty": UncertaintyDisplay({"test": rng.random(9)}, {"test": rng.random(9) < 0.5}),
        "attribution": AttributionDisplay(images, maps, names=two),
        "perturbation": PerturbationDisplay(
            images, maps, names=two, proba_before=np.ones((2, 3)), proba_after=np.zeros((2, 3))
        ),
    }


class TestAllDisplays:
    @pytest.mark.parametrize("kind", displays())
    def test_are_drawn_in_the_place_of_an_ax(self, kind):
        figure = Figure(figsize=(12, 8))
        left, right = figure.subplots(1, 2)
        display = displays()[kind].plot(right)
        assert display.figure_.figure is not None
        assert display.ax_ in np.ravel(display.axes_) or kind == "ascent"
        figure.canvas.draw()
        middle = figure.bbox.width / 2
        drawn = [ax.get_window_extent().x0 for ax in display.figure_.axes]
        assert drawn
        assert min(drawn) > middle
        assert left.axison
        assert not right.axison

    @pytest.mark.parametrize("kind", displays())
    def test_say_where_they_cannot_be_drawn(self, kind):
        figure = Figure()
        with pytest.raises(ValueError, match="both given"):
            displays()[kind].plot(figure.subplots(), figure=figure)
        if kind != "uncertainty":
            with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None, got a str"):
                displays()[kind].plot("here")
        with pytest.raises(ValueError, match="one of a grid of subplots"):
            displays()[kind].plot(figure.add_axes((0, 0, 1, 1)))

    @pytest.mark.parametrize("name", inspection.__all__)
    def test_follow_the_convention_of_scikit_learn(self, name):
        cls = getattr(inspection, name)
        assert callable(cls.from_estimator)
        parameter = list(inspect.signature(cls.plot).parameters.values())[1]
        assert (parameter.name, parameter.default) == ("ax", None)
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        for attribute in ("figure_", "ax_"):
            assert f"    {attribute} :" in cls.__doc__
