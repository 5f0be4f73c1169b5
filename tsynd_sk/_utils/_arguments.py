"""The arguments of ``python -m tsynd_sk``, without heavy imports."""

from __future__ import annotations

import argparse
from pathlib import Path

from tsynd_sk import __version__
from tsynd_sk._utils._names import ARM_NAMES, ATTACKS, DEFAULT_ARMS

#: Parameters of `load_image_folder` that are options.
FILE_OPTIONS = (
    *("fit", "grayscale", "window", "exclude", "groups", "group_pattern", "pages"),
    *("duplicates", "on_error"),
)

_EPILOG = """examples:
  python -m tsynd_sk                                    # embedded images, three minutes
  python -m tsynd_sk --dataset FOLDER --net resnet18 --weights imagenet
  python -m tsynd_sk --dataset FOLDER --group-pattern "(patient[0-9]+)" --seeds 5 \\
      --augment mine=augment.py:make_transform

exit status:
  0    the comparison is done
  1    it could not finish
  2    the arguments or the data do not allow it; nothing was trained
  130  interrupted by Ctrl-C; 143: by SIGTERM
Finished runs are kept, and the same command continues from them.
"""


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tsynd_sk",
        description=(
            "Compare ways to train a network on your images (arms), with and without\n"
            "augmentation and synthetic images, in the same number of steps. Print a table and\n"
            "a verdict, and write a report."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    add = parser.add_argument_group("images").add_argument
    add(
        "--dataset",
        default="digits",
        help="digits (default, embedded), a MedMNIST name such as breastmnist, a folder with one "
        "subfolder per class (or with train/, val/ and test/ of these), or an .npz with MedMNIST's "
        "keys; without a test split, each seed holds out another quarter",
    )
    add(
        "--size",
        type=_size,
        metavar="PX",
        help="side in pixels, or native (default: 28 for MedMNIST; for files their own size, if "
        "all have the same, or the median side, but at most 224)",
    )
    add("--root", metavar="DIR", help="folder with MedMNIST's files (default: ~/.medmnist)")
    add(
        "--n-train",
        type=_count,
        metavar="N",
        help="training images, drawn anew for each seed (default: all; 100 for digits and "
        "MedMNIST)",
    )
    add(
        "--no-flip",
        action="store_true",
        help="do not flip images in standard augmentation: for images whose left and right differ",
    )
    _add_file_options(parser.add_argument_group("folders of image files"))
    _add_network(parser.add_argument_group("network"))
    _add_comparison(parser.add_argument_group("comparison"))
    return parser


def _size(text: str) -> int | str:
    if text != "native" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of pixels, or native; got {text}")
    return text if text == "native" else int(text)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    """Describe parameters of `load_image_folder`, None if not given."""
    add = group.add_argument
    add(
        "--fit",
        choices=("crop", "pad"),
        help="make images square: crop to the centre (default), or pad with black",
    )
    add(
        "--grayscale",
        action="store_true",
        default=None,
        help="make all images grey (default: colour if any file has it)",
    )
    add(
        "--colour",
        "--color",
        dest="grayscale",
        action="store_false",
        help="use three channels, even if all are grey",
    )
    add(
        "--window",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="values that become black and white (default: from all files together)",
    )
    add(
        "--exclude",
        action="append",
        metavar="GLOB",
        help="leave out files or folders, such as '*_mask.png'; repeatable",
    )
    add(
        "--groups",
        metavar="CSV",
        help="table with columns file and group (patient, slide, camera); a group is never in both "
        "training and test",
    )
    add(
        "--group-pattern",
        metavar="REGEX",
        help="regular expression that finds the group in a file's path",
    )
    add(
        "--pages",
        choices=("first", "all"),
        help="pages of files to read (default: first)",
    )
    add(
        "--duplicates",
        choices=("keep", "drop"),
        help="images with equal pixels: keep all, on one side of a split (default), or the first",
    )
    add(
        "--on-error",
        choices=("raise", "skip"),
        help="files that cannot be read: stop and name them (default), or skip them",
    )


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--net",
        metavar="NET",
        help="network that all arms train: a torchvision classification model such as resnet18, or "
        "package.module:function or file.py:function, where function(n_channels, n_classes) "
        "returns a torch.nn.Module or a skorch classifier (default: a small network)",
    )
    add(
        "--weights",
        metavar="FILE",
        help="with --net: imagenet for torchvision's weights, or a file (safetensors, or a state "
        "dict of torch.save)",
    )
    add("--freeze", action="store_true", help="with --weights: train only the head")
    add("--lr", type=_rate, metavar="LR", help="initial learning rate (default: 0.002)")
    add("--batch-size", type=_count, metavar="B", help="images per batch (default: 16)")
    add(
        "--steps",
        type=_count,
        metavar="S",
        help="gradient steps on real images, about (default: 600; a skorch classifier keeps its "
        "epochs)",
    )
    add("--epochs", type=_count, metavar="E", help="training epochs, instead of --steps")
    add("--device", metavar="DEVICE", help="device to train on, such as cuda (default: cpu)")


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--arms",
        nargs="+",
        metavar="ARM",
        help=f"arms to compare, of {', '.join(ARM_NAMES)} (default: {' '.join(DEFAULT_ARMS)})",
    )
    add(
        "--augment",
        action="append",
        default=[],
        metavar="NAME=WHERE",
        help="your own augmentation as an arm, with and without synthesis: file.py:function or "
        "package.module:function, which returns a callable that takes and returns an image, a "
        "float Tensor (C, H, W); repeatable",
    )
    add("--seeds", type=_count, default=3, metavar="K", help="runs of each arm (default: 3)")
    add(
        "--primary",
        choices=("roc_auc", "balanced_accuracy", "nll"),
        default="roc_auc",
        help="score that decides the verdict (default: roc_auc)",
    )
    add(
        "--score-on",
        choices=("test", "val"),
        default="test",
        help="split to score on: val to choose settings, test (default) once in the end",
    )
    add(
        "--eps",
        nargs="+",
        type=_share,
        default=[],
        metavar="E",
        help="also measure accuracy under attack: strengths as fractions of the range of values, "
        "such as 2/255 (default: none)",
    )
    add(
        "--attacks",
        nargs="+",
        choices=ATTACKS,
        default=["pgd"],
        metavar="ATTACK",
        help=f"with --eps: attacks, of {', '.join(ATTACKS)} (default: pgd)",
    )
    add(
        "--n-attacked",
        type=_count,
        default=256,
        metavar="N",
        help="test images to corrupt and attack at most (default: 256)",
    )
    add(
        "--n-jobs",
        type=int,
        default=-1,
        metavar="J",
        help="processes; does not change results (default: -1, one per core)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for report.html, results.csv and the runs (default: in tsynd_sk_results)",
    )
    add(
        "--json",
        action="store_true",
        help="print the verdict as one JSON object, and all else to stderr",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more; got {text}")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, such as 0.001; got {text}")
    return value


def _share(text: str) -> float:
    """Read a fraction of the range of values, such as 2/255."""
    above, _, below = text.partition("/")
    try:
        value = float(above) / (float(below or 1) or float("inf"))
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        hint = f"; did you mean {text}/255?" if value > 1 and not below else ""
        raise argparse.ArgumentTypeError(
            f"expected a fraction above 0 and at most 1, such as 2/255; got {text}{hint}"
        )
    return value
