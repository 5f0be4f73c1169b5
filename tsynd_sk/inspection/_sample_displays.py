"""Samples beside their sources: as images, and as latents on a map."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA

from tsynd_sk.evaluation import fitted_synthesizer, labels_of_images, sample_beside_sources
from tsynd_sk.images import Selection, spread
from tsynd_sk.inspection._drawing import (
    COLOURS,
    CROSSED,
    Display,
    as_displayed,
    channels_last,
    image_limits,
    label_text,
    legend_entry,
    make_panels,
    set_title,
    show_differences,
    show_images,
    style_axes,
)

_CLASS_COLOURS = (*COLOURS[:-1], CROSSED, "0.35")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "h")
_LONGEST_LEGEND = 18


@dataclass(eq=False, repr=False)
class SynthesisDisplay(Display):
    """Synthetic images below their sources, with their difference and what it did.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    source, synthetic : ndarray of shape (n, H, W) or (n, H, W, C)
        Real images and those synthesised from them, uint8 or float.
    uncertainty_source, uncertainty : ndarray of shape (n,)
        Mutual information of the sources and of the synthetic images, in nats.
    label_agreement : ndarray of shape (n,), bool
        Whether the members' mean prediction for the synthetic image is its label ("label agreed")
        or not ("label denied").
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
            Makes the sample repeatable; ``None`` for the estimator's.

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
        image_format = synthesizer.format_
        if image_format.image_shape is None:
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
            as_displayed(images[info.source_index], image_format),
            as_displayed(X_new, image_format),
            uncertainty_source=info.uncertainty_source,
            uncertainty=info.uncertainty,
            label_agreement=info.label_agreement,
            labels=y_new,
            # Of all of X, so that pictures can be compared.
            value_range=image_limits(None, images),
        )

    def _draw(self, ax: Any, figure: Any) -> None:
        source, synthetic = channels_last(self.source), channels_last(self.synthetic)
        low, high = image_limits(self.value_range, self.source, self.synthetic)
        names = ("source", "synthetic", "difference")
        axes = self._make_grid(source, names, self.labels, ax, figure)
        show_images(axes[:2], [source, synthetic], low, high)
        # Floats, for uint8 would wrap around.
        drawn = show_differences(axes[2:], [synthetic.astype(np.float64) - source])
        text = f"synthetic − source,\npixels of {low:.3g} to {high:.3g}"
        self._add_colorbar(drawn, axes[2:], text)
        for each, agreed in zip(axes[1], self.label_agreement, strict=True):
            set_title(each, "label agreed" if agreed else "label denied", warn=not agreed)
        values = zip(self.uncertainty_source, self.uncertainty, strict=True)
        for each, (before, after) in zip(axes[2], values, strict=True):
            each.set_xlabel(f"MI {before:.3f}\n→ {after:.3f} nats", fontsize="small")


@dataclass(eq=False, repr=False)
class LatentDisplay:
    """Two-dimensional map of latents, on which arrows lead from sources to their samples.

    Real images are faint, sources have a black edge.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    real : ndarray of shape (n, 2)
        Places of real images, in latent standard deviations.
    labels : ndarray of shape (n,)
        Their labels.
    source, synthetic : ndarray of shape (m, 2)
        Places of sources and of their samples.
    labels_synthetic : ndarray of shape (m,)
        Labels of the samples, and so of the sources.
    explained_variance_ratio : ndarray of shape (2,) or None, default=None
        Share of the variance of real latents that each dimension of the map shows.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on.

    See Also
    --------
    SynthesisDisplay : Shows the samples themselves.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import LatentDisplay
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X[:50], y[:50])
    >>> display = LatentDisplay.from_estimator(synthesizer, X[:50], y[:50], n_samples=10)
    >>> display.plot(ax=Figure().subplots()).ax_.get_xlabel()[:11]
    'component 1'
    """

    real: Any
    labels: Any
    _: KW_ONLY
    source: Any
    synthetic: Any
    labels_synthetic: Any
    explained_variance_ratio: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_samples: int = 30,
        n_real: int = 1000,
        random_state: Any = None,
    ) -> LatentDisplay:
        """Synthesise, encode, and find the map.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted, on images or on a table.
        X, y : array-like of shape (n, ...) and (n,)
            All the images that it was fitted on, in their order, and their labels.
        n_samples : int, default=30
            Number of synthetic images.
        n_real : int, default=1000
            Real images, evenly spread over `X`, that make the map and are shown.
        random_state : int, RandomState instance or None, default=None
            Makes the sample repeatable; ``None`` for the estimator's.

        Returns
        -------
        LatentDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `X` and `y` do not seem those of the fit, or there is one latent coordinate only.

        Notes
        -----
        The map shows the two first principal components of the latents of real images, in units
        of each coordinate's standard deviation, as `radius` is. The code of a synthetic image can
        differ from the one that it was decoded from.
        """
        synthesizer = fitted_synthesizer(estimator)
        images, X_new, y_new, info = sample_beside_sources(
            synthesizer, X, n_samples, random_state=random_state
        )
        sources = info.source_index
        labels, _ = labels_of_images(y, images, synthesizer.classes_)
        other = np.flatnonzero(labels[sources] != y_new)
        if len(other):
            raise ValueError(
                f"y gives row {sources[other[0]]} another label than it had in fit: pass X and y "
                "of fit, in their order"
            )
        shown = spread(len(images), n_real)
        real = _latents(synthesizer, Selection(images, shown))
        pca = PCA(n_components=2, random_state=0).fit(real)
        return cls(
            pca.transform(real),
            labels[shown],
            source=pca.transform(_latents(synthesizer, Selection(images, sources))),
            synthetic=pca.transform(_latents(synthesizer, X_new)),
            labels_synthetic=y_new,
            explained_variance_ratio=pca.explained_variance_ratio_,
        )

    def plot(self, ax=None, *, legend: bool = True) -> LatentDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw. ``None``: a new figure of pyplot.
        legend : bool, default=True
            Whether to draw a legend at the right.

        Returns
        -------
        LatentDisplay
            The same.
        """
        [ax] = make_panels(1, (6.4, 4.8), ax)
        handles = self._draw_points(ax)
        if legend:
            ax.legend(
                handles=handles,
                loc="center left",
                bbox_to_anchor=(1.01, 0.5),
                fontsize="small",
                frameon=False,
                ncols=-(-len(handles) // _LONGEST_LEGEND),
            )
        ratios = self.explained_variance_ratio
        for i, axis in enumerate((ax.xaxis, ax.yaxis)):
            share = "" if ratios is None else f", {100 * ratios[i]:.0f} % of the variance"
            axis.set_label_text(f"component {i + 1}{share}\n(latent standard deviations)")
        # Limits that other axes share are not this one's to change.
        grids = ax.get_shared_x_axes(), ax.get_shared_y_axes()
        shared = any(len(grid.get_siblings(ax)) > 1 for grid in grids)
        ax.set_aspect("equal", adjustable="box" if shared else "datalim")
        style_axes(ax)
        self.figure_, self.ax_ = ax.get_figure(), ax
        return self

    def _draw_points(self, ax) -> list:
        """Draw all points and arrows, and return the entries of the legend."""
        real, source, synthetic = map(np.asarray, (self.real, self.source, self.synthetic))
        labels, labels_synthetic = np.asarray(self.labels), np.asarray(self.labels_synthetic)
        handles = []
        edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8}
        for i, label in enumerate(np.unique(np.concatenate([labels, labels_synthetic])).tolist()):
            colour, marker = _CLASS_COLOURS[i % len(_CLASS_COLOURS)], _MARKERS[i % len(_MARKERS)]
            of_class = labels_synthetic == label
            points = (
                (real[labels == label], {"marker": marker, "s": 14, "alpha": 0.4, "linewidths": 0}),
                (source[of_class], {"marker": marker, "s": 26, "zorder": 4, **edge}),
                (synthetic[of_class], {"marker": "*", "s": 90, "zorder": 5, **edge}),
            )
            for places, look in points:
                ax.scatter(*places.T, color=colour, **look)
            handles.append(legend_entry(label_text(label), color=colour, marker=marker))
        arrow = {
            "arrowstyle": "-|>",
            "color": "black",
            "lw": 0.8,
            "shrinkB": 3,
            "mutation_scale": 7,
        }
        for start, end in zip(source, synthetic, strict=True):
            ax.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=3)
        black = {"color": "white", "markeredgecolor": "black"}
        return [
            *handles,
            legend_entry("source", marker="o", markersize=5, **black),
            legend_entry("synthetic", marker="*", markersize=9, **black),
        ]


def _latents(synthesizer: Any, X: Any) -> np.ndarray:
    """Encode images, and divide by the deviation of each coordinate."""
    engine = synthesizer.engine_
    codec, device = engine.codec(synthesizer), engine.device(synthesizer)
    batches = synthesizer.format_.to_tensor(X[:]).split(engine.batch_size(synthesizer))
    codes = [codec.encode(x.to(device)) for x in batches]
    # A coordinate that is always the same has no unit.
    scale = np.where(synthesizer.latent_scale_ > 0, synthesizer.latent_scale_, 1)
    return (torch.cat(codes).double().cpu().numpy() / scale).reshape(len(X), -1)
