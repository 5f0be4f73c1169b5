"""Where several classifiers look in the same images."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tsynd_sk import _skorch
from tsynd_sk.inspection._compared_classifiers import ComparedClassifiers
from tsynd_sk.inspection._drawing import (
    Display,
    add_colorbar,
    channels_last,
    image_grid,
    image_limits,
    label_text,
    name_columns,
    name_row,
    shorten,
    show_images,
)
from tsynd_sk.inspection._eigen_grad_cam import eigen_grad_cam

# Shares of red, green and blue in what the eye takes for brightness (ITU-R BT.601).
_BRIGHTNESS = np.array([[0.299], [0.587], [0.114]])
# How far below black the greys under maps begin, as a fraction of the range of values.
_PALE = 0.5


@dataclass(eq=False, repr=False)
class AttributionDisplay(Display):
    """Maps of the evidence for a class, of one or more classifiers, over the same images.

    Better made by :meth:`from_estimator`. Stores its parameters as attributes.

    Parameters
    ----------
    images : ndarray of shape (n, H, W) or (n, H, W, C)
        Images, uint8 or float.
    maps : ndarray of shape (n_classifiers, n, H, W)
        Attributions between 0 and 1.
    names : list of str of length n_classifiers
        Names of the classifiers.
    labels : ndarray of shape (n,), (n_classifiers, n) or None, default=None
        Classes that the maps are about: one for an image, or one for each of its maps.
    proba : ndarray of shape (n_classifiers, n) or None, default=None
        Probabilities that the classifiers give these classes.
    value_range : tuple of float or None, default=None
        Values drawn black and white. ``None``: (0, 255) for uint8, otherwise the extremes.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; the first image.
    axes_ : ndarray of shape (1 + n_classifiers, n), matplotlib Axes
        A row of the images, and a row of maps for each classifier.
    colorbar_ : matplotlib Colorbar
        Scale of the maps.

    See Also
    --------
    eigen_grad_cam : Computes the maps of a network.
    PerturbationDisplay : Shows what makes a class unlikely.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import AttributionDisplay
    >>> X, y, _ = load_digits_images()
    >>> nets = {
    ...     f"{n} epochs": NetClassifier(max_epochs=n).fit(X[:200, None], y[:200]) for n in (1, 2)
    ... }
    >>> display = AttributionDisplay.from_estimator(nets, X[200:204], y[200:204])
    >>> display.maps.shape
    (2, 4, 8, 8)
    >>> display.plot(figure=Figure(layout="compressed")).axes_.shape
    (3, 4)
    """

    images: Any
    maps: Any
    _: KW_ONLY
    names: Any
    labels: Any = None
    proba: Any = None
    value_range: Any = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike | None = None, *, layer: Any = None
    ) -> AttributionDisplay:
        """Map where classifiers find evidence for a class.

        Parameters
        ----------
        estimator : AugmentedClassifier or skorch classifier, or dict of str to such
            Fitted; of a dict each with its name.
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, a column for each; 4 to 8 look good, 32 are the most. A bare skorch net gets
            them as in :func:`tsynd_sk.evaluation.adversarial_scores`.
        y : array-like of shape (n,) or None, default=None
            Classes that are asked about. ``None``: those that each classifier predicts. A bare
            skorch net knows them as indices, or beside an AugmentedClassifier of as many classes by
            the labels of that one.
        layer : str, Module or None, default=None
            Layer that is mapped, see :func:`tsynd_sk.inspection.eigen_grad_cam`.

        Returns
        -------
        AttributionDisplay
            Call its :meth:`plot`.
        """
        # The user may have switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            compared = ComparedClassifiers.from_estimator(estimator, X, cls.__name__)
            labels, codes = (None, None) if y is None else compared.encode(y)
            maps, chosen, proba = [], [], []
            for name, classifier in compared.by_name.items():
                predicted = np.exp(classifier.log_proba())
                code = predicted.argmax(1) if codes is None else codes[name]
                chosen.append(classifier.classes[code])
                proba.append(predicted[np.arange(len(code)), code])
                try:
                    of_classifier = eigen_grad_cam(
                        _skorch.network_of(classifier.net),
                        classifier.x,
                        torch.from_numpy(code),
                        layer=layer,
                        to_scores=_skorch.scores_head(classifier.net),
                        size=compared.images.shape[1:3],
                    )
                except (TypeError, ValueError) as error:
                    error.add_note(f"This is of the classifier {name!r}.")
                    raise
                maps.append(of_classifier.numpy())
        return cls(
            compared.images,
            np.stack(maps),
            names=list(compared.by_name),
            labels=np.stack(chosen) if labels is None else labels,
            proba=np.stack(proba),
            value_range=compared.displayed_limits,
        )

    def _draw(self, ax: Any, figure: Any) -> None:
        images, maps = channels_last(self.images), np.asarray(self.maps)
        low, high = image_limits(self.value_range, images)
        figure, axes = image_grid(images, 1 + len(maps), ax, figure)
        show_images(axes[0], images, (low, high))
        grey = images @ _BRIGHTNESS if images.shape[-1] == 3 else images
        for row, attributions in zip(axes[1:], maps, strict=True):
            # Pale, so that it is mostly the maps that are dark or bright.
            show_images(row, grey, (low - _PALE * (high - low), high))
            for each, attribution in zip(row, attributions, strict=True):
                drawn = each.imshow(attribution, cmap="viridis", vmin=0, vmax=1, alpha=0.55)
        text = "attribution,\nshare of a\nmap's maximum"
        self.colorbar_ = add_colorbar(figure, drawn, axes[1:], text)
        for each, name in zip(axes[:, 0], ("image", *self.names), strict=True):
            name_row(each, shorten(name), images)
        own_labels = np.ndim(self.labels) == 2
        name_columns(axes[0], None if own_labels else self.labels)
        for m, k in np.ndindex(maps.shape[:2]):
            lines = [label_text(np.asarray(self.labels)[m, k])] if own_labels else []
            if self.proba is not None:
                lines.append(f"p = {np.asarray(self.proba)[m, k]:.2f}")
            axes[1 + m, k].set_xlabel("\n".join(lines), fontsize="small")
        self.figure_, self.ax_, self.axes_ = figure, axes[0, 0], axes
