"""How much, and where, images must change for classifiers to doubt their classes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tsynd_sk.inspection._compared_classifiers import ComparedClassifiers
from tsynd_sk.inspection._drawing import (
    Display,
    add_colorbar,
    channels_last,
    image_grid,
    image_limits,
    name_columns,
    name_row,
    set_title,
    shorten,
    show_differences,
    show_images,
)
from tsynd_sk.inspection._perturbation import minimal_perturbation

# Inches, of which what is written in a column needs more than elsewhere.
_COLUMN = 1.35


@dataclass(eq=False, repr=False)
class PerturbationDisplay(Display):
    """Images, what they become when a class is made unlikely, and the difference.

    Better made by :meth:`from_estimator`. Stores its parameters as attributes.

    Parameters
    ----------
    start : ndarray of shape (n, H, W) or (n, H, W, C)
        Images, uint8 or float.
    end : ndarray of shape (n_classifiers, n, H, W) or (n_classifiers, n, H, W, C)
        The same images after their change for each classifier, floats on the scale of `start`.
    names : list of str of length n_classifiers
        Names of the classifiers.
    proba_before, proba_after : ndarray of shape (n_classifiers, n)
        Probabilities that the classifiers give the class of the image, at the start and at the end.
    labels : ndarray of shape (n,) or None, default=None
        Classes of the images.
    threshold : float, default=0.5
        Probability to get below. Images are marked where it was not, or was at the start.
    value_range : tuple of float or None, default=None
        Values drawn black and white, by which changes are measured. ``None``: (0, 255) for uint8,
        otherwise the extremes.

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
    >>> net = NetClassifier(max_epochs=5).fit(X[:200, None], y[:200])
    >>> display = PerturbationDisplay.from_estimator(net, X[:3], y[:3])
    >>> bool((display.proba_after < 0.5).all())
    True
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
            values: 0 to 255 for uint8; for floats from the lowest to the highest value in `X` and
            in the fits of the classifiers.
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
        the range of values and `eps`. Each stops as soon as its class is less likely than
        `threshold`, and is then drawn back towards its start for as long as that holds: all
        classifiers end at the same probability, so that changes can be compared. There may be
        smaller ones. An image whose class does not become that unlikely ends where it was least
        likely.
        """
        if not 0 < threshold < 1 or not 0 < eps <= 1:
            raise ValueError(
                "threshold must be a probability, and eps a fraction of the range of values such "
                f"as 2/255, both above 0; got {threshold} and {eps}"
            )
        # The user may have switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            compared = ComparedClassifiers.from_estimator(estimator, X, cls.__name__)
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
        figure, axes = image_grid(start, 1 + 2 * len(ends), ax, figure, _COLUMN)
        for row, images in zip((axes[0], *axes[1::2]), (start, *ends), strict=True):
            show_images(row, images, (low, high))
        changes = ends - start
        text = f"end − start, pixels of {low:.3g} to {high:.3g}"
        text += ", mean over channels" if start.shape[-1] > 1 else ""
        drawn = show_differences(axes[2::2], changes)
        self.colorbar_ = add_colorbar(figure, drawn, axes[1:], text)
        sizes = np.sqrt(np.square(changes).mean((2, 3, 4))) / ((high - low) or 1.0)
        name_row(axes[0, 0], "start", start)
        name_columns(axes[0], self.labels)
        for m, name in enumerate(self.names):
            name_row(axes[1 + 2 * m, 0], f"{shorten(name)}\nend", start)
            name_row(axes[2 + 2 * m, 0], "difference", start)
        for (m, k), size in np.ndenumerate(sizes):
            before, after = (np.asarray(p)[m, k] for p in (self.proba_before, self.proba_after))
            missed, bound = after >= self.threshold, f"{self.threshold:.2g}"
            if before < self.threshold:
                text = f"p {before:.2f} < {bound}"
            else:
                text = f"p {before:.2f} → {after:.2f}" + (f" ≥ {bound}" if missed else "")
            set_title(axes[1 + 2 * m, k], text, warn=missed)
            axes[2 + 2 * m, k].set_xlabel(f"RMS {255 * size:.1f}/255", fontsize="small")
        self.figure_, self.ax_, self.axes_ = figure, axes[0, 0], axes
