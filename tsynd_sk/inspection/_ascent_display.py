"""Mutual information and images along gradient ascents."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from textwrap import fill
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.evaluation import fitted_synthesizer, labels_of_images
from tsynd_sk.images import check_images
from tsynd_sk.inspection._drawing import (
    COLOURS,
    Display,
    as_displayed,
    channels_last,
    image_limits,
    image_size,
    label_text,
    legend_above,
    legend_entry,
    make_figure,
    set_title,
    show_images,
    style_axes,
)

# Inches.
_TEXT, _PANEL, _NARROWEST = 0.45, 2.9, 6.0
# All iterates of so many images are in memory at a time.
_BATCH = 32
_GREY = "0.7"
# Small letters in an inch.
_LETTERS = 13


@dataclass(eq=False, repr=False)
class AscentDisplay(Display):
    """Mutual information against ascent step, with the images along the way.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    uncertainty : ndarray of shape (n, n_steps + 1)
        Mutual information at the start (step 0) and after each step, in nats.
    label_agreement : ndarray of shape (n, n_steps + 1), bool
        Whether the members' mean prediction there is the label: filled points ("label agreed").
    chosen : ndarray of shape (n,), int
        Step whose image was taken; -1 if none would do and the image was mended, see
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
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; mutual information against step.
    axes_ : ndarray of shape (m, n_shown + 2), matplotlib Axes
        Images: the source, the iterates, and what was taken. Empty without images.

    See Also
    --------
    SynthesisDisplay : Shows where ascents end, for many images.
    tsynd_sk.ascent.ascend : The ascent.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import AscentDisplay
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X[:50], y[:50])
    >>> display = AscentDisplay.from_estimator(synthesizer, X[:6], y[:6])
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
    _column = 1.2

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
        """Record the ascents of ``synthesize(X, y, random_state=random_state)``.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted. One of a table gives a display without images.
        X, y : array-like of shape (n, ...) and (n,)
            Images as in `fit`, about a dozen, from each of which an ascent starts, and labels.
        n_sources_shown : int, default=3
            For so many, the first ones, the way is shown in images and coloured, in one of six
            colours; the other lines are grey.
        n_steps_shown : int, default=5
            Images on each way, evenly spaced from the start to the last step.
        random_state : int, RandomState instance or None, default=None
            Makes the ascents repeatable; ``None`` for the estimator's.

        Returns
        -------
        AscentDisplay
            Call its :meth:`plot`.
        """
        synthesizer = fitted_synthesizer(estimator)
        images = np.asarray(check_images(synthesizer, X, reset=False))
        labels, codes = labels_of_images(y, images, synthesizer.classes_)
        n_shown = 0 if synthesizer.image_shape_ is None else min(n_sources_shown, len(images))
        columns, iterates = _trace(synthesizer, images, codes, random_state, n_shown)
        synthetic = columns.pop("synthetic")
        pictures: dict[str, Any] = {}
        if n_shown:
            last = columns["uncertainty"].shape[1] - 1
            steps = np.linspace(0, last, min(n_steps_shown, last + 1)).round().astype(int)
            image_format = synthesizer.format_
            pictures = {
                "source": as_displayed(images[:n_shown], image_format),
                "synthetic": as_displayed(synthetic[:n_shown], image_format),
                "iterates": np.stack([as_displayed(x[steps], image_format) for x in iterates]),
                "steps": steps,
                "value_range": image_limits(None, images),
            }
        return cls(**columns, labels=labels, **pictures)

    def _draw(self, ax: Any, figure: Any) -> None:
        n_rows, n_columns, width, height = 0, 1, 0.0, 0.0
        if self.source is not None:
            n_rows, n_columns = len(self.source), len(self.steps) + 2
            width, height = image_size(np.asarray(self.source), self._column)
        ratios = [_PANEL] + [height + _TEXT] * n_rows
        size = (max(width * n_columns + 0.8, _NARROWEST), sum(ratios))
        self.figure_ = make_figure(size, ax, figure)
        grid = self.figure_.add_gridspec(1 + n_rows, n_columns, height_ratios=ratios)
        self.ax_ = self.figure_.add_subplot(grid[0, :])
        self.axes_ = np.empty((n_rows, n_columns), dtype=object)
        for row, column in np.ndindex(self.axes_.shape):
            self.axes_[row, column] = self.figure_.add_subplot(grid[row + 1, column])
        names = [f"row {i}" for i in range(n_rows or min(len(self.uncertainty), len(COLOURS)))]
        if self.labels is not None:
            texts = [label_text(label) for label in list(self.labels)[: len(names)]]
            names = [
                f"{text}, {name}" if texts.count(text) > 1 else text
                for text, name in zip(texts, names, strict=True)
            ]
        self._draw_lines(names)
        if n_rows:
            self._draw_images(names, n_letters=max(12, int(_LETTERS * height)))

    def _draw_lines(self, names: list[str]) -> None:
        """Draw all ascents, those with names in colour."""
        ax, uncertainty = self.ax_, np.asarray(self.uncertainty, dtype=float)
        last = uncertainty.shape[1] - 1
        steps = np.arange(last + 1)
        # From the steps to what is drawn beside them.
        aside = max(1.0, last / 8)
        # Coloured lines come last, on top.
        for i, values in reversed(list(enumerate(uncertainty))):
            coloured = i < len(names)
            colour = _colour(i) if coloured else _GREY
            look: dict[str, Any] = {"color": colour, "linewidth": 1.5 if coloured else 0.8}
            look["zorder"] = 2 + coloured
            agreed = np.asarray(self.label_agreement[i], dtype=bool)
            chosen, taken = int(self.chosen[i]), self.uncertainty_synthetic[i]
            ax.plot(steps, values, **look)
            ax.plot([-aside, 0], [self.uncertainty_source[i], values[0]], ":", **look)
            if chosen < 0:
                ax.plot([last, last + aside], [values[last], taken], ":", **look)
            star = {"color": _GREY, "markersize": 7, "zorder": 2}
            if coloured:
                for some, face in ((agreed, colour), (~agreed, "white")):
                    points = {"color": colour, "mfc": face, "markersize": 5, "zorder": 4}
                    ax.plot(steps[some], values[some], "o", **points)
                star = {"color": "black", "markersize": 14, "zorder": 5}
            end, agrees = (chosen, agreed[chosen]) if chosen >= 0 else (last + aside, True)
            ax.plot(end, taken, "*", mfc=colour if agrees else "white", mew=0.8, **star)
        handles = [legend_entry(n, color=_colour(i), linestyle="-") for i, n in enumerate(names)]
        if len(uncertainty) > len(names):
            handles.append(legend_entry("others", color=_GREY, linestyle="-"))
        handles += [
            legend_entry("label agreed", marker="o", markersize=5, color="black"),
            legend_entry("label denied", marker="o", markersize=5, color="black", mfc="white"),
            legend_entry("chosen", marker="*", markersize=11, color="black"),
        ]
        legend_above(ax, handles, min(len(handles), 4))
        ticks: list[float] = [-aside, *range(0, last + 1, max(1, -(-last // 10)))]
        texts = ["source", *map(str, ticks[1:])]
        if np.min(self.chosen) < 0:
            ticks.append(last + aside)
            texts.append("mended")
        ax.set_xticks(ticks, texts)
        ax.set(xlabel="ascent step", ylabel="mutual information (nats)")
        ax.margins(y=0.1)
        ax.set_ylim(bottom=0)
        style_axes(ax, axis="y")

    def _draw_images(self, names: list[str], n_letters: int) -> None:
        """Draw source, iterates and what was taken, one source a row."""
        limits = image_limits(self.value_range, self.source, self.iterates, self.synthetic)
        uncertainty, agreed = np.asarray(self.uncertainty), np.asarray(self.label_agreement)
        for i, (row, name) in enumerate(zip(self.axes_, names, strict=True)):
            chosen, steps = int(self.chosen[i]), list(self.steps)
            images = np.stack([self.source[i], *self.iterates[i], self.synthetic[i]])
            show_images(row, channels_last(images), *limits)
            end = f"chosen: {chosen}" if chosen >= 0 else "mended"
            columns = zip(
                row,
                ["source", *(f"step {step}" for step in steps), end],
                [self.uncertainty_source[i], *uncertainty[i, steps], self.uncertainty_synthetic[i]],
                [True, *agreed[i, steps], chosen < 0 or agreed[i, chosen]],
                strict=True,
            )
            for ax, title, value, agrees in columns:
                ax.set(xticks=[], yticks=[])
                set_title(ax, title if agrees else f"{title}, denied", warn=not agrees, pad=3)
                ax.set_xlabel(f"{value:.3g} nats", fontsize="small", labelpad=2)
            name = name.replace(", row ", ", row\N{NO-BREAK SPACE}")
            row[0].set_ylabel(fill(name, n_letters), fontsize="small")
            row[0].spines[:].set(color=_colour(i), linewidth=2.5)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _trace(
    synthesizer: Any, X: np.ndarray, codes: np.ndarray, random_state: Any, n_shown: int
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Do as ``synthesize``; return what a display stores, and all steps of the first images."""
    rng = check_random_state(synthesizer.random_state if random_state is None else random_state)
    # As in ``synthesize``, which draws the seed of a pass from that of the call.
    seed = rng.randint(2**31 - 1)
    engine, image_format = synthesizer.engine_, synthesizer.format_
    size = min(engine.batch_size(synthesizer), _BATCH)
    steps: list[Any] = []
    synthesize = engine.batch_synthesis(synthesizer, callback=lambda *args: steps.append(args[-1]))
    parts, shown = [], []
    for first in range(0, len(X), size):
        rows = np.arange(first, min(first + size, len(X)))
        x, y = image_format.to_tensor(X[rows]), torch.from_numpy(codes[rows])
        steps.clear()
        with torch.inference_mode(False), torch.enable_grad(), single_threaded():
            images, info = synthesize(x, y, rows=rows, occurrence=0, seed=seed)
        iterates = torch.stack([step.images for step in steps], 1)
        is_taken = (iterates == images[:, None]).flatten(2).all(2).cpu().numpy()
        columns = {
            "uncertainty": np.stack([step.uncertainty.cpu() for step in steps], 1),
            "label_agreement": np.stack([step.agreement.cpu() for step in steps], 1),
            # The last of the steps whose image was taken.
            "chosen": np.where(is_taken, np.arange(len(steps)), -1).max(1),
            "uncertainty_source": info["uncertainty_source"],
            "uncertainty_synthetic": info["uncertainty"],
        }
        clipped = [
            synthesizer.value_range_.clip_array(image_format.to_array(each))
            for each in (images, *iterates[: max(n_shown - first, 0)])
        ]
        parts.append({**columns, "synthetic": clipped[0]})
        shown += clipped[1:]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, shown
