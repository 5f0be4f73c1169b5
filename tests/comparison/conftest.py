"""What tests of comparisons share."""

import pytest
from helpers.main_jobs import write_npz

from tsynd_sk.comparison._runs import Runs
from tsynd_sk.datasets import load_digits_images


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """Four classes of digits with few test images, in a file with MedMNIST's keys."""
    return write_npz(tmp_path_factory.mktemp("data") / "few.npz")


@pytest.fixture(scope="module")
def two_corruptions():
    """Score on two kinds of corruption in place of twelve."""
    with pytest.MonkeyPatch.context() as patch:
        kinds = ("noise", "contrast")
        patch.setattr("tsynd_sk.comparison._runs.CORRUPTIONS", kinds)
        yield


@pytest.fixture(scope="module")
def no_picture():
    """Show no synthetic images, which takes longer than a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsynd_sk.comparison._runs.sample_synthesis", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def no_estimate():
    """Estimate no duration, for which an epoch is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsynd_sk.comparison._runs.Runs.duration", lambda *arguments: "soon")
        yield


@pytest.fixture(scope="session")
def data():
    """Four classes of digits."""
    X, y, _ = load_digits_images()
    return X[y < 4][:120], y[y < 4][:120]


@pytest.fixture
def untrained(monkeypatch):
    """Stop where training would begin, and return the plans that got there."""
    begun = []

    def stop(self, folder, report):
        begun.append(self)
        raise ValueError("stopped before training")

    monkeypatch.setattr(Runs, "work", stop)
    return begun
