"""The network that all arms of a comparison train."""

import json
import warnings

import numpy as np
import pytest
from helpers.networks import Tiny, for_colours, tiny
from helpers.tiny_nets import Recorder
from safetensors.torch import save_file
from skorch import NeuralNetClassifier
from skorch.callbacks import PassthroughScoring

from tsynd_sk.__main__ import build_parser, main
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.comparison import ARMS, Comparison, Network, Settings, described, load_splits

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


@pytest.fixture
def splits(npz):
    return load_splits(str(npz))


X = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
y = np.arange(20) % 4


def estimator(network, arm="plain", **params):
    arm = ARMS[arm] if isinstance(arm, str) else arm
    return arm.make_classifier(X, y, max_epochs=3, network=network, random_state=0).estimator


class TestNets:
    def test_default_is_that_of_before(self):
        made = estimator(Network())
        assert (made.module, made.lr, made.batch_size) == (ConvNet, 2e-3, 16)

    @pytest.mark.parametrize("arm", ["plain", "adversarial", "mixup", "standard+mutual_info"])
    def test_arms_train_it(self, arm):
        made = estimator(Network(tiny, "weights.pt", True, lr=0.5, batch_size=3), arm)
        assert isinstance(made, NetClassifier)
        assert (made.module, made.lr, made.batch_size, made.max_epochs) == (Pretrained, 0.5, 3, 3)
        module = made.get_params_for("module")
        assert module == {"net": tiny, "weights": "weights.pt", "freeze": True}

    @pytest.mark.parametrize("arm", ["plain", "adversarial", "mixup", "standard", "smote"])
    def test_arms_fit_it(self, arm):
        network = Network(for_colours, lr=0.01)
        made = ARMS[arm].make_classifier(X, y, max_epochs=2, network=network, random_state=0)
        fitted = made.fit(X, y)
        assert isinstance(fitted.estimator_.module_, Pretrained)
        assert fitted.predict_proba(X).shape == (20, 4)

    def test_skorch_classifiers_train_as_they_are(self, code):
        made = estimator(Network(f"{code}:classifier"))
        assert type(made) is NeuralNetClassifier
        assert (made.lr, made.batch_size, made.max_epochs) == (0.3, 7, 3)
        assert made.get_params_for("module") == {"n_channels": 1, "n_classes": 4}
        assert estimator(Network(f"{code}:classifier", lr=0.1, batch_size=5)).lr == 0.1

    def test_skorch_classifiers_keep_their_callbacks(self):
        def function(n_channels, n_classes):
            return NetClassifier(callbacks=[("own", PassthroughScoring("train_loss"))])

        made = ARMS["plain"].make_classifier(
            X, y, max_epochs=1, network=Network(function), callbacks=[Recorder()]
        )
        names = [type(c).__name__ for c in made.estimator.initialize_callbacks().callbacks]
        assert names == ["tuple", "Recorder"]

    def test_device_is_that_of_the_synthesis_too(self):
        made = ARMS["random"].make_classifier(X, y, max_epochs=1, network=Network(device="cpu"))
        assert made.synthesizer.device == "cpu"


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"weights": "imagenet"}, "weights are for a network by name: give net, too"),
            ({"freeze": True}, "freeze is for a network by name: give net, too"),
            ({"lr": 0}, "lr must be above 0; got 0"),
            ({"batch_size": -1}, "batch_size must be above 0; got -1"),
        ],
    )
    def test_settings_that_mean_nothing(self, params, message):
        with pytest.raises(ValueError, match=message):
            Network(**params)

    @pytest.mark.parametrize(
        ("function", "arm", "message"),
        [
            ("classifier", "adversarial", "the arm 'adversarial' needs a class of net of its own"),
            ("likelihood", "mixup", "the arm 'mixup' mixes labels, which the criterion NLLLoss of"),
        ],
    )
    def test_rivals_that_cannot_train_it(self, splits, code, tmp_path, function, arm, message):
        settings = Settings(20, arms=("plain", arm), network=Network(f"{code}:{function}"))
        with pytest.raises(ValueError, match=message):
            Comparison(splits, settings, tmp_path / "out")
        # With labels that can be mixed, it can be.
        if function == "likelihood":
            settings = Settings(20, arms=(arm,), network=Network(f"{code}:classifier"))
            Comparison(splits, settings, tmp_path / "out")

    @pytest.mark.parametrize(
        ("network", "error", "message"),
        [
            ({"net": "resnet1"}, ValueError, "did you mean"),
            ({"net": "resnet18", "freeze": True}, ValueError, "at random weights"),
            ({"net": tiny, "weights": "nowhere.pt"}, OSError, "no such file"),
            ({"net": tiny, "device": "cuda:99"}, ValueError, "device='cuda:99' is not available"),
            ({"net": "helpers.networks:NUMBER"}, TypeError, "is no function"),
        ],
    )
    def test_what_cannot_work_is_said_before_training(
        self, splits, tmp_path, network, error, message
    ):
        settings = Settings(20, arms=("plain",), network=Network(**network))
        with pytest.raises(error, match=message):
            Comparison(splits, settings, tmp_path / "out")

    def test_networks_without_gradients_are_for_controls_alone(self, splits, code, tmp_path):
        network = Network(f"{code}:detached")
        for arm in ("mutual_info", "standard+entropy"):
            settings = Settings(20, arms=("plain", arm), network=network)
            with pytest.raises(ValueError, match="of Pretrained have no gradient"):
                Comparison(splits, settings, tmp_path / "out")
        settings = Settings(20, arms=("plain", "random", "reconstruction"), network=network)
        Comparison(splits, settings, tmp_path / "out")

    def test_skorch_classifiers_of_other_classes(self, splits, code, tmp_path):
        settings = Settings(20, arms=("plain",), network=Network(f"{code}:two_columns"))
        with pytest.raises(ValueError, match=r"shape \(4, 2\) for 4 rows; expected \(4, 4\)"):
            Comparison(splits, settings, tmp_path / "out")

    def test_weights_of_a_skorch_classifier_are_its_own(self, splits, code, tmp_path):
        network = Network(f"{code}:classifier", weights="weights.pt")
        with pytest.raises(ValueError, match="let it load weights and freeze layers itself"):
            Comparison(splits, Settings(20, network=network), tmp_path / "out")


class TestSettings:
    def test_files_are_known_by_their_contents(self, splits, code, tmp_path):
        weights = tmp_path / "weights.safetensors"
        save_file(Tiny(1, 4).state_dict(), weights)

        def defined(code=code, weights=weights):
            network = Network(f"{code}:module", weights=str(weights))
            return described(splits, Settings(20, network=network))["network"]

        first = defined()
        assert first["net"] == "mine.py:module"
        (tmp_path / "elsewhere").mkdir()
        moved = tmp_path / "elsewhere" / "mine.py"
        moved.write_text(CODE)
        again = tmp_path / "elsewhere" / "other.safetensors"
        again.write_bytes(weights.read_bytes())
        assert defined(moved, again) == first
        save_file(Tiny(1, 4).state_dict(), again)
        assert defined(weights=again) != first
        moved.write_text(CODE + "\n")
        assert defined(moved) != first

    def test_the_usual_network_is_not_mentioned(self, splits):
        assert "network" not in described(splits, Settings(20))
        known = described(splits, Settings(20, network=Network("helpers.networks:tiny", lr=0.1)))
        assert known["network"].keys() == {"net", "net_sha256", "lr"}
        assert known["defaults"]["Pretrained.freeze"] == "False"


@pytest.mark.usefixtures("two_corruptions", "no_picture")
class TestCommandLine:
    def test_parses(self):
        given = "--net resnet18 --weights w.pt --freeze --lr 0.1 --batch-size 8 --device cpu"
        arguments = vars(build_parser().parse_args(given.split()))
        expected = Network("resnet18", "w.pt", True, 0.1, 8, "cpu")
        assert Network(**{name: arguments[name] for name in vars(expected)}) == expected

    @pytest.mark.parametrize("function", ["module", "classifier"])
    def test_compares_a_network_of_a_file_and_resumes_with_the_same(
        self, npz, code, tmp_path, capsys, function
    ):
        arguments = ["--dataset", str(npz), "--n-train", "24", "--epochs", "2", "--seeds", "1"]
        arguments += ["--autoencoder-epochs", "1", "--n-jobs", "1", "--out", str(tmp_path / "out")]
        arguments += ["--arms", "plain", "standard+mutual_info"]
        run = [*arguments, "--net", f"{code}:{function}"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert main(run) == 0
        settings = json.loads((tmp_path / "out" / "settings.json").read_text())
        assert settings["network"]["net"] == f"mine.py:{function}"
        assert main(run) == 0
        assert "2 runs are done already" in capsys.readouterr().out
        code.write_text(CODE + "\n")
        assert main(run) == 2
        assert "network.net_sha256" in capsys.readouterr().err
        assert main(arguments) == 2

    def test_what_is_no_network_is_said(self, npz, tmp_path, capsys):
        arguments = ["--dataset", str(npz), "--out", str(tmp_path / "out")]
        for net, message in (
            ("resnet1", "did you mean"),
            ("helpers.networks:NUMBER", "is no function"),
            ("nowhere.py:make", "there is no file"),
        ):
            assert main([*arguments, "--net", net]) == 2
            assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
