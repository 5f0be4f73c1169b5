"""What is wrong with an input is said in terms of it: the parts that are torch alone."""

import numpy as np
import pytest
import torch
from helpers.small import digits
from torch import nn

from tsynd_sk.autoencoders._dense import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.autoencoders._patch import PatchAutoencoder
from tsynd_sk.classifiers._default import ConvNet, DenseNet, NetClassifier
from tsynd_sk.members._laplace_posterior import last_layer_posterior
from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy

X, y = digits(20)
NAN = float("nan")


def table(*rows):
    """Rows of ids and arguments as parameters of a test."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


LOG_PROBS = torch.full((3, 4, 2), 0.5).log()


@pytest.mark.parametrize("measure", [mutual_information, predictive_entropy, mean_log_proba])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    table(
        ("array", LOG_PROBS.numpy(), TypeError, "a Tensor, got a ndarray; torch.from_numpy"),
        ("list", LOG_PROBS.tolist(), TypeError, "a Tensor, got a list"),
        ("nothing", None, TypeError, "a Tensor, got a NoneType"),
        ("one member", LOG_PROBS[0], ValueError, r"\(n_members, n_samples, n_classes\).*\(4, 2\)"),
        ("no member", LOG_PROBS[:0], ValueError, r"\(n_members, .*got shape \(0, 4, 2\)"),
        ("no class", LOG_PROBS[..., :0], ValueError, r"\(n_members, .*got shape \(3, 4, 0\)"),
        ("integers", LOG_PROBS.long(), ValueError, r"log-probabilities.*got .*int64"),
        ("complex", LOG_PROBS + 1j, ValueError, r"log-probabilities.*got .*complex64"),
    ),
)
def test_predictions_that_are_none(measure, wrong, error, message):
    with pytest.raises(error, match=f"log_probs must be .*{message}"):
        measure(wrong)


@pytest.mark.parametrize(
    ("name", "wrong", "error", "message"),
    table(
        ("no network", "module", None, TypeError, "module must be a torch.nn.Module, got a None"),
        ("class", "module", nn.Linear, TypeError, "module must be .* got the type Linear"),
        ("skorch net", "module", NetClassifier(), TypeError, "module must be .* got a NetClass"),
        ("no head", "to_log_proba", None, TypeError, "to_log_proba must be callable"),
        (
            "head of arrays",
            "to_log_proba",
            lambda x: x.detach().numpy(),
            TypeError,
            "to_log_proba must return a Tensor of log-probabilities, got a ndarray",
        ),
    ),
)
def test_posteriors_of_something_else(name, wrong, error, message):
    arguments = {
        "module": nn.Linear(2, 3),
        "to_log_proba": lambda x: x.log_softmax(-1),
        "batches": [torch.ones(4, 2)],
    }
    with pytest.raises(error, match=message):
        last_layer_posterior(**{**arguments, name: wrong})


def test_posteriors_draw_from_generators_of_torch_only():
    posterior = last_layer_posterior(
        nn.Linear(2, 3), lambda x: x.log_softmax(-1), [torch.ones(4, 2)]
    )
    for wrong in (None, 0, np.random.default_rng(0)):
        with pytest.raises(TypeError, match=r"generator must be a torch.Generator, got"):
            posterior.sample(wrong)


MODULES = {
    "PatchAutoencoder": (PatchAutoencoder, {"image_shape": (1, 8, 8)}, torch.ones(4, 1, 8, 8)),
    "DenseAutoencoder": (DenseAutoencoder, {"n_features": 5}, torch.ones(4, 5)),
    "ConvNet": (ConvNet, {"image_shape": (1, 8, 8), "n_classes": 2}, torch.ones(4, 1, 8, 8)),
    "DenseNet": (DenseNet, {"n_features": 5, "n_classes": 2}, torch.ones(4, 5)),
}
SIDES = r"image_shape must be three positive ints, \(n_channels, height, width\); got"


@pytest.mark.parametrize(
    ("module", "name", "wrong", "error", "message"),
    [
        pytest.param(*row, id=f"{row[0]} {row[1]}={row[2]!r}")
        for row in [
            *(
                (module, "image_shape", wrong, ValueError, SIDES)
                for module in ("PatchAutoencoder", "ConvNet")
                for wrong in (None, 8, (8, 8), (1, 0, 8), (1, 8.5, 8), (True, 8, 8), "8x8")
            ),
            *(
                (module, name, *case)
                for module, names in {
                    "PatchAutoencoder": ["width", "patch_size"],
                    "DenseAutoencoder": ["n_features", "width"],
                    "ConvNet": ["n_classes", "width"],
                    "DenseNet": ["n_features", "n_classes", "width"],
                }.items()
                for name in names
                for case in [
                    (0, ValueError, f"{name} must be an int of at least 1; got 0"),
                    (2.5, TypeError, f"{name} must be an int, got 2.5"),
                    ("4", TypeError, f"{name} must be an int, got '4'"),
                    (True, TypeError, f"{name} must be an int, got True"),
                ]
            ),
            ("PatchAutoencoder", "depth", -1, ValueError, "depth must be an int of at least 0"),
            ("PatchAutoencoder", "noise", -1, ValueError, "noise must be finite and .* got -1"),
            ("DenseAutoencoder", "noise", NAN, ValueError, "noise must be finite and .* got nan"),
            ("DenseAutoencoder", "noise", None, TypeError, "noise must be a number, got None"),
            ("ConvNet", "dropout", 1.5, ValueError, r"dropout must be .*\[0, 1\]; got 1.5"),
            ("DenseNet", "dropout", "0.5", TypeError, "dropout must be a number, got '0.5'"),
        ]
    ],
)
def test_sizes_of_modules(module, name, wrong, error, message):
    cls, sizes, _ = MODULES[module]
    with pytest.raises(error, match=message):
        cls(**{**sizes, name: wrong})


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    table(
        ("nothing", lambda x: None, TypeError, "X must be a Tensor, got a NoneType"),
        ("word", lambda x: "X", TypeError, "X must be a Tensor, got a str"),
        ("one dimension", lambda x: x.flatten(), ValueError, r"X has shape \(\d+,\); .*\(n, "),
        ("no rows", lambda x: x[:0], ValueError, r"X has shape \(0, .*nothing in it"),
        ("nan", lambda x: x * NAN, ValueError, "X contains NaN or infinity"),
    ),
)
def test_data_to_size_modules_by(module, spoil, error, message):
    cls, _, data = MODULES[module]
    with pytest.raises(error, match=message):
        cls.from_data(spoil(data), [0, 1, 0, 1])


@pytest.mark.parametrize("make", [NetClassifier, AutoencoderNet])
@pytest.mark.parametrize("dtype", ["float64", "int64", "float16"])
def test_nets_alone_name_the_dtype_that_they_compute_in(make, dtype):
    message = rf"X has dtype torch.{dtype}, but the {make.__name__} computes in torch.float32"
    with pytest.raises(ValueError, match=message):
        make(max_epochs=1).fit(X[:, None].astype(dtype), y)


@pytest.mark.parametrize("wrong", [list("ab") * 10, np.where(y, 1, -1), []])
def test_nets_alone_want_numbered_classes(wrong):
    with pytest.raises(ValueError, match=r"y must hold classes numbered from 0, got .*unique"):
        NetClassifier(max_epochs=1).fit(X[:, None], wrong)


@pytest.mark.parametrize(
    ("name", "wrong", "error"),
    [
        ("epoch_size", 0, ValueError),
        ("epoch_size", 2.5, TypeError),
        ("epoch_size", None, TypeError),
        ("batch_size", 0, ValueError),
        ("batch_size", "64", TypeError),
    ],
)
def test_epochs_of_autoencoders(name, wrong, error):
    net = AutoencoderNet(**{"max_epochs": 1, "module__width": 3, name: wrong})
    with pytest.raises(error, match=f"{name} must be an int"):
        net.fit(X[:, None])
