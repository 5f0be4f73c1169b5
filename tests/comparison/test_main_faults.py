"""The main job when it is killed, interrupted or damaged, and what it finds afterwards."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.main_jobs import SIZE, Job, results, runs, write_npz

from tsynd_sk.__main__ import main

SMALL = [*SIZE, "--seeds", "2", "--arms", "plain", "random"]
GOES_ON = "Runs that are done are kept: the same command goes on from there."


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "few.npz")


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


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A finished job of which something can be lost."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signals")
class TestStopped:
    def test_kills_lose_nothing_and_double_nothing(self, command, undisturbed, tmp_path):
        out, before, n_kills = tmp_path / "out", {}, 0
        while True:
            job = Job(command(n_jobs=2), tmp_path / "log")
            job.wait_until(lambda before=before: len(runs(out)) > len(before))
            status = job.kill()
            done = runs(out)
            assert before.items() <= done.items()
            if status == 0:
                break
            assert status == -signal.SIGKILL
            before, n_kills = done, n_kills + 1
        assert n_kills > 1
        assert main(command()) == 0
        assert results(out) == results(undisturbed)
        assert not list(out.rglob("*.part"))

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_ctrl_c_ends_it_soon_and_it_goes_on(self, command, undisturbed, tmp_path, n_jobs):
        out, log = tmp_path / "out", tmp_path / "log"
        job = Job(command(n_jobs), log)
        job.wait_until(lambda: runs(out))
        job.press_ctrl_c()
        assert job.wait() == 130
        assert f"\ninterrupted\n{GOES_ON}\n" in log.read_text()
        assert 0 < len(results(out)) == len(runs(out)) < 4
        assert main(command()) == 0
        assert results(out) == results(undisturbed)

    def test_a_killed_worker_is_explained(self, command, tmp_path, undisturbed):
        psutil = pytest.importorskip("psutil")
        log, out = tmp_path / "log", tmp_path / "out"
        job = Job(command(n_jobs=2), log)
        job.wait_until(lambda: runs(out))
        for process in psutil.Process(job.pid).children():
            if "LokyProcess" in " ".join(process.cmdline()):
                process.kill()
        assert job.wait() == 1
        assert f"with a smaller --n-jobs it needs less of it.\n{GOES_ON}" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert len(results(out)) == len(runs(out)) > 0
        assert main(command()) == 0
        assert results(out) == results(undisturbed)


class TestFolder:
    def test_a_second_job_is_refused_while_the_first_is_at_work(self, command, copy, capsys):
        next((copy / "runs").iterdir()).unlink()
        with FileLock(copy / ".lock"):
            assert main(command()) == 1
        message = capsys.readouterr().err
        assert f"error: {copy}: another process is at work here\n{GOES_ON}" in message
        assert main(command()) == 0

    def test_what_is_finished_is_shown_without_writing(self, command, copy, capsys, monkeypatch):
        monkeypatch.setattr("tsynd_sk.comparison._results_folder.write_atomically", None)
        monkeypatch.setattr("tsynd_sk.comparison._results_folder.FileLock", None)
        assert main(command()) == 0
        assert "difference to plain" in capsys.readouterr().out

    def test_it_says_what_cannot_be_written_and_goes_on(self, command, copy, undisturbed, capsys):
        (copy / "runs" / "seed1-plain.json").unlink()
        (copy / "results.csv").unlink()
        (copy / "results.csv").mkdir()
        assert main(command()) == 1
        assert f"{copy / 'results.csv'}: Is a directory\n{GOES_ON}" in capsys.readouterr().err
        (copy / "results.csv").rmdir()
        assert main(command()) == 0
        assert results(copy) == results(undisturbed)

    def test_unfinished_files_are_removed(self, command, copy):
        (copy / "results.csv").unlink()
        (copy / "runs" / "seed1-plain.json.0a1b2c3d.part").write_text("{")
        assert main(command()) == 0
        assert not list(copy.rglob("*.part"))

    @pytest.mark.parametrize("content", ['{"seed": 1, "arm": "pl', "[]", '{"seed": 0}'])
    def test_a_damaged_run_is_made_again(self, command, copy, undisturbed, capsys, content):
        path = copy / "runs" / "seed1-plain.json"
        path.write_text(content)
        assert main(command()) == 0
        output = capsys.readouterr().out
        assert f"{path} is damaged: that run is made again" in output
        assert "3 runs are done already, 1 to go" in output
        assert results(copy) == results(undisturbed)

    @pytest.mark.parametrize("content", ["{", None])
    def test_runs_without_settings_are_left_alone(self, command, copy, capsys, content):
        path = copy / "settings.json"
        path.unlink()
        if content is not None:
            path.write_text(content)
        before = runs(copy)
        assert main(command()) == 2
        message = capsys.readouterr().err
        assert f"error: {path} is missing or damaged" in message
        assert f"remove {copy / 'runs'}" in message
        assert runs(copy) == before

    def test_damaged_settings_of_no_run_are_written_anew(self, command, copy):
        shutil.rmtree(copy / "runs")
        (copy / "settings.json").write_text("")
        assert main(command()) == 0
        assert json.loads((copy / "settings.json").read_text())["n_train"] == 24
