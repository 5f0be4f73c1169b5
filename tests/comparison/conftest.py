"""What tests of comparisons share."""

import pytest
from helpers.main_jobs import write_npz


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """Four classes of digits with few test images, in a file with MedMNIST's keys."""
    return write_npz(tmp_path_factory.mktemp("data") / "few.npz")


@pytest.fixture(scope="module")
def two_corruptions():
    """Score on two kinds of corruption in place of twelve."""
    with pytest.MonkeyPatch.context() as patch:
        kinds = ("noise", "contrast")
        patch.setattr("tsynd_sk.comparison._scoring.CORRUPTIONS", kinds)
        yield


@pytest.fixture(scope="module")
def no_picture():
    """Draw no picture, which takes longer than a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsynd_sk.comparison._runs.draw_synthesis", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def no_estimate():
    """Estimate no duration, for which an epoch is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsynd_sk.comparison._compare.estimated_duration", lambda *arguments: "soon")
        yield
