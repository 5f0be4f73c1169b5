"""Scores of predicted probabilities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.utils import check_array, check_consistent_length

from tsynd_sk._utils._labels import labels_of

__all__ = ["classification_scores"]


def classification_scores(y: ArrayLike, proba: ArrayLike, classes: ArrayLike) -> dict[str, float]:
    """Score predicted probabilities, also where some classes are missing from `y`.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels.
    proba : array-like of shape (n, n_classes)
        Predicted probabilities.
    classes : array-like of shape (n_classes,)
        Label that each column of `proba` is for.

    Returns
    -------
    dict
        "roc_auc", the area under the ROC curve, one class against the rest and averaged if there
        are more than two; nan if `y` has a single label. "balanced_accuracy", the mean over
        classes of the share recognised. Both are over the classes present in `y`.

    Raises
    ------
    ValueError
        If shapes do not match, `y` has labels that are not in `classes`, or there are no rows.

    Examples
    --------
    >>> from tsynd_sk.evaluation import classification_scores
    >>> proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    >>> classification_scores(["fit", "fit", "sick"], proba, ["fit", "sick"])
    {'roc_auc': 1.0, 'balanced_accuracy': 0.75}
    """
    labels, columns = labels_of(y), np.asarray(classes)
    if columns.ndim != 1 or len(np.unique(columns)) < len(columns):
        raise ValueError(
            f"classes must hold each label once, in an array of shape (n_classes,); got "
            f"{classes!r:.100}"
        )
    if np.ndim(proba) != 2:
        raise ValueError(
            f"proba must be an array of shape (n, n_classes); got one of shape {np.shape(proba)}"
        )
    scores = check_array(proba, input_name="proba")
    check_consistent_length(labels, scores)
    if scores.shape[1] != len(columns):
        raise ValueError(
            f"proba has {scores.shape[1]} columns, but there are {len(columns)} classes"
        )
    if unknown := sorted(set(labels.tolist()) - set(columns.tolist()), key=str):
        raise ValueError(f"y has labels {unknown[:10]} that are not in classes={columns.tolist()}")
    present = np.flatnonzero(np.isin(columns, labels))
    if len(present) < 2:
        roc_auc = math.nan
    elif len(columns) == 2:
        roc_auc = roc_auc_score(labels == columns[1], scores[:, 1])
    else:
        # One by one, for multi_class="ovr" refuses a y without all the classes.
        roc_auc = np.mean([roc_auc_score(labels == columns[k], scores[:, k]) for k in present])
    predicted = columns[scores.argmax(axis=1)]
    # The balanced accuracy, without its warning that classes missing from y were predicted.
    recall = recall_score(
        labels, predicted, labels=columns[present], average="macro", zero_division=0
    )
    return {"roc_auc": float(roc_auc), "balanced_accuracy": float(recall)}
