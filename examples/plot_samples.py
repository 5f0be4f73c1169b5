"""
Are my synthetic images any good?
=================================

You will learn how to measure synthetic images: whether anything is wrong with them, whether they
are mere copies, whether a classifier is more uncertain about them than about images that are
changed at random, and why not to score on them.
"""

# %%
# Three synthesizers that differ in one word
# ------------------------------------------
# Judge a synthesizer against two controls. ``"duplicate"`` copies images without moving them.
# ``"random"`` moves them as far as ``"mutual_info"`` does, in random directions. All three share
# one classifier and one autoencoder, which are fitted once.
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=120, test_size=400, stratify=y, random_state=0
)


def make_net():
    return NetClassifier(max_epochs=12, lr=1e-2, module__width=16)


targeted = TargetedSynthesizer(make_net(), random_state=0).fit(X_train, y_train)
synthesizers = {
    objective: TargetedSynthesizer(
        FrozenEstimator(targeted.classifier_),
        FrozenEstimator(targeted.autoencoder_),
        objective=objective,
        random_state=0,
    ).fit(X_train, y_train)
    for objective in ("duplicate", "random", "mutual_info")
}

# %%
# A report
# --------
# :func:`~tsynd_sk.evaluation.synthesis_report` draws samples and compares them with the images of
# ``fit``. It lists counts that must be 0, then measures with what each means.
from tsynd_sk.evaluation import synthesis_report

reports = {
    name: synthesis_report(synthesizer, X_train, y_train, random_state=0)
    for name, synthesizer in synthesizers.items()
}
print(reports["mutual_info"])

# %%
# Notes at the end say which numbers mean little here, and why. A program can read a
# :class:`~tsynd_sk.evaluation.SynthesisReport`, too. Here are some measures of all three:
chosen = [
    "mutual_info_gain",
    "label_agreement",
    "displacement",
    "nearest_real",
    "nearest_real_of_real",
    "authenticity",
    "nearest_is_source",
    "precision",
    "recall",
]
print(f"{'':<24}" + "".join(f"{name:>16}" for name in reports))
for measure in chosen:
    values = (report.quality[measure] for report in reports.values())
    print(f"{measure:<24}" + "".join(f"{value:>16.3f}" for value in values))

# %%
# Are they copies?
# ----------------
# Four of these measures are about copying. The column ``duplicate`` shows what copies score, and
# ``nearest_real_of_real`` how far real images are from each other. If ``nearest_real`` and
# ``authenticity`` are near those of the duplicates, samples are near copies, whatever they look
# like.
#
# ``nearest_is_source`` is a warning: the share of samples whose source anyone who has the real
# images can tell. Protect synthetic images of patients as you protect the patients' own.
#
# Precision is the share of samples that lie among real images in the features of the classifier. It
# need not be high: targeted samples should lie where real ones are rare.
#
# Are they more uncertain than augmented images?
# ----------------------------------------------
# The method rests on a claim: most randomly changed images are redundant, because the classifier is
# certain about them already. We test it. We change the training images by
# :func:`~tsynd_sk.evaluation.augment`, as standard augmentation does, and by each of
# :obj:`~tsynd_sk.evaluation.CORRUPTIONS`, and measure the uncertainty of all with the same members.
from tsynd_sk.evaluation import CORRUPTIONS, augment, corrupt

groups = {"real": X_train, "augmented": augment(X_train, flip=False, random_state=0)}
for kind in CORRUPTIONS:
    groups[kind] = corrupt(X_train, kind, severity=3, random_state=0)
made = {}
for name, synthesizer in synthesizers.items():
    made[name], _ = synthesizer.synthesize(X_train, y_train, random_state=0)
groups |= made

uncertainty, kept = {}, {}
for name, images in groups.items():
    uncertainty[name] = targeted.uncertainty(images)
    kept[name] = (targeted.classifier_.predict(images[:, None]) == y_train).mean()

import matplotlib.pyplot as plt

figure, (ax, ax_kept) = plt.subplots(
    1, 2, figsize=(8.5, 5), sharey=True, width_ratios=[2, 1], layout="constrained"
)
ordered = sorted(groups, key=lambda name: np.median(uncertainty[name]))
colors = ["#D55E00" if name in made else "#0072B2" for name in ordered]
boxes = ax.boxplot(
    [uncertainty[name] for name in ordered],
    orientation="horizontal",
    tick_labels=[name.replace("_", " ") for name in ordered],
    widths=0.6,
    patch_artist=True,
    medianprops={"color": "black"},
    flierprops={"marker": ".", "markersize": 2, "markeredgecolor": "0.5"},
)
for box, color in zip(boxes["boxes"], colors, strict=True):
    box.set(facecolor=color, alpha=0.7)
ax.set(xlabel="mutual information (nats)", title="uncertainty")
shares = [100 * kept[name] for name in ordered]
ax_kept.scatter(shares, range(1, len(ordered) + 1), c=colors, zorder=3)
ax_kept.set(xlabel="predicted as labelled (%)", title="labels")
ax_kept.grid(axis="x", color="0.9")
plt.show()

# %%
# Orange groups are synthetic, blue ones are real or changed at random; boxes are in the order of
# their medians. Read both halves together. If images are uncertain and few are predicted as
# labelled, either the images are spoilt and their labels wrong, or the network is wrong and has
# something to learn. Only your eyes can tell which. Useful images are uncertain and still of their
# class. Compare ``mutual info`` with ``augmented``, and look for a corruption that is as uncertain
# and keeps as many labels. If there is one, it is a simpler augmentation and belongs in your
# comparison. (Images of eight by eight pixels are soon spoilt: a shift by one pixel moves a stroke
# by its width.)
#
# Why not score on synthetic images?
# ----------------------------------
# Because such scores say nothing about real images. To see it, we train on real and synthetic
# images together, and score on further synthetic images of the same synthesizer, and on test
# images. :func:`~tsynd_sk.evaluation.classification_scores` and
# :func:`~tsynd_sk.evaluation.expected_calibration_error` take probabilities;
# :func:`~tsynd_sk.evaluation.augmentation_scores` takes the classifier, and scores it on test
# images that are moved at random.
import torch

from tsynd_sk.evaluation import (
    augmentation_scores,
    classification_scores,
    expected_calibration_error,
)

columns = ["synthetic", "test", "test, moved", "calibration error"]
print(f"{'balanced accuracy':<18}" + "".join(f"{column:>19}" for column in columns))
for name in ["real twice", *synthesizers]:
    runs = []
    for seed in range(2):
        X_more, y_more, X_new, y_new = X_train, y_train, X_train, y_train
        if name in synthesizers:
            sample = synthesizers[name].sample
            X_more, y_more = sample(len(X_train), random_state=seed)
            X_new, y_new = sample(len(X_train), random_state=100 + seed)
        torch.manual_seed(seed)
        net = make_net().fit(np.concatenate([X_train, X_more])[:, None], np.append(y_train, y_more))
        proba, proba_new = (net.predict_proba(images[:, None]) for images in (X_test, X_new))
        moved = augmentation_scores(
            net, X_test[:, None], y_test, n_draws=2, flip=False, random_state=0
        )
        runs.append(
            [
                classification_scores(y_new, proba_new, net.classes_)["balanced_accuracy"],
                classification_scores(y_test, proba, net.classes_)["balanced_accuracy"],
                moved.mean["balanced_accuracy"],
                expected_calibration_error(y_test, proba, net.classes_),
            ]
        )
    cells = (
        f"{m:>11.3f} ± {s:.3f}" for m, s in zip(np.mean(runs, 0), np.std(runs, 0), strict=True)
    )
    print(f"{name:<18}" + "".join(f"{cell:>19}" for cell in cells))

# %%
# (± is the standard deviation over two trainings. For "real twice" the first column is on the
# training images themselves.) The first column is on images that were made from the training
# images, and mere copies score well there. It measures how well a network has memorised one
# synthesizer. Never score on synthetic data, and never test on a real image whose synthetic images
# were in the training.
#
# In the other columns, compare each line with ``duplicate``. One split does not settle which is
# best: :ref:`sphx_glr_auto_examples_plot_compare_arms.py`.
#
# Try next
# --------
# - Set ``radius=1.0``, then ``label_policy="keep"`` as well, and print the report again. Which line
#   changes most?
# - ``report.by_class`` and ``report.to_frame()``: are some classes harder to synthesise for?
# - :doc:`/guide/evaluation`: how to read every line of the report.
# - :doc:`/guide/pitfalls`: labels that drift.
# - Scores on corrupted images, with intervals: :ref:`sphx_glr_auto_examples_plot_robustness.py`.
