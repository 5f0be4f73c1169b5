"""Estimators whose files in ``tests/data`` are kept, and the answers that they are to give.

``python tests/saved_files.py`` adds the files of the present format version, once it is raised.
Those of earlier versions stay: they are what users have.
"""

import json
from pathlib import Path

import numpy as np

from helpers.tiny_nets import IMAGES, LABELS, augmented, dense_net, net, own_net, synthesizer, y
from tsynd_sk._utils._tensor_file import FORMAT_VERSION
from tsynd_sk.autoencoders._dense import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet

DATA = Path(__file__).parents[1] / "data"
TABLE = IMAGES.reshape(len(IMAGES), -1)[:, 20:30]
WORDS = np.array(["nought", "one", "two", "three", "four"])


def digits():
    """Images as bytes, and labels in words."""
    few = LABELS < 5
    return np.rint(IMAGES[few] * 255).astype(np.uint8)[:60], WORDS[LABELS[few]][:60]


def tiny_autoencoder(**params):
    return AutoencoderNet(**{"max_epochs": 1, "epoch_size": 64, "module__width": 4, **params})


def image_classifier():
    """With dropout, earlier states of the net, and a history."""
    return augmented(
        net(max_epochs=20, lr=0.02, module__width=2),
        synthesizer(autoencoder=tiny_autoencoder(module__n_components=2)),
        n_snapshots=1,
        refresh_every=8,
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


#: Estimators of every kind, and what they are trained on.
ESTIMATORS = {
    "images": (image_classifier, digits),
    "table": (table_synthesizer, lambda: (TABLE[:80], y)),
    "ensemble": (ensemble_synthesizer, lambda: (IMAGES[:40], LABELS[:40])),
}

#: What is kept, and whether the images are in the file.
KEPT = {
    "image_classifier": (*ESTIMATORS["images"], False),
    "table_synthesizer": (*ESTIMATORS["table"], True),
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
    if synthesizer._X is not None:
        found["sample"], found["sample_y"] = synthesizer.sample(5)
    return found


def assert_same(one, other):
    """Compare answers to the bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def write_kept():
    """Write the files, and beside them what the estimators say about a few rows."""
    for name, (make, data, with_images) in KEPT.items():
        rows, labels = data()
        estimator = make().fit(rows, labels)
        path = DATA / f"{name}_v{FORMAT_VERSION}.safetensors"
        if path.exists():
            raise FileExistsError(f"{path} is what users of this version have: raise the version")
        estimator.save_params(path, with_images=with_images)
        known = {k: v.tolist() for k, v in answers(estimator, rows[:8], labels[:8]).items()}
        path.with_suffix(".json").write_text(json.dumps(known) + "\n")


if __name__ == "__main__":
    write_kept()
