"""
Comparing ways to train, and choosing one
=========================================

You will learn how to compare several ways of training your network on your images at equal budgets,
to vary one of them, to read differences, intervals and the verdict, and to choose without spending
the test split. It is what ``python -m tsynd_sk`` does, from Python.
"""

# %%
# Images, and what is kept for the end
# ------------------------------------
# Whoever tries ten settings on the test images and keeps the best has chosen the luckiest. So
# choices are made on a part of the other images, and the test images stay closed until the end.
# Ours are three digits that are easily mistaken for each other.
# (:func:`~tsynd_sk.comparison.load_splits` loads a folder, an ``.npz`` file or a MedMNIST set, with
# the splits that it has.)
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
rows = np.flatnonzero(np.isin(y, [3, 5, 8]))
X, y = X[rows], y[rows]
train, test = train_test_split(np.arange(len(y)), test_size=0.4, stratify=y, random_state=0)
print(f"{len(train)} images to choose on, {len(test)} for the end")

# %%
# What is compared
# ----------------
# An *arm* is one way of training the same network. :obj:`~tsynd_sk.comparison.ARMS` has those with
# a name. They differ in what is done to training images
# (:obj:`~tsynd_sk.comparison.AUGMENTATIONS`) and in the objective of the synthesis. Stars mark
# :obj:`~tsynd_sk.comparison.DEFAULT_ARMS`:
from tsynd_sk.comparison import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm

print("augmentations:", *AUGMENTATIONS)
for name, arm in ARMS.items():
    print(f"{'*' if name in DEFAULT_ARMS else ' '} {name:<28}{arm.definition()}")

# %%
# A lesson has less time, and one question: with standard augmentation, does synthesis help on these
# images, and with which radius? That takes the rival (``standard``), the control (as many rows,
# copied and not moved), and an arm for each radius. An :class:`~tsynd_sk.comparison.Arm` is made
# from parts, or is a variant of another by ``dataclasses.replace``. (The wider radius is here to be
# compared. Before you train on images so far from their sources, look at some:
# :doc:`/guide/objectives`.)
from dataclasses import replace

targeted = Arm("standard", "mutual_info")
arms = {
    "standard": Arm("standard"),
    "control": Arm("standard", "duplicate"),
    "radius 0.25": targeted,
    "radius 0.75": replace(targeted, synthesizer={"radius": 0.75}),
}

# %%
# Running it
# ----------
# The shape of :func:`~tsynd_sk.comparison.compare` is that of scikit-learn's ``cross_validate``: a
# network (any skorch classifier; this one is small, and trains for too few epochs to be any good),
# images, labels. Each run holds out a quarter of its own, and trains on sixty of the rest. Equal
# budgets are part of it: ``standard`` is given as many further rows, from the same epoch on, as
# others have synthetic ones, copies of its own. With ``out=`` results go to a folder, where an
# interrupted comparison goes on; ``n_jobs=-1`` takes all cores.
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import compare

net = NetClassifier(module__width=12, lr=5e-3, max_epochs=20)
common = {"arms": arms, "n_train": 60, "flip": False, "scoring": "nll"}
result = compare(net, X[train], y[train], n_repeats=3, **common)

# %%
# Reading it
# ----------
# The table has means over runs, the verdict says what follows from them. "Perturbed" is the mean
# over all kinds of corruption, at severity 3 of 5.
print(result)

# %%
# Scores vary from run to run, for other images are drawn. But a run gives all arms the same images
# and initial weights, so that differences vary less. Each arm with synthesis is set against its
# *twin*, the same augmentation without. Intervals are at 95 %; since the training images of the
# runs overlap, they have the correction of Nadeau and Bengio (2003). Filled marks are differences
# that hold after correction for the number of arms.
import matplotlib.pyplot as plt

for score in ["nll", "perturbed_roc_auc"]:
    result.plot(score)
plt.show()

# %%
# Three runs make intervals wide. Read the control first. It differs from its twin in little but the
# batches that its copies come in: what it gains or loses is about what chance does. Only what a
# targeted arm has beyond that is due to the displacement, and that is a difference of its own
# (uncorrected):
for arm in ["radius 0.25", "radius 0.75"]:
    found = result.difference(arm, "control", "nll")
    print(
        f"{arm} - control, NLL: {found.mean:+.3f} nats, "
        f"interval {found.low:+.3f} to {found.high:+.3f}, p = {found.p:.2f}"
    )

# %%
# The test images, once
# ---------------------
# The choice is made by a rule that was fixed before: of the two radii, that of the lower mean NLL.
# It alone, with rival and control, is trained once more and scored on the test images. ``cv`` says
# which they are; each repeat draws other images to train on. Now all runs share the test images,
# and runs and images are resampled together.
choice = min(["radius 0.25", "radius 0.75"], key=lambda arm: result.values(arm, "nll").mean())
common["arms"] = {name: arms[name] for name in ("standard", "control", choice)}
final = compare(net, X, y, cv=[(train, test)], n_repeats=3, **common)
print(f"chosen: {choice}\n\n{final}")

# %%
# What the chosen arm has here, beside rival and control, is the result, whatever the first
# comparison said. If it is smaller, or of the other sign, that is what chance does to choices, and
# no reason to go back and choose again.
#
# The classifier of an arm is there to be trained on all images:
classifier = final.make_estimator(choice, random_state=0).fit(X, y)
print(type(classifier).__name__, classifier.predict(X[:8]), y[:8])

# %%
# Try next
# --------
# - The same with ``python -m tsynd_sk --dataset FOLDER --net resnet18 --seeds 10 --score-on val``.
# - ``eps=(2 / 255,)``: accuracy under attack, with ``attacks`` from
#   :obj:`~tsynd_sk.evaluation.ATTACKS`. Mind a
#   :class:`~tsynd_sk.evaluation.GradientMaskingWarning`.
# - ``groups=``: what each image belongs to (a patient, a slide), which is never on two sides.
# - Parameters of one classifier by cross-validation:
#   :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
# - :doc:`/guide/pitfalls`: how good numbers come about that mean nothing.
