"""Figures without a screen, closed after each test, and classifiers of zeros and ones."""

import matplotlib as mpl
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from helpers.tiny_nets import augmented, net, synthesizer
from helpers.two_digits import CODES, COLOUR, FIRST, fitted, y


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="package")
def classifier():
    """Knows uint8 images in colour, with labels that are strings."""
    return fitted(augmented(net(max_epochs=25), synthesizer(max_iter=1)), COLOUR, y)


@pytest.fixture(scope="package")
def plain():
    """Knows the same images as floats with channels first, and labels as indices."""
    return fitted(net(max_epochs=25), FIRST, CODES)
