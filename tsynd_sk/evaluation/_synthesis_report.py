"""A report on synthetic images: what must not be among them, and how good they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from tsynd_sk._utils._labels import labels_of
from tsynd_sk._utils._table import format_table
from tsynd_sk._utils._validation import type_name
from tsynd_sk.evaluation._image_space import ImageSpace
from tsynd_sk.evaluation._set_distances import frechet_distance, nearest, precision_recall
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
    >>> report = SynthesisReport(
    ...     {"duplicate": 0, "copy": 2},
    ...     {"rose": 0.9},
    ...     by_class=[],
    ...     notes=[],
    ...     n_samples=10,
    ...     n_real=50,
    ... )
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

        rows = [
            (part, name, float(value), _MEANINGS[name])
            for part, found in (("diagnostic", self.diagnostics), ("quality", self.quality))
            for name, value in found.items()
        ]
        return pd.DataFrame(rows, columns=["part", "name", "value", "meaning"])

    def __repr__(self) -> str:
        rows = [
            [[f"  {name}", f"{value:.4g}", _MEANINGS[name]] for name, value in found.items()]
            for found in (self.diagnostics, self.quality)
        ]
        verdict = "perfect" if self.is_valid else "NOT PERFECT"
        lines = [
            f"{self.n_samples} synthetic and {self.n_real} real images; diagnostics, which have to "
            f"be 0: {verdict}",
            "Synthetic images are as confidential as the real ones that they come from.",
            "",
            format_table(["diagnostics"], [*rows[0], ["quality"], *rows[1]], align="<><"),
            *([""] if self.notes else []),
            *self.notes,
        ]
        return "\n".join(lines)


def synthesis_report(
    synthesizer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_samples: int | None = None,
    random_state: Any = None,
) -> SynthesisReport:
    """Sample from a fitted synthesizer, and describe what the samples are like.

    Whatever it says, samples are as confidential as the real images: each is its source plus a
    small change.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer or AugmentedClassifier
        Fitted.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        The real images that it was fitted on, all of them and in the same order.
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
    TypeError
        If `synthesizer` is something else.
    ValueError
        If `X` and `y` are not those of the fit, as far as that shows, or a parameter is out of its
        range.
    sklearn.exceptions.NotFittedError
        If `synthesizer` is not fitted.

    See Also
    --------
    SynthesisReport : What it returns.
    tsynd_sk.inspection.SynthesisDisplay : Shows samples below their sources.
    tsynd_sk.TargetedSynthesizer : Synthesises the samples.

    Notes
    -----
    *Diagnostics* must be 0. (With the objectives "duplicate", whose samples are copies, and
    "reconstruction", repeated sources give duplicates; and with ``label_policy="constrain"`` a
    source can come back unchanged where nothing else keeps its label.)

    *Targets and labels.* The mutual information before and after, the agreement of labels and the
    reconstruction error are those that the synthesizer's ``sample`` returns.

    *Memorisation and privacy.* Distances are root-mean-square differences on the scale that
    networks see; columns of a table are divided by their standard deviations first. Samples that
    are nearer to real images than these are to each other ("nearest_real" below
    "nearest_real_of_real") are little more than copies. A sample is authentic [1]_ if it is not
    nearer to its nearest real image than the next real image is. None of this guarantees privacy: a
    sample is its source but for a small change, and the nearest one of many real images is that
    source ("nearest_is_source").

    *Distributions* are compared in the feature space of the classifier (the first, if there are
    several): the input of its last linear layer in evaluation mode. The Fréchet distance [2]_ is
    between Gaussians with covariances shrunk by Ledoit and Wolf [3]_; "frechet_distance_of_real" is
    what chance alone does between two halves of the real images. It is not the FID, which has its
    own network, and falls with the number of images: compare equal numbers only, and trust it from
    about ten times as many images as features. Precision and recall [4]_ say whether samples look
    like real ones to the classifier, and whether they cover them. Targeted samples lie where real
    ones are rare, so that perfection is no aim here.

    References
    ----------
    .. [1] A. Alaa, B. van Breugel, E. Saveliev, M. van der Schaar, "How Faithful is your Synthetic
       Data?", ICML 2022.
    .. [2] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, "GANs Trained by a Two
       Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017.
    .. [3] O. Ledoit, M. Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance
       Matrices", Journal of Multivariate Analysis 88, 2004.
    .. [4] T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila, "Improved Precision and
       Recall Metric for Assessing Generative Models", NeurIPS 2019.

    Examples
    --------
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.autoencoders import AutoencoderNet
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import synthesis_report
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(
    ...     NetClassifier(max_epochs=3), AutoencoderNet(max_epochs=1), random_state=0
    ... )
    >>> report = synthesis_report(synthesizer.fit(X[:100], y[:100]), X[:100], y[:100], n_samples=30)
    >>> report.is_valid
    True
    >>> report.quality["mutual_info_gain"] > 0
    True
    """
    if not isinstance(synthesizer, TargetedSynthesizer | AugmentedClassifier):
        raise TypeError(
            "synthesizer must be a fitted TargetedSynthesizer or AugmentedClassifier, got "
            f"{type_name(synthesizer)}"
        )
    check_is_fitted(synthesizer)
    synthesizer = getattr(synthesizer, "synthesizer_", synthesizer)
    real: Any = check_images(synthesizer, X, reset=False)
    labels = labels_of(y)
    check_consistent_length(real, labels)
    n_samples = min(len(real), 1000) if n_samples is None else n_samples
    X_new, y_new, info = synthesizer.sample(n_samples, random_state=random_state, return_info=True)
    if info.source_index.max() >= len(real):
        raise ValueError(
            f"X has {len(real)} images, but row {info.source_index.max()} is the source of a "
            "synthetic one: pass the whole X of fit"
        )
    seed = synthesizer.random_state if random_state is None else random_state
    rng = np.random.default_rng(check_random_state(seed).randint(2**31 - 1))
    space = ImageSpace(synthesizer, real)
    counts = _diagnose(space, X_new, y_new, info, labels)
    chosen = rng.permutation(len(real))[:n_samples]
    found, notes = _distributions(space, X_new, chosen)
    quality = dict.fromkeys((name for name in _MEANINGS if name not in counts), math.nan)
    quality |= _means(info, np.arange(n_samples))
    quality |= _distances(space, X_new, info.source_index, chosen) | found
    names = ("mutual_info_gain", "label_agreement", "reconstruction_error")
    by_class = []
    for label in synthesizer.classes_.tolist():
        rows = np.flatnonzero(y_new == label)
        means = _means(info, rows)
        by_class.append({"label": label, "n_samples": len(rows), **{n: means[n] for n in names}})
    return SynthesisReport(counts, quality, by_class, notes, n_samples, len(real))


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


def _means(info: Bunch, rows: np.ndarray) -> dict[str, float]:
    """Average what the synthesizer knows of its samples."""
    gain = (info.uncertainty - info.uncertainty_source)[rows]
    columns = {
        "mutual_info_source": info.uncertainty_source[rows],
        "mutual_info": info.uncertainty[rows],
        "mutual_info_gain": gain,
        "rose": gain > 0,
        "label_agreement": info.label_agreement[rows],
        "reconstruction_error": info.reconstruction_error[rows],
        "displacement": info.displacement[rows],
    }
    return {
        name: float(column.mean()) if len(rows) else math.nan for name, column in columns.items()
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
