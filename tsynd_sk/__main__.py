"""Tell whether targeted synthesis helps on a data set: ``python -m tsynd_sk``."""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from tsynd_sk import datasets
from tsynd_sk._processes import Interrupted
from tsynd_sk.comparison import ARMS, METRICS, Comparison, Settings, Splits

_HEADINGS = ("ROC AUC", "balanced accuracy", "ROC AUC", "balanced accuracy")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tsynd_sk",
        description=(
            "Train the same classifier on few labelled images with and without synthetic ones, and "
            "compare the arms on an untouched test split, clean and perturbed. An interrupted run "
            "goes on where it stopped when it is started again."
        ),
    )
    add = parser.add_argument
    add(
        "--dataset",
        default="digits",
        help="digits (default, embedded), a MedMNIST name such as breastmnist, a folder with one "
        "subfolder per class (or with train/ and test/ of that kind), or an .npz with MedMNIST's "
        "keys",
    )
    add("--size", type=_positive, metavar="PX", help="side of the images in pixels (default: 28)")
    add("--root", metavar="DIR", help="folder with MedMNIST's files (default: ~/.medmnist)")
    add(
        "--n-train",
        type=_positive,
        metavar="N",
        help="labelled training images, drawn anew for each seed (default: 100, or all if fewer)",
    )
    add(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=list(ARMS),
        metavar="ARM",
        help=f"what to compare, out of {', '.join(ARMS)} (default: all)",
    )
    add("--seeds", type=_positive, default=3, metavar="K", help="repetitions (default: 3)")
    add("--epochs", type=_positive, default=60, metavar="E", help="training epochs (default: 60)")
    add(
        "--autoencoder-epochs",
        type=_positive,
        default=60,
        metavar="E",
        help="training epochs of the autoencoder, at most (default: 60)",
    )
    add(
        "--n-jobs",
        type=int,
        default=-1,
        metavar="J",
        help="processes; does not change results (default: -1, one for each core)",
    )
    add("--out", type=Path, metavar="DIR", help="folder for results (default: made from settings)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


def load_splits(dataset: str, *, size: int | None = None, root: str | None = None) -> Splits:
    """Load training and test images of whatever ``--dataset`` names.

    Parameters
    ----------
    dataset : str
        "digits", a MedMNIST name, a folder of images, or an ``.npz`` file.
    size : int or None, default=None
        Side of the images in pixels: MedMNIST's resolution, or what the images of a folder are
        resized to; 28 by default.
    root : str or None, default=None
        Folder of MedMNIST's files.

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        If `dataset` is nothing that is known, or `size` does not apply to it.
    """
    path = Path(dataset)
    if path.is_dir():
        return _folder_splits(path, size or 28)
    if dataset == "digits" or path.suffix == ".npz":
        if size is not None:
            raise ValueError(
                f"size={size} does not apply to {dataset}, whose images have their own"
            )
        if dataset == "digits":
            return _held_out("digits", datasets.load_digits_images())
        train, test = (datasets.load_npz(path, split=split) for split in ("train", "test"))
        return _joined(path.stem, train, test)
    train, test = (
        datasets.load_medmnist(dataset, split=split, root=root, size=size or 28)
        for split in ("train", "test")
    )
    return _joined(dataset if size in (None, 28) else f"{dataset}_{size}", train, test)


def _folder_splits(path: Path, size: int) -> Splits:
    if not all((path / split).is_dir() for split in ("train", "test")):
        return _held_out(path.resolve().name, datasets.load_image_folder(path, size=size))
    train, test = (
        datasets.load_image_folder(path / split, size=size) for split in ("train", "test")
    )
    if train.X.ndim != test.X.ndim:
        raise ValueError(f"one of train and test in {path} is grey and the other in colour")
    return _joined(path.resolve().name, train, test)


def _joined(name: str, train, test) -> Splits:
    if list(train.class_names) != list(test.class_names):
        raise ValueError(
            f"{name} has the classes {list(train.class_names)} in train, but "
            f"{list(test.class_names)} in test"
        )
    return Splits(name, train.X, train.y, test.X, test.y, list(train.class_names))


def _held_out(name: str, images) -> Splits:
    try:
        X_train, X_test, y_train, y_test = train_test_split(
            images.X, images.y, test_size=0.25, stratify=images.y, random_state=0
        )
    except ValueError as error:
        raise ValueError(
            f"{name} is too small to hold out a quarter for testing: {error}"
        ) from None
    return Splits(name, X_train, y_train, X_test, y_test, list(images.class_names))


def format_table(rows: Sequence[dict]) -> str:
    """Tabulate results: arms as rows, means and standard errors over seeds, differences to plain.

    Parameters
    ----------
    rows : sequence of dict
        Results of `Comparison.results`.

    Returns
    -------
    str
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    values = {
        (arm, metric): {row["seed"]: row[metric] for row in rows if row["arm"] == arm}
        for arm in arms
        for metric in (*METRICS, "seconds")
    }
    width = 2 + max(len(arm) for arm in [*arms, "difference to plain"])
    lines = [
        " " * width + f"{'clean':^38}{'perturbed':^38}",
        " " * width + "".join(f"{heading:>19}" for heading in _HEADINGS) + f"{'seconds':>10}",
    ]
    for arm in arms:
        cells = [_mean(list(values[arm, metric].values())) for metric in METRICS]
        seconds = np.mean(list(values[arm, "seconds"].values()))
        lines.append(f"{arm:<{width}}" + "".join(f"{c:>19}" for c in cells) + f"{seconds:>10.0f}")
        if arm != "plain" and "plain" in arms:
            cells = [_mean(_paired(values, arm, metric), sign="+") for metric in METRICS]
            label = "  difference to plain"
            lines.append(f"{label:<{width}}" + "".join(f"{c:>19}" for c in cells))
    return "\n".join(lines)


def _paired(values: dict, arm: str, metric: str) -> list[float]:
    plain, other = values["plain", metric], values[arm, metric]
    return [other[seed] - plain[seed] for seed in sorted(plain.keys() & other.keys())]


def _mean(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):{sign}.3f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def _default_out(splits: Splits, settings: Settings) -> Path:
    digest = hashlib.md5(f"{splits.digest()}{settings}".encode(), usedforsecurity=False).hexdigest()
    return Path("tsynd_sk_results") / f"{splits.name}-{digest[:8]}"


def _prepare(arguments: argparse.Namespace) -> Comparison:
    splits = load_splits(arguments.dataset, size=arguments.size, root=arguments.root)
    settings = Settings(
        n_train=arguments.n_train or min(100, len(splits.X_train)),
        arms=tuple(dict.fromkeys(arguments.arms)),
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        autoencoder_epochs=arguments.autoencoder_epochs,
    )
    out = arguments.out or _default_out(splits, settings)
    return Comparison(splits, settings, out, n_jobs=arguments.n_jobs)


def _run(comparison: Comparison) -> None:
    splits, settings, out = comparison.splits, comparison.settings, comparison.out
    print(
        f"{splits.name}: {settings.n_train} of {len(splits.X_train)} training images, "
        f"{len(splits.X_test)} test images of shape {splits.X_test.shape[1:]}, "
        f"{len(splits.class_names)} classes; {settings.seeds} seeds x {len(settings.arms)} arms, "
        f"{settings.epochs} epochs"
    )
    for path in comparison.damaged():
        print(f"{path} is damaged: that run is made again")
    missing = comparison.missing()
    done = settings.seeds * len(settings.arms) - len(missing)
    if done:
        print(f"{done} runs are done already, {len(missing)} to go")
    # Into a log file go fewer lines.
    bar_options = {"smoothing": 0, "mininterval": 0.1 if sys.stderr.isatty() else 10}
    with tqdm(total=comparison.n_epochs(), unit="epoch", disable=not missing, **bar_options) as bar:

        def report(text: str, epochs: int) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(epochs)

        comparison.run(report)
    print(format_table(comparison.results()))
    print(
        "Mean ± standard error over seeds; differences are paired by seed. perturbed: mean over "
        "corruptions of\nthe test images. seconds: processor time of one training, autoencoder "
        "included."
    )
    print(f"Results: {out / 'results.csv'}")
    if (out / "synthesis.png").exists():
        print(f"Picture: {out / 'synthesis.png'}")
    else:
        print('No picture: it needs matplotlib (pip install "tsynd_sk[plot]") and a targeted arm')


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison that the command line asks for.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 2 if the arguments or the data do not allow a comparison; 1 if it could not
        go on; 130 after Ctrl-C, 143 after a request to terminate.
    """
    arguments = build_parser().parse_args(argv)
    status = 2
    try:
        comparison = _prepare(arguments)
        status = 1
        _run(comparison)
        return 0
    except KeyboardInterrupt:
        status, reason = 130, "interrupted"
    except Interrupted as interrupt:
        status, reason = int(interrupt.code or 0), "interrupted"
    except BrokenExecutor as error:
        reason = f"error: {error}\nWith a smaller --n-jobs it needs less memory."
    except (ValueError, OSError) as error:
        reason = f"error: {_reason(error)}"
    if status != 2:
        reason += "\nRuns that are done are kept: the same command goes on from there."
    if argv is None and status > 128:
        # The process ends already; another Ctrl-C must not fill the terminal.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(reason, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
