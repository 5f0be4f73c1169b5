"""Descriptions by which a folder of results knows what its runs were made with."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from tsynd_sk._utils._by_name import file_of
from tsynd_sk._utils._files import content_hash
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder, PatchPCA
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer


def definition_of(value: Any) -> Any:
    """Describe a value as JSON has it: files and a user's own code by their contents.

    Parameters
    ----------
    value : object
        Numbers, texts, lists, dicts, functions, classes, modules with weights, estimators.

    Returns
    -------
    object
        What ``json.dumps`` takes. Equal descriptions, equal results.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): definition_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [definition_of(each) for each in value]
    if isinstance(value, nn.Module):
        return {"module": repr(value), "weights": _hash_of(value.state_dict().values())}
    if isinstance(value, np.ndarray | torch.Tensor):
        return _hash_of([torch.as_tensor(value)])
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {type(value).__name__: definition_of(_params(value))}
    if callable(value) and hasattr(value, "__qualname__"):
        return _code(value)
    return {"repr": re.sub(r" at 0x[0-9a-f]+", "", repr(value)), **_own_code(type(value))}


def _params(estimator: BaseEstimator) -> dict[str, Any]:
    return estimator.get_params(deep=False)


def _text(text: str | Path) -> Any:
    """Describe a text that names a file by the contents of the file."""
    if isinstance(text, str) and (file := file_of(text)) is not None and file.is_file():
        # The same file in another place is the same.
        return [f"{file.name}:{text.rpartition(':')[2]}", content_hash(file)]
    path = Path(text).expanduser()
    try:
        return content_hash(path) if path.is_file() else str(text)
    except OSError:
        return str(text)


def _code(value: Any) -> Any:
    name = f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    own = _own_code(value)
    return {"name": name, **own} if own else name


def _own_code(value: Any) -> dict[str, str]:
    """Return the contents of the file that something is defined in, unless it was installed."""
    try:
        file = Path(inspect.getsourcefile(value) or "")
    except (OSError, TypeError):
        return {}
    package = Path(__file__).parents[1]
    installed = "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
    if installed or file.is_relative_to(package) or not file.is_file():
        return {}
    return {"file": content_hash(file)}


def _hash_of(tensors: Any) -> str:
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


def part_defaults() -> dict[str, str]:
    """Return the defaults of all that arms are made of: another version may have changed them."""
    parts = (
        *(TargetedSynthesizer, AugmentedClassifier, NetClassifier, ConvNet, Pretrained),
        *(AutoencoderNet, PatchPCA, PatchAutoencoder),
    )
    return {
        f"{part.__name__}.{name}": getattr(parameter.default, "__name__", repr(parameter.default))
        for part in parts
        for name, parameter in inspect.signature(part).parameters.items()
        if parameter.default is not parameter.empty
    }
