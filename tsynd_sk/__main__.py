"""Tell whether an augmentation helps on your images, with your network: ``python -m tsynd_sk``."""

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

from tsynd_sk import __version__
from tsynd_sk._utils._names import ARM_NAMES, ATTACKS, DEFAULT_ARMS, KEPT

if TYPE_CHECKING:
    from tsynd_sk.comparison import Arm, Splits

_EXAMPLES = """examples:
  python -m tsynd_sk                                    # embedded images, three minutes
  python -m tsynd_sk --dataset FOLDER --net resnet18 --weights imagenet
  python -m tsynd_sk --dataset FOLDER --group-pattern '(patient[0-9]+)' --seeds 5 \\
      --augment mine=augment.py:make_transform
"""


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tsynd_sk",
        description=(
            "Train the same network in several ways, with and without synthetic images and always "
            "in as many steps, and say which of these arms helps: a table, intervals, a verdict "
            "and a picture. An interrupted run goes on where it stopped when it is started again."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    add = parser.add_argument_group("images").add_argument
    add(
        "--dataset",
        default="digits",
        help="digits (default, embedded), a MedMNIST name such as breastmnist, a folder with one "
        "subfolder per class (or with train/, val/ and test/ of that kind), or an .npz with "
        "MedMNIST's keys; where there is no test split, each seed holds out its own quarter",
    )
    add(
        "--size",
        type=_size,
        metavar="PX",
        help="side of the images in pixels, or native (default: MedMNIST 28; files: their own size "
        "if all have the same, of at most 224, else the median side or 224, whichever is smaller)",
    )
    add("--root", metavar="DIR", help="folder with MedMNIST's files (default: ~/.medmnist)")
    add(
        "--n-train",
        type=_count,
        metavar="N",
        help="labelled training images, drawn anew for each seed (default: all; 100 of the digits "
        "and of MedMNIST)",
    )
    add(
        "--no-flip",
        action="store_true",
        help="a mirrored image is no image of its class: standard augmentation must not flip",
    )
    _add_file_options(parser.add_argument_group("folders of image files"))
    _add_network(parser.add_argument_group("network"))
    _add_comparison(parser.add_argument_group("comparison"))
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


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
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
    add("--batch-size", type=_count, metavar="B", help="images in a batch (default: 16)")
    add(
        "--steps",
        type=_count,
        metavar="S",
        help="gradient steps on real images, about (default: 1000; a skorch classifier keeps its "
        "epochs)",
    )
    add("--epochs", type=_count, metavar="E", help="training epochs, in place of --steps")
    add("--device", metavar="DEVICE", help="where to train, such as cuda (default: cpu)")


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--arms",
        nargs="+",
        metavar="ARM",
        help=f"what to compare, out of {', '.join(ARM_NAMES)} (default: {' '.join(DEFAULT_ARMS)})",
    )
    add(
        "--augment",
        action="append",
        default=[],
        metavar="NAME=WHERE",
        help="an augmentation of your own as an arm, alone and under synthesis: file.py:function "
        "or package.module:function, where function() returns a callable from one image, a float "
        "Tensor (C, H, W), to one; may be given several times",
    )
    add("--seeds", type=_count, default=3, metavar="K", help="repetitions (default: 3)")
    add(
        "--primary",
        choices=("roc_auc", "balanced_accuracy", "nll"),
        default="roc_auc",
        help="score on which the verdict rests (default: roc_auc)",
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
        type=_share,
        default=[],
        metavar="E",
        help="accuracy under attack, too: strengths as shares of the range of values, such as "
        "2/255 (default: no attack)",
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
        type=_count,
        default=256,
        metavar="N",
        help="test images that are corrupted and attacked at most (default: 256)",
    )
    add(
        "--n-jobs",
        type=int,
        default=-1,
        metavar="J",
        help="processes; does not change results (default: -1, one for each core)",
    )
    add("--out", type=Path, metavar="DIR", help="folder for results (default: made from settings)")


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return count


def _share(text: str) -> float:
    """Read a share of the range of values, such as 2/255."""
    above, _, below = text.partition("/")
    value = float(above) / (float(below or 1) or float("inf"))
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is no share of the range of values: {text}/255?"
            if value > 1 and not below
            else f"{text} is no share of the range of values, above 0 and at most 1"
        )
    return value


def _show_plainly(
    message: Warning | str, category: Any, filename: str, lineno: int, file=None, line=None
) -> None:
    """Warn of something about the data, without the place in the code that it was found at."""
    print(f"warning: {message}", file=sys.stderr)


def _load(arguments: argparse.Namespace) -> Splits:
    # Imported late: torch and scikit-learn take seconds, and the help needs none of them.
    from tsynd_sk.comparison import load_splits

    given = {name: getattr(arguments, name) for name in _FILE_OPTIONS}
    with warnings.catch_warnings():
        warnings.showwarning = _show_plainly
        return load_splits(
            arguments.dataset,
            size=arguments.size,
            root=arguments.root,
            score_on=arguments.score_on,
            flip=not arguments.no_flip,
            **{name: value for name, value in given.items() if value is not None},
        )


def _arms(arguments: argparse.Namespace) -> dict[str, Arm]:
    """Return the arms by name, those of the user's own augmentations among them."""
    from tsynd_sk._utils._by_name import object_of
    from tsynd_sk.comparison import ARMS, Arm, check_arms

    known = dict(ARMS)
    names = list(arguments.arms or DEFAULT_ARMS)
    for text in arguments.augment:
        name, _, where = text.partition("=")
        if not name or not where:
            raise ValueError(f"--augment {text}: expected NAME=file.py:function")
        if name in ARMS:
            raise ValueError(f"--augment {text}: there is an arm {name!r}; choose another name")
        transform = object_of(where, "--augment")()
        for objective in (None, "random", "mutual_info"):
            full = name if objective is None else f"{name}+{objective}"
            known[full] = Arm(augmentation=transform, objective=objective)
        if not any(each.split("+")[0] == name for each in names):
            names += [name, f"{name}+mutual_info"]
    return check_arms(names, known)


def _run(arguments: argparse.Namespace, splits: Splits, arms: dict[str, Arm]) -> None:
    from tsynd_sk.comparison import compare, make_network

    few = arguments.dataset == "digits" or not Path(arguments.dataset).expanduser().exists()
    divisions = splits.divisions(arguments.seeds)
    n_rows = min(len(train) for train, _ in divisions)
    n_train = arguments.n_train or (min(100, n_rows) if few else None)
    network = {n: getattr(arguments, n) for n in ("weights", "freeze", "lr", "batch_size")}
    network["device"] = arguments.device
    net = make_network(arguments.net, splits.X, splits.y, max_epochs=arguments.epochs, **network)
    if arguments.steps and not arguments.epochs:
        rows = n_train or n_rows
        batch_size = net.batch_size if net.batch_size > 0 else rows
        net.set_params(max_epochs=max(round(arguments.steps / -(-rows // batch_size)), 1))
    print(
        f"{splits.name}: {n_train or n_rows} of {n_rows} training images, "
        f"{len(divisions[0][1])} {splits.scored_on} images of shape {splits.X.shape[1:]}, "
        f"{len(splits.class_names)} classes"
    )
    print(*(f"  {note}" for note in [*splits.notes, splits.counts()]), sep="\n", flush=True)
    out = (arguments.out or _folder(arguments, splits)).expanduser()
    result = compare(
        net,
        splits.X,
        [splits.class_names[code] for code in splits.y],
        arms=arms,
        cv=divisions,
        n_repeats=1,
        groups=splits.groups,
        scoring=arguments.primary,
        n_train=n_train,
        flip=splits.flip,
        eps=arguments.eps,
        attacks=arguments.attacks,
        n_attacked=arguments.n_attacked,
        n_jobs=arguments.n_jobs,
        out=out,
        verbose=1,
    )
    print(f"\n{result.summary()}\n")
    print(f"Results: {out / 'results.csv'}")
    if (out / "synthesis.png").exists():
        print(f"Picture: {out / 'synthesis.png'}")


def _folder(arguments: argparse.Namespace, splits: Splits) -> Path:
    """Name a folder after all that a comparison cannot grow by."""
    given = {
        n: v for n, v in vars(arguments).items() if n not in ("seeds", "arms", "n_jobs", "out")
    }
    text = json.dumps(given, default=str, sort_keys=True).encode()
    digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
    return Path("tsynd_sk_results") / f"{splits.name}-{digest[:8]}"


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
    try:
        _run(arguments, _load(arguments), _arms(arguments))
        return 0
    except KeyboardInterrupt as error:
        # What a training says of itself is for those who call it.
        notes = [note for note in getattr(error, "__notes__", ()) if note == KEPT]
        status, reason = 130, "interrupted"
    except BrokenExecutor as error:
        status, notes = 1, getattr(error, "__notes__", ())
        reason = f"error: {error}\nIf memory ran out: with a smaller --n-jobs it needs less of it."
    except (ValueError, TypeError, ImportError, OSError) as error:
        # What the arguments or the data do not allow is found before the first training.
        notes = getattr(error, "__notes__", ())
        status, reason = 1 if KEPT in notes else 2, f"error: {error}"
    reason = "\n".join([reason, *notes])
    print(reason, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
