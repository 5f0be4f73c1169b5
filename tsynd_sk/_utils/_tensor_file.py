"""Tensors and JSON in one safetensors file: there is no code in it, and damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load, save
from torch import Tensor

from tsynd_sk import __version__
from tsynd_sk._utils._files import write_atomically

#: Counts up with every change that makes earlier releases unable to read a file, or misread it.
FORMAT_VERSION = 1

_FORMAT = "tsynd_sk"

# The limit of safetensors itself.
_LONGEST_HEADER = 100_000_000


class Refused(ValueError):
    """Why a file is not loaded; the file is named by who catches it."""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes
    ----------
    kind : str
        Class of the estimator that was saved.
    tensors : dict of Tensor
        On the CPU.
    body : dict
        What came as JSON, of which nothing is checked yet.
    """

    kind: str
    tensors: dict[str, Tensor]
    body: dict[str, Any]


def write_tensors(
    path: str | os.PathLike[str], kind: str, tensors: dict[str, Tensor], body: dict[str, Any]
) -> None:
    """Write a file as a whole, or leave what is there.

    Parameters
    ----------
    path : path-like
        Where to.
    kind : str
        Class of the estimator.
    tensors : dict of Tensor
        Contiguous, on the CPU, of which no two share memory.
    body : dict
        What JSON can hold.
    """
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "library_version": __version__,
        "estimator": kind,
        "body": json.dumps(body, allow_nan=False),
    }
    data = save(tensors, {**metadata, "sha256": _digest(tensors, metadata)})
    write_atomically(path, lambda file: file.write(data))


def read_tensors(path: str | os.PathLike[str]) -> Contents:
    """Read a file, all or nothing.

    Raises
    ------
    OSError
        If there is no such file, or none that can be read.
    Refused
        If it is damaged, or something else.
    """
    with Path(path).open("rb") as file:
        # Before the rest is read, which can be large.
        metadata = _metadata(file)
        _check_origin(metadata)
        file.seek(0)
        data = file.read()
    try:
        tensors = load(data)
    except Exception as error:
        # Of its own, and of torch's and Python's, according to what is wrong.
        raise Refused(f"it is damaged: {error}") from error
    signature = metadata.pop("sha256", None)
    if _digest(tensors, metadata) != signature:
        raise Refused("it is damaged: its contents do not have the checksum that it states")
    body = _parsed(metadata.get("body", ""))
    if not isinstance(body, dict):
        raise Refused(f"its body is {_shown(body)}, expected a JSON object")
    return Contents(metadata.get("estimator", ""), tensors, body)


def _metadata(file: BinaryIO) -> dict[str, str]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise Refused(
            f"it is no safetensors file, or not the whole of one: it has {size} bytes"
            + (f", and its header would have {length}" if size >= 8 else "")
        )
    header = _parsed(file.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        return {}
    return metadata


def _check_origin(metadata: dict[str, str]) -> None:
    version = metadata.get("format_version", "")
    if metadata.get("format") != _FORMAT or not (version.isascii() and version.isdigit()):
        raise Refused("it is a safetensors file, but none that save_params of tsynd_sk has written")
    # A number of thousands of digits is none that Python would read.
    if len(version) > 9 or int(version) > FORMAT_VERSION:
        raise Refused(
            f"it has format version {version[:9]}, written by tsynd_sk "
            f"{metadata.get('library_version', '')[:20]}, and this is tsynd_sk {__version__}, "
            f"which reads versions up to {FORMAT_VERSION}: upgrade tsynd_sk"
        )


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Hash all that is in a file; safetensors itself would not notice another weight."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
        total.update(len(head).to_bytes(8, "little") + head)
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    total.update(json.dumps(sorted(metadata.items())).encode())
    return total.hexdigest()


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    # Text that is no UTF-8 is a ValueError too, and so is a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise Refused(f"it is damaged, for a part of it is no JSON: {error}") from error


def json_tensor(value: Any) -> Tensor:
    """Put what JSON can hold into a tensor of bytes, for the header is limited in length."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def json_of(tensor: Tensor) -> Any:
    """Read what `json_tensor` has put into a tensor."""
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        raise Refused("a tensor that is to hold JSON does not hold bytes")
    return _parsed(tensor.numpy().tobytes())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def field(fields: dict[str, Any], name: str, *types: type) -> Any:
    """Give a value out of JSON, which must be of one of some types.

    Raises
    ------
    Refused
        If it is not; ``True`` is no int.
    """
    if name not in fields:
        raise Refused(f"its field {name!r} is missing")
    value = fields[name]
    if type(value) not in types:
        expected = " or ".join(kind.__name__ for kind in types)
        raise Refused(f"its field {name!r} is {_shown(value)}, expected {expected}")
    return value


def list_field(fields: dict[str, Any], name: str, *types: type) -> list[Any]:
    """Give a list out of JSON, all of whose items must be of one of some types."""
    items = field(fields, name, list)
    return [field({f"{name}[{i}]": item}, f"{name}[{i}]", *types) for i, item in enumerate(items)]
