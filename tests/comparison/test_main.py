"""The main job, as somebody runs it."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tsynd_sk.__main__ import main
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.comparison import DEFAULT_ARMS, SCORES, Arm, Comparison, Settings, load_splits

TINY = ["--n-train", "40", "--seeds", "2", "--epochs", "2", "--autoencoder-epochs", "1"]
ARMS = ["plain", "random", "standard+mutual_info"]
CHOSEN = [*TINY, "--arms", *ARMS]


def results(out):
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def scores(out):
    return {(r["seed"], r["arm"]): [r[m] for m in SCORES] for r in results(out)}


@pytest.fixture(scope="module")
def undisturbed(npz, two_corruptions, tmp_path_factory):
    """Results of a tiny job."""
    out = tmp_path_factory.mktemp("results") / "undisturbed"
    assert main(["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]) == 0
    return out


class TestResults:
    def test_there_is_a_row_for_each_seed_and_arm(self, undisturbed):
        rows = results(undisturbed)
        assert [(r["seed"], r["arm"]) for r in rows] == [(s, a) for s in "01" for a in ARMS]
        for row in rows:
            assert row["n_train"] == "40"
            assert all(0 <= float(row[metric]) <= 1 for metric in SCORES)
            assert float(row["seconds"]) > 0
            assert float(row["seconds_scoring"]) > 0
            assert (row["label_agreement"] == "") == (row["arm"] == "plain")
            assert row["scored_on"] == "test"

    def test_there_is_a_picture(self, undisturbed):
        picture = np.asarray(Image.open(undisturbed / "synthesis.png").convert("RGB"))
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 10

    def test_nothing_temporary_is_left(self, undisturbed):
        names = {path.name for path in undisturbed.iterdir()}
        assert names - {".lock"} == {
            "results.csv",
            "settings.json",
            "runs",
            "autoencoders",
            "synthesis.png",
        }
        assert all(path.suffix == ".json" for path in (undisturbed / "runs").iterdir())
        assert all(
            path.suffix == ".safetensors" for path in (undisturbed / "autoencoders").iterdir()
        )

    @pytest.mark.slow
    def test_neither_processes_nor_other_arms_change_results(self, npz, undisturbed, tmp_path):
        arguments = ["--dataset", str(npz), *TINY, "--arms", "plain", "random", "--seeds", "1"]
        assert main([*arguments, "--n-jobs", "2", "--out", str(tmp_path)]) == 0
        assert len(scores(tmp_path)) == 2
        assert scores(tmp_path).items() <= scores(undisturbed).items()


class TestResuming:
    def test_only_what_is_missing_is_run_again(self, npz, undisturbed, tmp_path, capsys):
        out = tmp_path / "copy"
        shutil.copytree(undisturbed, out)
        lost = out / "runs" / "seed1-random.json"
        lost.unlink()
        (out / "results.csv").unlink()
        before = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
        arguments = ["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]
        assert main(arguments) == 0
        assert "5 runs are done already, 1 to go" in capsys.readouterr().out
        assert scores(out) == scores(undisturbed)
        after = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
        assert {name for name in after if after[name] != before.get(name)} == {lost.name}

    @pytest.mark.parametrize("damaged", [False, True])
    def test_an_autoencoder_is_trained_again_only_if_it_is_damaged(
        self, npz, undisturbed, tmp_path, monkeypatch, damaged
    ):
        out, trained, fit = tmp_path / "copy", [], AutoencoderNet.fit
        shutil.copytree(undisturbed, out)
        (out / "runs" / "seed1-random.json").unlink()
        kept = out / "autoencoders" / "seed1.safetensors"
        if damaged:
            kept.write_bytes(kept.read_bytes()[:-1])

        def counted(self, *args, **kwargs):
            trained.append(self)
            return fit(self, *args, **kwargs)

        monkeypatch.setattr(AutoencoderNet, "fit", counted)
        assert main(["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]) == 0
        assert len(trained) == damaged
        assert scores(out) == scores(undisturbed)
        (out / "runs" / "seed1-random.json").unlink()
        assert main(["--dataset", str(npz), *CHOSEN, "--n-jobs", "1", "--out", str(out)]) == 0
        assert len(trained) == damaged

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (["--epochs", "3"], "epochs: 2 -> 3"),
            (["--seeds", "1"], "seeds: 2 -> 1"),
            (["--arms", "plain"], "arms: ['plain', 'random'"),
            (["--score-on", "val"], "scored_on: 'test' -> 'val'"),
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

    def test_a_failing_run_leaves_the_others(self, npz, tmp_path, monkeypatch):
        splits = load_splits(str(npz))
        settings = Settings(40, arms=("plain", "random"), seeds=1, epochs=2, autoencoder_epochs=1)
        comparison = Comparison(splits, settings, tmp_path, n_jobs=1)

        make = Arm.make_classifier

        def fail(self, *args, **kwargs):
            if self.objective:
                raise RuntimeError("no space")
            return make(self, *args, **kwargs)

        monkeypatch.setattr(Arm, "make_classifier", fail)
        with pytest.raises(RuntimeError, match="no space"):
            comparison.run()
        assert [row["arm"] for row in results(tmp_path)] == ["plain"]


class TestRealImages:
    @pytest.mark.slow
    def test_the_job_runs_on_real_images(self, medmnist_root, two_corruptions, tmp_path):
        arguments = [
            "--dataset",
            "retinamnist",
            "--root",
            str(medmnist_root),
            "--out",
            str(tmp_path),
        ]
        small = ["--n-train", "30", "--seeds", "1", "--epochs", "2", "--autoencoder-epochs", "1"]
        assert main([*arguments, *small, "--arms", "plain", "mutual_info", "--n-jobs", "1"]) == 0
        assert len(results(tmp_path)) == 2
        assert (tmp_path / "synthesis.png").exists()


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--dataset", "brestmnist"], "breastmnist"),
            (["--dataset", "missing.npz"], "missing.npz"),
            (["--size", "32"], "size=32 does not apply to digits"),
            (["--n-train", "9"], "at least one image for each of its 10 classes"),
            (["--seeds", "0"], "seeds must be an int of at least 1"),
            (["--eps", "256"], "at most 255, in 255ths"),
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
        "arguments",
        [
            ["--arms", "magic"],
            ["--n-train", "few"],
            ["--attacks", "magic"],
            ["--score-on", "train"],
        ],
    )
    def test_are_refused_by_the_command_line(self, arguments, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_settings_file_says_what_was_compared(undisturbed):
    settings = json.loads((undisturbed / "settings.json").read_text())
    assert settings["n_train"] == 40
    assert list(settings["arms"]) == ARMS
    assert settings["arms"]["standard+mutual_info"] == {
        "augmentation": "standard",
        "objective": "mutual_info",
    }
    assert (settings["scored_on"], settings["flip"], settings["eps"]) == ("test", True, [])
    assert Settings(40).arms == DEFAULT_ARMS
