"""Tell whether targeted synthesis helps on a data set: ``python -m tsynd_sk``."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsynd_sk._utils._names import ARM_NAMES, ATTACKS, DEFAULT_ARMS

if TYPE_CHECKING:
    from tsynd_sk.comparison import Comparison


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tsynd_sk",
        description=(
            "Train the same classifier on few labelled images in several ways, with and without "
            "synthetic images and always in as many steps, and compare these arms on an untouched "
            "split: clean, perturbed and, if asked for, attacked. An interrupted run goes on where "
            "it stopped when it is started again."
        ),
    )
    add = parser.add_argument
    add(
        "--dataset",
        default="digits",
        help="digits (default, embedded), a MedMNIST name such as breastmnist, a folder with one "
        "subfolder per class (or with train/, val/ and test/ of that kind), or an .npz with "
        "MedMNIST's keys; a split that is missing is held out",
    )
    add(
        "--size",
        type=_size,
        metavar="PX",
        help="side of the images in pixels, or native (default: MedMNIST 28; files: their own size "
        "if all have the same, of at most 224, else the median side or 224, whichever is smaller)",
    )
    _add_file_options(parser.add_argument_group("folders of image files"))
    add("--root", metavar="DIR", help="folder with MedMNIST's files (default: ~/.medmnist)")
    add(
        "--n-train",
        type=int,
        metavar="N",
        help="labelled training images, drawn anew for each seed (default: 100, or all if fewer)",
    )
    add(
        "--arms",
        nargs="+",
        choices=ARM_NAMES,
        default=list(DEFAULT_ARMS),
        metavar="ARM",
        help=f"what to compare, out of {', '.join(ARM_NAMES)} (default: {' '.join(DEFAULT_ARMS)})",
    )
    add(
        "--score-on",
        choices=("test", "val"),
        default="test",
        help="split that is scored: val to choose between settings, test (default) in the end",
    )
    add(
        "--eps",
        nargs="+",
        type=float,
        default=[],
        metavar="E",
        help="accuracy under attack, too: strengths in 255ths of the range of values (default: no "
        "attack)",
    )
    add(
        "--attacks",
        nargs="+",
        choices=ATTACKS,
        default=["pgd"],
        metavar="ATTACK",
        help=f"with --eps: which, out of {', '.join(ATTACKS)} (default: pgd)",
    )
    add(
        "--n-attacked",
        type=int,
        default=256,
        metavar="N",
        help="with --eps: images that are attacked at most (default: 256)",
    )
    add(
        "--no-flip",
        action="store_true",
        help="a mirrored image is no image of its class: standard augmentation must not flip",
    )
    add("--seeds", type=int, default=3, metavar="K", help="repetitions (default: 3)")
    add("--epochs", type=int, default=60, metavar="E", help="training epochs (default: 60)")
    add(
        "--autoencoder-epochs",
        type=int,
        default=0,
        metavar="E",
        help="training epochs of the autoencoder, at most; 0 (default): principal components, in "
        "closed form",
    )
    add(
        "--n-jobs",
        type=int,
        default=-1,
        metavar="J",
        help="processes; does not change results (default: -1, one for each core)",
    )
    _add_network(parser)
    add("--out", type=Path, metavar="DIR", help="folder for results (default: made from settings)")
    return parser


def _size(text: str) -> int | str:
    return text if text == "native" else int(text)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    """Describe how image files are read: parameters of `load_image_folder`, None if not given."""
    add = group.add_argument
    add(
        "--fit",
        choices=("crop", "pad"),
        help="images of another size: crop the centre (default), or pad with black",
    )
    add(
        "--grayscale",
        action="store_true",
        default=None,
        help="turn colours grey (default: colour if any file has it)",
    )
    add(
        "--colour",
        "--color",
        dest="grayscale",
        action="store_false",
        help="three channels, also if all files are grey",
    )
    add(
        "--window",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="values of the files that become black and white (default: one scale for all files, "
        "by their type or by what they use)",
    )
    add(
        "--exclude",
        action="append",
        metavar="GLOB",
        help="leave out files or folders, such as '*_mask.png'; may be given several times",
    )
    add(
        "--groups",
        metavar="CSV",
        help="file with columns file and group (patient, slide, camera): none is on two sides",
    )
    add("--group-pattern", metavar="REGEX", help="the same, found in the files' names")
    add("--pages", choices=("first", "all"), help="of files with several (default: first)")
    add(
        "--duplicates",
        choices=("keep", "drop"),
        help="images with the pixels of an earlier one (default: keep, on one side)",
    )
    add(
        "--on-error",
        choices=("raise", "skip"),
        help="files that cannot be read: stop and name them (default), or leave them out",
    )


_FILE_OPTIONS = (
    *("fit", "grayscale", "window", "exclude", "groups", "group_pattern", "pages"),
    *("duplicates", "on_error"),
)


def _show_plainly(
    message: Warning | str, category: Any, filename: str, lineno: int, file=None, line=None
) -> None:
    """Warn of something about the data, without the place in the code that it was found at."""
    print(f"warning: {message}", file=sys.stderr)


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("network").add_argument
    add(
        "--net",
        metavar="NET",
        help="what all arms train: a torchvision classification model such as resnet18, or "
        "package.module:function or file.py:function, where function(n_channels, n_classes) "
        "returns a torch.nn.Module or a skorch classifier (default: a small network)",
    )
    add(
        "--weights",
        metavar="FILE",
        help="with --net: imagenet for torchvision's default weights, or a file of weights "
        "(safetensors, or a state dict of torch.save)",
    )
    add("--freeze", action="store_true", help="with --weights: train the head alone")
    add("--lr", type=float, metavar="LR", help="learning rate at the start (default: 0.002)")
    add("--batch-size", type=int, metavar="B", help="images in a batch (default: 16)")
    add("--device", metavar="DEVICE", help="where to train, such as cuda (default: cpu)")


def _prepare(arguments: argparse.Namespace) -> Comparison:
    # Imported late: torch and scikit-learn take seconds, and the help needs none of them.
    from tsynd_sk.comparison import Comparison, Network, Settings, described, load_splits

    given = {name: getattr(arguments, name) for name in _FILE_OPTIONS}
    with warnings.catch_warnings():
        warnings.showwarning = _show_plainly
        splits = load_splits(
            arguments.dataset,
            size=arguments.size,
            root=arguments.root,
            score_on=arguments.score_on,
            flip=not arguments.no_flip,
            **{name: value for name, value in given.items() if value is not None},
        )
    settings = Settings(
        n_train=arguments.n_train or min(100, len(splits.X_train)),
        arms=tuple(arguments.arms),
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        autoencoder_epochs=arguments.autoencoder_epochs,
        eps=tuple(arguments.eps),
        attacks=tuple(arguments.attacks),
        n_attacked=arguments.n_attacked,
        network=Network(
            **{name: getattr(arguments, name) for name in Network.__dataclass_fields__}
        ),
    )
    if (out := arguments.out) is None:
        text = json.dumps(described(splits, settings)).encode()
        digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
        out = Path("tsynd_sk_results") / f"{splits.name}-{digest[:8]}"
    try:
        return Comparison(splits, settings, out, n_jobs=arguments.n_jobs)
    except TypeError as error:
        # What --net names is of another kind.
        raise ValueError(str(error)) from error


def _run(comparison: Comparison) -> None:
    from tqdm import tqdm

    from tsynd_sk.comparison import format_results

    splits, settings, out = comparison.splits, comparison.settings, comparison.out
    print(
        f"{splits.name}: {settings.n_train} of {len(splits.X_train)} training images, "
        f"{len(splits.X_test)} {splits.scored_on} images of shape {splits.X_test.shape[1:]}, "
        f"{len(splits.class_names)} classes; {settings.seeds} seeds x {len(settings.arms)} arms, "
        f"{settings.epochs} epochs"
    )
    print(*(f"  {note}" for note in [*splits.notes, splits.counts()]), sep="\n", flush=True)
    missing = comparison.missing()
    done = settings.seeds * len(settings.arms) - len(missing)
    if done:
        print(f"{done} runs are done already, {len(missing)} to go")
    total = comparison.n_trainings()
    with tqdm(total=total, unit="training", smoothing=0, disable=not missing) as bar:

        def report(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        comparison.run(report)
    print(format_results(comparison.results()))
    print(
        "Mean ± standard error over seeds; differences are paired by seed. perturbed: mean over "
        "corruptions of\nthe images. seconds: processor time of one training, autoencoder "
        "included."
    )
    if settings.eps:
        n_masked = sum(bool(row["gradient_masking"]) for row in comparison.results())
        print(
            f"under an attack: accuracy on {settings.n_attacked} images at most; gradients seem to "
            f"be masked in {n_masked} runs (column gradient_masking)."
        )
    print(f"Results: {out / 'results.csv'}")
    if (out / "synthesis.png").exists():
        print(f"Picture: {out / 'synthesis.png'}")


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
        go on; 130 after Ctrl-C. A request to terminate ends the process with 143.
    """
    arguments = build_parser().parse_args(argv)
    if argv is None:
        # Schedulers ask so to end; then results are collected, and other processes ended.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    status = 2
    try:
        comparison = _prepare(arguments)
        status = 1
        _run(comparison)
        return 0
    except KeyboardInterrupt:
        status, reason = 130, "interrupted"
    except BrokenExecutor as error:
        reason = f"error: {error}\nIf memory ran out: with a smaller --n-jobs it needs less of it."
    except (ValueError, OSError, ImportError) as error:
        reason = f"error: {error}"
    if status != 2:
        reason += "\nRuns that are done are kept: the same command goes on from there."
    print(reason, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
