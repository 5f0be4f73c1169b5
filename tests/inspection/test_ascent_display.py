import pickle
import re
import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.image_cases import Case, cases, synthesizer_of, y
from helpers.saved_files import TABLE
from helpers.tiny_nets import y as table_labels
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tsynd_sk.inspection._ascent_display import AscentDisplay


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def display_of(**params):
    """Two ascents of two steps, the first of which was over after one, with their images."""
    arguments = {
        "uncertainty": np.array([[0.1, 0.2, np.nan], [0.1, 0.3, 0.4]]),
        "label_agreement": np.array([[True, True, False], [True, False, False]]),
        "chosen": np.array([1, 0]),
        "uncertainty_source": np.array([0.01, 0.02]),
        "uncertainty_synthetic": np.array([0.2, 0.1]),
        "source": np.zeros((2, 4, 4)),
        "synthetic": np.ones((2, 4, 4)),
        "iterates": np.full((2, 2, 4, 4), 0.5),
        "steps": np.array([[0, 1], [0, 2]]),
        "labels": np.array(["cat", "dog"]),
    }
    return AscentDisplay(**{**arguments, **params})


def line(ax, colour, style="-"):
    """Values of the lines of a colour, in the order that they were drawn."""
    return [
        each.get_xydata().tolist()
        for each in ax.lines
        if to_hex(each.get_color()) == colour and each.get_linestyle() == style
    ]


def markers(ax, colour):
    return {
        (round(float(x), 3), round(float(value), 3)): to_hex(each.get_markerfacecolor())
        for each in ax.lines
        if each.get_marker() == "o" and to_hex(each.get_color()) == colour
        for x, value in each.get_xydata()
    }


def star(ax, i=-1):
    (found,) = [each for each in ax.lines if each.get_marker() == "*"][i:][:1]
    return *found.get_xydata()[0].tolist(), to_hex(found.get_markerfacecolor())


class TestFromEstimator:
    def test_ascents_are_those_of_synthesize(self, case):
        display = AscentDisplay.from_estimator(case.fitted, case.X[:6], y[:6], random_state=3)
        synthesizer = synthesizer_of(case.fitted)
        X_new, y_new, info = synthesizer.synthesize(
            case.X[:6], y[:6], random_state=3, return_info=True
        )
        np.testing.assert_array_equal(display.uncertainty_synthetic, info.uncertainty)
        np.testing.assert_array_equal(display.uncertainty_source, info.uncertainty_source)
        np.testing.assert_array_equal(display.labels, y_new)
        # Whatever the layout, (n, H, W) or (n, H, W, C), and nothing else about it.
        flat = np.sort(X_new[:3].reshape(3, -1), axis=1)
        np.testing.assert_array_equal(np.sort(display.synthetic.reshape(3, -1), axis=1), flat)
        flat = np.sort(case.X[:3].reshape(3, -1), axis=1)
        np.testing.assert_array_equal(np.sort(display.source.reshape(3, -1), axis=1), flat)
        assert display.source.shape == display.synthetic.shape == (3, *display.iterates.shape[2:])
        assert display.source.shape[1:] in ((8, 8), (8, 7, 3))
        assert display.source.dtype == display.iterates.dtype == case.X.dtype
        assert not plt.get_fignums()

    @pytest.mark.parametrize("policy", ["keep", "constrain"])
    def test_chosen_is_the_best_step_that_the_policy_admits(self, frozen, policy):
        given = frozen(label_policy=policy, radius=1.0)
        X, labels = given._X[:40], given._y[:40]
        display = AscentDisplay.from_estimator(given, X, labels, random_state=0)
        on_the_way = display.chosen >= 0
        assert on_the_way.sum() >= 20
        admitted = display.label_agreement | (policy == "keep")
        best = np.where(admitted, np.nan_to_num(display.uncertainty), -1)
        for i in np.flatnonzero(on_the_way & admitted.any(axis=1)):
            assert display.uncertainty[i, display.chosen[i]] == display.uncertainty_synthetic[i]
            assert best[i, display.chosen[i]] == best[i].max()
        assert (~display.label_agreement).any()

    def test_what_is_mended_is_no_step(self):
        case = cases("TargetedSynthesizer", "HW")
        given = case.copy().set_params(max_iter=1, radius=3.0, label_policy="constrain")
        wrong = (y + 1) % 3
        display = AscentDisplay.from_estimator(given, case.X, wrong, random_state=0)
        off = display.chosen == -1
        assert 0 < off.sum() < len(off)
        on = np.flatnonzero(~off)
        chosen = display.uncertainty[on, display.chosen[on]]
        np.testing.assert_array_equal(chosen, display.uncertainty_synthetic[on])
        assert not display.label_agreement[off].any()

    def test_images_are_those_of_the_steps_named(self, digits_synthesizer):
        X, labels = digits_synthesizer._X[:5], digits_synthesizer._y[:5]
        some, every = (
            AscentDisplay.from_estimator(
                digits_synthesizer, X, labels, n_steps_shown=n, n_sources_shown=5, random_state=0
            )
            for n in (3, 99)
        )
        assert some.iterates.shape == (5, 3, 8, 8)
        lasts = np.isfinite(some.uncertainty).sum(axis=1) - 1
        assert some.steps[:, 0].tolist() == [0] * 5
        assert some.steps[:, -1].tolist() == lasts.tolist()
        assert every.iterates.shape[1] == lasts.min() + 1
        for i, steps in enumerate(every.steps):
            for images, step in zip(some.iterates[i], some.steps[i], strict=True):
                if step in steps:
                    there = every.iterates[i, steps.tolist().index(step)]
                    np.testing.assert_array_equal(images, there)
            if (chosen := every.chosen[i]) in steps:
                there = every.iterates[i, steps.tolist().index(chosen)]
                np.testing.assert_array_equal(there, every.synthetic[i])

    def test_many_ascents_are_those_of_few(self, digits_synthesizer):
        X, labels = digits_synthesizer._X[:50], digits_synthesizer._y[:50]
        display = AscentDisplay.from_estimator(digits_synthesizer, X, labels, random_state=1)
        info = digits_synthesizer.synthesize(X, labels, random_state=1, return_info=True)[2]
        # Batches of another size change rounding.
        np.testing.assert_allclose(display.uncertainty_synthetic, info.uncertainty, atol=1e-4)
        assert len(display.uncertainty) == 50
        assert len(display.source) == 3

    @pytest.mark.parametrize(("objective", "n_points"), [("reconstruction", 1), ("random", 3)])
    def test_controls_have_a_way_of_their_own(self, objective, n_points):
        case = cases("TargetedSynthesizer", "HWC")
        given = case.copy().set_params(objective=objective)
        display = AscentDisplay.from_estimator(given, case.X[:2], y[:2])
        assert display.uncertainty.shape == (2, n_points)
        display.plot(figure=Figure())

    def test_tables_have_lines_alone(self, table):
        display = AscentDisplay.from_estimator(table, TABLE[:8], table_labels[:8])
        assert display.iterates is display.source is None
        display.plot(figure=Figure())
        assert display.axes_.size == 0
        assert len(display.figure_.axes) == 1

    def test_estimator_is_left_as_it_is(self):
        case = cases("AugmentedClassifier", "CHW")
        AscentDisplay.from_estimator(case.fitted, case.X[:3], y[:3])
        answers = case.answers(case.fitted)
        for name, values in case.expected.items():
            np.testing.assert_array_equal(answers[name], values, err_msg=name)

    @pytest.mark.parametrize(
        ("name", "wrong", "error", "message"),
        [
            ("estimator", None, TypeError, "estimator must be a fitted Targeted.* got a NoneType"),
            ("X", np.zeros((3, 5, 5)), ValueError, r"rows of shape \(5, 5\)"),
            ("y", [0, 1], ValueError, "inconsistent numbers of samples"),
            ("y", [0, 1, 9], ValueError, r"not seen in fit: \[9\]"),
            ("n_sources_shown", 0, ValueError, "n_sources_shown must be an int of at least 1"),
            ("n_sources_shown", 7, ValueError, "n_sources_shown must be at most 6"),
            ("n_steps_shown", 2.0, TypeError, "n_steps_shown must be an int"),
            ("random_state", "now", ValueError, "random_state"),
        ],
    )
    def test_wrong_inputs_are_named(self, name, wrong, error, message):
        case = cases("TargetedSynthesizer", "HW")
        arguments = {"estimator": case.fitted, "X": case.X[:3], "y": y[:3], name: wrong}
        with pytest.raises(error, match=message):
            AscentDisplay.from_estimator(**arguments)

    def test_unfitted_is_refused(self):
        with pytest.raises(NotFittedError):
            AscentDisplay.from_estimator(clone(Case("TargetedSynthesizer", "HW").unfitted), [], [])


class TestPlot:
    def test_lines_go_from_the_source_over_all_steps(self):
        display = display_of()
        assert display.plot() is display
        ax = display.ax_
        assert line(ax, "#0072b2") == [[[0, 0.1], [1, 0.2]]]
        assert line(ax, "#e69f00") == [[[0, 0.1], [1, 0.3], [2, 0.4]]]
        assert line(ax, "#0072b2", ":") == [[[-1, 0.01], [0, 0.1]]]
        assert ax.get_xlabel() == "ascent step"
        assert ax.get_ylabel() == "mutual information (nats)"
        assert [text.get_text() for text in ax.get_xticklabels()] == ["source", "0", "1", "2"]

    def test_markers_tell_denied_labels_and_what_was_chosen(self):
        ax = display_of(chosen=np.array([1, 2])).plot().ax_
        assert markers(ax, "#0072b2") == {(0, 0.1): "#0072b2", (1, 0.2): "#0072b2"}
        assert markers(ax, "#e69f00") == {
            (0, 0.1): "#e69f00",
            (1, 0.3): "#ffffff",
            (2, 0.4): "#ffffff",
        }
        assert star(ax, -1) == (1, 0.2, "#0072b2")
        assert star(ax, -2) == (2, 0.1, "#ffffff")
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == ["cat", "dog", "label agreed", "label denied", "chosen"]

    def test_mended_image_stands_aside_of_the_steps(self):
        display = display_of(chosen=np.array([-1, 0])).plot()
        assert star(display.ax_) == (3, 0.2, "#0072b2")
        assert line(display.ax_, "#0072b2", ":")[-1] == [[1, 0.2], [3, 0.2]]
        assert display.ax_.get_xticklabels()[-1].get_text() == "mended"
        assert display.axes_[0, -1].get_title() == "mended"

    def test_images_say_where_they_are_from(self):
        axes = display_of().plot().axes_
        assert axes.shape == (2, 4)
        assert [ax.get_title() for ax in axes[0]] == ["source", "step 0", "step 1", "chosen: 1"]
        assert [ax.get_title() for ax in axes[1]][1:] == ["step 0", "step 2, denied", "chosen: 0"]
        assert [ax.get_xlabel() for ax in axes[1]] == [
            f"{value} nats" for value in ("0.02", "0.1", "0.4", "0.1")
        ]
        assert [ax.get_ylabel() for ax in axes[:, 0]] == ["cat", "dog"]
        shown = [ax.get_images()[0].get_array().mean() for ax in axes[0]]
        assert shown == [0, 0.5, 0.5, 1]

    def test_colour_images_are_in_colour(self):
        pictures = {name: np.zeros((2, 4, 5, 3), np.uint8) for name in ("source", "synthetic")}
        iterates = np.full((2, 2, 4, 5, 3), [255, 51, 0], np.uint8)
        axes = display_of(**pictures, iterates=iterates).plot().axes_
        np.testing.assert_allclose(axes[0, 1].get_images()[0].get_array()[0, 0], [1, 0.2, 0])

    def test_rows_of_one_label_are_numbered_and_others_are_grey(self):
        display = display_of(labels=[3, 3]).plot()
        assert display.axes_[1, 0].get_ylabel().split() == ["class", "3,", "row", "1"]
        assert "class 3, row 1" in [t.get_text() for t in display.ax_.get_legend().get_texts()]
        few = display_of(
            **{
                name: getattr(display, name)[:1]
                for name in ("source", "synthetic", "iterates", "steps")
            }
        ).plot()
        assert few.axes_.shape == (1, 4)
        assert not line(few.ax_, "#e69f00")
        assert "others" in [text.get_text() for text in few.ax_.get_legend().get_texts()]

    @pytest.mark.parametrize("shape", [(28, 28), (16, 64), (40, 20)])
    @pytest.mark.parametrize("n", [1, 3])
    def test_nothing_overlaps_or_leaves_the_figure(self, n, shape):
        rng = np.random.default_rng(0)
        display = display_of(
            uncertainty=rng.random((n, 11)),
            label_agreement=rng.random((n, 11)) < 0.5,
            chosen=[-1] * n,
            uncertainty_source=[0.1] * n,
            uncertainty_synthetic=[0.2] * n,
            source=rng.random((n, *shape)),
            synthetic=rng.random((n, *shape)),
            iterates=rng.random((n, 5, *shape)),
            steps=[[0, 2, 5, 8, 10]] * n,
            labels=["malignant, stage 3"] * n,
        ).plot()
        display.figure_.canvas.draw()
        boxes = [ax.get_window_extent() for ax in display.axes_.flat]
        boxes += [
            text.get_window_extent()
            for ax in display.axes_.flat
            for text in (ax.title, ax.xaxis.label, ax.yaxis.label)
            if text.get_text()
        ]
        boxes.append(display.ax_.get_tightbbox())
        frame = display.figure_.bbox.padded(1)
        for i, box in enumerate(boxes):
            inner = box.padded(-1.5)
            assert frame.contains(inner.x0, inner.y0)
            assert frame.contains(inner.x1, inner.y1)
            assert inner.count_overlaps(boxes[i + 1 :]) == 0

    def test_given_subfigure_is_drawn_on_and_pyplot_left_alone(self):
        left, right = Figure().subfigures(1, 2)
        display = display_of().plot(figure=right)
        assert display.figure_ is right
        assert len(right.axes) == 9
        assert not left.axes
        assert not plt.get_fignums()

    def test_pickled_display_draws_the_same(self):
        display = pickle.loads(pickle.dumps(display_of()))
        assert display.plot(figure=Figure()).axes_.shape == (2, 4)

    def test_without_matplotlib_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match=re.escape('pip install "tsynd_sk[plot]"')):
            display_of().plot()

    @pytest.mark.parametrize(
        ("name", "wrong", "message"),
        [
            ("uncertainty", [0.1, 0.2], r"uncertainty must be an array of shape \(n, n_steps"),
            ("label_agreement", [[True]], "label_agreement must have the shape of uncertainty"),
            ("chosen", [0], "chosen must have one value for each of the 2 ascents"),
            ("chosen", [0, 3], r"chosen must hold steps, 0 to 2, or -1.*\[0, 3\]"),
            ("uncertainty_source", None, "uncertainty_source must have one value"),
            ("uncertainty_synthetic", [1], "uncertainty_synthetic must have one value"),
            ("labels", ["cat"], "labels must have one value"),
            ("source", None, "must be given together, or none of them; got synthetic and"),
            ("source", np.zeros((7, 4, 4)), r"must be images of one shape.*\(7, 4, 4\)"),
            ("synthetic", np.zeros((2, 4, 5)), "must be images of one shape"),
            ("iterates", np.zeros((2, 3, 4, 4)), r"iterates must have the shape \(2, 2, 4, 4\)"),
            ("steps", [[0, 1]], "steps must have a row for each of the 2 images"),
            ("steps", [[0, 1], [0, 3]], r"steps must hold ints from 0 to 2; got \[\[0, 1\]"),
            ("value_range", 3, r"value_range must be \(low, high\) or None; got 3"),
        ],
    )
    def test_wrong_arrays_are_named(self, name, wrong, message):
        with pytest.raises(ValueError, match=message):
            display_of(**{name: wrong}).plot()

    def test_axes_are_no_figure(self):
        with pytest.raises(TypeError, match=r"figure must be a matplotlib Figure.* got a"):
            display_of().plot(figure=Figure().subplots())
