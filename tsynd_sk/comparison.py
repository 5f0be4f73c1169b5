"""The main job: the same classifier trained with and without synthetic images, arm by arm.

Every pair of a seed and an arm is one run, whose result is written the moment it is known. A
comparison that was interrupted goes on with the runs that are missing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.frozen import FrozenEstimator

from tsynd_sk._files import write_atomically
from tsynd_sk._kept_autoencoder import keep_autoencoder, kept_autoencoder
from tsynd_sk._processes import (
    EpochReport,
    deaf_children,
    exit_on_signals,
    leave_with,
    relayed,
    undisturbed,
    working_for,
)
from tsynd_sk._results_folder import ResultsFolder
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.augmented import AugmentedClassifier
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import CORRUPTIONS, classification_scores, corrupt
from tsynd_sk.images import ImageFormat
from tsynd_sk.inspection import SynthesisDisplay
from tsynd_sk.synthesizer import TargetedSynthesizer

__all__ = ["ARMS", "METRICS", "Comparison", "Settings", "Splits"]

#: Arms of the comparison: training on real images alone, and the objectives of the synthesizer.
ARMS = ("plain", "reconstruction", "random", "entropy", "mutual_info")

#: Columns of the results that hold scores, higher is better.
METRICS = (
    "roc_auc",
    "balanced_accuracy",
    "perturbed_roc_auc",
    "perturbed_balanced_accuracy",
)

_SEVERITY = 3


@dataclass(frozen=True)
class Splits:
    """Training and test images of one data set.

    Attributes
    ----------
    name : str
        Name of the data set.
    X_train, X_test : ndarray of shape (n, H, W) or (n, H, W, C)
        Images.
    y_train, y_test : ndarray of shape (n,), int64
        Class indices.
    class_names : list of str
        Names of the classes.
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    class_names: list[str]

    def digest(self) -> str:
        """Checksum of all images and labels."""
        md5 = hashlib.md5(usedforsecurity=False)
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            md5.update(np.ascontiguousarray(array).tobytes())
        return md5.hexdigest()


@dataclass(frozen=True)
class Settings:
    """What determines the numbers of a comparison.

    Attributes
    ----------
    n_train : int
        Labelled training images, drawn anew for each seed.
    arms : tuple of str
        Arms, see `ARMS`.
    seeds : int
        Number of seeds, 0 to ``seeds - 1``.
    epochs : int
        Training epochs of each classifier.
    autoencoder_epochs : int
        Training epochs of the autoencoder of each seed, at most.
    """

    n_train: int
    arms: tuple[str, ...] = ARMS
    seeds: int = 3
    epochs: int = 60
    autoencoder_epochs: int = 60


class Comparison:
    """Runs of a comparison, kept in a folder.

    Parameters
    ----------
    splits : Splits
        Images. The test split is looked at once by every run, to score it.
    settings : Settings
        What is compared.
    out : Path
        Folder for ``results.csv`` (a row for each seed and arm), ``settings.json``, the folder
        ``runs`` from which an interrupted comparison goes on, and ``synthesis.png``. A process
        that is killed leaves nothing behind that another would stumble over.
    n_jobs : int, default=-1
        Processes, each of which computes with one thread, so that results do not depend on their
        number. -1 stands for all cores.

    Raises
    ------
    ValueError
        If `out` holds a comparison with other settings or images, or one whose settings are lost.
    """

    def __init__(self, splits: Splits, settings: Settings, out: Path, *, n_jobs: int = -1):
        self.splits = splits
        self.settings = settings
        self.out = out
        self.n_jobs = n_jobs
        self._check_classes()
        determined = {"dataset": splits.name, "digest": splits.digest(), **asdict(settings)}
        self._folder = ResultsFolder(out, {**determined, "arms": list(settings.arms)})

    def _check_classes(self) -> None:
        names, y_train = self.splits.class_names, self.splits.y_train
        lost = [names[code] for code in np.setdiff1d(self.splits.y_test, y_train)]
        if lost:
            raise ValueError(f"{self.splits.name} has test images but no training ones of {lost}")
        n_classes = len(np.unique(y_train))
        if not n_classes <= self.settings.n_train <= len(y_train):
            raise ValueError(
                f"n_train={self.settings.n_train} is not valid for {self.splits.name}: expected at "
                f"least one image for each of its {n_classes} classes, and at most the "
                f"{len(y_train)} there are"
            )

    def _pairs(self) -> list[tuple[int, str]]:
        return [(s, a) for s in range(self.settings.seeds) for a in self.settings.arms]

    def missing(self) -> list[tuple[int, str]]:
        """Pairs of seed and arm that have not been run yet, or whose result is damaged."""
        return [pair for pair in self._pairs() if self._folder.row(*pair) is None]

    def damaged(self) -> list[Path]:
        """Results that nobody can read, as after a failure of the disk."""
        paths = [self._folder.run_path(*pair) for pair in self.missing()]
        return [path for path in paths if path.exists()]

    def n_epochs(self) -> int:
        """Epochs that are still to be trained, of autoencoders and classifiers, at most."""
        missing = self.missing()
        n_autoencoders = len({seed for seed, arm in missing if arm != "plain"})
        return (
            n_autoencoders * self.settings.autoencoder_epochs + len(missing) * self.settings.epochs
        )

    def results(self) -> list[dict[str, Any]]:
        """Rows of the runs that are done, by seed and arm."""
        rows = [self._folder.row(*pair) for pair in self._pairs()]
        return [row for row in rows if row is not None]

    def run(self, report: Callable[[str, int], None] = lambda text, epochs: None) -> None:
        """Run what is missing and write the results.

        Parameters
        ----------
        report : callable
            Called with a text and a number of epochs as they are done.

        Raises
        ------
        BlockingIOError
            If another process runs a comparison in the same folder.
        OSError
            If something cannot be written. Every run that is done is kept.
        """
        if not self.missing() and self._folder.is_finished(self.results()):
            return
        with self._folder.reserved(), exit_on_signals():
            try:
                if missing := self.missing():
                    with relayed(self._folder.progress, report):
                        self._run(missing)
            except BaseException:
                with suppress(OSError), undisturbed():
                    self.write_results()
                raise
            self.write_results()

    def _run(self, missing: list[tuple[int, str]]) -> None:
        parallel, job = Parallel(n_jobs=self.n_jobs), os.getpid()
        with deaf_children():
            started = Parallel(n_jobs=self.n_jobs, return_as="generator")(
                [delayed(leave_with)(job)]
            )
        list(started)
        seeds = sorted({seed for seed, arm in missing if arm != "plain"})
        trained = parallel(delayed(self._train_autoencoder)(seed, job) for seed in seeds)
        autoencoders = dict(zip(seeds, trained, strict=True))
        X_test = self.splits.X_test
        corrupted = parallel(
            delayed(corrupt)(X_test, kind, _SEVERITY, random_state=0) for kind in CORRUPTIONS
        )
        perturbed = dict(zip(CORRUPTIONS, corrupted, strict=True))
        problems = parallel(
            delayed(self._run_one)(seed, arm, autoencoders.get(seed), perturbed, job)
            for seed, arm in missing
        )
        for problem in filter(None, problems):
            raise OSError(problem)

    def write_results(self) -> None:
        """Collect the runs that are done in ``results.csv``."""
        self._folder.write_table(self.results())

    def _training_images(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        y = self.splits.y_train
        index = subsample(y, self.settings.n_train, random_state=seed)
        return self.splits.X_train[index], y[index]

    def _train_autoencoder(self, seed: int, job: int) -> tuple[AutoencoderNet, float]:
        """Train the autoencoder that the arms of a seed share, on the seed's own images alone."""
        path, epochs = self._folder.autoencoder_path(seed), self.settings.autoencoder_epochs
        with working_for(job):
            progress = EpochReport(self._folder.progress, f"seed {seed}: autoencoder")
            if kept := kept_autoencoder(path, AutoencoderNet(max_epochs=epochs)):
                progress.skip(epochs)
                return kept
            X, _ = self._training_images(seed)
            x = ImageFormat.infer(X).to_tensor(X).numpy()
            start = process_time()
            with scoped_seed(seed):
                net = AutoencoderNet(max_epochs=epochs, callbacks=[progress]).fit(x)
            net.set_params(callbacks=None)
            seconds = process_time() - start
            keep_autoencoder(path, net, seconds)
            return net, seconds

    def _run_one(
        self, seed: int, arm: str, trained, perturbed: dict[str, np.ndarray], job: int
    ) -> str | None:
        """Train and score one arm; give back what is wrong with its picture, if anything is."""
        with working_for(job):
            X, y = self._training_images(seed)
            autoencoder, seconds = trained if trained and arm != "plain" else (None, 0.0)
            synthesizer = TargetedSynthesizer(
                autoencoder=None if autoencoder is None else FrozenEstimator(autoencoder),
                objective="mutual_info" if arm == "plain" else arm,
            )
            progress = EpochReport(self._folder.progress, f"seed {seed}: {arm}")
            classifier = AugmentedClassifier(
                NetClassifier(max_epochs=self.settings.epochs, callbacks=[progress]),
                synthesizer,
                synthetic_ratio=0 if arm == "plain" else 1,
                random_state=seed,
            )
            start = process_time()
            classifier.fit(X, y)
            seconds += process_time() - start
            row = {
                "dataset": self.splits.name,
                "n_train": len(X),
                "epochs": self.settings.epochs,
                "seed": seed,
                "arm": arm,
                **self._scores(classifier, perturbed),
                **_last_synthesis(classifier.history_),
                "seconds": seconds,
            }
            problem = None
            try:
                if self._is_pictured(row):
                    self._draw(classifier, X)
            except Exception as error:
                # A picture is not worth a training.
                problem = (
                    f"no picture could be drawn: {error}. To have it, remove "
                    f"{self._folder.run_path(seed, arm)}: that run is then made again."
                )
            self._folder.save(row)
            return problem

    def _scores(self, classifier, perturbed: dict[str, np.ndarray]) -> dict[str, float]:
        def scores(X):
            proba = classifier.predict_proba(X)
            return classification_scores(self.splits.y_test, proba, classifier.classes_)

        clean, shifted = scores(self.splits.X_test), [scores(X) for X in perturbed.values()]
        means = {f"perturbed_{name}": float(np.mean([s[name] for s in shifted])) for name in clean}
        return {**clean, **means}

    def _is_pictured(self, row: dict[str, Any]) -> bool:
        targeted = [arm for arm in self.settings.arms if arm not in ("plain", "reconstruction")]
        return row["seed"] == 0 and row["arm"] in targeted[-1:]

    def _draw(self, classifier: AugmentedClassifier, X: np.ndarray) -> None:
        if find_spec("matplotlib") is None:
            return
        # There may be no display, and a process of its own must not open windows on one.
        os.environ["MPLBACKEND"] = "Agg"
        import matplotlib.pyplot as plt

        display = SynthesisDisplay.from_estimator(classifier, X, n_samples=8, random_state=0)
        display.labels = [self.splits.class_names[code] for code in display.labels]
        figure = display.plot().figure_
        try:
            write_atomically(
                self._folder.picture, lambda file: figure.savefig(file, dpi=150, format="png")
            )
        finally:
            plt.close(figure)


def _last_synthesis(history) -> dict[str, float | None]:
    """Mean uncertainty before and after the last refresh, and how many labels were kept."""
    names = ("uncertainty_source", "uncertainty", "label_agreement")
    refreshed = [epoch for epoch in history if "synthesis_dur" in epoch]
    return {n: refreshed[-1][f"synthesis_{n}"] if refreshed else None for n in names}
