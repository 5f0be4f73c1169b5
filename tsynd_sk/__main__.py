"""Find out which augmentation helps on your images, with your network: ``python -m tsynd_sk``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsynd_sk._utils._arguments import FILE_OPTIONS, build_parser
from tsynd_sk._utils._names import DEFAULT_ARMS, KEPT

if TYPE_CHECKING:
    from tsynd_sk.comparison import Arm


_EXPECTED = (KeyboardInterrupt, BrokenExecutor, ValueError, TypeError, ImportError, OSError)


def _show_plainly(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """Print a warning without the line of code that it comes from."""
    print(f"warning: {message}", file=sys.stderr)


def _arms(arguments: argparse.Namespace) -> dict[str, Arm]:
    """Return the arms by name, including those of the user's own augmentations."""
    from tsynd_sk._utils._by_name import object_of, users_code
    from tsynd_sk.comparison import ARMS, Arm, check_arms

    known = dict(ARMS)
    names = list(arguments.arms or DEFAULT_ARMS)
    for text in arguments.augment:
        name, _, where = text.partition("=")
        if not name or not where:
            raise ValueError(f"--augment {text}: expected NAME=file.py:function")
        if name in known:
            raise ValueError(f"--augment {text}: there is an arm {name!r}; choose another name")
        function = object_of(where, "--augment")
        with users_code(f"--augment {text}"):
            transform = function()
        if not callable(transform):
            raise TypeError(
                f"--augment {text}: the function returned {transform!r}; expected a callable that "
                "takes and returns an image"
            )
        known[name] = Arm(transform)
        known |= {f"{name}+{each}": Arm(transform, each) for each in ("random", "mutual_info")}
        if not any(each.split("+")[0] == name for each in names):
            names += [name, f"{name}+mutual_info"]
    return check_arms(names, known)


def _run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Compare, and print what was found; return it for JSON."""
    # Imported late: torch and scikit-learn take seconds, and the help does not need them.
    from tsynd_sk import comparison
    from tsynd_sk.images import ImageFormat

    files = {name: getattr(arguments, name) for name in FILE_OPTIONS}
    splits = comparison.load_splits(
        arguments.dataset,
        size=arguments.size,
        root=arguments.root,
        score_on=arguments.score_on,
        flip=not arguments.no_flip,
        **{name: value for name, value in files.items() if value is not None},
    )
    arms = _arms(arguments)
    few = arguments.dataset == "digits" or not Path(arguments.dataset).expanduser().exists()
    divisions = splits.divisions(arguments.seeds)
    n_rows = min(len(train) for train, _ in divisions)
    n_train = arguments.n_train or (min(100, n_rows) if few else None)
    names = ("weights", "freeze", "lr", "batch_size", "device")
    network = {name: getattr(arguments, name) for name in names}
    net = comparison.make_network(
        arguments.net, splits.X, splits.y, max_epochs=arguments.epochs, **network
    )
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
    out = (arguments.out or _folder(arguments, splits.name)).expanduser()
    result = comparison.compare(
        net,
        splits.X,
        splits.labels,
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
    image_shape = ImageFormat.infer(splits.X).image_shape
    assert image_shape is not None
    about = comparison.About(splits.name, image_shape, splits.notes, command)
    paths = {"results": out / "results.csv", "report": out / "report.html"}
    # It says more than the one that `compare` has written.
    if not comparison.write_report(paths["report"], result, about):
        del paths["report"]
    for name, path in paths.items():
        print(f"{name.capitalize()}: {path}")
    written = {name: str(path.resolve()) for name, path in paths.items()}
    return {"dataset": splits.name, **comparison.outcome_of(result), "files": written}


def _folder(arguments: argparse.Namespace, name: str) -> Path:
    """Name a folder after the settings that must not change when a comparison continues."""
    may_change = ("seeds", "arms", "n_jobs", "out", "json")
    given = {key: value for key, value in vars(arguments).items() if key not in may_change}
    text = json.dumps(given, default=str, sort_keys=True).encode()
    digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
    return Path("tsynd_sk_results") / f"{name}-{digest[:8]}"


@contextmanager
def _to_stderr() -> Iterator[None]:
    """Print to stderr, also from child processes and from code that is not Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a comparison from the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status, as ``--help`` lists them.
    """
    arguments = build_parser().parse_args(argv)
    if argv is None:
        # Schedulers send it. Results are then collected, and other processes ended.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "tsynd_sk", *words])
    try:
        with _to_stderr() if arguments.json else nullcontext(), warnings.catch_warnings():
            warnings.showwarning = _show_plainly
            outcome = _run(arguments, command)
        if arguments.json:
            print(json.dumps(outcome, indent=2, allow_nan=False))
        return 0
    except _EXPECTED as error:
        notes = getattr(error, "__notes__", [])
        # Wrong arguments and data are found before the first training.
        status, reason = 1 if KEPT in notes else 2, f"error: {error}"
        if isinstance(error, KeyboardInterrupt):
            # Other notes are for people who train in Python.
            status, reason, notes = 130, "interrupted", [note for note in notes if note == KEPT]
        elif isinstance(error, BrokenExecutor):
            status, reason = 1, f"{reason}\nIf memory ran out, use a smaller --n-jobs."
        print(reason, *notes, sep="\n", file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main())
