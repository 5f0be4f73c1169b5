"""The files of a comparison: one writer at a time, and what is damaged, lost or not writable."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.main_jobs import SIZE, results, runs

from tsynd_sk.__main__ import main
from tsynd_sk.comparison._runs import Runs

SMALL = [*SIZE, "--seeds", "2", "--arms", "plain", "random", "--n-jobs", "1"]
GOES_ON = "Finished runs are kept: the same command continues from them."


@pytest.fixture
def command(npz, tmp_path):
    return ["--dataset", str(npz), *SMALL, "--out", str(tmp_path / "out")]


@pytest.fixture(scope="module")
def undisturbed(npz, two_corruptions, no_picture, no_estimate, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert main(["--dataset", str(npz), *SMALL, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A finished job of which something can be lost."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


def test_a_second_job_is_refused_while_the_first_is_at_work(command, copy, capsys):
    next((copy / "runs").glob("*.json")).unlink()
    with FileLock(copy / ".lock"):
        assert main(command) == 1
    message = capsys.readouterr().err
    assert "another process is at work here" in message
    assert GOES_ON in message
    assert main(command) == 0


def test_it_says_what_cannot_be_written_and_goes_on(command, copy, undisturbed, capsys):
    (copy / "runs" / "run1-plain.json").unlink()
    (copy / "results.csv").unlink()
    (copy / "results.csv").mkdir()
    assert main(command) == 1
    message = capsys.readouterr().err
    assert str(copy / "results.csv") in message
    assert GOES_ON in message
    (copy / "results.csv").rmdir()
    assert main(command) == 0
    assert results(copy) == results(undisturbed)


def test_unfinished_files_are_removed(command, copy):
    (copy / "results.csv").unlink()
    (copy / "runs" / "run1-plain.json.0a1b2c3d.part").write_text("{")
    assert main(command) == 0
    assert not list(copy.rglob("*.part"))


@pytest.fixture
def trained(monkeypatch):
    """Note which runs are trained."""
    pairs, train = [], Runs._train

    def noted(self, *pair):
        pairs.append(pair)
        return train(self, *pair)

    monkeypatch.setattr(Runs, "_train", noted)
    return pairs


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", b'{"run": 1, "arm": "pl'),
        (".json", b"[]"),
        (".json", b'{"run": 0, "arm": "plain"}'),
        (".json", None),
        (".npy", b""),
        (".npy", b"no array"),
        (".npy", None),
        (".npy", "cut"),
    ],
)
def test_a_damaged_run_is_made_again(command, copy, undisturbed, trained, suffix, content):
    path = copy / "runs" / f"run1-plain{suffix}"
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[:-9] if content == "cut" else content)
    assert main(command) == 0
    assert trained == [(1, "plain")]
    assert results(copy) == results(undisturbed)
    assert (path.with_suffix(".npy").read_bytes()) == (
        undisturbed / "runs" / "run1-plain.npy"
    ).read_bytes()


def test_a_finished_job_trains_nothing(command, copy, trained):
    before = runs(copy)
    assert main(command) == 0
    assert not trained
    assert runs(copy) == before


@pytest.mark.parametrize("content", ["{", None])
def test_runs_without_settings_are_left_alone(command, copy, capsys, content):
    path = copy / "settings.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    before = runs(copy)
    assert main(command) == 2
    message = capsys.readouterr().err
    assert f"error: {path} is missing or damaged" in message
    assert f"remove {copy / 'runs'}" in message
    assert runs(copy) == before
