"""Targeted synthetic augmentation for image classifiers, in the scikit-learn way.

Where to look first: mutual information is in ``uncertainty.py``; a step of gradient ascent in the
loop of ``ascent.py``; the noise of dropout is drawn by `draw_members` of ``members/_visits.py``,
which ``members/_fixed_noise.py`` keeps; synthetic rows enter a training in
``synthesis/_training_data.py``, when ``synthesis/_callback.py`` refreshes them;
``synthesis/_saving.py`` says what `save_params` writes; ``comparison/_network.py`` builds the
network of ``--net``; ``comparison/_summary.py`` writes the verdict.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsynd_sk._utils._versions import show_versions
    from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer

__all__ = [
    "AugmentedClassifier",
    "TargetedSynthesis",
    "TargetedSynthesizer",
    "__version__",
    "show_versions",
]

#: Version of the package.
__version__ = "0.1.0.dev0"


def __getattr__(name: str):
    """Import what a name needs when it is asked for: `import tsynd_sk` loads nothing heavy."""
    if name in __all__:
        module = "_utils._versions" if name == "show_versions" else "synthesis"
        return getattr(import_module(f"tsynd_sk.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
