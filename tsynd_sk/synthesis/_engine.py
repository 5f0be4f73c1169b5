"""The engine of targeted synthesis: fitted nets, an autoencoder and real images, put to work."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn
from tqdm.auto import tqdm

from tsynd_sk import _skorch
from tsynd_sk._utils._tensors import PickledAsArrays
from tsynd_sk.images import ImageFormat, Selection, ValueRange, spread
from tsynd_sk.members import LastLayerPosterior
from tsynd_sk.synthesis._batch import (
    BatchSynthesis,
    Columns,
    batches_of,
    derived_seed,
    synthesize_batch,
)
from tsynd_sk.synthesis._codec import Codec
from tsynd_sk.synthesis._member_scheme import fit_posterior, make_members, resolve_kind
from tsynd_sk.uncertainty import mutual_information

# A stream of random numbers of its own; occurrences of sources count up from zero.
_UNCERTAINTY_STREAM = 2**31

# Training images that serve to judge the members of a last layer.
_N_JUDGED = 256

# So many images are computed at a time by default, and on a processor so many pixels: more take
# memory for activations, hundreds of bytes a pixel, and are slower, for they leave the caches.
_IMAGES, _PIXELS = 256, 2**16


@dataclass
class Engine(PickledAsArrays):
    """What was learned for synthesis, and the operations on it.

    Classes are numbered from 0, and images come in the user's layout. What may change between two
    calls is read from `params`: a `TargetedSynthesizer`, or anything with its parameters.
    """

    nets: list
    image_format: ImageFormat
    value_range: ValueRange
    # Real images, None if they were not kept, and their classes.
    images: Any
    codes: Any
    # Of the members over which uncertainty is measured.
    seed: int
    # None if nothing is to be synthesised.
    autoencoder: Any = None
    latent_scale: Any = None
    # What members are made of, and for which parameter `members` that was resolved.
    kind: str | None = None
    members_asked: str | None = None
    # Of each net, None unless its kind is "laplace".
    posteriors: list[LastLayerPosterior | None] = field(default_factory=list)
    # Of each net, and each way to make its members, on how they are computed.
    decisions: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        while len(self.decisions) < len(self.nets):
            self.decisions.append({})
        self._prepared_members: _Prepared | None = None
        self._prepared_codec: _Prepared | None = None
        # A training image as networks see it, or noise in its range where none was kept.
        if self.images is not None:
            self.example = self.image_format.to_tensor(self.images[:1])
            return
        shape = self.image_format.image_shape or self.image_format.row_shape
        share = torch.from_numpy(np.random.default_rng(0).random((1, *shape), dtype=np.float32))
        noise = torch.lerp(self.value_range.low, self.value_range.high, share)
        self.example = self.value_range.clip(noise)

    def __getstate__(self) -> dict[str, Any]:
        # Prepared copies are made again. As in JSON, shapes cannot be keys.
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

    def start_from(
        self, image_format: ImageFormat, value_range: ValueRange, images: Any, codes: np.ndarray
    ) -> None:
        """Synthesise from other real images from now on."""
        self.image_format, self.value_range = image_format, value_range
        self.images, self.codes, self._prepared_codec = images, codes, None

    def device(self, params: Any) -> torch.device:
        if params.device is None:
            return _skorch.device_of(self.nets[0])
        return _skorch.check_device(params.device)

    def batch_size(self, params: Any) -> int:
        if params.batch_size != "auto":
            return params.batch_size
        shape = self.image_format.image_shape or self.image_format.row_shape
        # An accelerator needs many at a time.
        n_pixels = math.prod(shape[-2:]) if self.device(params).type == "cpu" else 1
        return max(min(_IMAGES, _PIXELS // n_pixels), 1)

    # Tensors made in a caller's inference mode could not take part in gradients.
    @torch.inference_mode(False)
    def codec(self, params: Any) -> Codec:
        """Private copy of the autoencoder; raise NotFittedError if there is none."""
        if self.autoencoder is None:
            raise NotFittedError(
                "this synthesizer has no autoencoder, because it comes from a training with "
                "synthetic_ratio=0: fit with a larger one to synthesise"
            )
        module, device = _skorch.bare_module(self.autoencoder), self.device(params)
        prepared = self._prepared_codec
        if prepared is None or prepared.settings != device or not prepared.is_of([module]):
            codec = Codec(module, self.value_range, self.example.to(device), device)
            weights = list(map(torch.clone, _weights_of([module])))
            self._prepared_codec = prepared = _Prepared(codec, [module], device, weights)
        return prepared.product

    @torch.inference_mode(False)
    def members(self, params: Any, seed: int) -> Any:
        """Members of the classifiers as they are now; equal seeds, equal members.

        This is the one place that notices that a net has been trained on.
        """
        modules, device = list(map(_skorch.network_of, self.nets)), self.device(params)
        settings = params.members, params.n_members, params.restrict, device
        prepared, posteriors = self._prepared_members, list(self.posteriors)
        if prepared is not None and not prepared.is_of(modules):
            prepared, posteriors = None, []
        if prepared is None or prepared.settings != settings:
            if self.kind is None or self.members_asked != params.members:
                x = self.example.to(device)
                self.kind, _ = resolve_kind(params, self.nets[0], len(self.nets), x)
                self.members_asked = params.members
            posteriors = posteriors or [None] * len(modules)
            if self.kind == "laplace":
                self._fit_missing(params, modules, posteriors)
            self.posteriors = posteriors
            members = make_members(params, self.kind, self.nets, posteriors, device, self.decisions)
            weights = list(map(torch.clone, _weights_of(modules)))
            self._prepared_members = prepared = _Prepared(members, modules, settings, weights)
        return prepared.product.redrawn(seed)

    def _fit_missing(self, params: Any, modules: list[nn.Module], posteriors: list) -> None:
        for k, (module, posterior) in enumerate(zip(modules, posteriors, strict=True)):
            # One from a file, say, is current if its layer is as it was.
            if posterior is None or not posterior.is_of(module):
                self.check_has_images()
                judged = Selection(self.images, spread(len(self.images), _N_JUDGED))
                posteriors[k] = fit_posterior(
                    self.nets[k], self.batches(params), list(self.batches(params, judged))
                )

    def batch_synthesis(self, params: Any, callback: Any = None) -> BatchSynthesis:
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
        """Synthesise one image from each row of `X`, as all public methods do.

        `codes` are the classes of `X`, and `occurrence` says how often each row has been used
        before. `empty` makes the array of images. Return the images, and the columns of `info` of
        `TargetedSynthesizer.sample`.
        """
        image_format, size = self.image_format, self.batch_size(params)
        X_new = empty((len(codes), *image_format.row_shape), dtype=image_format.dtype)
        columns: Columns = {}
        synthesis, seed = self.batch_synthesis(params), rng.randint(2**31 - 1)
        job = delayed(partial(synthesize_batch, synthesis, image_format, seed))
        # Within a dask job, joblib would run these small ones on busy workers.
        dask = sys.modules.get("distributed.utils")
        in_dask = dask is not None and hasattr(dask.thread_state, "execution_state")
        kind = {"backend": "sequential"} if params.n_jobs is None and in_dask else {}
        kind |= {"prefer": "threads", "return_as": "generator_unordered"}
        workers = Parallel(n_jobs=params.n_jobs, **kind)
        # Inside another bar it vanishes when it is full.
        shown = {"unit": "image", "leave": None, "disable": not params.verbose}
        with tqdm(total=len(codes), desc="synthesis", **shown) as progress:
            # Only the rows of the batches at work are in memory.
            for done in workers(map(job, batches_of(X, codes, occurrence, size))):
                for rows, images, info in done:
                    X_new[rows] = images
                    for name, values in info.items():
                        columns.setdefault(name, np.empty(len(codes), values.dtype))[rows] = values
                    progress.update(len(rows))
        return X_new, columns

    @torch.inference_mode(False)
    def uncertainty(self, params: Any, X: Any) -> np.ndarray:
        """Mutual information between prediction and member, in nats."""
        members = self.members(params, derived_seed(self.seed, _UNCERTAINTY_STREAM))
        with torch.no_grad():
            parts = [mutual_information(members(x)).cpu() for x in self.batches(params, X)]
        return torch.cat(parts).numpy()

    @torch.inference_mode(False)
    def reconstruct(self, params: Any, X: Any) -> np.ndarray:
        codec = self.codec(params)
        with torch.no_grad():
            decoded = [codec.decode(codec.encode(x)) for x in self.batches(params, X)]
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

    def batches(self, params: Any, X: Any = None) -> Iterator[Tensor]:
        """Yield images, by default those of training, as networks see them."""
        X, device = self.images if X is None else X, self.device(params)
        size = self.batch_size(params)
        for first in range(0, len(X), size):
            yield self.image_format.to_tensor(X[first : first + size]).to(device)


class _Prepared(NamedTuple):
    """Something made from networks and settings, with a copy of their weights."""

    product: Any
    modules: list[nn.Module]
    settings: Any
    weights: list[Tensor]

    def is_of(self, modules: Sequence[nn.Module]) -> bool:
        """Return whether it was made from these networks as they are now."""
        now = _weights_of(modules)
        if modules != self.modules or len(now) != len(self.weights):
            return False
        for a, b in zip(now, self.weights, strict=True):
            if a.device != b.device or a.dtype != b.dtype or a.shape != b.shape:
                return False
            # NaN, which a net may keep in a buffer, is the same NaN.
            if not torch.equal(a, b) and not ((a == b) | (a.isnan() & b.isnan())).all():
                return False
        return True


def _weights_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    weights = ([*module.parameters(), *module.buffers()] for module in modules)
    return [tensor.detach() for tensor in chain.from_iterable(weights)]
