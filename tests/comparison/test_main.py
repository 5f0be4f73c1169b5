"""The main job, as somebody runs it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.main_jobs import SEEN

import tsynd_sk
from tsynd_sk.__main__ import _to_stderr, main
from tsynd_sk._utils._names import KEPT
from tsynd_sk.comparison import SCORES
from tsynd_sk.comparison._runs import Runs

TINY = ["--n-train", "40", "--seeds", "2", "--epochs", "2"]
ARMS = ["plain", "standard", "standard+mutual_info"]
AFTER_MINE = ["standard+random", "standard+mutual_info", "mine+mutual_info"]
CHOSEN = [*TINY, "--arms", *ARMS]


def results(out):
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def scores(out):
    return {(r["run"], r["arm"]): [r[m] for m in SCORES] for r in results(out)}


@pytest.fixture(scope="module")
def undisturbed(npz, two_corruptions, no_estimate, tmp_path_factory):
    """Results of a tiny job."""
    out = tmp_path_factory.mktemp("results") / "undisturbed"
    assert main(["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]) == 0
    return out


class TestResults:
    def test_there_is_a_row_for_each_seed_and_arm(self, undisturbed):
        rows = results(undisturbed)
        assert [(r["run"], r["arm"]) for r in rows] == [(s, a) for s in "01" for a in ARMS]
        for row in rows:
            assert row["n_train"] == "40"
            assert all(0 <= float(row[name]) <= 1 for name in SCORES if name != "nll")
            assert float(row["seconds"]) > 0
            assert float(row["seconds_scoring"]) > 0
            assert (row["label_agreement"] != "") == ("+" in row["arm"])

    def test_nothing_temporary_is_left(self, undisturbed):
        names = {path.name for path in undisturbed.iterdir()}
        assert names - {".lock"} == {
            "report.html",
            "results.csv",
            "settings.json",
            "runs",
        }
        names = {path.name for path in (undisturbed / "runs").iterdir()}
        assert names == {
            f"run{run}-{arm}{suffix}"
            for run in "01"
            for arm in ARMS
            for suffix in (".json", ".npy")
        } | {"run0-standard+mutual_info.npz"}

    def test_runs_keep_their_losses_apart_from_the_table(self, undisturbed):
        run = json.loads((undisturbed / "runs" / "run1-standard.json").read_text())
        assert len(run["losses"]) == 2
        assert all(0 < loss < 10 for loss in run["losses"])
        assert "losses" not in results(undisturbed)[0]

    def test_synthetic_images_are_kept_beside_their_sources(self, undisturbed):
        kept = np.load(undisturbed / "runs" / "run0-standard+mutual_info.npz")
        assert kept["source"].shape == kept["synthetic"].shape == (8, 8, 8)
        assert (kept["source"] != kept["synthetic"]).any()
        assert set(kept["labels"]) <= set("0123")

    def test_the_report_shows_all_of_it(self, npz, undisturbed):
        report = (undisturbed / "report.html").read_text("utf-8")
        assert "<h1>few</h1>" in report
        assert f"python -m tsynd_sk --dataset {npz} --n-train 40" in report
        assert "its own test images" in report
        assert report.count("<polyline") == 2 * len(ARMS)
        assert report.count("<img") == 3 * 8

    @pytest.mark.slow
    def test_neither_processes_nor_other_arms_change_results(self, npz, undisturbed, tmp_path):
        arguments = ["--dataset", str(npz), *TINY, "--arms", "plain", "standard", "--seeds", "1"]
        assert main([*arguments, "--n-jobs", "2", "--out", str(tmp_path)]) == 0
        assert len(scores(tmp_path)) == 2
        assert scores(tmp_path).items() <= scores(undisturbed).items()


class TestSaying:
    def test_a_table_and_a_verdict_are_printed(self, npz, undisturbed, tmp_path, capsys):
        out = Path(shutil.copytree(undisturbed, tmp_path / "out"))
        assert main(["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]) == 0
        text = capsys.readouterr().out
        assert "few: 40 of 200 training images, 40 test images of shape (8, 8), 4 classes" in text
        assert "2 runs x 3 arms, 6 of 6 trainings already done\n" in text
        assert "Over 2 seeds" in text
        assert "Means over 2 seeds" in text
        assert f"Results: {out / 'results.csv'}" in text
        assert text.endswith(f"Report: {out / 'report.html'}\n")
        assert max(map(len, text.split("already done")[1].split("Results:")[0].splitlines())) <= 80

    def test_another_primary_score_is_no_other_comparison(self, npz, undisturbed, tmp_path, capsys):
        out = Path(shutil.copytree(undisturbed, tmp_path / "out"))
        arguments = ["--dataset", str(npz), *CHOSEN, "--out", str(out), "--primary", "nll"]
        assert main(arguments) == 0
        assert "in NLL" in " ".join(capsys.readouterr().out.split())
        assert scores(out) == scores(undisturbed)


class TestForScripts:
    def test_one_object_is_all_that_is_printed(self, npz, undisturbed, tmp_path, capfd):
        out = Path(shutil.copytree(undisturbed, tmp_path / "out"))
        arguments = ["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]
        assert main([*arguments, "--json"]) == 0
        printed = capfd.readouterr()
        found = json.loads(printed.out)
        assert "Means over 2 seeds" in printed.err
        assert (found["dataset"], found["primary"], found["n_runs"]) == ("few", "roc_auc", 2)
        assert list(found["arms"]) == ARMS
        assert Path(found["files"]["report"]) == (out / "report.html").resolve()
        # Another way to print is no other comparison.
        assert main(arguments) == 0

    def test_what_others_print_is_for_people(self, capfd):
        with _to_stderr():
            print("from Python")
            os.write(1, b"from elsewhere\n")
            subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
        print("after")
        printed = capfd.readouterr()
        assert printed.out == "after\n"
        for text in ("Python", "elsewhere", "a process"):
            assert f"from {text}\n" in printed.err

    def test_errors_leave_nothing_to_be_read(self, tmp_path, capfd):
        assert main(["--json", "--arms", "magic", "--out", str(tmp_path / "out")]) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "got 'magic'" in printed.err


class TestResuming:
    def test_only_what_is_missing_is_run_again(self, npz, undisturbed, tmp_path):
        out = tmp_path / "copy"
        shutil.copytree(undisturbed, out)
        lost = out / "runs" / "run1-standard.json"
        lost.unlink()
        (out / "results.csv").unlink()
        before = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
        arguments = ["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]
        assert main(arguments) == 0
        assert scores(out) == scores(undisturbed)
        after = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {lost.name, "run1-standard.npy"}

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (["--epochs", "3"], "max_epochs: 2 -> 3"),
            (["--seeds", "1"], "runs: "),
            (["--arms", "plain"], "arms.standard: {'augmentation': 'standard'} -> None"),
            (["--score-on", "val"], "images: "),
            (["--lr", "0.5"], "lr: 0.002 -> 0.5"),
            (["--no-flip"], "flip: True -> False"),
            (["--n-train", "41"], "runs: "),
        ],
    )
    def test_changed_settings_are_refused(self, npz, undisturbed, capsys, changed, named):
        before = scores(undisturbed)
        arguments = ["--dataset", str(npz), *CHOSEN, "--out", str(undisturbed), *changed]
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert named in message
        assert "Choose another folder" in message
        assert scores(undisturbed) == before

    def test_the_settings_say_what_was_compared(self, undisturbed):
        settings = json.loads((undisturbed / "settings.json").read_text())
        assert list(settings["arms"]) == ARMS
        assert settings["arms"]["standard+mutual_info"] == {
            "augmentation": "standard",
            "objective": "mutual_info",
        }
        assert (settings["flip"], settings["scoring"]["eps"]) == (True, [])
        assert settings["net"]["NetClassifier"]["max_epochs"] == 2


class TestRealImages:
    @pytest.mark.slow
    def test_the_job_runs_on_real_images(self, medmnist_root, two_corruptions, tmp_path):
        arguments = ["--dataset", "retinamnist", "--root", str(medmnist_root)]
        arguments += ["--n-train", "30", "--seeds", "1", "--epochs", "2", "--n-jobs", "1"]
        arguments += ["--arms", "plain", "mutual_info", "--out", str(tmp_path)]
        assert main(arguments) == 0
        assert len(results(tmp_path)) == 2
        assert (tmp_path / "report.html").exists()


AUGMENT = """
from helpers.main_jobs import SEEN


class Darker:
    def __call__(self, image):
        SEEN.append(tuple(image.shape))
        return image / 2


def make():
    return Darker()


def broken():
    def transform(image):
        return image.nonsense
    return transform


def forgets():
    lambda x: x


def fails():
    raise TypeError("of theirs")


def counts():
    return lambda x: (255 * x).byte()
"""


class TestAugment:
    @pytest.fixture
    def code(self, tmp_path):
        path = tmp_path / "augment.py"
        path.write_text(AUGMENT)
        return path

    @pytest.fixture
    def names(self, monkeypatch):
        begun = []

        def stop(self, folder, report):
            begun.append(list(self.arms))
            raise ValueError

        monkeypatch.setattr(Runs, "work", stop)
        return begun

    def test_joins_the_default_arms_with_and_without_synthesis(self, code, names, tmp_path):
        main(["--augment", f"mine={code}:make", "--out", str(tmp_path / "out")])
        assert names == [["plain", "standard", "trivial_augment", "mine", *AFTER_MINE]]

    def test_may_be_chosen_by_name(self, code, names, tmp_path):
        arguments = ["--augment", f"mine={code}:make", "--out", str(tmp_path / "out"), "--arms"]
        main([*arguments, "plain", "mine+random"])
        assert names == [["plain", "mine", "mine+random"]]

    def test_one_name_is_for_one_augmentation(self, code, names, tmp_path, capsys):
        twice = ["--augment", f"mine={code}:make"] * 2
        assert main([*twice, "--out", str(tmp_path / "out")]) == 2
        assert "there is an arm 'mine'; choose another name" in capsys.readouterr().err
        assert not names

    def test_is_trained_with(self, npz, code, two_corruptions, no_picture, tmp_path):
        arguments = ["--dataset", str(npz), *TINY, "--seeds", "1", "--n-jobs", "1"]
        arguments += ["--augment", f"mine={code}:make", "--arms", "mine", "--out", str(tmp_path)]
        SEEN.clear()
        assert main(arguments) == 0
        assert set(SEEN) == {(1, 8, 8)}

    @pytest.mark.slow
    def test_is_known_in_processes(self, npz, tmp_path):
        code = tmp_path / "augment.py"
        code.write_text("class Darker:\n    def __call__(self, x):\n        return x / 2\n")
        arguments = ["--dataset", str(npz), *TINY, "--n-jobs", "2", "--out", str(tmp_path / "out")]
        code.write_text(code.read_text() + "def make():\n    return Darker()\n")
        assert main([*arguments, "--augment", f"mine={code}:make", "--arms", "mine"]) == 0

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("augment.py:make", "expected NAME=file.py:function"),
            ("mine=", "expected NAME=file.py:function"),
            ("standard={code}:make", "there is an arm 'standard'; choose another name"),
            ("mine={code}:nothing", "there is no 'nothing' in"),
            ("mine=nowhere.py:make", "there is no file"),
            ("mine={code}:forgets", "the function returned None; expected a callable"),
            ("mine={code}:fails", "augment.py: TypeError: of theirs"),
            ("mine={code}:counts", "got torch.uint8, (1, 8, 8)"),
            ("mine={code}:broken", "fails on an image of shape (1, 8, 8) and dtype torch.float32"),
        ],
    )
    def test_what_cannot_work_is_said_before_training(
        self, code, names, tmp_path, capsys, text, message
    ):
        arguments = ["--augment", text.format(code=code), "--out", str(tmp_path / "out")]
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
        assert not names


class TestAttacks:
    def test_strengths_are_shares_of_the_range(
        self, npz, two_corruptions, no_picture, tmp_path, capsys
    ):
        pytest.importorskip("art")
        arguments = ["--dataset", str(npz), "--n-train", "20", "--seeds", "1", "--epochs", "1"]
        arguments += ["--arms", "plain", "--eps", "8/255", "--attacks", "fgsm", "pgd"]
        arguments += [
            "--n-attacked",
            "30",
            "--score-on",
            "val",
            "--n-jobs",
            "1",
            "--out",
            str(tmp_path),
        ]
        assert main(arguments) == 0
        output = capsys.readouterr().out
        assert output.count("8/255") == 2
        assert "val images" in output
        assert {"fgsm_8_accuracy", "pgd_8_balanced_accuracy"} <= set(results(tmp_path)[0])


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--dataset", "brestmnist"], "did you mean 'breastmnist'?"),
            (["--dataset", "missing.npz"], "missing.npz"),
            (["--size", "32"], "size=32 does not apply to digits"),
            (["--n-train", "9"], "n_train must be from 10, one image of each class, to"),
            (["--arms", "standarrd"], "got 'standarrd' (did you mean 'standard'?)"),
            (["--arms", "magic"], "arms must be some of plain, standard"),
            (["--weights", "imagenet"], "give net, too"),
        ],
    )
    def test_are_explained(self, arguments, message, tmp_path, capsys):
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--n-train", "few"], "expected a whole number, 1 or more; got few"),
            (["--n-train", "0"], "expected a whole number, 1 or more; got 0"),
            (["--seeds", "0"], "expected a whole number, 1 or more; got 0"),
            (["--lr", "0"], "expected a number above 0, such as 0.001; got 0"),
            (["--steps", "-5"], "expected a whole number, 1 or more; got -5"),
            (["--attacks", "magic"], "invalid choice"),
            (["--score-on", "train"], "invalid choice"),
            (["--primary", "accuracy"], "invalid choice"),
            (["--eps", "2"], "2/255?"),
            (["--eps", "0"], "above 0 and at most 1"),
            (["--eps", "300/255"], "above 0 and at most 1"),
            (["--eps", "1/0"], "--eps"),
            (["--seed", "3"], "unrecognized arguments: --seed"),
        ],
    )
    def test_are_refused_by_the_command_line(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        error = capsys.readouterr().err
        assert arguments[0] in error
        assert message in error

    @pytest.mark.parametrize(
        ("package", "arguments", "extra"),
        [
            ("imblearn", ["--arms", "plain", "smote"], "benchmark"),
            ("art", ["--arms", "plain", "--eps", "2/255"], "robustness"),
        ],
    )
    def test_missing_packages_are_named(
        self, monkeypatch, tmp_path, capsys, package, arguments, extra
    ):
        monkeypatch.setattr(
            "tsynd_sk.comparison._compare.find_spec", lambda name: None if name == package else name
        )
        out = tmp_path / "out"
        assert main([*arguments, "--n-train", "20", "--out", str(out)]) == 2
        assert f'pip install "tsynd_sk[{extra}]"' in capsys.readouterr().err
        assert not out.exists()


class TestHelp:
    def test_groups_options_and_gives_examples(self, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(["--help"])
        assert exit_.value.code == 0
        text = capsys.readouterr().out
        for heading in ("images:", "folders of image files:", "network:", "comparison:"):
            assert f"\n{heading}\n" in text
        assert text.count("\n  python -m tsynd_sk") == 3

    def test_lists_the_exit_status(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        epilog = capsys.readouterr().out.split("exit status:")[1]
        assert all(f"{status} " in epilog for status in (0, 1, 2, 130))
        assert "143:" in epilog

    def test_tells_the_version(self, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(["--version"])
        assert exit_.value.code == 0
        assert capsys.readouterr().out.strip() == tsynd_sk.__version__


class TestFolders:
    def stop(self, monkeypatch):
        folders = []

        def stop(self, folder, report):
            folders.append(folder.path)
            raise ValueError

        monkeypatch.setattr(Runs, "work", stop)
        return folders

    def test_ctrl_c_says_that_what_is_in_them_is_kept(self, npz, monkeypatch, tmp_path, capsys):
        def interrupt(self, folder, report):
            error = KeyboardInterrupt()
            error.add_note("NetClassifier had trained for 3 epochs; add a Checkpoint to the net.")
            raise error

        monkeypatch.setattr(Runs, "work", interrupt)
        assert main(["--dataset", str(npz), *TINY, "--out", str(tmp_path / "out")]) == 130
        assert capsys.readouterr().err.endswith(f"interrupted\n{KEPT}\n")

    def test_are_named_after_what_a_comparison_cannot_grow_by(self, npz, monkeypatch):
        folders = self.stop(monkeypatch)
        for options in (
            [],
            ["--seeds", "2"],
            ["--arms", "plain"],
            ["--n-jobs", "1"],
            ["--lr", "1"],
        ):
            main(["--dataset", str(npz), "--n-train", "20", *options])
        assert len(set(folders[:4])) == 1
        assert folders[4] != folders[0]
        assert folders[0].parent == Path("tsynd_sk_results")
        assert folders[0].name.startswith("few-")

    def test_may_be_at_home(self, npz, monkeypatch):
        folders = self.stop(monkeypatch)
        main(["--dataset", str(npz), "--out=~/somewhere"])
        assert folders == [Path.home() / "somewhere"]

    def test_embedded_sets_train_on_a_hundred_and_others_on_all(self, npz, monkeypatch):
        plans = []

        def stop(self, folder, report):
            plans.append([len(run.train) for run in self.runs])
            raise ValueError

        monkeypatch.setattr(Runs, "work", stop)
        main(["--arms", "plain"])
        main(["--arms", "plain", "--dataset", str(npz)])
        assert plans == [[100] * 3, [200] * 3]
