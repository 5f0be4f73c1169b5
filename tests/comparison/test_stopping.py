"""The main job when it is killed or interrupted, in processes of its own."""

import os
import signal
import sys

import pytest
from helpers.main_jobs import SIZE, Job, results, runs

from tsynd_sk.__main__ import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="kills by signals"),
]

SMALL = [*SIZE, "--seeds", "2", "--arms", "plain", "random"]
GOES_ON = "Finished runs are kept: the same command continues from them."


@pytest.fixture
def command(npz, tmp_path):
    """Make command lines that differ in their number of processes."""

    def make(n_jobs=1):
        out = str(tmp_path / "out")
        return ["--dataset", str(npz), *SMALL, "--n-jobs", str(n_jobs), "--out", out]

    return make


@pytest.fixture(scope="module")
def undisturbed(npz, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert main(["--dataset", str(npz), *SMALL, "--n-jobs", "1", "--out", str(out)]) == 0
    return out


def test_kills_lose_nothing_and_double_nothing(command, undisturbed, tmp_path):
    out, before = tmp_path / "out", {}
    for _ in range(2):
        job = Job(command(n_jobs=2), tmp_path / "log")
        job.wait_until(lambda before=before: len(runs(out)) > len(before))
        assert job.kill() == -signal.SIGKILL
        done = runs(out)
        assert before.items() < done.items()
        before = done
    assert main(command()) == 0
    assert before.items() <= runs(out).items()
    assert results(out) == results(undisturbed)
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_ends_it_soon_and_it_goes_on(command, undisturbed, tmp_path, n_jobs):
    out, log = tmp_path / "out", tmp_path / "log"
    job = Job(command(n_jobs), log)
    job.wait_until(lambda: runs(out))
    job.press_ctrl_c()
    assert job.wait() == 130, log.read_text()
    assert f"\ninterrupted\n{GOES_ON}\n" in log.read_text()
    assert 0 < len(results(out)) == len(runs(out)) < 4
    assert main(command()) == 0
    assert results(out) == results(undisturbed)


def test_a_request_to_terminate_keeps_what_is_done(command, tmp_path):
    out = tmp_path / "out"
    job = Job(command(), tmp_path / "log")
    job.wait_until(lambda: runs(out))
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait() == 143
    assert 0 < len(results(out)) == len(runs(out)) < 4


def test_a_killed_worker_is_explained(command, tmp_path, undisturbed):
    psutil = pytest.importorskip("psutil")
    log, out = tmp_path / "log", tmp_path / "out"
    job = Job(command(n_jobs=2), log)
    job.wait_until(lambda: runs(out))
    for process in psutil.Process(job.pid).children():
        if "LokyProcess" in " ".join(process.cmdline()):
            process.kill()
    assert job.wait() == 1
    assert f"If memory ran out, use a smaller --n-jobs.\n{GOES_ON}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert len(results(out)) == len(runs(out)) > 0
    assert main(command()) == 0
    assert results(out) == results(undisturbed)
