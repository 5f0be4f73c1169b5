"""Compare ways to train a network on the same images.

`compare` trains the network once for each arm and run, at equal budgets, and says what the paired
differences show. Every run is saved when it ends, so that an interrupted comparison continues with
the missing ones.
"""

from tsynd_sk.comparison._arms import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm, check_arms
from tsynd_sk.comparison._compare import compare
from tsynd_sk.comparison._network import make_network
from tsynd_sk.comparison._report import About, write_report
from tsynd_sk.comparison._result import ComparisonResult, Difference
from tsynd_sk.comparison._runs import SCORES
from tsynd_sk.comparison._splits import Splits, load_splits
from tsynd_sk.comparison._summary import outcome_of

__all__ = [
    "ARMS",
    "AUGMENTATIONS",
    "DEFAULT_ARMS",
    "SCORES",
    "Arm",
    "ComparisonResult",
    "Difference",
    "Splits",
    "compare",
    "load_splits",
    "make_network",
]
