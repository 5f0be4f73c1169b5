"""
Training an autoencoder, against pythae
=======================================

The same module, `PatchAutoencoder.from_data` of the same images and seed (so both start from the
same principal components and the same random residuals), is trained by `AutoencoderNet` with its
defaults and, wrapped as encoder and decoder of a ``pythae.models.AE``, by ``TrainingPipeline`` of
pythae with its defaults (Adam, learning rate 1e-4, batches of 64, 100 epochs; it keeps the best
epoch on the training images, there being no evaluation set). Of the defaults only three differ:
pythae is kept on the CPU, gets our seed instead of 8, and writes to a temporary folder. Noise on
the codes, mirrored and shifted images and the held-out tenth are part of our training alone.

Both are timed in processor seconds on one thread. The clock starts before the module is built and
includes all that training does, pythae's progress bars too (they go to memory; its log messages
are off). It stands still while the curves' RMSE is measured, before training and once an epoch, on
the official validation images, which neither trainer sees. pythae's files, written after the last
epoch, come after the last reading of the clock. An untimed epoch of each goes first.

The "same RMSE" is the worse of the two that the fitted models end with: both reach it. Readings
are an epoch apart: 25 batches of ours, 2 of pythae's for 100 images.

    pip install pythae==0.1.2
    OMP_NUM_THREADS=1 python examples/benchmark_autoencoder.py --root FOLDER_OF_NPZ_FILES
"""

import argparse
import contextlib
import io
import logging
import tempfile
import time
from statistics import median

import numpy as np
import torch
from skorch.callbacks import Callback

from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder
from tsynd_sk.datasets import load_medmnist


class Curve:
    """Seconds of training and RMSE on validation images, with a clock that can stand still."""

    def __init__(self, X_valid):
        self.X_valid = X_valid
        self.seconds, self.rmse = [], []
        self.paused = 0.0
        self.start = time.process_time()

    def measure(self, module):
        """Read the clock, then measure while it stands still."""
        now = time.process_time()
        self.seconds.append(now - self.start - self.paused)
        self.rmse.append(rmse(module, self.X_valid))
        self.paused += time.process_time() - now

    def seconds_to(self, target):
        """Seconds until the RMSE was first as low as `target`."""
        pairs = zip(self.seconds, self.rmse, strict=True)
        return next(seconds for seconds, error in pairs if error <= target * (1 + 1e-6))


@torch.no_grad()
def rmse(module, X):
    """Root mean squared error of reconstructions, in units of the grey scale from 0 to 1."""
    training = module.training
    module.eval()
    error = [(module.decode(module.encode(x)) - x).square().mean((1, 2, 3)) for x in X.split(256)]
    module.train(training)
    return float(torch.cat(error).mean().sqrt())


class SkorchRecorder(Callback):
    """Measures at the start and after every epoch of a skorch net."""

    def __init__(self, curve):
        self.curve = curve

    def on_epoch_end(self, net, **kwargs):
        self.curve.measure(net.module_)

    on_train_begin = on_epoch_end


def train_ours(X, X_valid, seed, **params):
    """Train by `AutoencoderNet`; give its curve and the RMSE of the fitted module."""
    torch.manual_seed(seed)
    curve = Curve(X_valid)
    net = AutoencoderNet(callbacks=[("recorder", SkorchRecorder(curve))], **params).fit(X)
    return curve, rmse(net.module_, X_valid)


def train_pythae(X, X_valid, seed, **params):
    """Train by pythae's default trainer; give the curve and the RMSE of the model it keeps."""
    try:
        from pythae.models import AE, AEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.pipelines import TrainingPipeline
        from pythae.trainers import BaseTrainerConfig
        from pythae.trainers.training_callbacks import TrainingCallback
    except ImportError as error:
        raise ImportError(f"this benchmark needs pythae ({error}): pip install pythae") from error

    class Part(torch.nn.Module):
        def __init__(self, autoencoder):
            super().__init__()
            self.autoencoder = autoencoder

    class Encoder(Part, BaseEncoder):
        def forward(self, x):
            return ModelOutput(embedding=self.autoencoder.encode(x))

    class Decoder(Part, BaseDecoder):
        def forward(self, z):
            return ModelOutput(reconstruction=self.autoencoder.decode(z))

    class Recorder(TrainingCallback):
        def on_epoch_end(self, training_config, *, model, **kwargs):
            curve.measure(model.encoder.autoencoder)

        on_train_begin = on_epoch_end

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.INFO)
        try:
            torch.manual_seed(seed)
            curve = Curve(X_valid)
            autoencoder = PatchAutoencoder.from_data(X)
            model = AE(
                AEConfig(input_dim=tuple(X.shape[1:]), latent_dim=autoencoder.n_components),
                encoder=Encoder(autoencoder),
                decoder=Decoder(autoencoder),
            )
            config = BaseTrainerConfig(output_dir=folder, no_cuda=True, seed=seed, **params)
            pipeline = TrainingPipeline(model, config)
            pipeline(X, callbacks=[Recorder()])
        finally:
            logging.disable(logging.NOTSET)
    return curve, rmse(pipeline.trainer._best_model.encoder.autoencoder, X_valid)


def autoencoder_training(root, n_train=100, seeds=(0, 1, 2), name="breastmnist"):
    """Compare training by `AutoencoderNet` and by pythae, seed by seed in turn.

    The seed also draws the `n_train` grey images; with None, all of the split are taken.
    """

    def load(split, **draw):
        images = load_medmnist(name, split=split, root=root, download=False, **draw).X
        return torch.from_numpy(images.astype(np.float32) / 255)[:, None]

    X_valid, runs = load("val"), []
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in seeds:
            X = load("train", n_samples=n_train, random_state=seed)
            if not runs:
                train_pythae(X, X_valid, seed, num_epochs=1)
                train_ours(X, X_valid, seed, max_epochs=1)
            ours, our_end = train_ours(X, X_valid, seed)
            theirs, their_end = train_pythae(X, X_valid, seed)
            target = max(our_end, their_end)
            needed = ours.seconds_to(target), theirs.seconds_to(target)
            runs.append((target, *needed, our_end, their_end, ours, theirs))
    finally:
        torch.set_num_threads(n_threads)

    targets, our_seconds, their_seconds, our_ends, their_ends, *curves = zip(*runs, strict=True)
    case, to_rmse = f"8 autoencoder, {name} {len(X)}", f"seconds to RMSE {median(targets):.4f}"
    ratios = [theirs / ours for theirs, ours in zip(their_seconds, our_seconds, strict=True)]

    def row(quantity, values, unit, digits=3):
        each = ", ".join(f"{value:.{digits}f}" for value in values)
        detail = f"median of seeds {', '.join(map(str, seeds))}: {each}"
        cells = (case, quantity, median(values), unit, detail)
        rows.append(dict(zip(("case", "quantity", "value", "unit", "detail"), cells, strict=True)))

    rows = []
    row(f"{to_rmse}, pythae / ours", ratios, "ratio", 2)
    row("validation RMSE before training", [c.rmse[0] for c in curves[0]], "grey scale", 5)
    ours, theirs = (our_seconds, our_ends, curves[0]), (their_seconds, their_ends, curves[1])
    for who, (seconds, ends, both) in {"ours": ours, "pythae": theirs}.items():
        row(f"{to_rmse}, {who}", seconds, "s")
        row(f"seconds of the whole training, {who}", [c.seconds[-1] for c in both], "s", 1)
        row(f"validation RMSE at the end, {who}", ends, "grey scale", 5)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Training an autoencoder, against pythae.")
    parser.add_argument("--root", required=True, help="folder with breastmnist.npz")
    root = parser.parse_args().root
    for n_train, seeds in ((100, (0, 1, 2)), (None, (0, 1))):
        for result in autoencoder_training(root, n_train, seeds):
            print("{case}: {quantity}: {value:.4g} {unit} ({detail})".format(**result), flush=True)
