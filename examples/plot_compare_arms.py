"""
Which way of training should I choose?
======================================

You will learn how to define ways of training of your own, how to compare them at equal budgets, how
to read differences and intervals, and how to choose without using the test split.
"""

# %%
# Keep a test split for the end
# -----------------------------
# If you try ten settings on the test images and keep the best, you have kept the luckiest. So
# choose on other images, and use the test images once, at the end. Our images are three digits that
# are easily confused. (:func:`~tsynd_sk.comparison.load_splits` loads a folder, an ``.npz`` file or
# a MedMNIST set, with its splits.)
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
rows = np.flatnonzero(np.isin(y, [3, 5, 8]))[:240]
X, y = X[rows], y[rows]
train, test = train_test_split(np.arange(len(y)), test_size=0.4, stratify=y, random_state=0)
print(f"{len(train)} images to choose on, {len(test)} for the end")

# %%
# Define the arms
# ---------------
# An *arm* is one way of training the same network. :obj:`~tsynd_sk.comparison.ARMS` has the named
# ones. They differ in the augmentation (:obj:`~tsynd_sk.comparison.AUGMENTATIONS`) and in the
# objective of the synthesis. Stars mark :obj:`~tsynd_sk.comparison.DEFAULT_ARMS`:
from tsynd_sk.comparison import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm

print("augmentations:", *AUGMENTATIONS)
for name, arm in ARMS.items():
    print(f"{'*' if name in DEFAULT_ARMS else ' '} {name:<28}{arm.definition()}")

# %%
# Our question: on top of standard augmentation, does synthesis help, and with which radius? We need
# the rival (``standard``), a control (as many rows, copied but not moved), and an arm for each
# radius. An :class:`~tsynd_sk.comparison.Arm` is made from parts, or from another arm by
# ``dataclasses.replace``. (Before you train on images as far from their sources as radius 0.75 puts
# them, look at some: :doc:`/guide/objectives`.)
from dataclasses import replace

targeted = Arm("standard", "mutual_info")
arms = {
    "standard": Arm("standard"),
    "control": Arm("standard", "duplicate"),
    "radius 0.25": targeted,
    "radius 0.75": replace(targeted, synthesizer={"radius": 0.75}),
}

# %%
# Run the comparison
# ------------------
# :func:`~tsynd_sk.comparison.compare` is called like scikit-learn's ``cross_validate``, with a
# network (any skorch classifier), images and labels. This network is small and trains briefly, for
# the sake of the lesson. Each run holds out a quarter of the images and trains on forty others. The
# budgets are equal: where other arms train on synthetic images, ``standard`` trains on as many
# copies of real ones. With ``out=``, results go to a folder, from which an interrupted comparison
# resumes. ``n_jobs=-1`` uses all cores.
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import compare

net = NetClassifier(module__width=8, lr=1e-2, max_epochs=15)
common = {"arms": arms, "n_train": 40, "flip": False, "scoring": "nll"}
result = compare(net, X[train], y[train], n_repeats=3, **common)

# %%
# Read the result
# ---------------
# The table has means over runs; the verdict says what follows from them. "Corrupt" is the mean over
# all kinds of corruption, at severity 3 of 5.
print(result)

# %%
# Scores vary from run to run, because each run draws other images. Within a run all arms have the
# same images and initial weights, so that differences vary less. Each arm with synthesis is set
# against its *twin*, the same augmentation without synthesis. Intervals are at 95 %. The training
# images of the runs overlap, for which intervals have the correction of Nadeau and Bengio (2003).
# Filled marks are differences that hold after correction for the number of arms.
import matplotlib.pyplot as plt

result.plot("nll")
plt.show()

# %%
# Three runs give wide intervals. Read the control first. It differs from its twin in little but the
# order of its batches, so its difference shows what chance does. Only what a targeted arm gains
# beyond the control is due to moving the images. That difference (uncorrected) is:
for arm in ["radius 0.25", "radius 0.75"]:
    found = result.difference(arm, "control", "nll")
    print(
        f"{arm} - control, NLL: {found.mean:+.3f} nats, "
        f"interval {found.low:+.3f} to {found.high:+.3f}, p = {found.p:.2f}"
    )

# %%
# Use the test images once
# ------------------------
# We choose by a rule that was fixed before: the radius with the lower mean NLL. We train this arm
# again, with rival and control, and score on the test images, which ``cv`` names. Each repeat draws
# other images to train on. All runs share the test images, so the intervals resample runs and
# images together.
choice = min(["radius 0.25", "radius 0.75"], key=lambda arm: result.values(arm, "nll").mean())
common["arms"] = {name: arms[name] for name in ("standard", "control", choice)}
final = compare(net, X, y, cv=[(train, test)], n_repeats=2, **common)
print(f"chosen: {choice}\n\n{final}")

# %%
# This is the result, whatever the first comparison said. If the gain is smaller here, or has the
# other sign, the choice was lucky; do not go back and choose again.
#
# ``make_estimator`` makes the classifier of an arm, to be trained on all images:
classifier = final.make_estimator(choice, random_state=0).fit(X, y)
print(type(classifier).__name__, classifier.predict(X[:8]), y[:8])

# %%
# Try next
# --------
# - The same with ``python -m tsynd_sk --dataset FOLDER --net resnet18 --seeds 5 --score-on val``.
# - ``eps=(2 / 255,)``: accuracy under attack, with ``attacks`` from
#   :obj:`~tsynd_sk.evaluation.ATTACKS`. Mind a
#   :class:`~tsynd_sk.evaluation.GradientMaskingWarning`.
# - ``groups=``: the patient or slide of each image, which is never on both sides of a split.
# - Parameters of one classifier by cross-validation:
#   :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
# - :doc:`/guide/pitfalls`: how good numbers come about that mean nothing.
