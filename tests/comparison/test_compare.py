"""Comparisons as they are made from Python: own arms, attacks, and what is refused at the door."""

import csv
import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tsynd_sk.__main__ import main
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.comparison import ARMS, Arm, Comparison, Settings, Splits
from tsynd_sk.datasets import load_digits_images

pytestmark = pytest.mark.usefixtures("two_corruptions", "no_picture")

N_TRAIN, EPOCHS = 24, 2


@pytest.fixture(scope="module")
def splits():
    """Four classes of digits."""
    X, y, names = load_digits_images()
    X, y = X[y < 4], y[y < 4]
    return Splits("few", X[:200], y[:200], X[200:260], y[200:260], names[:4], flip=False)


def compared(splits, out, arms, **settings):
    settings = {"seeds": 1, "epochs": EPOCHS, "autoencoder_epochs": 1, **settings}
    return Comparison(splits, Settings(N_TRAIN, arms=arms, **settings), out, n_jobs=1)


def table(out):
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digits(rows):
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


@pytest.fixture(scope="module")
def arms():
    return {
        "radius 0.5": replace(ARMS["mutual_info"], synthesizer={"radius": 0.5}),
        "mutual_info": ARMS["mutual_info"],
        "small codes": replace(
            ARMS["mutual_info"], autoencoder={"module__n_components": 2, "epoch_size": 64}
        ),
        "unlabelled": replace(ARMS["mutual_info"], unlabelled=True),
        "../half": replace(ARMS["plain"], classifier={"synthetic_ratio": 0.5}),
    }


@pytest.fixture(scope="module")
def done(splits, arms, two_corruptions, no_picture, tmp_path_factory):
    out = tmp_path_factory.mktemp("own")
    comparison = compared(splits, out, arms)
    n_trainings, done = comparison.n_trainings(), []
    comparison.run(done.append)
    # Three autoencoders: the usual one, one with other parameters, one on all images.
    assert len(done) == n_trainings == 3 + 5
    assert done[-1] == "seed 0: ../half"
    return out


class TestOwnArms:
    def test_each_is_run_under_its_name(self, done, arms):
        rows = table(done)
        assert [row["arm"] for row in rows] == list(arms)
        assert len({row["perturbed_roc_auc"] for row in rows}) == len(arms)

    def test_autoencoders_are_shared_by_arms_of_a_kind(self, done):
        names = sorted(path.name for path in (done / "autoencoders").iterdir())
        assert len(names) == 3
        assert "seed0.safetensors" in names

    def test_an_autoencoder_sees_only_what_its_arm_may(self, splits, arms, tmp_path, monkeypatch):
        seen, fit = [], AutoencoderNet.fit

        def noted(self, x, *args, **kwargs):
            seen.append(len(x))
            return fit(self, x, *args, **kwargs)

        monkeypatch.setattr(AutoencoderNet, "fit", noted)
        compared(splits, tmp_path, {n: arms[n] for n in ("mutual_info", "unlabelled")}).run()
        assert seen == [N_TRAIN, len(splits.X_train)]

    def test_a_resumed_comparison_gives_the_same(self, splits, done, arms):
        before = table(done)
        (done / "runs" / "seed0-small codes.json").unlink()
        compared(splits, done, arms).run()
        assert digits(table(done)) == digits(before)

    def test_a_changed_definition_is_refused(self, splits, done, arms):
        other = {**arms, "radius 0.5": replace(ARMS["mutual_info"], synthesizer={"radius": 0.3})}
        with pytest.raises(ValueError, match=r"radius 0.5.synthesizer.radius: 0.5 -> 0.3\)"):
            compared(splits, done, other)
        other = {**arms, "../half": Arm()}
        with pytest.raises(ValueError, match=r"arms.\.\./half.classifier: .* -> None\)"):
            compared(splits, done, other)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"arms": ("plain", "magic")}, "no arm 'magic'; known: plain, standard"),
            ({"arms": {"a": Arm(), "A": Arm()}}, "capitals apart"),
            ({"attacks": ("magic",)}, "some of fgsm, pgd, autoattack, square; got 'magic'"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Settings(N_TRAIN, **settings)


@pytest.fixture(scope="module")
def attacked(splits, two_corruptions, tmp_path_factory):
    pytest.importorskip("art")
    out = tmp_path_factory.mktemp("attacked")
    nets = {"plain": {"lr": 0.01}, "adversarial": {"lr": 0.01, "eps": 16 / 255}}
    arms = {name: replace(ARMS[name], net=net) for name, net in nets.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compared(splits, out, arms, epochs=40, eps=(16, 0.5), n_attacked=40).run()
    return table(out)


class TestAttacks:
    def test_there_is_a_column_for_each_strength(self, attacked):
        for row in attacked:
            strong, weak = float(row["pgd_16_accuracy"]), float(row["pgd_0.5_accuracy"])
            assert 0 <= strong <= weak <= 1
            # Forty images were attacked.
            assert strong * 40 == pytest.approx(round(strong * 40))
            assert row["gradient_masking"] == ""
            assert 0 <= float(row["pgd_16_balanced_accuracy"]) <= 1
            assert 0 < float(row["perturbed_expected_calibration_error"]) < 1

    def test_attacks_mislead_and_training_on_them_helps(self, attacked):
        plain, adversarial = (float(row["pgd_16_accuracy"]) for row in attacked)
        assert plain < float(attacked[0]["pgd_0.5_accuracy"]) - 0.1
        assert adversarial > plain

    def test_the_command_line_knows_them(self, tmp_path, capsys):
        pytest.importorskip("art")
        arguments = ["--n-train", "20", "--seeds", "1", "--epochs", "1", "--arms", "plain"]
        arguments += ["--eps", "8", "--attacks", "fgsm", "pgd", "--n-attacked", "30"]
        arguments += ["--score-on", "val", "--n-jobs", "1", "--out", str(tmp_path)]
        assert main(arguments) == 0
        output = capsys.readouterr().out
        assert output.count(" 8/255 ") == 2
        assert "under an attack: accuracy on 30 images" in output
        assert "337 val images" in output
        assert "\nvalidation images " in output
        assert table(tmp_path)[0]["scored_on"] == "val"
        assert json.loads((tmp_path / "settings.json").read_text())["scored_on"] == "val"


class TestGrowing:
    def test_seeds_and_arms_may_join(self, splits, tmp_path):
        first = compared(splits, str(tmp_path / "grown"), ("standard", "plain"))
        first.run()
        grown = compared(splits, tmp_path / "grown", ("plain", "mixup", "standard"), seeds=2)
        assert grown.missing() == [(0, "mixup"), (1, "plain"), (1, "mixup"), (1, "standard")]
        grown.run()
        at_once = compared(splits, tmp_path / "at once", ("plain", "mixup", "standard"), seeds=2)
        at_once.run()
        assert digits(table(tmp_path / "grown")) == digits(table(tmp_path / "at once"))
        settings = [
            json.loads((tmp_path / name / "settings.json").read_text())
            for name in ("grown", "at once")
        ]
        assert settings[0] == settings[1]
        with pytest.raises(ValueError, match=r"arms: .* More seeds and further arms may join"):
            compared(splits, tmp_path / "grown", ("standard", "plain"), seeds=2)
        other = {name: ARMS[name] for name in ("mixup", "standard")}
        other["plain"] = replace(ARMS["plain"], net={"lr": 0.01})
        with pytest.raises(ValueError, match=r"arms\.plain\.net"):
            compared(splits, tmp_path / "grown", other, seeds=2)

    def test_other_defaults_are_not_mixed_in(self, splits, tmp_path):
        compared(splits, tmp_path, ("plain",)).run()
        path = tmp_path / "settings.json"
        settings = json.loads(path.read_text())
        assert settings["defaults"]["NetClassifier.module"] == "ConvNet"
        settings["defaults"]["TargetedSynthesizer.radius"] = "9.0"
        path.write_text(json.dumps(settings))
        with pytest.raises(
            ValueError, match=r"defaults\.TargetedSynthesizer\.radius: '9\.0' -> '0"
        ):
            compared(splits, tmp_path, ("plain",))


class TestMissingPackages:
    @pytest.mark.parametrize(
        ("package", "arguments", "extra"),
        [
            ("imblearn", ["--arms", "plain", "smote"], "benchmark"),
            ("art", ["--arms", "plain", "--eps", "2"], "robustness"),
        ],
    )
    def test_are_named_before_anything_is_trained(
        self, monkeypatch, tmp_path, capsys, package, arguments, extra
    ):
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        out = tmp_path / "out"
        assert main([*arguments, "--n-train", "20", "--out", str(out)]) == 2
        assert f'pip install "tsynd_sk[{extra}]"' in capsys.readouterr().err
        assert not out.exists()


def test_flips_are_the_data_sets_business(splits, tmp_path, monkeypatch):
    asked = []
    make = Arm.make_classifier

    def noted(self, *args, **params):
        asked.append(params["flip"])
        return make(self, *args, **params)

    monkeypatch.setattr(Arm, "make_classifier", noted)
    for i, flip in enumerate((True, False)):
        compared(replace(splits, flip=flip), tmp_path / str(i), ("standard",)).run()
    assert asked == [True, False]
    rows = [table(tmp_path / name)[0] for name in "01"]
    assert rows[0]["roc_auc"] != rows[1]["roc_auc"]
    assert np.isfinite(float(rows[0]["roc_auc"]))
