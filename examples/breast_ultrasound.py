"""
Does it help on breast ultrasound?
==================================

You will learn how to do a small study on real medical images: look at the images and at what is
synthesised from them, compare ways to train on validation data, and read the differences.

This lesson needs a download and some minutes, so its output is kept in the repository.
``python examples/breast_ultrasound.py`` runs it and writes the output again.
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
# Classes are uneven. A classifier that always predicts the larger class is right more often than
# not, so we report the ROC AUC and the balanced accuracy.
#
# Look at synthetic images
# ------------------------
# A synthesizer trains a classifier and fits an autoencoder to the hundred images. Look at its
# samples before you train on them. An expert would check whether the label above each column (class
# 0 is malignant, class 1 normal or benign) is still true; we can only check whether the image still
# looks like ultrasound.
from tsynd_sk import TargetedSynthesizer
from tsynd_sk.inspection import SynthesisDisplay

synthesizer = TargetedSynthesizer(random_state=0).fit(X, y)
display = SynthesisDisplay.from_estimator(synthesizer, X, random_state=0).plot()
draw("synthesis", display.figure_)

# %%
# .. image:: /evidence/lesson/synthesis.png
#    :alt: Eight ultrasound images, what was synthesised from them, and the differences
#
# The report counts errors, and measures what the eye cannot see.
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
# :doc:`/guide/evaluation` explains every line. The last one is the share of samples whose nearest
# real image is their source: synthetic images do not make private data safe to share.
#
# Four ways to train
# ------------------
# We compare plain training, standard augmentation (flips, turns, scales and shifts), and standard
# augmentation with images that are moved at random or targeted.
# :func:`~tsynd_sk.comparison.compare` trains the same network in all four, on as many rows in as
# many steps. Each run draws a hundred other images. Scores are also on twelve kinds of corruption
# ("perturbed"), and under an attack that changes each pixel by up to 2/255. To finish within
# minutes, trainings are less than half as long as the default.
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import compare, load_splits

splits = load_splits("breastmnist", root=ROOT, score_on="val")
result = compare(
    NetClassifier(max_epochs=60),
    splits.X,
    splits.y,
    arms=["plain", "standard", "standard+random", "standard+mutual_info"],
    cv=splits.divisions(3),
    n_train=100,
    eps=(2 / 255,),
    n_jobs=-1,
)
keep("summary.txt", [result.summary()])

# %%
# .. literalinclude:: /evidence/lesson/summary.txt
#    :language: none
#
# Scores vary between runs, which draw different training images. All arms of a run share them, so
# the verdict rests on differences within runs. Under attack, a network that prefers the larger
# class keeps its accuracy; its balanced accuracy shows the price:
names = ["pgd_2_accuracy", "pgd_2_balanced_accuracy"]
lines = [f"{'attack of 2/255':<22}{'accuracy':>10}{'balanced':>10}"]
for arm in result.arms:
    values = [result.values(arm, name).mean() for name in names]
    lines.append(f"{arm:<22}" + "".join(f"{value:>10.3f}" for value in values))
keep("attacked.txt", lines)

# %%
# .. literalinclude:: /evidence/lesson/attacked.txt
#    :language: none
#
# Differences
# -----------
# Each arm with synthesis is compared with the same augmentation without synthesis. Intervals are
# over runs alone: they hold for other trainings on these validation images.
draw("differences", result.plot("perturbed_roc_auc").figure_)

# %%
# .. image:: /evidence/lesson/differences.png
#    :alt: Differences of three arms to their references in corrupted ROC AUC, with intervals
#
# Filled marks are differences that hold after correction for the number of arms. Where an interval
# holds zero, these images cannot tell. :doc:`/evidence` has comparisons on test images.
#
# Try next
# --------
# - Your own images: give :func:`~tsynd_sk.comparison.load_splits` a folder with a subfolder for
#   each class.
# - The same from the command line:
#   ``python -m tsynd_sk --dataset breastmnist --score-on val --seeds 5 --eps 2/255``.
# - More images without labels for the autoencoder: :doc:`/guide/unlabelled`.
# - What can go wrong in such a study: :doc:`/guide/pitfalls`.
