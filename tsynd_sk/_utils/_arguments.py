"""The arguments of ``python -m tsynd_sk``: nothing heavy is imported, and help comes at once."""

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
  python -m tsynd_sk --dataset FOLDER --group-pattern '(patient[0-9]+)' --seeds 5 \\
      --augment mine=augment.py:make_transform

exit status:
  0    the comparison is done
  1    it could not go on; runs that are done are kept
  2    the arguments or the data do not allow it; nothing was trained
  130  interrupted by Ctrl-C; 143: asked to end (SIGTERM). The same command goes on from there
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
        help="accuracy under attack, too: strengths as fractions of the range of values, such as "
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
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for report.html, results.csv and the runs (default: made from settings)",
    )
    add(
        "--json",
        action="store_true",
        help="print the verdict for scripts, as one JSON object; everything else goes to stderr",
    )


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return count


def _share(text: str) -> float:
    """Read a fraction of the range of values, such as 2/255."""
    above, _, below = text.partition("/")
    value = float(above) / (float(below or 1) or float("inf"))
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is no fraction of the range of values: {text}/255?"
            if value > 1 and not below
            else f"{text} is no fraction of the range of values, above 0 and at most 1"
        )
    return value
