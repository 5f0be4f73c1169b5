"""Fixtures that all tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_cases import LAYOUTS, METHODS, cases
from helpers.saved_files import ESTIMATORS
from helpers.small import digits, tiny
from sklearn.frozen import FrozenEstimator

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same random numbers, also where `random_state` is None."""
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def medmnist_root() -> Path:
    """Folder with the official files of three small MedMNIST sets."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("TSYND_SK_DATA") or beside)
    for name in ("breastmnist", "pneumoniamnist", "retinamnist"):
        if not (root / f"{name}.npz").is_file():
            pytest.skip(f"no {name}.npz in {root}; set TSYND_SK_DATA to the folder of these files")
    return root


@pytest.fixture(scope="session")
def digits_synthesizer():
    return tiny().fit(*digits())


@pytest.fixture(scope="session")
def estimators():
    """Fitted estimators of every kind, which no test may change."""
    return {name: make().fit(*data()) for name, (make, data) in ESTIMATORS.items()}


@pytest.fixture
def frozen(digits_synthesizer):
    """Make fitted synthesizers around nets that have learnt digits."""

    def make(**params):
        nets = digits_synthesizer.classifier_, digits_synthesizer.autoencoder_
        return tiny(*map(FrozenEstimator, nets), **params).fit(*digits())

    return make


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(params=METHODS)
def case(request, layout):
    """One of the estimators, with images in one of the layouts."""
    return cases(request.param, layout)


@pytest.fixture
def table(estimators):
    """Fitted synthesizer of a table."""
    return estimators["table"]


@pytest.fixture
def images(estimators):
    """Fitted classifier of images."""
    return estimators["images"]


@pytest.fixture
def path(tmp_path):
    """File for what was learnt."""
    return tmp_path / "params.safetensors"
