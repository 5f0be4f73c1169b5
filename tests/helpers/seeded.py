"""Small seeded estimators of all kinds, and the bits of what they answer, for two processes."""

import hashlib

import numpy as np
import torch
from helpers.small import digits

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder, PatchAutoencoder
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier

#: Parameters of synthesizers; "dtype", "table", "labels" and "augmented" are of the data instead.
RECIPES = {
    "dropout": {"members": "dropout"},
    "laplace": {"members": "laplace", "label_policy": "keep", "random_state": 2**32 - 1},
    "ensemble": {"members": "ensemble", "dtype": "uint8"},
    "dropout of an ensemble": {"members": "dropout", "ensemble": True},
    "last layer": {"members": "dropout", "restrict": "last", "dtype": "float64", "n_members": 3},
    "entropy": {"objective": "entropy", "labels": "strings", "radius": 2.0},
    "random": {"objective": "random", "dtype": "float16", "batch_size": 7},
    "duplicate": {"objective": "duplicate", "dtype": "int16"},
    "literal": {"keep_detail": False, "dtype": "uint8"},
    "table": {"table": True, "dtype": "float64"},
    "table of integers": {"table": True, "dtype": "uint8", "members": "laplace"},
    "classifier": {"augmented": True},
    "classifier of a table": {"augmented": True, "table": True, "members": "laplace"},
}


def data(name):
    """Images and labels of a recipe."""
    recipe = RECIPES[name]
    X, y = digits(48)
    X = (200 * X if recipe.get("dtype", "float32") in ("uint8", "int16") else X).astype(
        recipe.get("dtype", "float32")
    )
    X = X.reshape(48, -1)[:, 16:24] if "table" in recipe else X
    return X, np.array(list("dbca"))[y] if "labels" in recipe else y


def members_of(name):
    """Unfitted synthesizer of a recipe."""
    recipe = dict(RECIPES[name])
    table, several = recipe.pop("table", False), recipe.get("members") == "ensemble"
    several = recipe.pop("ensemble", several)
    for other in ("dtype", "labels", "augmented"):
        recipe.pop(other, None)
    net = NetClassifier(DenseNet if table else ConvNet, max_epochs=3, module__width=4)
    autoencoder = AutoencoderNet(
        DenseAutoencoder if table else PatchAutoencoder,
        max_epochs=1,
        epoch_size=32,
        module__width=4,
    )
    params = {"n_members": 4, "max_iter": 4, "random_state": 3, **recipe}
    return TargetedSynthesizer([net, net] if several else net, autoencoder, **params)


def made(name):
    """Fitted estimator of a recipe."""
    one = members_of(name)
    if "augmented" in RECIPES[name]:
        one = AugmentedClassifier(
            one.classifier,
            one.set_params(classifier=None, random_state=None),
            refresh_every=1,
            random_state=5,
        )
    return one.fit(*data(name))


def augmented(estimator):
    return isinstance(estimator, AugmentedClassifier)


def synthesizer(estimator):
    return estimator.synthesizer_ if augmented(estimator) else estimator


def answers(estimator, seed=1, n=20):
    """Everything that an estimator answers."""
    one = synthesizer(estimator)
    X, y = one.engine_.images, one.classes_[one.engine_.codes]
    X_new, y_new, info = one.sample(n, random_state=seed, return_info=True)
    others = one.synthesize(X[:9], y[:9], random_state=seed)
    told = [one.reconstruct(X), one.uncertainty(X), estimator.uncertainty(X)]
    if augmented(estimator):
        told += [estimator.predict_proba(X), estimator.predict(X)]
        told.append(np.array(estimator.history_[:, "train_loss"]))
    return [X_new, y_new, *(info[column] for column in sorted(info)), *others, *told]


def digest(arrays):
    """Bits of arrays, their types and their shapes."""
    total = hashlib.sha256()
    for array in arrays if isinstance(arrays, list | tuple) else [arrays]:
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for recipe in RECIPES:
        print(recipe.replace(" ", "_"), digest(answers(made(recipe), n=60)))
