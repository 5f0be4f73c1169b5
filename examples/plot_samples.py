"""
What synthetic images are like
==============================

You will learn how to look at synthetic images in numbers: whether anything is wrong with them,
whether they are more than copies of real ones, whether a classifier is more uncertain of them than
of images that are changed at random, and what scores on them mean, and what they do not.
"""

# %%
# Three synthesizers that differ in one word
# ------------------------------------------
# A synthesizer can be judged against its controls alone. ``"duplicate"`` copies images
# without moving them, ``"random"`` moves them as far as ``"mutual_info"`` does, without an aim. All
# three have the same classifier and the same autoencoder, which are trained once.
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=120, test_size=400, stratify=y, random_state=0
)


def make_net():
    return NetClassifier(max_epochs=12, lr=1e-2, module__width=16)


targeted = TargetedSynthesizer(
    make_net(), AutoencoderNet(max_epochs=6, module__width=32), random_state=0
).fit(X_train, y_train)
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
# :func:`~tsynd_sk.evaluation.synthesis_report` samples, and compares with the images of ``fit``.
# First come counts that have to be 0, then measures without a threshold, each with what it means.
from tsynd_sk.evaluation import synthesis_report

reports = {
    name: synthesis_report(synthesizer, X_train, y_train, random_state=0)
    for name, synthesizer in synthesizers.items()
}
print(reports["mutual_info"])

# %%
# Notes at the end say which of the numbers say little, and why. A
# :class:`~tsynd_sk.evaluation.SynthesisReport` is made to be read by programs as well. Here are
# some of its measures side by side:
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
# Four of these measures are about memorisation, and the control tells how to read them. A duplicate
# is a copy and nothing else: what its column says is what copies are like.
# ``nearest_real_of_real`` is the yardstick at the other end, how far real images are from each
# other. Samples whose ``nearest_real`` and ``authenticity`` stay near those of the control have not
# moved away, whatever they look like.
#
# ``nearest_is_source`` is a warning. Of so large a share of the samples, whoever holds the real
# images can tell which of them they were made from. Synthetic images of patients need the
# protection of the patients' own images.
#
# Precision says how many samples lie among the real images in the eyes of the classifier. It need
# not be high: targeted samples are meant to lie where real ones are rare.
#
# Are they more uncertain than what augmentation makes?
# -----------------------------------------------------
# That is the claim behind all this: that most images which random changes make are redundant, as
# the classifier is certain of them already. It can be tested. We
# change the training images by :func:`~tsynd_sk.evaluation.augment`, as standard augmentation does,
# and by each of :obj:`~tsynd_sk.evaluation.CORRUPTIONS`, and ask the same members about all.
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
ax_kept.set(xlabel="label predicted (%)", title="labels")
ax_kept.grid(axis="x", color="0.9")
plt.show()

# %%
# Orange is synthetic, blue is changed by hand, and boxes are in the order of their medians. The two
# halves belong together. A group that is uncertain, and whose labels few images keep, may have been
# spoilt: then labels are wrong, and training on them teaches errors. Or the net is mistaken, and
# has something to learn. The picture cannot tell the two apart, your eyes can. What training can
# use is uncertain and still of its class. See where ``mutual info`` stands against ``augmented``,
# and whether there is a corruption that reaches as far and keeps as many labels. If there is, it is
# the simpler augmentation, and belongs in your comparison. (Images of eight pixels are soon
# spoilt. A shift by one of them moves a stroke by its whole width.)
#
# "Label predicted" is judged here by the net as it predicts. The report's ``label_agreement``
# is that of the members' mean, to which ``label_policy="constrain"`` would hold the ascent.
#
# What scores on synthetic images mean
# ------------------------------------
# Nothing about real ones. To see it, we train on real and synthetic images together, and score on
# further synthetic ones of the same synthesizer as well as on test images.
# :func:`~tsynd_sk.evaluation.classification_scores` takes the probabilities of any classifier, and
# so does :func:`~tsynd_sk.evaluation.expected_calibration_error`.
# :func:`~tsynd_sk.evaluation.augmentation_scores` takes the classifier, and moves the test images
# anew in every draw.
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
    for seed in range(3):
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
# (What stands after ± is the standard deviation over three trainings. For "real twice" the first
# column is the training images themselves.) The first column is on images near to those of the
# training, made from the same sources: compare it with the second one. It measures how well
# a net has learnt one synthesizer by heart, and a synthesizer of mere copies does best there.
# Never score on synthetic data, and never put a real image into the test whose
# synthetic descendants were trained on.
#
# In the other columns compare lines with those of ``duplicate``. Here synthesis was done once,
# against one net, and the images were used to train others. `AugmentedClassifier` alternates
# instead, and one split is not enough to judge either:
# :ref:`sphx_glr_auto_examples_plot_compare_arms.py`.
#
# Try next
# --------
# - A longer leash, ``radius=1.0``, then a second one besides, ``label_policy="constrain"``, and the
#   report again. Which of its lines changes most?
# - ``report.by_class`` and ``report.to_frame()``: are some classes harder to synthesise for?
# - :doc:`/guide/evaluation` says how to read every line of the report, and
#   :doc:`/guide/pitfalls` what to mind about labels that drift.
# - All corruptions at all severities, with the intervals of a
#   :class:`~tsynd_sk.inspection.RobustnessDisplay`:
#   :ref:`sphx_glr_auto_examples_plot_robustness.py`.
