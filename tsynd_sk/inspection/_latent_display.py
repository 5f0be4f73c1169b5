"""Latents of real images and of what was synthesised from them, on a map of two dimensions."""

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
    label_text,
    legend_entry,
    make_panels,
    style_axes,
)

_CLASS_COLOURS = (*COLOURS[:-1], CROSSED, "0.35")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "h")
_SIZE = (6.4, 4.8)
_LONGEST_LEGEND = 18
_ARROW = {"arrowstyle": "-|>", "color": "black", "lw": 0.8, "shrinkB": 3, "mutation_scale": 7}
_EDGE: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8}


@dataclass(eq=False, repr=False)
class LatentDisplay:
    r"""Two-dimensional map of latents, with sources joined to their samples.

    Real images are faint, sources have a black edge, and an arrow leads from each to its sample.

    Better made by :meth:`from_estimator`. Stores its parameters as attributes.

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
    >>> X, y = X[:50], y[:50]
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X, y)
    >>> display = LatentDisplay.from_estimator(synthesizer, X, y, n_samples=10)
    >>> display.real.shape, display.synthetic.shape
    ((50, 2), (10, 2))
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
        X : array-like of shape (n, ...)
            All the images that it was fitted on, in their order.
        y : array-like of shape (n,)
            Their labels.
        n_samples : int, default=30
            Number of synthetic images.
        n_real : int, default=1000
            Real images, evenly spread over `X`, by which the map is found and which are shown.
        random_state : int, RandomState instance or None, default=None
            Makes the sample repeatable; ``None`` for the estimator's.

        Returns
        -------
        LatentDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `X` and `y` are not those of the fit, as far as that shows, or there are fewer than
            two latent coordinates.

        Notes
        -----
        The map shows the two first principal components of the latents of real images, in units
        of each coordinate's standard deviation, in which `radius` is meant. The code of a synthetic
        image can differ from the one that it was decoded from.
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
            Where to draw; the legend goes to its right. ``None``: a new figure of pyplot.
        legend : bool, default=True
            Whether to draw the legend. Of maps side by side, one is enough for all.

        Returns
        -------
        LatentDisplay
            This display.
        """
        [ax] = make_panels(1, _SIZE, ax)
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
        # Both are in one unit. Limits that other axes share are not this one's to change.
        shared = len(ax.get_shared_x_axes().get_siblings(ax)) > 1
        shared |= len(ax.get_shared_y_axes().get_siblings(ax)) > 1
        ax.set_aspect("equal", adjustable="box" if shared else "datalim")
        style_axes(ax)
        self.figure_, self.ax_ = ax.get_figure(), ax
        return self

    def _draw_points(self, ax) -> list:
        """Draw all points and arrows, and return the entries of the legend."""
        real, source, synthetic = map(np.asarray, (self.real, self.source, self.synthetic))
        labels, labels_synthetic = np.asarray(self.labels), np.asarray(self.labels_synthetic)
        handles = []
        for i, label in enumerate(np.unique(np.concatenate([labels, labels_synthetic])).tolist()):
            colour, marker = _CLASS_COLOURS[i % len(_CLASS_COLOURS)], _MARKERS[i % len(_MARKERS)]
            of_class = labels_synthetic == label
            points = (
                (real[labels == label], {"marker": marker, "s": 14, "alpha": 0.4, "linewidths": 0}),
                (source[of_class], {"marker": marker, "s": 26, "zorder": 4, **_EDGE}),
                (synthetic[of_class], {"marker": "*", "s": 90, "zorder": 5, **_EDGE}),
            )
            for places, look in points:
                ax.scatter(*places.T, color=colour, **look)
            handles.append(legend_entry(label_text(label), color=colour, marker=marker))
        for start, end in zip(source, synthetic, strict=True):
            ax.annotate("", xy=end, xytext=start, arrowprops=_ARROW, zorder=3)
        black = {"color": "white", "markeredgecolor": "black"}
        return [
            *handles,
            legend_entry("source", marker="o", markersize=5, **black),
            legend_entry("synthetic", marker="*", markersize=9, **black),
        ]


def _latents(synthesizer: Any, X: Any) -> np.ndarray:
    """Encode images, and divide by the deviation of each coordinate."""
    engine = synthesizer.engine_
    codec, device, size = (
        of(synthesizer) for of in (engine.codec, engine.device, engine.batch_size)
    )
    codes = [
        codec.encode(synthesizer.format_.to_tensor(X[first : first + size]).to(device))
        for first in range(0, len(X), size)
    ]
    # A coordinate that is always the same has no unit, and no place on the map.
    scale = np.where(synthesizer.latent_scale_ > 0, synthesizer.latent_scale_, 1)
    return (torch.cat(codes).double().cpu().numpy() / scale).reshape(len(X), -1)
