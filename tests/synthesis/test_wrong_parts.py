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
        ("array", LOG_PROBS.numpy(), TypeError, "a Tensor, got a ndarray"),
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
        ("no batches", "batches", None, TypeError, "batches must be a list of tensors, got a None"),
        ("number", "batches", 3, TypeError, "batches must be a list of tensors, got a int"),
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


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    table(
        ("one dimension", lambda x: x.flatten(), ValueError, r"X has shape \(\d+,\); .*\(n, "),
        ("no rows", lambda x: x[:0], ValueError, r"X has shape \(0, "),
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
    message = rf"X has dtype torch.{dtype}, but {make.__name__} computes in torch.float32"
    with pytest.raises(ValueError, match=message):
        make(max_epochs=1).fit(X[:, None].astype(dtype), y)


@pytest.mark.parametrize("wrong", [list("ab") * 10, np.where(y, 1, -1), []])
def test_nets_alone_want_numbered_classes(wrong):
    with pytest.raises(ValueError, match=r"y must be classes numbered from 0, got .*unique"):
        NetClassifier(max_epochs=1).fit(X[:, None], wrong)
