"""Mutual information and images along gradient ascents."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length

from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk.images import check_images
from tsynd_sk.inspection._ascent_drawing import draw_images, draw_lines
from tsynd_sk.inspection._ascent_trace import trace_ascents
from tsynd_sk.inspection._drawing import as_displayed, image_limits, image_size, make_figure
from tsynd_sk.inspection._sources import fitted_synthesizer

# Inches.
_COLUMN, _TEXT, _PANEL, _NARROWEST = 1.2, 0.45, 2.9, 6.0


@dataclass(eq=False, repr=False)
class AscentDisplay:
    """Mutual information against ascent step, with the images along the way.

    Better made by :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    uncertainty : ndarray of shape (n, n_steps + 1)
        Mutual information at the start (step 0) and after each step, in nats.
    label_agreement : ndarray of shape (n, n_steps + 1), bool
        Whether the members' mean prediction there is the label: the point is filled ("label
        agreed"), otherwise hollow ("label denied").
    chosen : ndarray of shape (n,), int
        Step whose image was taken; -1 if none would do, and the image was mended: see
        `label_policy` of `TargetedSynthesizer`.
    uncertainty_source, uncertainty_synthetic : ndarray of shape (n,)
        Mutual information of the real image and of the image that was taken, in nats.
    source, synthetic : ndarray of shape (m, H, W) or (m, H, W, C), or None, default=None
        Real images, and those that were taken, of the first `m` rows. ``None``: no images.
    iterates : ndarray of shape (m, n_shown, H, W) or (m, n_shown, H, W, C), or None, default=None
        Images on the way.
    steps : ndarray of shape (n_shown,), int, or None, default=None
        Their steps.
    labels : ndarray of shape (n,) or None, default=None
        Labels of the sources.
    value_range : tuple of float or None, default=None
        Values drawn black and white. ``None``: (0, 255) for uint8, otherwise the extremes.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
        What was drawn on.
    ax_ : matplotlib Axes
        Mutual information against step.
    axes_ : ndarray of shape (m, n_shown + 2), matplotlib Axes
        Images: the source, the iterates, and what was taken. Empty without images.

    See Also
    --------
    SynthesisDisplay : Shows where ascents end, for many images.
    tsynd_sk.ascent.ascend : The ascent.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.inspection import AscentDisplay
    >>> display = AscentDisplay(
    ...     [[0.02, 0.10, 0.15]],
    ...     [[True, True, False]],
    ...     chosen=[1],
    ...     uncertainty_source=[0.01],
    ...     uncertainty_synthetic=[0.10],
    ... )
    >>> display.plot(figure=Figure()).ax_.get_ylabel()
    'mutual information (nats)'
    """

    uncertainty: Any
    label_agreement: Any
    _: KW_ONLY
    chosen: Any
    uncertainty_source: Any
    uncertainty_synthetic: Any
    source: Any = None
    synthetic: Any = None
    iterates: Any = None
    steps: Any = None
    labels: Any = None
    value_range: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_sources_shown: int = 3,
        n_steps_shown: int = 5,
        random_state: Any = None,
    ) -> AscentDisplay:
        """Synthesise from images and record the way; draws nothing yet.

        The ascents are those of ``synthesize(X, y, random_state=random_state)``.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted. Rows of a table give a display without images.
        X : array-like of shape (n, ...)
            Images as in `fit`, from each of which an ascent starts. A dozen is a good number.
        y : array-like of shape (n,)
            Their labels, all of them seen in `fit`.
        n_sources_shown : int, default=3
            For so many of the images, the first ones, the way is coloured and shown in images;
            the other lines are grey. There are six colours.
        n_steps_shown : int, default=5
            Images on each way, evenly spaced from the start to the last step.
        random_state : int, RandomState instance or None, default=None
            Makes the ascents repeatable; ``None`` for the estimator's.

        Returns
        -------
        display : AscentDisplay
            Call its :meth:`plot`.

        Examples
        --------
        >>> from tsynd_sk import TargetedSynthesizer
        >>> from tsynd_sk.autoencoders import AutoencoderNet
        >>> from tsynd_sk.classifiers import NetClassifier
        >>> from tsynd_sk.datasets import load_digits_images
        >>> from tsynd_sk.inspection import AscentDisplay
        >>> X, y, _ = load_digits_images()
        >>> net = NetClassifier(max_epochs=3)
        >>> autoencoder = AutoencoderNet(max_epochs=1, epoch_size=200)
        >>> synthesizer = TargetedSynthesizer(net, autoencoder, random_state=0)
        >>> synthesizer = synthesizer.fit(X[:100], y[:100])
        >>> display = AscentDisplay.from_estimator(synthesizer, X[:6], y[:6])
        >>> display.uncertainty.shape, display.iterates.shape
        ((6, 4), (3, 4, 8, 8))
        """
        synthesizer = fitted_synthesizer(estimator)
        images = np.asarray(check_images(synthesizer, X, reset=False))
        labels = labels_of(y)
        check_consistent_length(images, labels)
        codes = encode_labels(labels, synthesizer.classes_)
        n_pictured = 0 if synthesizer.image_shape_ is None else min(n_sources_shown, len(images))
        columns, synthetic, iterates = trace_ascents(
            synthesizer, images, codes, random_state, n_pictured
        )
        pictures: dict[str, Any] = {}
        if n_pictured:
            last = columns["uncertainty"].shape[1] - 1
            shown = np.linspace(0, last, min(n_steps_shown, last + 1)).round().astype(int)
            image_format = synthesizer.format_
            pictures = {
                "source": as_displayed(images[:n_pictured], image_format),
                "synthetic": as_displayed(synthetic[:n_pictured], image_format),
                "iterates": np.stack([as_displayed(x[shown], image_format) for x in iterates]),
                "steps": shown,
                "value_range": image_limits(None, images),
            }
        return cls(**columns, labels=labels, **pictures)

    def plot(self, ax=None, *, figure=None) -> AscentDisplay:
        """Draw a line for every ascent, and a row of images for those that have them.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            One of a grid of subplots, in whose place to draw.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw if `ax` is None. ``None``: a new figure of pyplot.

        Returns
        -------
        self : AscentDisplay
            This display.
        """
        n_pictured, n_columns = 0, 0
        width, height = 0.0, 0.0
        if self.source is not None:
            n_pictured, n_columns = len(self.source), len(self.steps) + 2
            width, height = image_size(np.asarray(self.source), _COLUMN)
        ratios = [_PANEL] + [height + _TEXT] * n_pictured
        size = (max(width * n_columns + 0.8, _NARROWEST), sum(ratios))
        figure = make_figure(size, ax, figure)
        grid = figure.add_gridspec(1 + n_pictured, max(n_columns, 1), height_ratios=ratios)
        ax = figure.add_subplot(grid[0, :])
        axes = np.empty((n_pictured, n_columns), dtype=object)
        for row, column in np.ndindex(axes.shape):
            axes[row, column] = figure.add_subplot(grid[row + 1, column])
        draw_lines(ax, self, n_pictured)
        if n_pictured:
            draw_images(axes, self, height)
        self.figure_, self.ax_, self.axes_ = figure, ax, axes
        return self
