import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.image_cases import cases, synthesizer_of, y
from helpers.saved_files import TABLE
from helpers.small import digits
from helpers.tiny_nets import y as table_labels
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tsynd_sk.inspection._ascent_display import AscentDisplay


def display_of(**params):
    """Two ascents of two steps, with their images."""
    arguments = {
        "uncertainty": np.array([[0.1, 0.2, 0.2], [0.1, 0.3, 0.4]]),
        "label_agreement": np.array([[True, True, True], [True, False, False]]),
        "chosen": np.array([1, 0]),
        "uncertainty_source": np.array([0.01, 0.02]),
        "uncertainty_synthetic": np.array([0.2, 0.1]),
        "source": np.zeros((2, 4, 4)),
        "synthetic": np.ones((2, 4, 4)),
        "iterates": np.full((2, 2, 4, 4), 0.5),
        "steps": np.array([0, 2]),
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
        X, labels = digits(40)
        display = AscentDisplay.from_estimator(given, X, labels, random_state=0)
        on_the_way = display.chosen >= 0
        assert on_the_way.sum() >= 20
        admitted = display.label_agreement | (policy == "keep")
        best = np.where(admitted, display.uncertainty, -1)
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
        X, labels = digits(5)
        some, every = (
            AscentDisplay.from_estimator(
                digits_synthesizer, X, labels, n_steps_shown=n, n_sources_shown=5, random_state=0
            )
            for n in (3, 99)
        )
        assert some.iterates.shape == (5, 3, 8, 8)
        last = some.uncertainty.shape[1] - 1
        assert every.steps.tolist() == list(range(last + 1))
        assert [some.steps[0], some.steps[-1]] == [0, last]
        np.testing.assert_array_equal(some.iterates, every.iterates[:, some.steps])
        for i, chosen in enumerate(every.chosen):
            if chosen >= 0:
                np.testing.assert_array_equal(every.iterates[i, chosen], every.synthetic[i])

    def test_many_ascents_are_those_of_few(self, digits_synthesizer):
        X, labels = digits(50)
        display = AscentDisplay.from_estimator(digits_synthesizer, X, labels, random_state=1)
        info = digits_synthesizer.synthesize(X, labels, random_state=1, return_info=True)[2]
        # Batches of another size change rounding.
        np.testing.assert_allclose(display.uncertainty_synthetic, info.uncertainty, atol=1e-4)
        assert len(display.uncertainty) == 50
        assert len(display.source) == 3

    @pytest.mark.parametrize(("objective", "n_points"), [("duplicate", 1), ("random", 3)])
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
            ("estimator", None, TypeError, "expected a fitted Targeted.* got a NoneType"),
            ("X", np.zeros((3, 5, 5)), ValueError, r"rows of shape \(5, 5\)"),
            ("y", [0, 1], ValueError, "inconsistent numbers of samples"),
            ("y", [0, 1, 9], ValueError, r"not seen in fit: \[9\]"),
        ],
    )
    def test_wrong_inputs_are_named(self, name, wrong, error, message):
        case = cases("TargetedSynthesizer", "HW")
        arguments = {"estimator": case.fitted, "X": case.X[:3], "y": y[:3], name: wrong}
        with pytest.raises(error, match=message):
            AscentDisplay.from_estimator(**arguments)


class TestPlot:
    def test_lines_go_from_the_source_over_all_steps(self):
        display = display_of()
        assert display.plot() is display
        ax = display.ax_
        assert line(ax, "#0072b2") == [[[0, 0.1], [1, 0.2], [2, 0.2]]]
        assert line(ax, "#e69f00") == [[[0, 0.1], [1, 0.3], [2, 0.4]]]
        assert line(ax, "#0072b2", ":") == [[[-1, 0.01], [0, 0.1]]]
        assert ax.get_xlabel() == "ascent step"
        assert ax.get_ylabel() == "mutual information (nats)"
        assert [text.get_text() for text in ax.get_xticklabels()] == ["source", "0", "1", "2"]

    def test_markers_tell_denied_labels_and_what_was_chosen(self):
        ax = display_of(chosen=np.array([1, 2])).plot().ax_
        assert markers(ax, "#0072b2") == dict.fromkeys([(0, 0.1), (1, 0.2), (2, 0.2)], "#0072b2")
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
        assert line(display.ax_, "#0072b2", ":")[-1] == [[2, 0.2], [3, 0.2]]
        assert display.ax_.get_xticklabels()[-1].get_text() == "mended"
        assert display.axes_[0, -1].get_title() == "mended"

    def test_images_say_where_they_are_from(self):
        axes = display_of().plot().axes_
        assert axes.shape == (2, 4)
        assert [ax.get_title() for ax in axes[0]] == ["source", "step 0", "step 2", "chosen: 1"]
        assert [ax.get_title() for ax in axes[1]][1:] == ["step 0", "step 2, denied", "chosen: 0"]
        assert [ax.get_xlabel() for ax in axes[1]] == [
            f"{value} nats" for value in ("0.02", "0.1", "0.4", "0.1")
        ]
        assert [ax.get_ylabel() for ax in axes[:, 0]] == ["cat", "dog"]
        shown = [ax.get_images()[0].get_array().mean() for ax in axes[0]]
        assert shown == [0, 0.5, 0.5, 1]

    def test_rows_of_one_label_are_numbered_and_others_are_grey(self):
        display = display_of(labels=[3, 3]).plot()
        assert display.axes_[1, 0].get_ylabel().split() == ["class", "3,", "row", "1"]
        assert "class 3, row 1" in [t.get_text() for t in display.ax_.get_legend().get_texts()]
        few = display_of(
            **{name: getattr(display, name)[:1] for name in ("source", "synthetic", "iterates")}
        ).plot()
        assert few.axes_.shape == (1, 4)
        assert not line(few.ax_, "#e69f00")
        assert "others" in [text.get_text() for text in few.ax_.get_legend().get_texts()]
