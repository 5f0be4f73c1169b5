"""The main job: the same classifier trained in several ways, arm by arm, and scored alike.

Every pair of a seed and an arm is one run, whose result is written the moment it is known. A
comparison that was interrupted goes on with the runs that are missing.
"""

from tsynd_sk.comparison._arms import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm
from tsynd_sk.comparison._comparison import Comparison
from tsynd_sk.comparison._network import Network
from tsynd_sk.comparison._scoring import SCORES
from tsynd_sk.comparison._settings import Settings, described
from tsynd_sk.comparison._splits import Splits, load_splits
from tsynd_sk.comparison._table import format_results

__all__ = [
    "ARMS",
    "AUGMENTATIONS",
    "DEFAULT_ARMS",
    "SCORES",
    "Arm",
    "Comparison",
    "Network",
    "Settings",
    "Splits",
    "load_splits",
]
