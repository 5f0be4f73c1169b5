"""Describe what runs were made with, so that a folder of results recognises it."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tsynd_sk._utils._by_name import file_of
from tsynd_sk._utils._files import content_hash
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder, PatchPCA
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

def definition_of(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Describe a value in types of JSON; equal descriptions mean equal results.

    Files and the user's code are described by their contents. `within` are the ids of objects that
    contain the value, which may contain itself.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if id(value) in within:
        return "itself"
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {str(key): definition_of(each, within) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [definition_of(each, within) for each in value]
    if isinstance(value, set | frozenset):
        # Sorted by text, because their own order differs between processes.
        return sorted((definition_of(each, within) for each in value), key=str)
    if isinstance(value, partial):
        return definition_of([value.func, value.args, value.keywords], within)
    if isinstance(value, nn.Module):
        return {"module": repr(value), "weights": _hash_of(value.state_dict().values())}
    if isinstance(value, np.ndarray | torch.Tensor):
        return _hash_of([torch.as_tensor(value)])
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {type(value).__name__: definition_of(value.get_params(deep=False), within)}
    if callable(value) and hasattr(value, "__qualname__"):
        return _code(value, within)
    shown, own = repr(value), _own_code(type(value))
    described: dict[str, Any] = {"repr": _lasting(shown), **own}
    # The repr of classes of packages mostly shows what they hold.
    if hasattr(value, "__dict__") and (own or " object at 0x" in shown):
        described["state"] = definition_of(vars(value), within)
    return described


def _lasting(text: str) -> str:
    """Leave out addresses in memory and the path of the user's file."""
    return re.sub(r"_tsynd_sk_(\w+)_[0-9a-f]{12}", r"\1", re.sub(r" at 0x[0-9a-f]+", "", text))


def _text(text: str | Path) -> Any:
    """Describe a text that names a file by the contents of the file, which may be moved."""
    file = file_of(str(text))
    with suppress(OSError):
        if file and file.is_file():
            return [f"{file.name}:{str(text).rpartition(':')[2]}", content_hash(file)]
        path = Path(text).expanduser()
        return content_hash(path) if path.is_file() else str(text)
    return str(text)


def _code(value: Any, within: tuple[int, ...]) -> Any:
    """Describe a function or class by name; the user's also by its file and closure."""
    name = _lasting(f"{getattr(value, '__module__', '')}.{value.__qualname__}")
    if not (own := _own_code(value)):
        return name
    enclosed = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    enclosed += [value.__self__] if inspect.ismethod(value) else []
    return {"name": name, **own, **({"enclosed": definition_of(enclosed, within)} if enclosed else {})}


def _own_code(value: Any) -> dict[str, str]:
    """Return the hash of the file that defines something, unless it was installed."""
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
    """Return the defaults of all parts of arms, which may change between versions."""
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
