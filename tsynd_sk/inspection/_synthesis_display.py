"""Synthetic images beside their sources."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tsynd_sk.evaluation import fitted_synthesizer, sample_beside_sources
from tsynd_sk.inspection._drawing import (
    Display,
    add_colorbar,
    as_displayed,
    channels_last,
    image_grid,
    image_limits,
    name_columns,
    name_row,
    set_title,
    show_differences,
    show_images,
)


@dataclass(eq=False, repr=False)
class SynthesisDisplay(Display):
    """Synthetic images below their sources, with their difference and what it did.

    Better made by :meth:`from_estimator`. Stores its parameters as attributes.

    Parameters
    ----------
    source, synthetic : ndarray of shape (n, H, W) or (n, H, W, C)
        Real images and those synthesised from them, uint8 or float.
    uncertainty_source, uncertainty : ndarray of shape (n,)
        Mutual information of the sources and of the synthetic images, in nats.
    label_agreement : ndarray of shape (n,), bool
        Whether the members' mean prediction for the synthetic image is its label: "label agreed"
        stands above it, otherwise "label denied".
    labels : ndarray of shape (n,) or None, default=None
        Labels of the synthetic images.
    value_range : tuple of float or None, default=None
        Values drawn black and white. ``None``: (0, 255) for uint8, otherwise the extremes.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; the first image.
    axes_ : ndarray of shape (3, n), matplotlib Axes
        Rows of sources, synthetic images and differences.
    colorbar_ : matplotlib Colorbar
        Scale of the differences.

    See Also
    --------
    AscentDisplay : Shows how single images were reached.
    LatentDisplay : Shows where samples lie in the latent space.
    tsynd_sk.evaluation.synthesis_report : Describes many samples in numbers.
    tsynd_sk.TargetedSynthesizer : Synthesises the samples.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import SynthesisDisplay
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X[:50], y[:50])
    >>> display = SynthesisDisplay.from_estimator(synthesizer, X[:50], n_samples=4)
    >>> display.source.shape, display.synthetic.shape
    ((4, 8, 8), (4, 8, 8))
    >>> display.plot(figure=Figure(layout="compressed")).axes_.shape
    (3, 4)
    """

    source: Any
    synthetic: Any
    _: KW_ONLY
    uncertainty_source: Any
    uncertainty: Any
    label_agreement: Any
    labels: Any = None
    value_range: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        *,
        n_samples: int = 8,
        y: Any = None,
        random_state: Any = None,
    ) -> SynthesisDisplay:
        """Synthesise images and set them beside their sources.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted on images.
        X : array-like of shape (n, ...)
            All the images that it was fitted on, in their order.
        n_samples : int, default=8
            Number of synthetic images. 4 to 12 look good.
        y : label, array-like of labels, mapping from label to count, or None, default=None
            Labels they shall have, as in ``estimator.sample``.
        random_state : int, RandomState instance or None, default=None
            Makes the sample repeatable.

        Returns
        -------
        SynthesisDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `estimator` was fitted on a table, or on other images than `X`.
        """
        synthesizer = fitted_synthesizer(estimator)
        if synthesizer.image_shape_ is None:
            raise ValueError(
                f"{type(estimator).__name__} was fitted on a table, and {cls.__name__} shows "
                "images. If its rows are flat images, give it image_shape=(n_channels, height, "
                "width)."
            )
        images, X_new, y_new, info = sample_beside_sources(
            synthesizer, X, n_samples, y=y, random_state=random_state
        )
        images = np.asarray(images)
        return cls(
            as_displayed(images[info.source_index], synthesizer.format_),
            as_displayed(X_new, synthesizer.format_),
            uncertainty_source=info.uncertainty_source,
            uncertainty=info.uncertainty,
            label_agreement=info.label_agreement,
            labels=y_new,
            # All of X, so that pictures of different samples can be compared.
            value_range=image_limits(None, images),
        )

    def _draw(self, ax: Any, figure: Any) -> None:
        source, synthetic = channels_last(self.source), channels_last(self.synthetic)
        low, high = image_limits(self.value_range, self.source, self.synthetic)
        figure, axes = image_grid(source, 3, ax, figure)
        show_images(axes[0], source, (low, high))
        show_images(axes[1], synthetic, (low, high))
        # Floats, for uint8 would wrap around.
        drawn = show_differences(axes[2:], [synthetic.astype(np.float64) - source])
        self.colorbar_ = add_colorbar(
            figure, drawn, axes[2:], f"synthetic − source,\npixels of {low:.3g} to {high:.3g}"
        )
        for each, name in zip(axes[:, 0], ("source", "synthetic", "difference"), strict=True):
            name_row(each, name, source)
        name_columns(axes[0], self.labels)
        for each, agreed in zip(axes[1], self.label_agreement, strict=True):
            set_title(each, "label agreed" if agreed else "label denied", warn=not agreed)
        values = zip(self.uncertainty_source, self.uncertainty, strict=True)
        for each, (before, after) in zip(axes[2], values, strict=True):
            each.set_xlabel(f"MI {before:.3f}\n→ {after:.3f} nats", fontsize="small")
        self.figure_, self.ax_, self.axes_ = figure, axes[0, 0], axes
