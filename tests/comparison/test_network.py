"""The network that all arms of a comparison train."""

import json
import warnings

import numpy as np
import pytest
from helpers.networks import for_colours, tiny
from skorch import NeuralNetClassifier
from torchvision.models import resnet18

from tsynd_sk.__main__ import main
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.comparison import ARMS, compare, make_network
from tsynd_sk.comparison._runs import Runs

CODE = """
from skorch import NeuralNetClassifier
from skorch.callbacks import PassthroughScoring
from torch import nn


class Mine(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(4, n_classes),
        )


def module(n_channels, n_classes):
    return Mine(n_classes)


class Logits(nn.Sequential):
    def __init__(self, n_channels, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(n_channels * 64, n_classes))


def classifier(n_channels, n_classes, criterion=nn.CrossEntropyLoss):
    return NeuralNetClassifier(
        Logits, module__n_channels=n_channels, module__n_classes=n_classes, criterion=criterion,
        train_split=None, verbose=0, lr=0.3, batch_size=7,
    )


class Detached(Mine):
    def forward(self, x):
        return super().forward(x.expand(-1, 3, -1, -1)).detach()


def detached(n_channels, n_classes):
    return Detached(n_classes)


def two_columns(n_channels, n_classes):
    return classifier(n_channels, 2)


def likelihood(n_channels, n_classes):
    return classifier(n_channels, n_classes, nn.NLLLoss)
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


X = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
y = np.arange(20) % 4


class TestNets:
    def test_default_is_that_of_before(self):
        made = make_network(None, X, y)
        assert (made.module, made.lr, made.batch_size) == (ConvNet, 2e-3, 16)
        assert make_network(None, X, y, max_epochs=3, lr=0.5).lr == 0.5

    def test_takes_what_is_given(self):
        made = make_network(for_colours, X, y, lr=0.5, batch_size=3, max_epochs=4, device="cpu")
        assert isinstance(made, NetClassifier)
        assert (made.module, made.lr, made.batch_size, made.max_epochs) == (Pretrained, 0.5, 3, 4)
        assert made.get_params_for("module") == {
            "net": for_colours,
            "weights": None,
            "freeze": False,
        }

    @pytest.mark.parametrize("arm", ["plain", "adversarial", "mixup", "standard", "smote"])
    def test_arms_fit_it(self, arm):
        net = make_network(for_colours, X, y, lr=0.01)
        made = ARMS[arm].make_classifier(net, n_classes=4, max_epochs=2, random_state=0)
        fitted = made.fit(X, y)
        assert isinstance(fitted.estimator_.module_, Pretrained)
        assert fitted.predict_proba(X).shape == (20, 4)

    def test_skorch_classifiers_train_as_they_are(self, code):
        made = make_network(f"{code}:classifier", X, y)
        assert type(made) is NeuralNetClassifier
        assert (made.lr, made.batch_size, made.max_epochs) == (0.3, 7, 10)
        assert made.get_params_for("module") == {"n_channels": 1, "n_classes": 4}
        other = make_network(f"{code}:classifier", X, y, lr=0.1, max_epochs=2)
        assert (other.lr, other.batch_size, other.max_epochs) == (0.1, 7, 2)

    def test_what_a_function_returns_again_and_again_is_left_alone(self):
        shared = NetClassifier()
        made = make_network(lambda n_channels, n_classes: shared, X, y, lr=0.1)
        assert made is not shared
        assert shared.lr == 2e-3


class TestRefusals:
    @pytest.mark.parametrize(
        ("net", "params", "error", "message"),
        [
            (None, {"weights": "imagenet"}, ValueError, "weights are for a network by name"),
            (None, {"freeze": True}, ValueError, "freeze is for a network by name: give net, too"),
            ("resnet1", {}, ValueError, "did you mean"),
            (resnet18(), {}, TypeError, "is an instance of ResNet, whose weights every training"),
            (None, {"lr": -1.0}, ValueError, r"lr must be above 0; got -1\.0"),
            (None, {"max_epochs": 0}, ValueError, "max_epochs must be above 0; got 0"),
            ("resnet18", {"freeze": True}, ValueError, "at random weights"),
            (tiny, {"weights": "nowhere.pt"}, OSError, "no such file"),
            (tiny, {"device": "cuda:99"}, ValueError, "device='cuda:99' is not available"),
            ("helpers.networks:NUMBER", {}, TypeError, "a function of .*; got a int"),
            ("nowhere.py:make", {}, OSError, "there is no file"),
        ],
    )
    def test_what_cannot_work_is_said_when_it_is_made(self, net, params, error, message):
        with pytest.raises(error, match=message):
            make_network(net, X, y, **params)

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("import nowhere\n", 1),
            ("def make(:\n", 1),
            ("def make(n_channels, n_classes):\n    return len(5)\n", 2),
            # torch raises this, in a file of its own.
            ("import torch\ndef make(n, m):\n    return torch.nn.Conv2d(n, m, 3, groups=7)\n", 3),
        ],
    )
    def test_errors_of_own_code_name_the_line(self, tmp_path, text, line):
        code = tmp_path / "nets.py"
        code.write_text(text)
        with pytest.raises(ValueError, match=rf"^net.* fails at line {line} of .*nets\.py: "):
            make_network(f"{code}:make", X, y)

    def test_weights_of_a_skorch_classifier_are_its_own(self, code):
        with pytest.raises(ValueError, match="let it load weights and freeze layers itself"):
            make_network(f"{code}:classifier", X, y, weights="weights.pt")

    def refused(self, function, code, message, *arms):
        net = make_network(f"{code}:{function}", X, y)
        with pytest.raises(ValueError, match=message):
            compare(net, X, y, arms=["plain", *arms], n_repeats=1)

    @pytest.mark.parametrize(
        ("function", "arm", "message"),
        [
            ("classifier", "adversarial", "the arm 'adversarial' trains by a class of its own"),
            ("likelihood", "mixup", "the arm 'mixup' mixes labels, which the criterion NLLLoss"),
            ("detached", "mutual_info", "of Pretrained have no gradient"),
            ("detached", "standard+entropy", "of Pretrained have no gradient"),
            ("two_columns", "standard", r"shape \(4, 2\) for 4 rows; expected \(4, 4\)"),
        ],
    )
    def test_arms_that_cannot_train_it(self, code, function, arm, message):
        self.refused(function, code, message, arm)

    def test_what_can_be_trained_gets_there(self, code, monkeypatch):
        monkeypatch.setattr(Runs, "work", lambda *arguments: (_ for _ in ()).throw(EOFError))
        for function, arm in (("classifier", "mixup"), ("detached", "random")):
            net = make_network(f"{code}:{function}", X, y)
            with pytest.raises(EOFError):
                compare(net, X, y, arms=["plain", arm], n_repeats=1)


@pytest.mark.usefixtures("two_corruptions", "no_picture")
class TestCommandLine:
    @pytest.mark.parametrize("function", ["module", "classifier"])
    def test_compares_a_network_of_a_file_and_resumes_with_the_same(
        self, npz, code, tmp_path, capsys, function, monkeypatch
    ):
        arguments = ["--dataset", str(npz), "--n-train", "24", "--epochs", "2", "--seeds", "1"]
        arguments += ["--n-jobs", "1", "--out", str(tmp_path / "out")]
        arguments += ["--arms", "plain", "random"]
        run = [*arguments, "--net", f"{code}:{function}"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert main(run) == 0
        settings = json.loads((tmp_path / "out" / "settings.json").read_text())
        assert "mine" in json.dumps(settings["net"])
        monkeypatch.setattr(Runs, "_train", None)
        assert main(run) == 0
        code.write_text(CODE + "\n")
        assert main(run) == 2
        assert "net." in capsys.readouterr().err
        assert main(arguments) == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("function", ["module", "classifier"])
    def test_processes_know_a_network_of_a_file(self, npz, code, tmp_path, function):
        arguments = ["--dataset", str(npz), "--n-train", "24", "--epochs", "1", "--seeds", "2"]
        arguments += ["--n-jobs", "2", "--out", str(tmp_path / "out"), "--arms", "plain"]
        assert main([*arguments, "--net", f"{code}:{function}"]) == 0

    def test_what_is_no_network_is_said(self, npz, tmp_path, capsys):
        arguments = ["--dataset", str(npz), "--out", str(tmp_path / "out")]
        for net, message in (
            ("resnet1", "did you mean"),
            ("helpers.networks:NUMBER", "'file.py:function'; got a int"),
            ("nowhere.py:make", "there is no file"),
        ):
            assert main([*arguments, "--net", net]) == 2
            assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("options", "epochs"),
        [
            ([], {"module": 300, "classifier": 10}),
            (["--steps", "30"], {"module": 15, "classifier": 8}),
            (["--steps", "30", "--epochs", "3"], {"module": 3, "classifier": 3}),
        ],
    )
    @pytest.mark.parametrize("function", ["module", "classifier"])
    def test_steps_and_epochs(self, npz, code, tmp_path, monkeypatch, function, options, epochs):
        seen = []

        def noted(self, folder, report):
            seen.append(self.options(24)["max_epochs"])
            raise ValueError

        monkeypatch.setattr(Runs, "work", noted)
        arguments = ["--dataset", str(npz), "--n-train", "24", "--arms", "plain"]
        main([*arguments, "--net", f"{code}:{function}", "--out", str(tmp_path / "out"), *options])
        assert seen == [epochs[function]]
