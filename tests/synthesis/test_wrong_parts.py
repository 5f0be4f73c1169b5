"""What is wrong with an input is said in terms of it: the parts that are torch alone."""

import numpy as np
import pytest
import torch
from helpers.small import digits
from torch import nn

from tsynd_sk.ascent import ascend
from tsynd_sk.autoencoders._dense import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.autoencoders._patch import PatchAutoencoder
from tsynd_sk.classifiers._default import ConvNet, DenseNet, NetClassifier
from tsynd_sk.members._dropout import DropoutMembers
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


LATENT = torch.zeros(5, 2)
TASK = {
    "members": DropoutMembers(
        nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 3)), lambda x: x.log_softmax(-1), n_members=2
    ),
    "decode": lambda z: z,
    "z_0": LATENT,
    "y": torch.tensor([0, 1, 2, 0, 1]),
}


@pytest.mark.parametrize(
    ("name", "wrong", "error", "message"),
    table(
        ("no members", "members", None, TypeError, "must be callable, got a NoneType"),
        ("no decoder", "decode", "z", TypeError, "must be callable, got a str"),
        ("codes array", "z_0", np.zeros((5, 2)), TypeError, "must be a Tensor, got a ndarray"),
        ("codes integers", "z_0", LATENT.long(), ValueError, "must hold floats, got .*int64"),
        ("labels list", "y", [0] * 5, TypeError, "must be a Tensor, got a list"),
        ("labels floats", "y", torch.zeros(5), ValueError, "one integer .* 5 rows.*float32"),
        ("labels few", "y", torch.zeros(3).long(), ValueError, r"one integer .* 5 rows.*\(3,\)"),
        ("labels unknown", "y", torch.full((5,), 7), ValueError, "0 to 2; got values from 7 to 7"),
        ("labels below", "y", torch.full((5,), -1), ValueError, "0 to 2; got values from -1"),
        ("objective word", "objective", "entropy", TypeError, "callable or None, got 'entropy'"),
        ("direction", "direction", torch.ones(5, 3), ValueError, r"\(5, 2\); got \(5, 3\)"),
        ("start array", "start", np.ones((5, 2)), TypeError, "must be a Tensor, got a ndarray"),
        ("start few", "start", torch.ones(2, 2), ValueError, r"\(5, 2\); got \(2, 2\)"),
        ("scale word", "scale", "one", ValueError, "must be a number, or a Tensor .*got 'one'"),
        ("scale shape", "scale", torch.ones(3), ValueError, r"broadcast .*\(5, 2\); got .*\[3\]"),
        ("radius word", "radius", "1", TypeError, "must be a number, got '1'"),
        ("radius below", "radius", -0.5, ValueError, "must be finite .* got -0.5"),
        ("radius nan", "radius", NAN, ValueError, "must be finite .* got nan"),
        ("steps below", "max_iter", -1, ValueError, "must be an int of at least 0; got -1"),
        ("steps float", "max_iter", 2.5, TypeError, "must be an int, got 2.5"),
        ("steps bool", "max_iter", True, TypeError, "must be an int, got True"),
        ("patience", "n_iter_no_change", 0, ValueError, "must be an int of at least 1; got 0"),
    ),
)
def test_ascents_of_something_else(name, wrong, error, message):
    with pytest.raises(error, match=f"^{name} .*{message}"):
        ascend(**{**TASK, name: wrong})


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
            "to_log_proba must give a Tensor of log-probabilities, got a ndarray",
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
