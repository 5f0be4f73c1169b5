"""Count the functions of tsynd_sk that its main methods call, and how deep they nest.

A reader who follows ``fit`` or ``sample`` passes through these functions. Run
``python examples/count_calls.py``: it prints, for each method, the number of modules and of
different functions of the package that were called, and the deepest nesting of them.
"""

import sys
import warnings
from pathlib import Path

import torch

import tsynd_sk
from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

PACKAGE = str(Path(tsynd_sk.__file__).parent)


def count(call):
    """Number of modules and functions of the package in a call, and its deepest nesting."""
    functions, deepest, depth = set(), 0, 0

    def profile(frame, event, _):
        nonlocal depth, deepest
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or event not in ("call", "return"):
            return
        depth += 1 if event == "call" else -1
        deepest = max(deepest, depth)
        functions.add((code.co_filename, code.co_firstlineno, code.co_name))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len({name for name, *_ in functions}), len(functions), deepest


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y, _ = load_digits_images()
    X, y = X[:100], y[:100]
    net = NetClassifier(max_epochs=2)
    synthesizer = TargetedSynthesizer(net, n_members=4, random_state=0)
    classifier = AugmentedClassifier(net, TargetedSynthesizer(n_members=4), random_state=0)
    print(f"{'method':28s} modules functions frames")
    for name, call in {
        "TargetedSynthesizer.fit": lambda: synthesizer.fit(X, y),
        "TargetedSynthesizer.sample": lambda: synthesizer.sample(10),
        "AugmentedClassifier.fit": lambda: classifier.fit(X, y),
    }.items():
        n_modules, n_functions, deepest = count(call)
        print(f"{name:28s} {n_modules:7d} {n_functions:9d} {deepest:6d}")


if __name__ == "__main__":
    main()
