"""Differences of a comparison, drawn as a forest plot."""

import numpy as np
from helpers.figures import assert_nothing_overlaps
from helpers.made_results import made
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tsynd_sk.inspection import DifferenceDisplay

RESULT = made({"standard": 0.6, "standard+random": 0.6}, n_test=120)


def drawn():
    found = RESULT.differences()
    return found, DifferenceDisplay.from_differences(found, "ROC AUC").plot(figure=Figure())


def test_a_row_for_each_arm_from_top_to_bottom():
    found, display = drawn()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [f"{each.arm}\nto {each.reference}" for each in found]
    bottom, top = display.ax_.get_ylim()
    assert bottom > top
    assert display.ax_.get_xlabel() == "difference in ROC AUC"


def test_intervals_and_what_holds_is_filled():
    found, display = drawn()
    lines = display.ax_.lines
    for k, each in enumerate(found):
        interval, marker = lines[2 * k], lines[2 * k + 1]
        np.testing.assert_allclose(interval.get_xdata(), [each.low, each.high])
        assert marker.get_xdata()[0] == each.mean
        assert (to_hex(marker.get_markerfacecolor()) != "#ffffff") == each.is_found
    assert found[0].is_found
    assert not all(each.is_found for each in found)
    assert list(lines[-1].get_xdata()) == [0, 0]


def test_one_run_has_means_without_intervals():
    display = made({"standard": 0.6}, n_runs=1, n_test=120).plot()
    assert np.isnan(display.low).all()
    assert not display.found.any()
    assert_nothing_overlaps(display.figure_)
