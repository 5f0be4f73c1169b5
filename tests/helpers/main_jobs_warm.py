"""Imports, and whatever else happens only once, ahead of the processes that `main_jobs` starts."""

import contextlib
import io
import tempfile
from pathlib import Path

import torch

from helpers.main_jobs import SIZE, main, write_npz

torch.set_num_threads(1)
with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
):
    npz = str(write_npz(Path(folder) / "few.npz"))
    out = str(Path(folder) / "out")
    tiny = [*SIZE, "--seeds", "1", "--arms", "plain", "random"]
    main(["--dataset", npz, *tiny, "--n-jobs", "1", "--out", out])
