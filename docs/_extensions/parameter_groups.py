"""Tables above long lists of parameters: which to change first, and what the others are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FIRST = "Change first"

# By the name of a page. Every parameter is in one group.
GROUPS = {
    "tsynd_sk.TargetedSynthesizer": {
        FIRST: ("classifier", "radius", "image_shape", "sampling_strategy", "random_state"),
        "Uncertainty": ("objective", "members", "n_members", "restrict"),
        "Images": ("autoencoder", "keep_detail", "random_start", "max_iter", "label_policy"),
        "Computation": ("batch_size", "device", "n_jobs", "verbose"),
    },
    "tsynd_sk.AugmentedClassifier": {
        FIRST: ("estimator", "synthesizer", "synthetic_ratio", "random_state"),
        "Schedule": ("warm_up", "refresh_every", "batches"),
        "Messages": ("verbose",),
    },
    "tsynd_sk.classifiers.NetClassifier": {
        FIRST: ("module", "max_epochs", "lr", "batch_size"),
        "Training": ("criterion", "optimizer", "train_split", "**kwargs"),
        "Messages": ("verbose",),
    },
    "tsynd_sk.classifiers.Pretrained": {
        FIRST: ("net", "weights", "freeze"),
        "Sized by `NetClassifier`": ("image_shape", "n_classes"),
        "Training": ("backbone_lr", "normalisation"),
    },
    "tsynd_sk.comparison.compare": {
        "Needed": ("estimator", "X", "y"),
        FIRST: ("groups", "arms", "n_repeats", "out"),
        "Images": ("cv", "n_train", "flip"),
        "Scores": ("scoring", "eps", "attacks", "n_attacked"),
        "Computation": ("n_jobs", "random_state", "verbose"),
    },
}


def _table(groups: dict[str, tuple[str, ...]]) -> list[str]:
    lines = [".. list-table::", "   :class: stacked", "   :widths: auto", ""]
    for group, parameters in groups.items():
        lines.append(f"   * - {group}")
        lines.append(f"     - {', '.join(f'``{name}``' for name in parameters)}")
    return [*lines, ""]


def _add_table(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if name in GROUPS and ":Parameters:" in lines:
        app.env.note_dependency(__file__)
        place = lines.index(":Parameters:")
        lines[place:place] = _table(GROUPS[name])


def setup(app: Sphinx) -> dict:
    # After numpydoc, which makes a field of the section.
    app.connect("autodoc-process-docstring", _add_table, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
