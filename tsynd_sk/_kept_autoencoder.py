"""The trained autoencoders of a comparison, kept so that they need not be trained twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tsynd_sk._net_state import net_state, restored_net
from tsynd_sk._tensor_file import Refused, field, read_tensors, write_tensors

_KIND = "AutoencoderNet"


def keep_autoencoder(path: Path, net: Any, seconds: float) -> None:
    """Write the weights of an autoencoder, and what their training took."""
    tensors, fields = net_state(net, net, "autoencoder")
    # A full disk must not cost the training; without the file there is another one at a restart.
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_tensors(path, _KIND, tensors, {"net": fields, "seconds": seconds})


def kept_autoencoder(path: Path, blank: Any) -> tuple[Any, float] | None:
    """Give an autoencoder with the weights in a file; None if there are none that fit.

    Parameters
    ----------
    path : Path
        File that `keep_autoencoder` may have written.
    blank : skorch net
        Unfitted, with the parameters of the one that was kept.
    """
    try:
        contents = read_tensors(path)
        fields = field(contents.body, "net", dict)
        net = restored_net(blank, contents.tensors, fields, "autoencoder", None)
        return net, float(field(contents.body, "seconds", float, int))
    except (FileNotFoundError, Refused):
        return None
