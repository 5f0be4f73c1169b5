"""In cross-validation no part of a fold's training sees a row that is held out."""

from contextlib import contextmanager

import numpy as np
import pytest
from helpers.tiny_nets import synthesizer
from sklearn.model_selection import StratifiedKFold, cross_validate
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset, ValidSplit

from tsynd_sk import AugmentedClassifier
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.autoencoders._patch import PatchAutoencoder
from tsynd_sk.classifiers._default import ConvNet, NetClassifier
from tsynd_sk.datasets._loaders import load_digits_images

IMAGES, LABELS, _ = load_digits_images()
CHOSEN = np.flatnonzero(LABELS < 2)[:60]
X, y = IMAGES[CHOSEN].copy(), LABELS[CHOSEN]
# The first pixel of a row is its number, in binary digits that no float type loses.
X[:, 0, 0] = (np.arange(len(X)) + 1) / 256
ROWS = X.reshape(len(X), -1)
SYNTHETIC = -1

# For every fit that is under way: which rows were seen, by whom.
watched: list[dict[str, set]] = []


def saw(who, x):
    """Note which rows a batch holds, in whatever layout."""
    if not watched:
        return
    rows = np.asarray(getattr(x, "detach", lambda: x)()).reshape(-1, 64)
    numbers = np.rint(rows[:, 0] * 256).astype(int) - 1
    candidates = numbers.clip(0, len(X) - 1)
    real = (rows == ROWS[candidates]).all(1)
    watched[-1].setdefault(who, set()).update(np.where(real, candidates, SYNTHETIC).tolist())


@contextmanager
def watching():
    watched.append({})
    try:
        yield watched[-1]
    finally:
        watched.pop()


class WatchedDataset(Dataset):
    def __getitem__(self, i):
        saw("data sets", np.asarray(self.X[i]))
        return super().__getitem__(i)


class WatchedConvNet(ConvNet):
    def forward(self, x):
        saw("networks", x)
        return super().forward(x)


class WatchedClassifier(NetClassifier):
    def train_step(self, batch, **fit_params):
        saw("training", batch[0])
        return super().train_step(batch, **fit_params)

    def validation_step(self, batch, **fit_params):
        saw("early stopping", batch[0])
        return super().validation_step(batch, **fit_params)


class WatchedPatches(PatchAutoencoder):
    def encode(self, x):
        saw("synthesis", x)
        return super().encode(x)


class WatchedAutoencoder(AutoencoderNet):
    def fit(self, X, y=None, **fit_params):
        # Its components are computed from these, before any batch.
        saw("autoencoder", X)
        return super().fit(X, y, **fit_params)

    def train_step(self, batch, **fit_params):
        saw("autoencoder", batch[0])
        return super().train_step(batch, **fit_params)

    def validation_step(self, batch, **fit_params):
        saw("autoencoder", batch[0])
        return super().validation_step(batch, **fit_params)


class WatchedFit:
    def fit(self, X, y):
        with watching() as seen:
            super().fit(X, y)
        self.seen_ = seen
        return self


class WatchedAugmented(WatchedFit, AugmentedClassifier):
    pass


def classifier(train_split=None):
    return WatchedClassifier(
        WatchedConvNet,
        module__width=4,
        max_epochs=4,
        train_split=train_split,
        callbacks=[EarlyStopping(patience=4)] if train_split else None,
        dataset=WatchedDataset,
    )


def watched_synthesizer(autoencoder=WatchedAutoencoder, **params):
    net = autoencoder(
        WatchedPatches, max_epochs=2, epoch_size=32, module__width=8, dataset=WatchedDataset
    )
    # Of the ways to compute members this one shows the networks plain batches.
    return synthesizer(autoencoder=net, n_members=3, random_state=0, **params)


def folds_of(estimator, images=X):
    """Cross-validate, and give each fold's estimator, training rows and held-out rows."""
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    results = cross_validate(
        estimator,
        images,
        y,
        cv=folds,
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    indices = results["indices"]
    return list(zip(results["estimator"], indices["train"], indices["test"], strict=True))


def assert_nothing_held_out_was_seen(seen, train, test):
    for who, rows in seen.items():
        assert not rows & set(test), f"held-out rows were seen: {who}"
        assert rows - {SYNTHETIC} <= set(train), who


@pytest.mark.parametrize("members", ["dropout", "laplace"])
def test_of_an_augmented_classifier(members):
    estimator = WatchedAugmented(
        classifier(ValidSplit(5, stratified=True)),
        watched_synthesizer(members=members),
        refresh_every=2,
        random_state=0,
    )
    for fitted, train, test in folds_of(estimator):
        seen = fitted.seen_
        assert_nothing_held_out_was_seen(seen, train, test)
        # Nor do rows that the net itself holds out to stop early serve for anything else.
        held_out_within = seen["early stopping"]
        assert len(held_out_within) == len(train) // 5
        assert SYNTHETIC not in held_out_within
        sources = set(train) - held_out_within
        assert seen["training"] == sources | {SYNTHETIC}
        assert seen["autoencoder"] == sources
        assert seen["synthesis"] - {SYNTHETIC} == sources
        assert seen["data sets"] == set(train)
        assert seen["networks"] - {SYNTHETIC} == set(train)
        # Whoever samples from the fitted one, too, starts from the fold's own rows.
        with watching() as seen:
            _, y_new, info = fitted.synthesizer_.sample(2 * len(train), return_info=True)
        assert_nothing_held_out_was_seen(seen, train, test)
        assert set(train[info.source_index]) == set(train)
        np.testing.assert_array_equal(y[train[info.source_index]], y_new)


def test_of_a_sampler_in_a_pipeline():
    pipeline = pytest.importorskip("imblearn.pipeline")

    class WatchedPipeline(WatchedFit, pipeline.Pipeline):
        pass

    sampler = watched_synthesizer(classifier=classifier(), sampling_strategy={0: 30, 1: 30})
    steps = [("sampler", sampler), ("classifier", classifier())]
    for fitted, train, test in folds_of(WatchedPipeline(steps), X[:, None]):
        assert_nothing_held_out_was_seen(fitted.seen_, train, test)
        assert fitted.seen_["training"] == set(train) | {SYNTHETIC}
        assert fitted.seen_["autoencoder"] == set(train)
        sources = fitted["sampler"].sample_indices_
        assert len(sources) == 60
        assert sources.max() < len(train)


class GreedyAutoencoder(WatchedAutoencoder):
    """Learns from all images that it can lay hands on."""

    def fit(self, _, y=None, **fit_params):
        return super().fit(X[:, None], X[:, None], **fit_params)


def greedy_split(dataset, y=None):
    """Stop early by all images."""
    return dataset, WatchedDataset(X[:, None], LABELS[CHOSEN])


@pytest.mark.parametrize(
    ("who", "train_split", "autoencoder"),
    [
        ("autoencoder", None, GreedyAutoencoder),
        ("early stopping", greedy_split, WatchedAutoencoder),
    ],
)
def test_a_leak_would_be_noticed(who, train_split, autoencoder):
    estimator = WatchedAugmented(classifier(train_split), watched_synthesizer(autoencoder))
    fitted, train, test = folds_of(estimator)[0]
    with pytest.raises(AssertionError, match="held-out rows were seen"):
        assert_nothing_held_out_was_seen(fitted.seen_, train, test)
    assert fitted.seen_[who] >= set(test)
