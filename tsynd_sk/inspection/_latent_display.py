"""Latents of real images and of what was synthesised from them, on a map of two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_consistent_length

from tsynd_sk._utils._labels import labels_of
from tsynd_sk._utils._validation import at_least, type_name
from tsynd_sk.images import Selection, check_images, spread
from tsynd_sk.inspection._drawing import (
    COLOURS,
    CROSSED,
    check_lengths,
    fitted_synthesizer,
    label_text,
    pyplot,
)
from tsynd_sk.synthesis import encode

_CLASS_COLOURS = (*COLOURS[:-1], CROSSED, "0.35")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "h")
_SIZE = (6.4, 4.8)
_LONGEST_LEGEND = 18


class LatentDisplay:
    r"""Two-dimensional map of latents, with sources joined to their samples.

    Real images are faint, those that are sources have a black edge, and an arrow leads from each
    to the image that was synthesised from it.

    Better made by :meth:`from_estimator`. All parameters are stored as attributes.

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
    figure_ : matplotlib Figure or SubFigure
        What was drawn on.
    ax_ : matplotlib Axes
        The map.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.inspection import LatentDisplay
    >>> display = LatentDisplay(
    ...     [[0.0, 1.0], [1.0, 0.0]],
    ...     ["cat", "dog"],
    ...     source=[[0.0, 1.0]],
    ...     synthetic=[[0.4, 0.8]],
    ...     labels_synthetic=["cat"],
    ... )
    >>> display.plot(ax=Figure().subplots()).ax_.get_xlabel()
    'component 1\n(latent standard deviations)'
    """

    def __init__(
        self,
        real,
        labels,
        *,
        source,
        synthetic,
        labels_synthetic,
        explained_variance_ratio=None,
    ):
        self.real = real
        self.labels = labels
        self.source = source
        self.synthetic = synthetic
        self.labels_synthetic = labels_synthetic
        self.explained_variance_ratio = explained_variance_ratio

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
        """Synthesise, encode, and find the map; draws nothing yet.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted, on images or on a table.
        X : array-like of shape (n, ...)
            The images that it was fitted on, all of them and in the same order.
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
        display : LatentDisplay
            Call its :meth:`plot`.

        Raises
        ------
        TypeError
            If `estimator` is something else, or a number is no int.
        ValueError
            If `X` and `y` are not those of the fit, as far as that shows, there are fewer than two
            images or latent coordinates, or a number is out of range.
        sklearn.exceptions.NotFittedError
            If `estimator` was not fitted, or has no autoencoder.

        Notes
        -----
        The map shows the two first principal components of the latents of real images, in units
        of each coordinate's standard deviation, in which `radius` is meant. Synthetic images are
        encoded as anybody would encode them: their code can differ from the one that they were
        decoded from. Two of many dimensions show little of what happens in the others: the labels
        of the axes say how much of the variance the map has.

        Examples
        --------
        >>> from tsynd_sk import TargetedSynthesizer
        >>> from tsynd_sk.autoencoders import AutoencoderNet
        >>> from tsynd_sk.classifiers import NetClassifier
        >>> from tsynd_sk.datasets import load_digits_images
        >>> from tsynd_sk.inspection import LatentDisplay
        >>> X, y, _ = load_digits_images()
        >>> net = NetClassifier(max_epochs=3)
        >>> autoencoder = AutoencoderNet(max_epochs=1, epoch_size=200)
        >>> synthesizer = TargetedSynthesizer(net, autoencoder, random_state=0)
        >>> synthesizer = synthesizer.fit(X[:100], y[:100])
        >>> display = LatentDisplay.from_estimator(synthesizer, X[:100], y[:100], n_samples=10)
        >>> display.real.shape, display.synthetic.shape
        ((100, 2), (10, 2))
        """
        synthesizer = fitted_synthesizer(estimator)
        n_real = at_least("n_real", n_real, 2)
        n_samples = at_least("n_samples", n_samples, 1)
        synthesizer._check_can_synthesize()
        images = check_images(synthesizer, X, reset=False)
        labels = labels_of(y)
        check_consistent_length(images, labels)
        codes = encode(labels, synthesizer.classes_)
        if len(images) < 2:
            raise ValueError("X has one image; a map of two dimensions needs two or more")
        X_new, y_new, info = synthesizer.sample(
            n_samples, random_state=random_state, return_info=True
        )
        sources = info.source_index
        _check_sources(sources, codes, encode(y_new, synthesizer.classes_))
        shown = spread(len(images), n_real)
        real = _latents(synthesizer, Selection(images, shown))
        if real.shape[1] < 2:
            raise ValueError(
                "the autoencoder has a single latent coordinate, of which there is no map of two "
                "dimensions"
            )
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
        self : LatentDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `ax` is no Axes.
        ValueError
            If an array is not of the shape that it should have.
        """
        plt = pyplot("LatentDisplay.plot")
        self._check()
        if ax is None:
            ax = plt.figure(figsize=_SIZE, layout="constrained").subplots()
        elif not hasattr(ax, "scatter"):
            raise TypeError(f"ax must be a matplotlib Axes or None, got {type_name(ax)}")
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
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        ax.spines[["right", "top"]].set_visible(False)
        self.figure_, self.ax_ = ax.get_figure(), ax
        return self

    def _check(self) -> None:
        for name in ("real", "source", "synthetic"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 2 or shape[1] != 2:
                raise ValueError(f"{name} must be an array of shape (n, 2); got shape {shape}")
        if np.shape(self.source) != np.shape(self.synthetic):
            raise ValueError(
                "source and synthetic must have one row for each sample; got shapes "
                f"{np.shape(self.source)} and {np.shape(self.synthetic)}"
            )
        check_lengths(len(self.real), "real images", labels=self.labels)
        check_lengths(len(self.source), "samples", labels_synthetic=self.labels_synthetic)
        if self.explained_variance_ratio is not None:
            check_lengths(2, "components", explained_variance_ratio=self.explained_variance_ratio)

    def _draw_points(self, ax) -> list:
        """Draw all points and arrows, and give the entries of the legend."""
        from matplotlib.lines import Line2D

        real, source, synthetic = (
            np.asarray(points, dtype=float) for points in (self.real, self.source, self.synthetic)
        )
        labels, labels_synthetic = np.asarray(self.labels), np.asarray(self.labels_synthetic)
        classes = np.unique(np.concatenate([labels, labels_synthetic]))
        handles = []
        for i, label in enumerate(classes.tolist()):
            colour = _CLASS_COLOURS[i % len(_CLASS_COLOURS)]
            look: dict[str, Any] = {"color": colour, "marker": _MARKERS[i % len(_MARKERS)]}
            of_class = labels_synthetic == label
            ax.scatter(*real[labels == label].T, s=14, alpha=0.4, linewidths=0, **look)
            edges: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8}
            ax.scatter(*source[of_class].T, s=26, zorder=4, **edges, **look)
            look_synthetic = {**look, **edges, "marker": "*"}
            ax.scatter(*synthetic[of_class].T, s=90, zorder=5, **look_synthetic)
            handles.append(Line2D([], [], linestyle="none", label=label_text(label), **look))
        for start, end in zip(source, synthetic, strict=True):
            ax.annotate(
                "",
                xy=end,
                xytext=start,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "black",
                    "linewidth": 0.8,
                    "shrinkA": 2,
                    "shrinkB": 3,
                    "mutation_scale": 7,
                },
                zorder=3,
            )
        black: dict[str, Any] = {"linestyle": "none", "color": "white", "markeredgecolor": "black"}
        handles += [
            Line2D([], [], marker="o", markersize=5, label="source", **black),
            Line2D([], [], marker="*", markersize=9, label="synthetic", **black),
        ]
        return handles


def _check_sources(sources: np.ndarray, codes: np.ndarray, codes_new: np.ndarray) -> None:
    """Refuse other images, or labels in another order, than in fit, as far as that shows."""
    if sources.max() >= len(codes):
        raise ValueError(
            f"X has {len(codes)} images, but row {sources.max()} is the source of a synthetic "
            "one: pass the whole X of fit"
        )
    other = np.flatnonzero(codes[sources] != codes_new)
    if len(other):
        raise ValueError(
            f"y gives row {sources[other[0]]} another label than it had in fit: pass X and y of "
            "fit, in their order"
        )


def _latents(synthesizer: Any, X: Any) -> np.ndarray:
    """Encode images, and divide by the deviation of each coordinate."""
    codec, scale = synthesizer._codec(), synthesizer.latent_scale_.double().numpy()
    # A coordinate that is always the same has no unit, and no place on the map.
    scale = np.where(scale > 0, scale, 1)
    with torch.inference_mode(False):
        parts = [codec.encode(x).double().cpu().numpy() for x in synthesizer._batches(X)]
    latents = np.concatenate(parts) / scale
    return latents.reshape(len(latents), -1)
