"""The main job when it is killed, interrupted or out of space, and what it finds afterwards."""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.main_jobs import SIZE, Job, results, wait_until, write_npz

from tsynd_sk.__main__ import main
from tsynd_sk.comparison._processes import relayed

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="kills by signals, and forks so that a start costs no import"
)

SMALL = [*SIZE, "--seeds", "2", "--arms", "plain", "random"]
PLAIN = [*SIZE, "--seeds", "2", "--arms", "plain"]
GOES_ON = "Runs that are done are kept: the same command goes on from there."


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "few.npz")


@pytest.fixture
def command(npz, tmp_path):
    """Make command lines that differ in their folder and number of processes."""

    def make(arguments, name="out", n_jobs=1):
        out = str(tmp_path / name)
        return ["--dataset", str(npz), *arguments, "--n-jobs", str(n_jobs), "--out", out]

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


def plain(rows):
    return [row for row in rows if row["arm"] == "plain"]


def runs(out):
    return {path.name: path.read_bytes() for path in out.glob("runs/*.json")}


def names(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


class TestKilled:
    def test_twenty_kills_lose_nothing_and_double_nothing(self, command, undisturbed, tmp_path):
        log, out = tmp_path / "log", tmp_path / "out"
        # The first one waits for the imports.
        assert Job(["--help"], log).wait() == 0
        start = time.monotonic()
        assert Job(command(SMALL, "unkilled"), log).wait() == 0
        # Whatever the speed of the machine, half of a job is done in time now and then.
        latest = 0.6 * (time.monotonic() - start)
        rng = np.random.default_rng(0)
        before, n_kills, n_finished = {}, 0, 0
        while n_kills < 20 or before:
            after = rng.uniform(0, latest) if n_kills < 20 else None
            status = Job(command(SMALL), log).kill(after)
            done = runs(out)
            assert before.items() <= done.items()
            assert all(json.loads(run)["epochs"] == 2 for run in done.values())
            if status == 0:
                assert results(out) == results(undisturbed)
                assert names(out) == names(undisturbed)
                shutil.rmtree(out)
                before = {}
                n_finished += 1
            else:
                assert status == -signal.SIGKILL
                before = done
                n_kills += 1
        assert n_finished > 0

    @pytest.mark.parametrize("fatal_sync", range(1, 9))
    def test_a_kill_while_it_writes_leaves_whole_files(
        self, command, undisturbed, tmp_path, fatal_sync
    ):
        log = tmp_path / "log"
        # Settings, two runs and the table, each of them followed by its folder.
        assert Job(command(PLAIN), log, fatal_sync).wait() == -signal.SIGKILL
        out = tmp_path / "out"
        assert len(list(out.rglob("*.part"))) == fatal_sync % 2
        for path in out.rglob("*.json"):
            json.loads(path.read_text())
        assert len(runs(out)) == min(max(fatal_sync - 2, 0) // 2, 2)
        assert main(command(PLAIN)) == 0
        assert results(out) == plain(results(undisturbed))
        assert names(out) == [
            "results.csv",
            "runs",
            "runs/seed0-plain.json",
            "runs/seed1-plain.json",
            "settings.json",
        ]

    def test_workers_do_not_outlive_the_job(self, command, tmp_path):
        psutil = pytest.importorskip("psutil")
        job = Job(command([*PLAIN, "--epochs", "5000"], n_jobs=2), tmp_path / "log")
        progress = tmp_path / "out" / "progress.txt"
        wait_until(lambda: progress.exists() and progress.read_text())
        workers = psutil.Process(job.pid).children(recursive=True)
        assert len(workers) >= 2
        job.kill(0)
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []
        assert runs(tmp_path / "out") == {}

    def test_a_killed_worker_is_explained(self, command, tmp_path, undisturbed):
        psutil = pytest.importorskip("psutil")
        log, out = tmp_path / "log", tmp_path / "out"
        job = Job(command(SMALL, n_jobs=2), log)
        wait_until(lambda: (out / "progress.txt").exists() and (out / "progress.txt").read_text())
        for process in psutil.Process(job.pid).children():
            if "LokyProcess" in " ".join(process.cmdline()):
                process.kill()
        assert job.wait() == 1
        assert "With a smaller --n-jobs it needs less memory.\n" + GOES_ON in log.read_text()
        assert "Traceback" not in log.read_text()
        assert main(command(SMALL)) == 0
        assert results(out) == results(undisturbed)


class TestTwoJobs:
    def test_the_second_is_refused_until_the_first_is_gone(self, command, tmp_path, capsys):
        long = [*PLAIN, "--epochs", "2000"]
        job = Job(command(long), tmp_path / "log")
        out = tmp_path / "out"
        wait_until((out / "progress.txt").exists)
        assert main(command(long)) == 1
        message = capsys.readouterr().err
        assert f"error: {out}: another process is at work here\n{GOES_ON}" in message
        assert main(command(PLAIN)) == 2
        assert "epochs: 2000 -> 2" in capsys.readouterr().err
        job.kill(0)
        # As if it had been done, so that there is nothing to do but to take the lock.
        for seed in range(2):
            row = {"seed": seed, "arm": "plain", "seconds": 0.0}
            row |= dict.fromkeys(("roc_auc", "balanced_accuracy"), 0.5)
            row |= dict.fromkeys(("perturbed_roc_auc", "perturbed_balanced_accuracy"), 0.5)
            (out / "runs" / f"seed{seed}-plain.json").write_text(json.dumps(row))
        assert main(command(long)) == 0
        assert not (out / "lock").exists()


class TestInterrupted:
    @pytest.mark.parametrize(("n_jobs", "times"), [(1, 1), (1, 2), (2, 2)])
    def test_ctrl_c_ends_it_soon_and_it_goes_on(
        self, command, undisturbed, tmp_path, n_jobs, times
    ):
        out, log = tmp_path / "out", tmp_path / "log"
        job = Job(command(SMALL, n_jobs=n_jobs), log)
        wait_until(lambda: runs(out))
        job.press_ctrl_c()
        for _ in range(times - 1):
            # What has ended by then is not interrupted a second time.
            with contextlib.suppress(ProcessLookupError):
                job.press_ctrl_c()
        assert job.wait() == 130
        assert f"\ninterrupted\n{GOES_ON}\n" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert 0 < len(results(out)) == len(runs(out)) < 4
        assert main(command(SMALL)) == 0
        assert results(out) == results(undisturbed)

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_training_that_is_cut_short_is_no_result(self, command, tmp_path, number, status):
        out, log = tmp_path / "out", tmp_path / "log"
        job = Job(command([*PLAIN, "--epochs", "5000"]), log)
        wait_until(lambda: (out / "progress.txt").exists() and (out / "progress.txt").read_text())
        os.kill(job.pid, number)
        assert job.wait() == status
        assert GOES_ON in log.read_text()
        assert names(out) == ["runs", "settings.json"]


@contextlib.contextmanager
def files_of_at_most(size):
    """Let the operating system refuse to write more, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def begin(arguments, out):
    """Leave a folder with the settings, which are longer than results, and nothing else yet."""
    assert main(arguments) == 0
    for path in out.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "settings.json":
            path.unlink()


class TestFullDisk:
    @pytest.mark.parametrize(
        ("size", "left", "name"),
        [
            (100, 0, "settings.json"),
            (400, 0, "runs/seed0-plain.json"),
            (700, 4, "results.csv"),
        ],
    )
    def test_it_says_what_cannot_be_written_and_goes_on(
        self, command, undisturbed, tmp_path, capsys, size, left, name
    ):
        out, arguments = tmp_path / "out", command([*PLAIN, "--seeds", "4"])
        if name != "settings.json":
            begin(arguments, out)
        with files_of_at_most(size):
            assert main(arguments) == 1
        message = capsys.readouterr().err
        assert f"error: {out / name}: File too large\n{GOES_ON}" in message
        assert len(runs(out)) == left
        assert not list(out.rglob("*.part"))
        assert main(arguments) == 0
        assert results(out)[:2] == plain(results(undisturbed))

    def test_files_that_were_there_stay_whole(self, command, copy, undisturbed, capsys):
        (copy / "runs" / "seed1-plain.json").unlink()
        before = (copy / "results.csv").read_bytes()
        with files_of_at_most(700):
            assert main(command(SMALL)) == 1
        assert f"{copy / 'results.csv'}: File too large" in capsys.readouterr().err
        assert (copy / "results.csv").read_bytes() == before
        assert main(command(SMALL)) == 0
        assert results(copy) == results(undisturbed)

    def test_a_picture_costs_no_result(self, command, undisturbed, tmp_path, capsys):
        out = tmp_path / "out"
        with files_of_at_most(5000):
            assert main(command(SMALL)) == 1
        message = capsys.readouterr().err
        pictured = out / "runs" / "seed0-random.json"
        assert "no picture could be drawn" in message
        assert f"remove {pictured}" in message
        assert results(out) == results(undisturbed)
        assert main(command(SMALL)) == 0
        assert not (out / "synthesis.png").exists()
        pictured.unlink()
        assert main(command(SMALL)) == 0
        assert (out / "synthesis.png").read_bytes() == (undisturbed / "synthesis.png").read_bytes()

    def test_progress_costs_no_result(self, command, tmp_path, capsys):
        out, arguments = tmp_path / "out", command([*PLAIN, "--seeds", "1", "--epochs", "60"])
        begin(arguments, out)
        with files_of_at_most(600):
            assert main(arguments) == 0
        assert len(results(out)) == 1

    def test_half_a_line_of_progress_is_passed_over(self, tmp_path):
        path, reported = tmp_path / "progress.txt", []
        with relayed(path, lambda text, epochs: reported.append((text, epochs))):
            path.write_text("1 plain, epoch 1\n\npla\n1 plain, epoch 2\n")
        assert reported == [("plain, epoch 1", 1), ("plain, epoch 2", 1)]


class TestUnwritable:
    @pytest.fixture
    def public(self, npz, undisturbed):
        """A folder and a finished job that another user can read, but not change."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copy(npz, folder)
            shutil.copytree(undisturbed, folder / "out")
            (folder / "empty").mkdir()
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            # Nothing is unwritable for the superuser.
            is_root = os.geteuid() == 0
            if is_root:
                os.seteuid(65534)
            try:
                yield folder
            finally:
                if is_root:
                    os.seteuid(0)
                for path in (folder, *folder.rglob("*")):
                    path.chmod(0o755)

    def run(self, folder, out):
        return main(["--dataset", str(folder / "few.npz"), *SMALL, "--n-jobs", "1", "--out", out])

    @pytest.mark.parametrize(
        ("out", "named"), [("new/results", "new"), ("empty", "empty/runs"), ("", "runs")]
    )
    def test_a_folder_is_named_before_anything_is_trained(
        self, public, capsys, monkeypatch, out, named
    ):
        monkeypatch.setattr("tsynd_sk.comparison._comparison.Comparison._run", None)
        assert self.run(public, str(public / out)) == 1
        assert f"error: {public / named}: Permission denied" in capsys.readouterr().err

    def test_what_is_finished_can_still_be_read(self, public, capsys):
        assert self.run(public, str(public / "out")) == 0
        assert "difference to plain" in capsys.readouterr().out

    def test_a_file_is_no_folder(self, command, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert main(command(PLAIN, "file/below")) == 2
        assert "Not a directory" in capsys.readouterr().err


class TestDamaged:
    @pytest.mark.parametrize("content", ["", '{"seed": 1, "arm": "pl', "[]", '{"seed": 0}'])
    def test_a_damaged_run_is_made_again(self, command, copy, undisturbed, capsys, content):
        path = copy / "runs" / "seed1-plain.json"
        path.write_text(content)
        assert main(command(SMALL)) == 0
        output = capsys.readouterr().out
        assert f"{path} is damaged: that run is made again" in output
        assert "3 runs are done already, 1 to go" in output
        assert results(copy) == results(undisturbed)

    @pytest.mark.parametrize("content", ["", "{", "[1]", b"\xff\xfe", None])
    def test_runs_without_settings_are_left_alone(self, command, copy, capsys, content):
        path = copy / "settings.json"
        path.unlink()
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        before = runs(copy)
        assert main(command(SMALL)) == 2
        message = capsys.readouterr().err
        assert f"error: {path} is missing or damaged" in message
        assert f"remove {copy / 'runs'}" in message
        assert runs(copy) == before

    def test_damaged_settings_of_no_run_are_written_anew(self, command, undisturbed, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "settings.json").write_text("")
        assert main(command(PLAIN)) == 0
        assert json.loads((out / "settings.json").read_text())["n_train"] == 24
        assert results(out) == plain(results(undisturbed))
