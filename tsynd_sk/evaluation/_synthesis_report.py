"""A report on synthetic images: what must not be among them, and how good they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from tsynd_sk._utils._table import format_table
from tsynd_sk._utils._validation import type_name
from tsynd_sk.evaluation._image_distances import (
    ImageSpace,
    frechet_distance,
    nearest,
    precision_recall,
)
from tsynd_sk.evaluation._scores import labels_of_images
from tsynd_sk.images import Selection, check_images, parts
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

# Images from which a covariance can be estimated at all.
_FEWEST = 10
# Neighbour to which the balls of precision and recall reach.
_K = 3

_MEANINGS = {
    "out of range": "rows with values beyond those in fit",
    "other label": "rows whose label is not that of their source",
    "duplicate": "rows equal to an earlier synthetic one",
    "copy": "rows equal to a real image",
    "mutual_info_source": "mean mutual information of the sources, nats",
    "mutual_info": "mean mutual information of the samples, nats",
    "mutual_info_gain": "mean rise from source to sample, nats",
    "rose": "share of samples more uncertain than their source",
    "label_agreement": "share of samples whose label the members predict",
    "reconstruction_error": "root mean square, mean over the sources",
    "displacement": "latent standard deviations, mean",
    "nearest_real": "median distance to the nearest real image",
    "nearest_real_of_real": "the same for real images, themselves left out",
    "authenticity": "share not nearer to a real image than the next real one is",
    "nearest_is_source": "share whose nearest real image is their source",
    "frechet_distance": "in feature space, squared",
    "frechet_distance_of_real": "between two halves of the real images",
    "precision": "share of samples on the manifold of real features",
    "recall": "share of real images on the manifold of sampled features",
}


@dataclass(frozen=True, eq=False, repr=False)
class SynthesisReport:
    """What :func:`synthesis_report` found; printing it shows a table.

    Attributes
    ----------
    diagnostics : dict
        From the name of what must not be to the number of synthetic rows that are so.
    quality : dict
        From names to values; nan for what could not be measured, see `notes`.
    by_class : list of dict
        "label", "n_samples" and the mean "mutual_info_gain", "label_agreement" and
        "reconstruction_error" of every class. Made for ``pandas.DataFrame(by_class)``.
    notes : list of str
        What could not be measured or says little, and why.
    n_samples, n_real : int
        Synthetic and real images.

    See Also
    --------
    synthesis_report : Makes it, and says what the names stand for.

    Examples
    --------
    >>> from tsynd_sk.evaluation import SynthesisReport
    >>> report = SynthesisReport({"duplicate": 0, "copy": 2}, {"rose": 0.9}, [], [], 10, 50)
    >>> report.is_valid
    False
    >>> report.to_frame()[["part", "name", "value"]]
                 part       name  value
        0  diagnostic  duplicate    0.0
        1  diagnostic       copy    2.0
        2     quality       rose    0.9
    """

    diagnostics: dict[str, int]
    quality: dict[str, float]
    by_class: list[dict[str, Any]]
    notes: list[str]
    n_samples: int
    n_real: int

    @property
    def is_valid(self) -> bool:
        """Whether all diagnostics are perfect, that is, zero."""
        return not any(self.diagnostics.values())

    def to_frame(self):
        """Return diagnostics and quality as a table.

        Returns
        -------
        pandas.DataFrame
            With the columns "part" ("diagnostic" or "quality"), "name", "value" and "meaning".
        """
        import pandas as pd

        found: dict[str, dict] = {"diagnostic": self.diagnostics, "quality": self.quality}
        rows = [
            (part, name, float(value), _MEANINGS[name])
            for part, values in found.items()
            for name, value in values.items()
        ]
        return pd.DataFrame(rows, columns=["part", "name", "value", "meaning"])

    def __repr__(self) -> str:
        diagnostics, quality = (
            [[f"  {name}", f"{value:.4g}", _MEANINGS[name]] for name, value in found.items()]
            for found in (self.diagnostics, self.quality)
        )
        lines = [
            f"{self.n_samples} synthetic and {self.n_real} real images; diagnostics, which have to "
            f"be 0: {'perfect' if self.is_valid else 'NOT PERFECT'}",
            "Synthetic images are as confidential as the real ones that they come from.",
            "",
            format_table(["diagnostics"], [*diagnostics, ["quality"], *quality], align="<><"),
            "",
            *self.notes,
        ]
        return "\n".join(lines).rstrip()


def synthesis_report(
    synthesizer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_samples: int | None = None,
    random_state: Any = None,
) -> SynthesisReport:
    """Sample from a fitted synthesizer, and describe what the samples are like.

    Samples are as confidential as the real images: each is its source plus a small change.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer or AugmentedClassifier
        Fitted.
    X : array-like of shape (n, ...)
        All the images that it was fitted on, in their order.
    y : array-like of shape (n,)
        Their labels.
    n_samples : int or None, default=None
        Number of synthetic images; ``None``: as many as there are real ones, 1,000 at most. As many
        real ones, drawn at random, are taken for what compares sets of one size.
    random_state : int, RandomState instance or None, default=None
        Seed of the samples and of what is drawn; ``None`` for the synthesizer's own.

    Returns
    -------
    SynthesisReport
        Call its ``to_frame`` or print it.

    Raises
    ------
    ValueError
        If `X` and `y` are not those of the fit, as far as that shows.

    See Also
    --------
    SynthesisReport : What it returns.
    tsynd_sk.inspection.SynthesisDisplay : Shows samples below their sources.
    tsynd_sk.TargetedSynthesizer : Synthesises the samples.

    Notes
    -----
    :ref:`guide_evaluation` says what each name means and how to read it. *Diagnostics* must be 0.
    (With the objectives "duplicate", whose samples are copies, and "reconstruction", repeated
    sources give duplicates; and with ``label_policy="constrain"`` a source can come back unchanged
    where nothing else keeps its label.)

    Examples
    --------
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import synthesis_report
    >>> X, y, _ = load_digits_images()
    >>> X, y = X[:100], y[:100]
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X, y)
    >>> report = synthesis_report(synthesizer, X, y, n_samples=30)
    >>> report.is_valid
    True
    >>> report.quality["mutual_info_gain"] > 0
    True
    """
    synthesizer = fitted_synthesizer(synthesizer)
    labels, _ = labels_of_images(y, X, synthesizer.classes_)
    real, X_new, y_new, info = sample_beside_sources(
        synthesizer, X, n_samples, random_state=random_state
    )
    seed = synthesizer.random_state if random_state is None else random_state
    rng = np.random.default_rng(check_random_state(seed).randint(2**31 - 1))
    space = ImageSpace(synthesizer, real)
    chosen = rng.permutation(len(real))[: len(X_new)]
    found, notes = _distributions(space, X_new, chosen)
    gain = info.uncertainty - info.uncertainty_source
    columns = {
        "mutual_info_source": info.uncertainty_source,
        "mutual_info": info.uncertainty,
        "mutual_info_gain": gain,
        "rose": gain > 0,
        "label_agreement": info.label_agreement,
        "reconstruction_error": info.reconstruction_error,
        "displacement": info.displacement,
    }
    diagnostics = _diagnose(space, X_new, y_new, info, labels)
    quality = dict.fromkeys((name for name in _MEANINGS if name not in diagnostics), math.nan)
    quality |= {name: float(column.mean()) for name, column in columns.items()}
    quality |= _distances(space, X_new, info.source_index, chosen) | found
    by_class = []
    for label in synthesizer.classes_.tolist():
        rows = y_new == label
        row: dict[str, Any] = {"label": label, "n_samples": int(rows.sum())}
        for name in ("mutual_info_gain", "label_agreement", "reconstruction_error"):
            row[name] = float(columns[name][rows].mean()) if rows.any() else math.nan
        by_class.append(row)
    return SynthesisReport(diagnostics, quality, by_class, notes, len(X_new), len(real))


def fitted_synthesizer(estimator: Any) -> Any:
    """Return the fitted synthesizer that an estimator is or has, or raise."""
    if not isinstance(estimator, TargetedSynthesizer | AugmentedClassifier):
        raise TypeError(
            "expected a fitted TargetedSynthesizer or AugmentedClassifier, got "
            f"{type_name(estimator)}"
        )
    check_is_fitted(estimator)
    return getattr(estimator, "synthesizer_", estimator)


def sample_beside_sources(
    synthesizer: Any, X: Any, n_samples: int | None = None, *, y: Any = None, random_state: Any
) -> tuple[Any, np.ndarray, np.ndarray, Bunch]:
    """Return `X`, of which a synthesizer was fitted, as an array, and what ``sample`` returns.

    ``None`` samples as many, 1,000 at most.
    """
    images = check_images(synthesizer, X, reset=False)
    n_samples = min(len(images), 1000) if n_samples is None else n_samples
    sample = synthesizer.sample(n_samples, y=y, random_state=random_state, return_info=True)
    if (last := sample[-1].source_index.max()) >= len(images):
        raise ValueError(
            f"X has {len(images)} images, but row {last} is the source of a synthetic one: pass "
            "the whole X of fit"
        )
    return images, *sample


def _diagnose(
    space: ImageSpace, X_new: np.ndarray, y_new: np.ndarray, info: Bunch, labels: np.ndarray
) -> dict[str, int]:
    """Count the samples that are as they must not be; `labels` are those of the real images."""
    low, high = space.synthesizer.value_range_.extremes
    within = ((low <= X_new) & (X_new <= high)).reshape(len(X_new), -1).all(axis=1)
    keys = space.keys(X_new)
    real = (key for part in parts(space.real) for key in space.keys(part))
    copied = set(keys).intersection(real)
    return {
        "out of range": int((~within).sum()),
        "other label": int((labels[info.source_index] != y_new).sum()),
        "duplicate": len(keys) - len(set(keys)),
        "copy": sum(key in copied for key in keys),
    }


def _distances(
    space: ImageSpace, images: np.ndarray, sources: np.ndarray, chosen: np.ndarray
) -> dict[str, float]:
    """Compare how near samples are to real images with how near these are to each other."""

    def nearest_real(queries: np.ndarray, but: np.ndarray | None = None):
        real = (space.vectors(part) for part in parts(space.real))
        return nearest(space.vectors(queries), real, but=but)

    neighbour, distance = nearest_real(images)
    of_real, of_neighbour = (
        nearest_real(Selection(space.real, rows)[:], but=rows)[1] for rows in (chosen, neighbour)
    )
    return {
        "nearest_real": float(np.median(distance)),
        "nearest_is_source": float((neighbour == sources).mean()),
        "nearest_real_of_real": float(np.median(of_real)),
        "authenticity": float((distance >= of_neighbour).mean()),
    }


def _distributions(
    space: ImageSpace, images: np.ndarray, chosen: np.ndarray
) -> tuple[dict[str, float], list[str]]:
    """Compare samples with as many real images in the feature space of the classifier."""
    try:
        real, synthetic = map(space.features, (Selection(space.real, chosen)[:], images))
    except ValueError as error:
        return {}, [f"There is no feature space to compare distributions in: {error}."]
    n, n_features = len(synthetic), synthetic.shape[1]
    found, notes = {}, []
    if min(n, len(real)) > _K:
        found["precision"], found["recall"] = precision_recall(real, synthetic, _K)
    else:
        notes.append(f"Precision and recall need more than {_K} images; there are {n}.")
    if min(n, len(real)) < _FEWEST:
        notes.append(f"A Fréchet distance needs {_FEWEST} images at least; there are {n}.")
        return found, notes
    found["frechet_distance"] = frechet_distance(real, synthetic)
    if len(real) >= 2 * _FEWEST:
        found["frechet_distance_of_real"] = frechet_distance(real[::2], real[1::2])
    if n < 10 * n_features:
        notes.append(
            f"{n} images are few for {n_features} features: Fréchet distances say little, for "
            f"much of the covariances is shrunk away. {10 * n_features} or more would do."
        )
    return found, notes
