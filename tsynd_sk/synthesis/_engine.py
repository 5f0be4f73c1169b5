"""The engine of targeted synthesis: fitted nets, an autoencoder and real images, put to work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._tensors import PickledAsArrays
from tsynd_sk.images import ImageFormat, Selection, ValueRange, spread
from tsynd_sk.members import LastLayerPosterior
from tsynd_sk.synthesis._ascent_check import check_ascent
from tsynd_sk.synthesis._batch import BatchSynthesis, derived_seed
from tsynd_sk.synthesis._codec import Codec, check_finite, latent_scale
from tsynd_sk.synthesis._member_scheme import N_JUDGED, MemberScheme
from tsynd_sk.synthesis._parallel import Columns, images_at_a_time, synthesize_in_batches
from tsynd_sk.uncertainty import mutual_information

# A stream of random numbers of its own; occurrences of sources count up from zero.
_UNCERTAINTY_STREAM = 2**31


@dataclass
class Engine(PickledAsArrays):
    """What was learned for synthesis, and the operations on it.

    The engine knows no labels: classes are numbered from 0. Images come in the user's layout.
    What may change between two calls is read from `params`, the first argument of most methods:
    a `TargetedSynthesizer`, or anything with its parameters.

    Attributes
    ----------
    nets : list of skorch classifiers
        Fitted; several form an ensemble.
    image_format : ImageFormat
        Layout and dtype of the user's images.
    value_range : ValueRange
        Range to which synthetic images are clipped.
    images : array of shape (n, ...) or None
        Real images from which synthesis starts; None if they were not kept.
    codes : ndarray of shape (n,), int64, or None
        Their classes.
    seed : int
        Seed of the members over which uncertainty is measured.
    autoencoder : skorch net or None
        Fitted; None if nothing is to be synthesised.
    latent_scale : Tensor or None
        Standard deviations of the latent coordinates.
    kind : str or None
        What the members of each net are made of; resolved again if `params.members` changes.
    posteriors : list of LastLayerPosterior or None
        For each net, where its members are drawn from a Laplace approximation.
    decisions : list of dict
        For each net, and each way to make its members, how they are computed: decided once.
    members_asked : str or None
        The parameter `members` that the kind was resolved for.
    """

    nets: list
    image_format: ImageFormat
    value_range: ValueRange
    images: Any
    codes: Any
    seed: int
    autoencoder: Any = None
    latent_scale: Any = None
    kind: str | None = None
    posteriors: list[LastLayerPosterior | None] = field(default_factory=list)
    decisions: list[dict] = field(default_factory=list)
    members_asked: str | None = None

    def __post_init__(self) -> None:
        while len(self.decisions) < len(self.nets):
            self.decisions.append({})
        # Prepared copies, each with the weights that it was made from.
        self._prepared_members: _Prepared | None = None
        self._prepared_codec: _Prepared | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Prepared copies are made again where they are needed. Shapes that are keys are not for
        # libraries that know what JSON does.
        return {
            **super().__getstate__(),
            "_prepared_members": None,
            "_prepared_codec": None,
            "decisions": [
                {way: list(by_shape.items()) for way, by_shape in of_net.items()}
                for of_net in self.decisions
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.decisions = [
            {way: dict(by_shape) for way, by_shape in of_net.items()} for of_net in self.decisions
        ]

    # Tensors made in a caller's inference mode could not take part in gradients.
    @torch.inference_mode(False)
    def use_autoencoder(self, params: Any, autoencoder: Any) -> None:
        """Take a fitted autoencoder, and measure how its codes of the real images vary.

        Raises
        ------
        ValueError
            If codes do not decode to the shape of the images, or are not finite.
        """
        self.autoencoder = autoencoder
        self.latent_scale = latent_scale(self.codec(params), self._batches(params))

    def with_images(
        self, image_format: ImageFormat, value_range: ValueRange, images: Any, codes: np.ndarray
    ) -> Engine:
        """Return an engine of the same nets that starts from other real images."""
        return replace(
            self, image_format=image_format, value_range=value_range, images=images, codes=codes
        )

    def check_members(self, params: Any) -> None:
        """Raise ValueError if the members cannot predict what is finite and can be climbed."""
        members, x = self.members(params, seed=0), self._example(params)
        check_finite(members(x).exp(), "classifier")
        names = [_skorch.network_of(net)._get_name() for net in self.nets]
        check_ascent(members, x, params.objective, " and ".join(dict.fromkeys(names)))

    def device(self, params: Any) -> torch.device:
        """Device on which everything is computed."""
        if params.device is None:
            return _skorch.device_of(self.nets[0])
        return _skorch.check_device(params.device)

    def batch_size(self, params: Any) -> int:
        """Images that are computed at a time."""
        if params.batch_size != "auto":
            return params.batch_size
        shape = self.image_format.image_shape or self.image_format.row_shape
        return images_at_a_time(shape, self.device(params))

    def codec(self, params: Any) -> Codec:
        """Private copy of the autoencoder, ready to encode and decode.

        Raises
        ------
        NotFittedError
            If there is no autoencoder.
        """
        if self.autoencoder is None:
            raise NotFittedError(
                "this synthesizer has no autoencoder, because it comes from a training with "
                "synthetic_ratio=0: fit with a larger one to synthesise"
            )
        module, device = _skorch.bare_module(self.autoencoder), self.device(params)
        prepared = self._prepared_codec
        if prepared is None or not prepared.is_of([module], device):
            codec = Codec(module, self.value_range, self._example(params), device)
            weights = list(map(torch.clone, _weights_of([module])))
            self._prepared_codec = prepared = _Prepared(codec, [module], device, weights)
        return prepared.product

    @torch.inference_mode(False)
    def members(self, params: Any, seed: int) -> Any:
        """Members of the classifiers as they are now; equal seeds, equal members.

        This is the one place that notices when a net has been trained on: its posterior is then
        fitted anew, and its private copies are made anew.
        """
        modules, device = list(map(_skorch.network_of, self.nets)), self.device(params)
        kind = self._resolve_kind(params)
        scheme = replace(scheme_of(params, len(self.nets)), kind=kind)
        prepared = self._prepared_members
        if prepared is None or not prepared.is_of(modules, (scheme, device)):
            if not self._posteriors_are_current(modules, kind):
                self.refit_posteriors(params)
            way = f"{kind}, restrict={params.restrict}"
            decisions = [of_net.setdefault(way, {}) for of_net in self.decisions]
            members = scheme.members(
                self.nets, self.posteriors, seed=seed, device=device, decisions=decisions
            )
            weights = list(map(torch.clone, _weights_of(modules)))
            prepared = _Prepared(members, modules, (scheme, device), weights)
            self._prepared_members = prepared
        return prepared.product.redrawn(seed)

    def refit_posteriors(self, params: Any) -> None:
        """Fit the posterior of every net whose members need one, to the nets as they are now.

        Raises
        ------
        NotFittedError
            If the real images were not kept.
        """
        if self._resolve_kind(params) != "laplace":
            self.posteriors = [None] * len(self.nets)
            return
        self.check_has_images()
        judged = Selection(self.images, spread(len(self.images), N_JUDGED))
        scheme = scheme_of(params, len(self.nets))
        self.posteriors = [
            scheme.posterior(net, self._batches(params), list(self._batches(params, judged)))
            for net in self.nets
        ]

    def _posteriors_are_current(self, modules: Sequence[nn.Module], kind: str) -> bool:
        if len(self.posteriors) != len(modules):
            return False
        if self._prepared_members is not None and not self._prepared_members.is_of(modules):
            return False
        # Other members need none, but leave those that there are for a return to these.
        if kind != "laplace":
            return True
        # Posteriors that came from a file, say, are current if their layer is as it was.
        pairs = zip(self.posteriors, modules, strict=True)
        return all(p is not None and p.is_of(m) for p, m in pairs)

    def _resolve_kind(self, params: Any) -> str:
        if self.kind is None or self.members_asked != params.members:
            scheme = scheme_of(params, len(self.nets))
            self.kind = scheme.resolve_kind(self.nets, self._example(params))
            self.members_asked = params.members
        return self.kind

    @torch.inference_mode(False)
    def batch_synthesis(self, params: Any, callback: Any = None) -> BatchSynthesis:
        """Return the function that synthesises from one batch of images."""
        members = self.members(params, seed=0)
        return BatchSynthesis(
            codec=self.codec(params),
            make_members=members.redrawn,
            latent_scale=self.latent_scale,
            objective=params.objective,
            keep_detail=params.keep_detail,
            random_start=params.random_start,
            radius=params.radius,
            max_iter=params.max_iter,
            constrain=params.label_policy == "constrain",
            device=self.device(params),
            callback=callback,
        )

    def synthesize(
        self,
        params: Any,
        X: Any,
        codes: np.ndarray,
        occurrence: np.ndarray,
        rng: np.random.RandomState,
        empty: Callable[..., np.ndarray] = np.empty,
    ) -> tuple[np.ndarray, Columns]:
        """Synthesise one image from each row of `X`; the way that all public methods go.

        Parameters
        ----------
        params : object
            Parameters of `TargetedSynthesizer`.
        X : array of shape (n, ...)
            Real images in the user's layout.
        codes : ndarray of shape (n,), int64
            Their classes.
        occurrence : ndarray of shape (n,), int64
            How often each source has been used before.
        rng : RandomState
            Source of the seed.
        empty : callable, default=numpy.empty
            Makes the array of images from its shape and dtype.

        Returns
        -------
        X_new : ndarray of shape (n, ...)
        info : dict of ndarrays of shape (n,)
            See `TargetedSynthesizer.sample`.
        """
        return synthesize_in_batches(
            self.batch_synthesis(params),
            X,
            codes,
            occurrence,
            self.image_format,
            seed=rng.randint(2**31 - 1),
            batch_size=self.batch_size(params),
            n_jobs=params.n_jobs,
            verbose=params.verbose,
            empty=empty,
        )

    @torch.inference_mode(False)
    def uncertainty(self, params: Any, X: Any) -> np.ndarray:
        """Mutual information between the predictions for `X` and the members, in nats."""
        members = self.members(params, derived_seed(self.seed, _UNCERTAINTY_STREAM))
        with torch.no_grad():
            parts = [mutual_information(members(x)).cpu() for x in self._batches(params, X)]
        return torch.cat(parts).numpy()

    @torch.inference_mode(False)
    def reconstruct(self, params: Any, X: Any) -> np.ndarray:
        """Encode and decode images."""
        codec = self.codec(params)
        with torch.no_grad():
            decoded = [codec.decode(codec.encode(x)) for x in self._batches(params, X)]
        return self.value_range.clip_array(
            np.concatenate(
                [self.image_format.to_array(x) for x in decoded], dtype=self.image_format.dtype
            )
        )

    def check_has_images(self) -> None:
        """Raise NotFittedError if the real images were left out of a file."""
        if self.images is None:
            raise NotFittedError(
                "the training images were left out of the file that this synthesizer was loaded "
                "from: give images to synthesize(X, y), or have them in the file by "
                "save_params(path, with_images=True), or fit"
            )

    def _batches(self, params: Any, X: Any = None) -> Iterator[Tensor]:
        """Images as networks see them, those of training by default."""
        X, device = self.images if X is None else X, self.device(params)
        size = self.batch_size(params)
        for first in range(0, len(X), size):
            yield self.image_format.to_tensor(X[first : first + size]).to(device)

    def _example(self, params: Any) -> Tensor:
        """One training image as networks see it, or noise in its range where none was kept."""
        if self.images is not None:
            return self.image_format.to_tensor(self.images[:1]).to(self.device(params))
        shape = self.image_format.image_shape or self.image_format.row_shape
        share = torch.from_numpy(np.random.default_rng(0).random((1, *shape), dtype=np.float32))
        noise = torch.lerp(self.value_range.low, self.value_range.high, share)
        return self.value_range.clip(noise).to(self.device(params))


def scheme_of(params: Any, n_nets: int) -> MemberScheme:
    """How members of so many nets are to be made, by the parameters of `TargetedSynthesizer`."""
    several = params.members == "auto" and n_nets > 1
    kind = "ensemble" if several else params.members
    return MemberScheme(kind, params.n_members, params.restrict)


class _Prepared(NamedTuple):
    """Something made from networks and settings, with a copy of the weights at that moment."""

    product: Any
    modules: list[nn.Module]
    settings: Any
    weights: list[Tensor]

    def is_of(self, modules: Sequence[nn.Module], settings: Any = None) -> bool:
        """Return whether it was made from these networks, with their weights as they are now."""
        if modules != self.modules:
            return False
        now = _weights_of(modules)
        return settings in (None, self.settings) and (
            len(now) == len(self.weights) and all(map(_equal, now, self.weights))
        )


def _weights_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    weights: list[Tensor] = []
    for module in modules:
        weights += [*module.parameters(), *module.buffers()]
    return list(map(Tensor.detach, weights))


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.device != b.device or a.dtype != b.dtype or a.shape != b.shape:
        return False
    # NaN, which a net may keep in a buffer, is the same NaN.
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
