"""Where several classifiers look in the same images, and what makes them doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tsynd_sk import _skorch
from tsynd_sk.evaluation import DifferentiableClassifier, labels_of_images
from tsynd_sk.images import array_of_images
from tsynd_sk.inspection._drawing import (
    Display,
    as_displayed,
    channels_last,
    image_limits,
    label_text,
    set_title,
    shorten,
    show_differences,
    show_images,
)
from tsynd_sk.inspection._explanations import eigen_grad_cam, minimal_perturbation

# More columns than that make no picture.
_MAX_IMAGES = 32
# Shares of red, green and blue in brightness (ITU-R BT.601).
_BRIGHTNESS = np.array([[0.299], [0.587], [0.114]])
# How far below black greys under maps begin, of the range of values.
_PALE = 0.5


def estimators_by_name(estimator: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and name a single estimator by its class."""
    if isinstance(estimator, Mapping):
        return estimator
    return {type(_skorch.unfreeze(estimator)).__name__: estimator}


class ComparedClassifiers:
    """Networks by name, and images that all see, as matplotlib shows them."""

    def __init__(self, estimator: Any, X: ArrayLike, display: str):
        given = estimators_by_name(estimator)
        images = array_of_images(X, name=display)
        if len(images) > _MAX_IMAGES:
            raise ValueError(
                f"X has {len(images)} images, and {display} draws a column for each: pass at most "
                f"{_MAX_IMAGES}, for instance X[:8]"
            )
        copies: dict[str, DifferentiableClassifier] = {}
        # What was fitted on these images knows their layout and their labels; a bare net does not,
        # but may know the shape of flat ones.
        knows = {
            n: [hasattr(e, at) for at in ("format_", "image_shape_")] for n, e in given.items()
        }
        first = None
        for name in sorted(given, key=knows.__getitem__, reverse=True):
            copies[name] = DifferentiableClassifier.from_estimator(
                given[name], images, f"estimator {name!r}", like=first
            )
            first = first or copies[name]
        self.by_name = {name: copies[name] for name in given}
        self.images = as_displayed(images, next(iter(self.by_name.values())).image_format)
        lows, highs = zip(*(one.limits for one in copies.values()), strict=True)
        # Of what the networks see, the same for all of them; and on the scale of the images.
        self.limits = min(lows), max(highs)
        self._scale = 255.0 if images.dtype == np.uint8 else 1.0
        self.displayed_limits = self.limits[0] * self._scale, self.limits[1] * self._scale

    def displayed(self, x: Tensor) -> np.ndarray:
        """Bring what a network sees to the layout and the scale of the images, as floats."""
        height, width = self.images.shape[1:3]
        shown = x.detach().double().reshape(len(x), -1, height, width).permute(0, 2, 3, 1)
        return (shown.numpy() * self._scale).reshape(self.images.shape)

    def encode(self, y: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return labels as an array, and the column of each for every classifier."""
        found = {n: labels_of_images(y, self.images, c.classes) for n, c in self.by_name.items()}
        return next(iter(found.values()))[0], {name: codes for name, (_, codes) in found.items()}


@dataclass(eq=False, repr=False)
class AttributionDisplay(Display):
    """Maps of the evidence for a class, of one or more classifiers, over the same images.

    Better made by :meth:`from_estimator`.

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
    >>> net = NetClassifier(max_epochs=2).fit(X[:200, None], y[:200])
    >>> display = AttributionDisplay.from_estimator({"ours": net}, X[:3], y[:3])
    >>> display.plot(figure=Figure(layout="compressed")).axes_.shape
    (2, 3)
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
            Images, 32 at most; 4 to 8 look good. A bare skorch net gets them as in
            :func:`tsynd_sk.evaluation.adversarial_scores`.
        y : array-like of shape (n,) or None, default=None
            Classes that are asked about; ``None``: those that each classifier predicts. A bare
            skorch net knows indices, or the labels of an AugmentedClassifier of as many classes
            beside it.
        layer : str, Module or None, default=None
            Layer that is mapped, see :func:`eigen_grad_cam`.

        Returns
        -------
        AttributionDisplay
            Call its :meth:`plot`.
        """
        # The user may have switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            compared = ComparedClassifiers(estimator, X, cls.__name__)
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
        own_labels = np.asarray(self.labels) if np.ndim(self.labels) == 2 else None
        labels = self.labels if own_labels is None else None
        axes = self._make_grid(images, ("image", *map(shorten, self.names)), labels, ax, figure)
        show_images(axes[0], images, low, high)
        grey = images @ _BRIGHTNESS if images.shape[-1] == 3 else images
        # Pale, so that it is mostly the maps that are dark or bright.
        show_images(axes[1:], [grey] * len(maps), low - _PALE * (high - low), high)
        for m, k in np.ndindex(maps.shape[:2]):
            each = axes[1 + m, k]
            drawn = each.imshow(maps[m, k], cmap="viridis", vmin=0, vmax=1, alpha=0.55)
            lines = [] if own_labels is None else [label_text(own_labels[m, k])]
            if self.proba is not None:
                lines.append(f"p = {np.asarray(self.proba)[m, k]:.2f}")
            each.set_xlabel("\n".join(lines), fontsize="small")
        self._add_colorbar(drawn, axes[1:], "attribution,\nshare of a\nmap's maximum")


@dataclass(eq=False, repr=False)
class PerturbationDisplay(Display):
    """Images, what they become when a class is made unlikely, and the difference.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    start : ndarray of shape (n, H, W) or (n, H, W, C)
        Images, uint8 or float.
    end : ndarray of shape (n_classifiers, n, H, W) or (n_classifiers, n, H, W, C)
        The same images after their change for each classifier, floats on the scale of `start`.
    names : list of str of length n_classifiers
        Names of the classifiers.
    proba_before, proba_after : ndarray of shape (n_classifiers, n)
        Probabilities that the classifiers give the class of the image at the start and the end.
    labels : ndarray of shape (n,) or None, default=None
        Classes of the images.
    threshold : float, default=0.5
        Probability to get below. Images are marked where it was not, or was at the start.
    value_range : tuple of float or None, default=None
        Values drawn black and white, whose range is the unit of changes. ``None``: (0, 255) for
        uint8, otherwise the extremes.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; the first image.
    axes_ : ndarray of shape (1 + 2 * n_classifiers, n), matplotlib Axes
        A row of the images, and for each classifier a row of ends and one of differences.
    colorbar_ : matplotlib Colorbar
        Scale of all differences.

    See Also
    --------
    AttributionDisplay : Shows where a network finds evidence for a class.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import PerturbationDisplay
    >>> X, y, _ = load_digits_images()
    >>> net = NetClassifier(max_epochs=2).fit(X[:200, None], y[:200])
    >>> display = PerturbationDisplay.from_estimator({"ours": net}, X[:3], y[:3])
    >>> display.plot(figure=Figure(layout="compressed")).axes_.shape
    (3, 3)
    """

    start: Any
    end: Any
    _: KW_ONLY
    names: Any
    proba_before: Any
    proba_after: Any
    labels: Any = None
    threshold: Any = 0.5
    value_range: Any = None
    _column = 1.35

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        threshold: float = 0.5,
        eps: float = 32 / 255,
        max_iter: int = 200,
    ) -> PerturbationDisplay:
        """Change images until classifiers doubt their classes.

        Parameters
        ----------
        estimator : AugmentedClassifier or skorch classifier, or dict of str to such
            Fitted; of a dict each with its name. For each the images change by its own gradients.
        X, y : array-like of shape (n, ...) and (n,)
            Images, and the class of each, which is made unlikely; as in
            :meth:`AttributionDisplay.from_estimator`.
        threshold : float, default=0.5
            Probability to get below, between 0 and 1.
        eps : float, default=32 / 255
            Largest root mean square of the change of an image, as a fraction of the range of
            values: 0 to 255 for uint8; for floats that of `X` and of the fits of the classifiers.
        max_iter : int, default=200
            Largest number of steps.

        Returns
        -------
        PerturbationDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `X` or `y` do not fit the classifiers, or a parameter is out of its range.

        Notes
        -----
        Images go down the gradient of the log-odds of their class, in steps of one length, within
        the range of values and `eps`, until their class is less likely than `threshold`, and then
        back towards their start for as long as that holds: all classifiers end at the same
        probability, so that changes can be compared. There may be smaller ones. An image whose
        class does not become that unlikely ends where it was least likely.
        """
        if not 0 < threshold < 1 or not 0 < eps <= 1:
            raise ValueError(
                "threshold must be a probability, and eps a fraction of the range of values such "
                f"as 2/255, both above 0; got {threshold} and {eps}"
            )
        # The user may have switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            compared = ComparedClassifiers(estimator, X, cls.__name__)
            labels, codes = compared.encode(y)
            ends, before, after = [], [], []
            for name, classifier in compared.by_name.items():
                x_end = minimal_perturbation(
                    classifier,
                    classifier.x,
                    torch.from_numpy(codes[name]),
                    limits=compared.limits,
                    threshold=threshold,
                    eps=eps,
                    max_iter=max_iter,
                )
                own = np.arange(len(labels)), codes[name]
                before.append(np.exp(classifier.log_proba()[own]))
                after.append(np.exp(classifier.log_proba(x_end)[own]))
                ends.append(compared.displayed(x_end))
        return cls(
            compared.images,
            np.stack(ends),
            names=list(compared.by_name),
            proba_before=np.stack(before),
            proba_after=np.stack(after),
            labels=labels,
            threshold=threshold,
            value_range=compared.displayed_limits,
        )

    def _draw(self, ax: Any, figure: Any) -> None:
        start = channels_last(self.start)
        ends = np.asarray(self.end, dtype=np.float64).reshape(len(self.names), *start.shape)
        low, high = image_limits(self.value_range, self.start, ends)
        names = [text for name in self.names for text in (f"{shorten(name)}\nend", "difference")]
        axes = self._make_grid(start, ["start", *names], self.labels, ax, figure)
        show_images(axes[0], start, low, high)
        show_images(axes[1::2], ends, low, high)
        changes = ends - start
        text = f"end − start, pixels of {low:.3g} to {high:.3g}"
        text += ", mean over channels" if start.shape[-1] > 1 else ""
        self._add_colorbar(show_differences(axes[2::2], changes), axes[1:], text)
        sizes = np.sqrt(np.square(changes).mean((2, 3, 4))) / ((high - low) or 1.0)
        for (m, k), size in np.ndenumerate(sizes):
            before, after = (np.asarray(p)[m, k] for p in (self.proba_before, self.proba_after))
            missed, bound = after >= self.threshold, f"{self.threshold:.2g}"
            if before < self.threshold:
                text = f"p {before:.2f} < {bound}"
            else:
                text = f"p {before:.2f} → {after:.2f}" + (f" ≥ {bound}" if missed else "")
            set_title(axes[1 + 2 * m, k], text, warn=missed)
            axes[2 + 2 * m, k].set_xlabel(f"RMS {255 * size:.1f}/255", fontsize="small")
