"""The main job: the same classifier trained in several ways, arm by arm, and scored alike.

Every pair of a seed and an arm is one run, whose result is written the moment it is known. A
comparison that was interrupted goes on with the runs that are missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.frozen import FrozenEstimator

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.comparison._arms import ARMS, DEFAULT_ARMS, Arm
from tsynd_sk.comparison._picture import draw_synthesis
from tsynd_sk.comparison._processes import (
    EpochReport,
    deaf_children,
    exit_on_signals,
    leave_with,
    relayed,
    undisturbed,
    working_for,
)
from tsynd_sk.comparison._results_folder import (
    ResultsFolder,
    checked_rows,
    keep_autoencoder,
    kept_autoencoder,
)
from tsynd_sk.comparison._scoring import (
    METRICS,
    SEVERITY,
    attacked_rows,
    check_attacks_installed,
    columns_of,
    scores_of,
)
from tsynd_sk.comparison._settings import Settings, described
from tsynd_sk.comparison._splits import Splits, load_splits
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import CORRUPTIONS, corrupt
from tsynd_sk.images import ImageFormat

__all__ = [
    "ARMS",
    "DEFAULT_ARMS",
    "METRICS",
    "Arm",
    "Comparison",
    "Settings",
    "Splits",
    "load_splits",
]


class Comparison:
    """Runs of a comparison, kept in a folder.

    Parameters
    ----------
    splits : Splits
        Images. The test images are looked at once by every run, to score it.
    settings : Settings
        What is compared.
    out : str or Path
        Folder for ``results.csv`` (a row for each seed and arm), ``settings.json``, the folder
        ``runs`` from which an interrupted comparison goes on, or one with more seeds or further
        arms, and ``synthesis.png``. A process that is killed leaves nothing behind that another
        would stumble over.
    n_jobs : int, default=-1
        Processes, each of which computes with one thread, so that results do not depend on their
        number. -1 stands for all cores.

    Raises
    ------
    ValueError
        If `out` holds a comparison with other settings or images, or one whose settings are lost;
        or if the images do not allow the comparison.
    ImportError
        If an arm, or the attacks, need a package that is not installed.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from tsynd_sk.comparison import ARMS, Comparison, Settings, load_splits
    >>> splits = load_splits("digits")
    >>> splits = replace(splits, X_test=splits.X_test[:20], y_test=splits.y_test[:20])
    >>> arms = {
    ...     f"radius {radius}": replace(ARMS["mutual_info"], synthesizer={"radius": radius})
    ...     for radius in (0.1, 0.25)
    ... }
    >>> settings = Settings(30, arms=arms, seeds=1, epochs=2, autoencoder_epochs=1)
    >>> with TemporaryDirectory() as out:
    ...     comparison = Comparison(splits, settings, Path(out), n_jobs=1)
    ...     comparison.run()
    ...     [row["arm"] for row in comparison.results()]
    ['radius 0.1', 'radius 0.25']
    """

    def __init__(self, splits: Splits, settings: Settings, out: str | Path, *, n_jobs: int = -1):
        self.splits = splits
        self.settings = settings
        self.out = Path(out)
        self.n_jobs = n_jobs
        self._arms = settings.definitions
        for arm in self._arms.values():
            arm.check_installed()
        if settings.eps:
            check_attacks_installed()
            attacked_rows(splits.y_test, settings.n_attacked)
        self._check_classes()
        self._folder = ResultsFolder(self.out, described(splits, settings))

    def _check_classes(self) -> None:
        names, y_train = self.splits.class_names, self.splits.y_train
        lost = [names[code] for code in np.setdiff1d(self.splits.y_test, y_train)]
        if lost:
            split = self.splits.scored_on
            raise ValueError(
                f"{self.splits.name} has {split} images but no training ones of {lost}"
            )
        n_classes = len(np.unique(y_train))
        if not n_classes <= self.settings.n_train <= len(y_train):
            raise ValueError(
                f"n_train={self.settings.n_train} is not valid for {self.splits.name}: expected at "
                f"least one image for each of its {n_classes} classes, and at most the "
                f"{len(y_train)} there are"
            )

    def _pairs(self) -> list[tuple[int, str]]:
        return [(s, a) for s in range(self.settings.seeds) for a in self._arms]

    def missing(self) -> list[tuple[int, str]]:
        """List what has not been run yet, or whose result is damaged.

        Returns
        -------
        list of tuple
            Pairs of seed and arm.
        """
        return [pair for pair in self._pairs() if self._folder.row(*pair) is None]

    def damaged(self) -> list[Path]:
        """List results that nobody can read, as after a failure of the disk.

        Returns
        -------
        list of Path
            Their files.
        """
        paths = [self._folder.run_path(*pair) for pair in self.missing()]
        return [path for path in paths if path.exists()]

    def n_epochs(self) -> int:
        """Count the epochs that are still to be trained, of autoencoders and classifiers.

        Returns
        -------
        int
            As many at most.
        """
        missing = self.missing()
        n_autoencoders = len(self._autoencoders(missing))
        n_classifiers = sum(1 + self._arms[arm].classifier.get("n_peers", 0) for _, arm in missing)
        return (
            n_autoencoders * self.settings.autoencoder_epochs + n_classifiers * self.settings.epochs
        )

    def _autoencoder_path(self, seed: int, arm: str) -> Path | None:
        """Where the autoencoder of an arm belongs, which it shares with arms of the same kind."""
        made = self._arms[arm]
        if not made.needs_autoencoder:
            return None
        kind = {"autoencoder": made.autoencoder, "unlabelled": made.unlabelled}
        return self._folder.autoencoder_path(seed, kind if any(kind.values()) else None)

    def _autoencoders(self, missing: list[tuple[int, str]]) -> dict[Path, tuple[int, str]]:
        """Autoencoders that are needed, each with the first pair that needs it."""
        needed: dict[Path, tuple[int, str]] = {}
        for pair in missing:
            if (path := self._autoencoder_path(*pair)) is not None:
                needed.setdefault(path, pair)
        return needed

    def results(self) -> list[dict[str, Any]]:
        """Read the rows of the runs that are done.

        Returns
        -------
        list of dict
            One for each run, by seed and arm, from the names of columns to values.

        Notes
        -----
        These are the columns, also those of ``results.csv``:

        - ``dataset``, ``scored_on``, ``n_train``, ``epochs``, ``seed``, ``arm``: which run it is.
        - ``roc_auc``, ``balanced_accuracy``, ``expected_calibration_error``: on clean images.
        - ``perturbed_roc_auc`` and so on: the same on corrupted images, means over the kinds
          `CORRUPTIONS` at severity 3 of 5.
        - ``pgd_2_accuracy``, ``pgd_2_balanced_accuracy`` and so on: under each attack, here "pgd",
          with each `eps`, here 2/255. Only if `eps` is set, on `n_attacked` images at most.
        - ``gradient_masking``: with attacks, signs that they did not find what there is, or "".
        - ``uncertainty_source``, ``uncertainty``: mean mutual information in nats of the sources
          and of the synthetic images of the last refresh; None without synthesis.
        - ``label_agreement``: share of these images that the members took for their label, or None.
        - ``seconds``: processor time of the training, that of the autoencoder included even if
          other arms share it. ``seconds_scoring``: processor time of the scoring.
        """
        rows = [self._folder.row(*pair) for pair in self._pairs()]
        return [row for row in rows if row is not None]

    def adopt(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take over the results of runs that were made elsewhere, as on another machine.

        What is done here already stays as it is. Autoencoders and pictures do not come along.

        Parameters
        ----------
        rows : iterable of dict
            Rows as `results` gives them there.

        Raises
        ------
        ValueError
            If one has other columns, is of another data set, split, or number of images or epochs,
            or of a seed or an arm that is not compared here, or holds what JSON cannot. Then none
            is taken over. Rows do not tell whether parameters of the arms, their defaults and the
            images are the same, too.
        BlockingIOError
            If another process runs a comparison in the same folder.
        OSError
            If something cannot be written.
        """
        adopted = checked_rows(rows, columns_of(self.settings), self._common(), self._pairs())
        with self._folder.reserved():
            for row in adopted:
                if self._folder.row(row["seed"], row["arm"]) is None:
                    self._folder.save(row)
            self.write_results()

    def _common(self) -> dict[str, Any]:
        """Columns in which all rows agree."""
        return {
            "dataset": self.splits.name,
            "scored_on": self.splits.scored_on,
            "n_train": self.settings.n_train,
            "epochs": self.settings.epochs,
        }

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
        needed = self._autoencoders(missing)
        trained = parallel(
            delayed(self._train_autoencoder)(path, *pair, job) for path, pair in needed.items()
        )
        autoencoders = dict(zip(needed, trained, strict=True))
        X_test = self.splits.X_test
        corrupted = parallel(
            delayed(corrupt)(X_test, kind, SEVERITY, random_state=0) for kind in CORRUPTIONS
        )
        perturbed = dict(zip(CORRUPTIONS, corrupted, strict=True))
        problems = parallel(
            delayed(self._run_one)(*pair, self._given(autoencoders, pair), perturbed, job)
            for pair in missing
        )
        for problem in filter(None, problems):
            raise OSError(problem)

    def write_results(self) -> None:
        """Collect the runs that are done in ``results.csv``.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._folder.write_table(self.results())

    def _training_images(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        y = self.splits.y_train
        index = subsample(y, self.settings.n_train, random_state=seed)
        return self.splits.X_train[index], y[index]

    def _given(self, autoencoders: dict, pair: tuple[int, str]) -> tuple[Any, float]:
        path = self._autoencoder_path(*pair)
        return (None, 0.0) if path is None else autoencoders[path]

    def _train_autoencoder(
        self, path: Path, seed: int, arm: str, job: int
    ) -> tuple[AutoencoderNet, float]:
        """Train an autoencoder that arms of a seed share, on images that they may see."""
        made, epochs = self._arms[arm], self.settings.autoencoder_epochs
        with working_for(job):
            progress = EpochReport(self._folder.progress, f"seed {seed}: autoencoder")
            if kept := kept_autoencoder(path, made.make_autoencoder(epochs)):
                progress.skip(epochs)
                return kept
            X = self.splits.X_train if made.unlabelled else self._training_images(seed)[0]
            x = ImageFormat.infer(X).to_tensor(X).numpy()
            start = process_time()
            with scoped_seed(seed):
                net = made.make_autoencoder(epochs, callbacks=[progress]).fit(x)
            net.set_params(callbacks=None)
            seconds = process_time() - start
            keep_autoencoder(path, net, seconds)
            return net, seconds

    def _run_one(
        self,
        seed: int,
        arm: str,
        trained: tuple[Any, float],
        perturbed: dict[str, np.ndarray],
        job: int,
    ) -> str | None:
        """Train and score one arm; give back what is wrong with its picture, if anything is."""
        with working_for(job):
            X, y = self._training_images(seed)
            autoencoder, seconds = trained
            progress = EpochReport(self._folder.progress, f"seed {seed}: {arm}")
            classifier = self._arms[arm].make_classifier(
                X,
                y,
                max_epochs=self.settings.epochs,
                autoencoder=None if autoencoder is None else FrozenEstimator(autoencoder),
                flip=self.splits.flip,
                callbacks=[progress],
                random_state=seed,
            )
            start = process_time()
            classifier.fit(X, y)
            fitted = process_time()
            row = {
                **self._common(),
                "seed": seed,
                "arm": arm,
                **scores_of(classifier, self.splits, perturbed, self.settings),
                **_last_synthesis(classifier.history_),
                "seconds": seconds + fitted - start,
                "seconds_scoring": process_time() - fitted,
            }
            problem = None
            try:
                if self._is_pictured(row):
                    names = self.splits.class_names
                    draw_synthesis(classifier, X, names, self._folder.picture)
            except Exception as error:
                # A picture is not worth a training.
                problem = (
                    f"no picture could be drawn: {error}. To have it, remove "
                    f"{self._folder.run_path(seed, arm)}: that run is then made again."
                )
            self._folder.save(row)
            return problem

    def _is_pictured(self, row: dict[str, Any]) -> bool:
        targeted = [name for name, arm in self._arms.items() if arm.is_targeted]
        return row["seed"] == 0 and row["arm"] in targeted[-1:]


def _last_synthesis(history) -> dict[str, float | None]:
    """Mean uncertainty before and after the last refresh, and how many labels were kept."""
    names = ("uncertainty_source", "uncertainty", "label_agreement")
    refreshed = [epoch for epoch in history if "synthesis_dur" in epoch]
    return {n: refreshed[-1][f"synthesis_{n}"] if refreshed else None for n in names}
