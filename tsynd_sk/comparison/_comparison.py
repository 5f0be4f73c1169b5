"""The main job: the same classifier trained in several ways, arm by arm, and scored alike.

Every pair of a seed and an arm is one run, whose result is written the moment it is known. A
comparison that was interrupted goes on with the runs that are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.frozen import FrozenEstimator

from tsynd_sk import _skorch
from tsynd_sk._utils._names import UNMOVED
from tsynd_sk._utils._threads import single_threaded
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.comparison._picture import draw_synthesis
from tsynd_sk.comparison._results_folder import ResultsFolder, read_weights, write_weights
from tsynd_sk.comparison._scoring import (
    SEVERITY,
    attacked_rows,
    scores_of,
)
from tsynd_sk.comparison._settings import Settings, described
from tsynd_sk.comparison._splits import Splits
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import CORRUPTIONS, corrupt
from tsynd_sk.images import ImageFormat

Pair = tuple[int, str]


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
        or if the images, or the network, do not allow the comparison.
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
        if any(arm.augmentation == "smote" for arm in self._arms.values()):
            _check_installed("imblearn", "the augmentation 'smote'", "benchmark")
        if settings.eps:
            _check_installed("art", "attacks (eps)", "robustness")
            attacked_rows(splits.y_test, settings.n_attacked)
        self._check_classes()
        settings.network.check(self._arms, splits.X_train, splits.y_train)
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

    def _pairs(self) -> list[Pair]:
        return [(s, a) for s in range(self.settings.seeds) for a in self._arms]

    def missing(self) -> list[Pair]:
        """List what has not been run yet, or whose result is damaged.

        Returns
        -------
        list of tuple
            Pairs of seed and arm.
        """
        return [pair for pair in self._pairs() if self._folder.row(*pair) is None]

    def n_trainings(self) -> int:
        """Count the trainings that are still to be done, of autoencoders and classifiers.

        Returns
        -------
        int
            As many as `run` reports.
        """
        missing = self.missing()
        return len(self._autoencoders(missing)) + len(missing)

    def _autoencoder_path(self, seed: int, arm: str) -> Path | None:
        """Where the autoencoder of an arm belongs, which it shares with arms of the same kind."""
        made = self._arms[arm]
        if not made.needs_autoencoder:
            return None
        kind = {"autoencoder": made.autoencoder, "unlabelled": made.unlabelled}
        return self._folder.autoencoder_path(seed, kind if any(kind.values()) else None)

    def _autoencoders(self, missing: list[Pair]) -> dict[Path, Pair]:
        """Autoencoders that are needed, each with the first pair that needs it."""
        needed: dict[Path, Pair] = {}
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

    def run(self, report: Callable[[str], None] = lambda text: None) -> None:
        """Run what is missing and write the results.

        Parameters
        ----------
        report : callable
            Called after each training with what was trained.

        Raises
        ------
        BlockingIOError
            If another process runs a comparison in the same folder.
        OSError
            If something cannot be written. Every run that is done is kept.
        """
        with self._folder.reserved():
            try:
                self._run(self.missing(), report)
            finally:
                self._folder.write_table(self.results())

    def _run(self, missing: list[Pair], report: Callable[[str], None]) -> None:
        parallel = Parallel(self.n_jobs, return_as="generator_unordered", batch_size=1)
        trainings = (
            delayed(self._train_autoencoder)(path, *pair)
            for path, pair in self._autoencoders(missing).items()
        )
        autoencoders = {}
        # An error in between ends the processes at once, and so does Ctrl-C.
        with closing(parallel(trainings)) as trained:
            for path, *autoencoder in trained:
                autoencoders[path] = autoencoder
                report(f"autoencoder {path.stem}")
        X = self.splits.X_test
        corrupted = Parallel(self.n_jobs)(
            delayed(corrupt)(X, kind, SEVERITY, random_state=0) for kind in CORRUPTIONS
        )
        perturbed = dict(zip(CORRUPTIONS, corrupted, strict=True))
        runs = (
            delayed(self._run_one)(
                *pair, *autoencoders.get(self._autoencoder_path(*pair), (None, 0.0)), perturbed
            )
            for pair in missing
        )
        with closing(parallel(runs)) as finished:
            for row, picture in finished:
                self._folder.save(row, picture)
                report(f"seed {row['seed']}: {row['arm']}")

    def _training_images(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        y = self.splits.y_train
        index = subsample(y, self.settings.n_train, random_state=seed)
        return self.splits.X_train[index], y[index]

    def _train_autoencoder(
        self, path: Path, seed: int, arm: str
    ) -> tuple[Path, AutoencoderNet, float]:
        """Train an autoencoder that arms of a seed share, or read it; return its seconds too."""
        made = self._arms[arm]
        X = self.splits.X_train if made.unlabelled else self._training_images(seed)[0]
        x = ImageFormat.infer(X).to_tensor(X)
        net = made.make_autoencoder(self.settings.autoencoder_epochs)
        with single_threaded():
            if kept := read_weights(path):
                weights, seconds = kept
                with _skorch.scoped_seed(seed):
                    module = net.module.from_data(x, **net.get_params_for("module"))
                module.load_state_dict(weights)
                return path, AutoencoderNet(module, device=net.device).initialize(), seconds
            start = process_time()
            net = _skorch.fit_autoencoder(net, x.numpy(), seed=seed)
            seconds = process_time() - start
        write_weights(path, net.module_.state_dict(), seconds)
        return path, net, seconds

    def _run_one(
        self,
        seed: int,
        arm: str,
        autoencoder: AutoencoderNet | None,
        seconds: float,
        perturbed: dict[str, np.ndarray],
    ) -> tuple[dict[str, Any], bytes | None]:
        """Train and score one arm; return its row of the results, and a picture of one arm."""
        X, y = self._training_images(seed)
        classifier = self._arms[arm].make_classifier(
            X,
            y,
            max_epochs=self.settings.epochs,
            autoencoder=None if autoencoder is None else FrozenEstimator(autoencoder),
            flip=self.splits.flip,
            network=self.settings.network,
            random_state=seed,
        )
        with single_threaded():
            start = process_time()
            classifier.fit(X, y)
            fitted = process_time()
            scores = scores_of(classifier, self.splits, perturbed, self.settings)
            scored = process_time()
            is_pictured = (seed, arm) == (0, self._pictured_arm())
            names = self.splits.class_names
            picture = draw_synthesis(classifier, X, names) if is_pictured else None
        row = {
            "dataset": self.splits.name,
            "scored_on": self.splits.scored_on,
            "n_train": self.settings.n_train,
            "epochs": self.settings.epochs,
            "seed": seed,
            "arm": arm,
            **scores,
            **_last_synthesis(classifier.history_),
            "seconds": seconds + fitted - start,
            "seconds_scoring": scored - fitted,
        }
        return row, picture

    def _pictured_arm(self) -> str | None:
        targeted = [
            name
            for name, arm in self._arms.items()
            if arm.needs_autoencoder and arm.objective not in UNMOVED
        ]
        return targeted[-1] if targeted else None


def _check_installed(package: str, user: str, extra: str) -> None:
    if find_spec(package) is None:
        raise ImportError(
            f'{user} cannot do without {package}: pip install "tsynd_sk[{extra}]", or leave it out'
        )


def _last_synthesis(history) -> dict[str, float | None]:
    """Mean uncertainty before and after the last refresh, and how many labels were kept."""
    names = ("uncertainty_source", "uncertainty", "label_agreement")
    refreshed = [epoch for epoch in history if "synthesis_dur" in epoch]
    return {n: refreshed[-1][f"synthesis_{n}"] if refreshed else None for n in names}
