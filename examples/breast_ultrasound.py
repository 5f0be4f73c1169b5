"""
A study on breast ultrasound
============================

You will learn how a small study on real medical images goes, from the file to the figures: look at
the images, look at what is synthesised from them, compare ways to train on validation data with
everything else equal, and read the differences for what they are.

This lesson is shown with output that is kept in the repository, for it needs a download and some
minutes. ``python examples/breast_ultrasound.py`` runs it and writes that output anew.
"""

# %%
# The images
# ----------
# BreastMNIST has ultrasound images of 28 by 28 pixels, benign or normal against malignant (`Yang et
# al., 2023 <https://doi.org/10.1038/s41597-022-01721-8>`__). ``load_medmnist`` fetches the official
# file, checks it and keeps it; ``root`` may name a folder that has it already. A hundred labelled
# images are what a small clinical project may have. Choices are made on the validation split. The
# test split is not touched in this lesson.
import os
from pathlib import Path

from tsynd_sk.datasets import load_medmnist

ROOT = os.environ.get("TSYND_SK_DATA")
OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "lesson"

X, y, class_names = load_medmnist("breastmnist", root=ROOT, n_samples=100, random_state=0)
X_val, y_val, _ = load_medmnist("breastmnist", root=ROOT, split="val")
lines = [f"{len(X)} training images of shape {X.shape[1:]}, {len(X_val)} validation images"]
lines += [f"{(y == label).sum():>3} {name}" for label, name in enumerate(class_names)]


def keep(name, lines):
    """Print, and write beside the documentation."""
    text = "\n".join(lines)
    print(text)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / name).write_text(text + "\n", encoding="utf-8")


def draw(name, figure):
    """Keep a figure beside the documentation."""
    figure.savefig(OUTPUT / f"{name}.png", dpi=100, bbox_inches="tight")


keep("images.txt", lines)

# sphinx_gallery_thumbnail_path = "evidence/lesson/synthesis.png"

# %%
# .. literalinclude:: /evidence/lesson/images.txt
#    :language: none
#
# Classes are uneven. A classifier that always says the larger one is right more often than not, so
# that accuracy alone will not do: below stand the ROC AUC and the balanced accuracy.
#
# What would be synthesised
# -------------------------
# A synthesizer trains a classifier and an autoencoder on the hundred images. Its samples are worth
# a look before anything is trained on them. An expert would ask whether the label above each column
# (class 0 is malignant, class 1 normal or benign) is still true; we can only ask whether the image
# still looks like ultrasound.
from tsynd_sk import TargetedSynthesizer
from tsynd_sk.inspection import SynthesisDisplay

synthesizer = TargetedSynthesizer(random_state=0).fit(X, y)
display = SynthesisDisplay.from_estimator(synthesizer, X, random_state=0).plot()
draw("synthesis", display.figure_)

# %%
# .. image:: /evidence/lesson/synthesis.png
#    :alt: Eight ultrasound images, what was synthesised from them, and the differences
#
# The report counts what must not happen, and measures what the eye cannot see.
from tsynd_sk.evaluation import synthesis_report

report = synthesis_report(synthesizer, X, y, n_samples=200, random_state=0)
names = ["mutual_info_source", "mutual_info", "label_agreement", "displacement"]
names += ["reconstruction_error", "nearest_is_source"]
lines = [f"all that has to hold of samples holds: {report.is_valid}"]
keep("report.txt", lines + [f"{name:<22}{report.quality[name]:.3f}" for name in names])

# %%
# .. literalinclude:: /evidence/lesson/report.txt
#    :language: none
#
# :doc:`/guide/evaluation` explains every line. The last one is the share of the samples whose
# nearest real image is their source: these images are no means to share private data.
#
# Four ways to train
# ------------------
# Plain training, standard augmentation (flips, turns, scales and shifts), and on top of that images
# that are displaced at random or targeted. In a :class:`~tsynd_sk.comparison.Comparison` all train
# the same network on as many rows in as many steps. Each seed draws a hundred other images. The
# corrupted images are of twelve kinds; columns of the results call them "perturbed". An attack
# changes each pixel by up to 2/255, along the gradient of the very network.
from tempfile import TemporaryDirectory

import numpy as np

from tsynd_sk.comparison import Comparison, Settings, load_splits

ARMS = ("plain", "standard", "standard+random", "standard+mutual_info")
METRICS = {
    "roc_auc": "clean ROC AUC",
    "balanced_accuracy": "clean balanced accuracy",
    "perturbed_roc_auc": "corrupted ROC AUC",
    "pgd_2_accuracy": "accuracy, attack of 2/255",
    "pgd_2_balanced_accuracy": "balanced accuracy, attack of 2/255",
}
SEEDS = 4


def compare():
    """Run the comparison, and give its scores as an array (metric, arm, seed)."""
    splits = load_splits("breastmnist", root=ROOT, score_on="val")
    settings = Settings(100, arms=ARMS, seeds=SEEDS, epochs=120, autoencoder_epochs=40, eps=(2,))
    with TemporaryDirectory() as folder:
        comparison = Comparison(splits, settings, Path(folder))
        comparison.run()
        rows = {(row["arm"], row["seed"]): row for row in comparison.results()}
    seeds = range(SEEDS)
    return np.array([[[rows[arm, s][metric] for s in seeds] for arm in ARMS] for metric in METRICS])


scores = compare()
table = [["", *ARMS]]
for title, values in zip(METRICS.values(), scores, strict=True):
    cells = [f"{v.mean():.3f} ± {v.std(ddof=1) / SEEDS**0.5:.3f}" for v in values]
    table.append([title, *cells])
keep("scores.csv", [",".join(f'"{cell}"' for cell in row) for row in table])

# %%
# .. csv-table::
#    :file: /evidence/lesson/scores.csv
#    :header-rows: 1
#
# Means over seeds, and their standard errors. The errors are wide, because seeds draw different
# training images. That spread is common to all arms of a seed, and differences within seeds are
# free of it.
#
# Differences
# -----------
# Each small mark is a seed, each large one the mean. What all four seeds agree about deserves some
# trust. Where marks lie on both sides of zero, these images do not tell.
import matplotlib.pyplot as plt

COLORS = {"plain": "#999999", "standard+random": "#E69F00", "standard+mutual_info": "#0072B2"}


def forest(scores):
    """Draw differences to standard augmentation."""
    figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    standard = scores[:, ARMS.index("standard")]
    for shift, (arm, color) in zip((-0.2, 0, 0.2), COLORS.items(), strict=True):
        differences = scores[:, ARMS.index(arm)] - standard
        places = np.arange(len(METRICS)) + shift
        ax.plot(differences, places, "o", color=color, ms=3, alpha=0.6)
        ax.plot(differences.mean(1), places, "D", color=color, ms=7, label=arm)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks(range(len(METRICS)), METRICS.values())
    ax.invert_yaxis()
    ax.set_xlabel("difference to standard augmentation alone")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


draw("differences", forest(scores))

# %%
# .. image:: /evidence/lesson/differences.png
#    :alt: Differences of three arms to standard augmentation, for five metrics and four seeds
#
# Compare accuracy and balanced accuracy under attack. A network that leans to the larger class
# keeps its accuracy when it is attacked, and its balanced accuracy shows the price. Small marks far
# from their mean say how little one run would have told. :doc:`/evidence` has the same comparison
# on three data sets, at several sizes, scored on test images.
#
# Try next
# --------
# - Your own images: a folder with a subfolder for each class takes the place of the name in
#   :func:`~tsynd_sk.comparison.load_splits`.
# - The same from the command line: ``python -m tsynd_sk --dataset breastmnist --score-on val --eps
#   2``.
# - More images without labels for the autoencoder: :doc:`/guide/unlabelled`.
# - What can go wrong in such a study: :doc:`/guide/pitfalls`.
