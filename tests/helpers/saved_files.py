"""Estimators of every kind that are saved and loaded, and the answers that are compared."""

import json

import numpy as np
import pytest
import safetensors.torch
from helpers.tiny_nets import IMAGES, LABELS, augmented, dense_net, net, own_net, synthesizer, y

from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder
from tsynd_sk.synthesis import _saving

TABLE = IMAGES.reshape(len(IMAGES), -1)[:, 20:30]
WORDS = np.array(["nought", "one", "two", "three", "four"])


def digits():
    """Images as bytes, and labels in words."""
    few = LABELS < 5
    return np.rint(IMAGES[few] * 255).astype(np.uint8)[:60], WORDS[LABELS[few]][:60]


def tiny_autoencoder(**params):
    return AutoencoderNet(**{"max_epochs": 1, "epoch_size": 64, "module__width": 4, **params})


def image_classifier():
    """With dropout, and several refreshes in its history."""
    return augmented(
        net(max_epochs=8, lr=0.02, module__width=2),
        synthesizer(autoencoder=tiny_autoencoder(module__n_components=2)),
        refresh_every=4,
    )


def table_synthesizer():
    """Without dropout, so that there is a posterior."""
    return synthesizer(
        classifier=dense_net(max_epochs=20, lr=0.02, module__width=4, module__dropout=0.0),
        autoencoder=tiny_autoencoder(module=DenseAutoencoder, module__n_components=3),
        random_state=0,
    )


def ensemble_synthesizer():
    """Several nets of plain skorch."""
    return synthesizer(
        classifier=[own_net(max_epochs=n, train_split=None) for n in (2, 3)],
        autoencoder=tiny_autoencoder(),
        random_state=0,
    )


def plain(*args, **params):
    """Classifier without synthesis, which trains within a moment."""
    return augmented(own_net(*args, **{"max_epochs": 1, **params}), synthetic_ratio=0)


#: Estimators of every kind, and what they are trained on.
ESTIMATORS = {
    "images": (image_classifier, digits),
    "table": (table_synthesizer, lambda: (TABLE[:80], y)),
    "ensemble": (ensemble_synthesizer, lambda: (IMAGES[:40], LABELS[:40])),
}


def answers(estimator, rows, labels):
    """All that an estimator says about images, and what it samples if it can."""
    synthesizer = getattr(estimator, "synthesizer_", estimator)
    X_new, y_new, info = synthesizer.synthesize(rows, labels, return_info=True)
    found = {
        "uncertainty": estimator.uncertainty(rows),
        "reconstruct": synthesizer.reconstruct(rows),
        "synthesize": X_new,
        "synthesize_y": y_new,
        **info,
    }
    if synthesizer is not estimator:
        found["predict"] = estimator.predict(rows)
        found["predict_proba"] = estimator.predict_proba(rows)
    if synthesizer.engine_.images is not None:
        found["sample"], found["sample_y"] = synthesizer.sample(5)
    return found


def assert_same(one, other):
    """Compare answers to the bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def weights_of(skorch_net):
    return {name: value.clone() for name, value in skorch_net.module_.state_dict().items()}


def contents(path):
    """Tensors and metadata of a file."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    return safetensors.torch.load_file(path), metadata


def rewrite(path, change):
    """Change what a file holds, and give it the checksum of what it holds then."""
    tensors, metadata = contents(path)
    description = json.loads(metadata["description"])
    change(description, tensors)
    metadata["description"] = json.dumps(description)
    del metadata["sha256"]
    metadata["sha256"] = _saving._checksum(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)


def refuse(estimator, path, message):
    """Check that a file is refused by name, and that the estimator stays as it was."""
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match=message) as caught:
        estimator.load_params(path)
    assert str(caught.value).startswith(f"cannot load {str(path)!r}: ")
    assert vars(estimator) == before
