"""What all displays have in common."""

import inspect
import pickle
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.figures import assert_nothing_overlaps
from matplotlib.figure import Figure

from tsynd_sk import inspection
from tsynd_sk.images._format import ImageFormat
from tsynd_sk.inspection._ascent_display import AscentDisplay
from tsynd_sk.inspection._classifier_displays import AttributionDisplay, PerturbationDisplay
from tsynd_sk.inspection._drawing import as_displayed
from tsynd_sk.inspection._forest_displays import RobustnessDisplay
from tsynd_sk.inspection._sample_displays import LatentDisplay, SynthesisDisplay
from tsynd_sk.inspection._uncertainty_display import UncertaintyDisplay

LABEL = "malignant, stage 3"
KINDS = (
    "synthesis",
    "ascent",
    "attribution",
    "perturbation",
    "latent",
    "robustness",
    "uncertainty",
)
OF_IMAGES, OF_PANELS = KINDS[:4], KINDS[5:]


def display_of(kind, n=2, shape=(6, 6), m=2):
    """Make a display of `n` images, of `m` classifiers or sets, with labels as long as can be."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((n, *shape)), [LABEL] * n
    maps, names = rng.random((m, n, *shape)), [f"{k} standard + targeted" for k in range(m)]
    if kind == "synthesis":
        means = np.full(n, 0.1)
        return SynthesisDisplay(
            images,
            images[::-1],
            uncertainty_source=means,
            uncertainty=means,
            label_agreement=means > 0,
            labels=labels,
        )
    if kind == "ascent":
        return AscentDisplay(
            rng.random((n, 11)),
            rng.random((n, 11)) < 0.5,
            chosen=[-1] * n,
            uncertainty_source=[0.1] * n,
            uncertainty_synthetic=[0.2] * n,
            source=images,
            synthetic=images,
            iterates=rng.random((n, 5, *shape)),
            steps=[0, 2, 5, 8, 10],
            labels=labels,
        )
    if kind == "attribution":
        proba, all_labels = np.ones((m, n)), np.full((m, n), LABEL)
        return AttributionDisplay(images, maps, names=names, labels=all_labels, proba=proba)
    if kind == "perturbation":
        return PerturbationDisplay(
            images,
            maps,
            names=names,
            proba_before=np.ones((m, n)),
            proba_after=np.full((m, n), 0.7),
            labels=labels,
            threshold=0.5,
        )
    if kind == "latent":
        classes = [f"malignant, stage {i}" for i in range(2 * n)]
        real = rng.normal(0, [9, 1], (2 * n, 2))
        return LatentDisplay(
            real, classes, source=real[:2], synthetic=-real[:2], labels_synthetic=classes[:2]
        )
    if kind == "robustness":
        scores, names = np.full((2, m), 0.8), [f"{k} long name of an estimator" for k in range(m)]
        return RobustnessDisplay(
            scores,
            low=scores - 0.1,
            high=scores + 0.1,
            conditions=["clean", "corrupted"],
            names=names,
            metric="roc_auc",
            differences=scores / 10,
            difference_low=scores / 10 - 0.1,
            difference_high=scores / 10 + 0.1,
            p_holm=scores,
            reference=names[0],
        )
    sets = {f"hospital number {i}": np.geomspace(1e-5, 0.5, 30) for i in range(m)}
    return UncertaintyDisplay(sets, {name: np.arange(30) % 3 > 0 for name in sets})


@pytest.mark.parametrize("kind", KINDS)
def test_plot_makes_a_figure_in_which_nothing_overlaps(kind):
    figure, ax = plt.subplots()
    display = display_of(kind)
    assert display.plot() is display
    assert display.figure_ is not figure
    assert display.ax_.get_figure() is display.figure_
    assert_nothing_overlaps(display.figure_)
    # The current axes of others are left alone.
    assert figure.axes == [ax]
    assert not ax.has_data()


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("shape", [(28, 28), (16, 64), (40, 20)])
@pytest.mark.parametrize("kind", OF_IMAGES)
def test_nothing_overlaps_for_images_of_any_shape_and_number(kind, shape, n):
    display = display_of(kind, n, shape).plot()
    assert_nothing_overlaps(display.figure_)
    # Pictures of a thumbnail's size would not be readable.
    box = display.axes_[0, 0].get_window_extent()
    assert max(box.width, box.height) > 75


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("kind", ["robustness", "uncertainty"])
def test_nothing_overlaps_for_few_or_many_sets(kind, m):
    assert_nothing_overlaps(display_of(kind, m=m).plot().figure_)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 15])
def test_nothing_overlaps_for_few_or_many_classes(n):
    assert_nothing_overlaps(display_of("latent", n).plot().figure_)


@pytest.mark.parametrize("kind", [*OF_IMAGES, *OF_PANELS])
def test_several_axes_are_made_in_the_place_of_one(kind):
    figure = Figure(figsize=(12, 8))
    left, right = figure.subplots(1, 2)
    display = display_of(kind).plot(right)
    figure.canvas.draw()
    middle = figure.bbox.width / 2
    assert min(ax.get_window_extent().x0 for ax in display.figure_.axes) > middle
    assert left.axison
    assert not right.axison
    with pytest.raises(ValueError, match="both given"):
        display_of(kind).plot(left, figure=figure)
    with pytest.raises(ValueError, match="one of a grid of subplots"):
        display_of(kind).plot(figure.add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize("kind", OF_PANELS)
def test_panels_are_drawn_on_axes_that_are_given(kind):
    left, right = Figure().subfigures(1, 2)
    axes = right.subplots(2, 1)
    display = display_of(kind).plot(axes)
    assert display.figure_ is right
    assert list(display.axes_) == list(axes)
    assert not left.axes
    with pytest.raises(ValueError, match=r"ax must be one of .* or 2 axes; got 3"):
        display_of(kind).plot(left.subplots(1, 3))


@pytest.mark.parametrize("kind", [*OF_IMAGES, *OF_PANELS])
def test_given_figure_is_drawn_on_and_pyplot_left_alone(kind):
    left, right = Figure().subfigures(1, 2)
    assert display_of(kind).plot(figure=right).figure_ is right
    assert right.axes
    assert not left.axes
    assert not plt.get_fignums()


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_display_draws_the_same(kind):
    display = display_of(kind)
    again = pickle.loads(pickle.dumps(display)).plot()
    assert len(again.figure_.axes) == len(display.plot().figure_.axes)


@pytest.mark.parametrize("kind", KINDS)
def test_without_matplotlib_the_extra_is_named(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "tsynd_sk\[plot\]"'):
        display_of(kind).plot()


@pytest.mark.parametrize(
    "name", [name for name in inspection.__all__ if inspect.isclass(getattr(inspection, name))]
)
def test_classes_follow_the_convention_of_scikit_learn(name):
    cls = getattr(inspection, name)
    # Comparisons have many estimators.
    assert callable(getattr(cls, "from_estimator", None) or cls.from_differences)
    parameter = list(inspect.signature(cls.plot).parameters.values())[1]
    assert (parameter.name, parameter.default) == ("ax", None)
    assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    for attribute in ("figure_", "ax_"):
        assert re.search(rf"^    (\w+, )?{attribute}(, \w+)? :", cls.__doc__, re.M)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["hw", "hwc", "chw", "flat hwc", "flat hw", "1hw"])
def test_every_layout_becomes_what_matplotlib_shows(layout, dtype):
    expected = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3)).astype(dtype)
    if layout.endswith("hw") and layout != "chw":
        expected = expected[..., 0]
    X, image_shape = expected, None
    if layout == "chw":
        X = np.moveaxis(expected, -1, 1)
    elif layout == "1hw":
        X = expected[:, np.newaxis]
    elif layout.startswith("flat"):
        X, image_shape = expected.reshape(4, -1), expected.shape[1:]
    shown = as_displayed(X, ImageFormat.infer(X, image_shape))
    assert shown.dtype == dtype
    np.testing.assert_array_equal(shown, expected)
