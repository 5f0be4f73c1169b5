"""A report on synthetic images: what must not be among them, and their quality."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._inference import private_copy
from tsynd_sk._utils._table import format_table
from tsynd_sk._utils._validation import type_name
from tsynd_sk.evaluation._scores import labels_of_images
from tsynd_sk.images import Selection, check_images, parts
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

# Images from which a covariance can be estimated at all.
_FEWEST = 10
# Neighbour to which the balls of precision and recall reach.
_K = 3
_BY_CLASS = ("mutual_info_gain", "label_agreement", "reconstruction_error")
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
        By the name of what must not be, the number of synthetic rows that are so.
    quality : dict
        Values by name; nan for what could not be measured, see `notes`.
    by_class : list of dict
        "label", "n_samples" and the mean "mutual_info_gain", "label_agreement" and
        "reconstruction_error" of every class.
    notes : list of str
        What could not be measured or says little, and why.
    n_samples, n_real : int
        Synthetic and real images.

    See Also
    --------
    synthesis_report : Makes it.

    Examples
    --------
    >>> from tsynd_sk.evaluation import SynthesisReport
    >>> report = SynthesisReport({"copy": 2}, {"rose": 0.9}, [], [], 10, 50)
    >>> report.is_valid
    False
    >>> report.to_frame()[["part", "name", "value"]]
             part  name  value
    0  diagnostic  copy    2.0
    1     quality  rose    0.9
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
        rows: list[list[str]] = []
        for title, found in (("diagnostics", self.diagnostics), ("quality", self.quality)):
            rows.append([title])
            rows += [[f"  {n}", f"{value:.4g}", _MEANINGS[n]] for n, value in found.items()]
        table = format_table(rows[0], rows[1:], align="<><")
        lines = [
            f"{self.n_samples} synthetic and {self.n_real} real images; diagnostics, which have to "
            f"be 0: {'perfect' if self.is_valid else 'NOT PERFECT'}",
            "Synthetic images are as confidential as the real ones that they come from.",
            f"\n{table}\n",
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
    X, y : array-like of shape (n, ...) and (n,)
        All the images that it was fitted on, in their order, and their labels.
    n_samples : int or None, default=None
        Number of synthetic images, which are compared with as many real ones; ``None``: as many as
        there are real ones, 1,000 at most.
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
    :ref:`guide_evaluation` says what each name means. *Diagnostics* must be 0, but for copies and
    duplicates by objectives that displace nothing, or where no displacement kept the label.

    Examples
    --------
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import synthesis_report
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X[:100], y[:100])
    >>> report = synthesis_report(synthesizer, X[:100], y[:100], n_samples=30)
    >>> report.is_valid, report.quality["mutual_info_gain"] > 0
    (True, True)
    """
    synthesizer = fitted_synthesizer(synthesizer)
    labels, _ = labels_of_images(y, X, synthesizer.classes_)
    real, X_new, y_new, info = sample_beside_sources(
        synthesizer, X, n_samples, random_state=random_state
    )
    seed = synthesizer.random_state if random_state is None else random_state
    rng = np.random.default_rng(check_random_state(seed).randint(2**31 - 1))
    samples = _Samples(synthesizer, real, X_new, rng.permutation(len(real))[: len(X_new)])
    found, notes = samples.distributions()
    gain = info.uncertainty - info.uncertainty_source
    columns = {
        "mutual_info_source": info.uncertainty_source,
        "mutual_info": info.uncertainty,
        "mutual_info_gain": gain,
        "rose": gain > 0,
        **{n: info[n] for n in ("label_agreement", "reconstruction_error", "displacement")},
    }
    diagnostics = samples.diagnostics(labels[info.source_index] != y_new)
    quality = dict.fromkeys((name for name in _MEANINGS if name not in diagnostics), math.nan)
    quality |= {name: float(column.mean()) for name, column in columns.items()}
    quality |= samples.distances(info.source_index) | found
    by_class = []
    for label in synthesizer.classes_.tolist():
        rows = y_new == label
        means = {n: float(columns[n][rows].mean()) if rows.any() else math.nan for n in _BY_CLASS}
        by_class.append({"label": label, "n_samples": int(rows.sum()), **means})
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
    """Return `X` of fit as an array, and what ``sample`` returns; by default 1,000 at most."""
    images = check_images(synthesizer, X, reset=False)
    n_samples = min(len(images), 1000) if n_samples is None else n_samples
    sample = synthesizer.sample(n_samples, y=y, random_state=random_state, return_info=True)
    if (last := sample[-1].source_index.max()) >= len(images):
        raise ValueError(
            f"X has {len(images)} images, but row {last} was sampled from: pass the whole X of fit"
        )
    return images, *sample


class _Samples:
    """Synthetic images beside the real ones of their synthesizer, of which `chosen` as many."""

    def __init__(self, synthesizer: Any, real: Any, images: np.ndarray, chosen: np.ndarray):
        self.synthesizer, self.real, self.images, self.chosen = synthesizer, real, images, chosen
        self._scale: Any = 1.0
        if synthesizer.image_shape_ is None:
            # Columns of a table have units of their own.
            spread = np.asarray(real, dtype=np.float32).std(axis=0)
            self._scale = np.where(spread > 0, spread, 1)

    def _values(self, images: np.ndarray) -> np.ndarray:
        return self.synthesizer.format_.to_tensor(images).flatten(1).numpy()

    def _keys(self, images: np.ndarray) -> list[bytes]:
        """Return bytes that are equal for equal images; zero has either sign."""
        return [row.tobytes() for row in self._values(images) + np.float32(0)]

    def _vectors(self, images: np.ndarray) -> np.ndarray:
        """Return vectors whose Euclidean distance is the root-mean-square difference of values."""
        values = self._values(images)
        return (values / self._scale / np.sqrt(values.shape[1])).astype(np.float32)

    def _features(self, images: np.ndarray) -> np.ndarray:
        """Return what the last linear layer of the (first) classifier receives."""
        engine, x = self.synthesizer.engine_, self.synthesizer.format_.to_tensor(images)
        return last_layer_features(engine.nets[0], x.split(engine.batch_size(self.synthesizer)))

    def diagnostics(self, has_other_label: np.ndarray) -> dict[str, int]:
        """Count the samples that are as they must not be."""
        low, high = self.synthesizer.value_range_.extremes
        within = ((low <= self.images) & (self.images <= high)).reshape(len(self.images), -1)
        keys = self._keys(self.images)
        copied = set(keys).intersection(k for part in parts(self.real) for k in self._keys(part))
        return {
            "out of range": int((~within.all(axis=1)).sum()),
            "other label": int(has_other_label.sum()),
            "duplicate": len(keys) - len(set(keys)),
            "copy": sum(key in copied for key in keys),
        }

    def distances(self, sources: np.ndarray) -> dict[str, float]:
        """Compare how near samples are to real images with how near these are to each other."""

        def nearest_real(queries: np.ndarray, but: np.ndarray | None = None):
            real = (self._vectors(part) for part in parts(self.real))
            return nearest(self._vectors(queries), real, but=but)

        neighbour, distance = nearest_real(self.images)
        of_real, of_neighbour = (
            nearest_real(Selection(self.real, rows)[:], but=rows)[1]
            for rows in (self.chosen, neighbour)
        )
        return {
            "nearest_real": float(np.median(distance)),
            "nearest_is_source": float((neighbour == sources).mean()),
            "nearest_real_of_real": float(np.median(of_real)),
            "authenticity": float((distance >= of_neighbour).mean()),
        }

    def distributions(self) -> tuple[dict[str, float], list[str]]:
        """Compare samples and real images in the feature space of the classifier; return notes."""
        try:
            real, synthetic = map(
                self._features, (Selection(self.real, self.chosen)[:], self.images)
            )
        except ValueError as error:
            return {}, [f"There is no feature space to compare distributions in: {error}."]
        n, n_features = synthetic.shape
        fewest, found, notes = min(n, len(real)), {}, []
        if fewest > _K:
            found["precision"] = share_within(synthetic, real, _K)
            found["recall"] = share_within(real, synthetic, _K)
        else:
            notes.append(f"Precision and recall need more than {_K} images; there are {n}.")
        if fewest < _FEWEST:
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


def last_layer_features(net: Any, batches: Iterable[Tensor]) -> np.ndarray:
    """Return what the linear layer that a fitted net calls last receives, in evaluation mode."""
    network, device = private_copy(_skorch.network_of(net)), _skorch.device_of(net)
    features, received = [], []
    for part in network.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(
                lambda _, args, kwargs: received.append(args[0] if args else kwargs["input"]),
                with_kwargs=True,
            )
    with torch.no_grad():
        for x in batches:
            received.clear()
            network(x.to(device))
            if not received or received[-1].shape[:-1] != x.shape[:1]:
                raise ValueError(
                    f"{network._get_name()} must end in a torch.nn.Linear that gets one vector for "
                    "each image"
                )
            features.append(received[-1].cpu().double().numpy())
    return np.concatenate(features)


def nearest(
    queries: np.ndarray, parts: Iterable[np.ndarray], *, but: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return index and distance of the nearest row to each query; row ``but[i]`` does not count."""
    queries = queries.astype(np.float64)
    best, index, n_before = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64), 0
    for rows in parts:
        k = min(1 if but is None else 2, len(rows))
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows)
        for found in search.kneighbors(queries, return_distance=False).T:
            # Anew, for the square of a sum leaves rounding where nothing should be.
            distance = np.linalg.norm(queries - rows[found], axis=1)
            better = distance < best
            if but is not None:
                better &= n_before + found != but
            best[better], index[better] = distance[better], n_before + found[better]
        n_before += len(rows)
    return index, best


def frechet_distance(features_1: np.ndarray, features_2: np.ndarray) -> float:
    """Fréchet distance, squared as usual, between Gaussians with shrunk covariances."""
    # The product has the eigenvalues of a symmetric matrix without negative ones.
    (cov_1, _), (cov_2, _) = map(ledoit_wolf, (features_1, features_2))
    shared = np.sqrt(np.linalg.eigvals(cov_1 @ cov_2).real.clip(0)).sum()
    gap = ((features_1.mean(axis=0) - features_2.mean(axis=0)) ** 2).sum()
    # Of equal distributions rounding may leave less than nothing.
    return max(float(gap + np.trace(cov_1 + cov_2) - 2 * shared), 0.0)


def share_within(rows: np.ndarray, centres: np.ndarray, k: int) -> float:
    """Return the share of rows in balls that reach to the k-th neighbours of centres."""
    # Squares, which are computed exactly. The nearest of all is the centre itself.
    squares = partial(pairwise_distances_chunked, metric="sqeuclidean")
    radii = squares(centres, reduce_func=lambda d, _: np.partition(d, k, axis=1)[:, k])
    reach = np.concatenate(list(radii))
    within = squares(rows, centres, reduce_func=lambda d, _: (d <= reach).any(axis=1))
    return float(np.concatenate(list(within)).mean())
