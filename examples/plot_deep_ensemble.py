"""
Is a deep ensemble worth five trainings?
========================================

You will learn how to give the synthesizer several classifiers, and how the uncertainty of such an
ensemble compares with that of a single network with dropout: on test images, on noisy ones, and on
images of classes that were not in training.
"""

# %%
# Images like and unlike those of training
# ----------------------------------------
# We train on the digits 0 to 7. We test on others of them, on the same with heavy noise or turned
# by a right angle, and on the digits 8 and 9, which no network has seen.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images
from tsynd_sk.evaluation import corrupt

X, y, _ = load_digits_images()
known = y < 8
X_train, X_test, y_train, y_test = train_test_split(
    X[known], y[known], train_size=160, test_size=300, stratify=y[known], random_state=0
)
groups = {
    "test": X_test,
    "noisy": corrupt(X_test, "noise", severity=5, random_state=0),
    "turned": np.rot90(X_test, axes=(1, 2)).copy(),
    "never seen": X[~known][:300],
}

import matplotlib.pyplot as plt

fig, axes = plt.subplots(4, 8, figsize=(7, 3.8), layout="constrained")
for line, (name, images) in zip(axes, groups.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Five networks, and each alone
# -----------------------------
# A list of classifiers is an ensemble. Its members are the networks, each with initial weights and
# batches of its own. For a fair comparison, the single networks are those of the ensemble, frozen,
# each with sixteen dropout masks as members. ``members="dropout"`` with a list gives both: masks in
# each network.
from sklearn.frozen import FrozenEstimator

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier

nets = [NetClassifier(max_epochs=15, lr=1e-2, module__width=12) for _ in range(5)]
ensemble = TargetedSynthesizer(nets, random_state=0).fit(X_train, y_train)

frozen_nets = [FrozenEstimator(net) for net in ensemble.classifier_]
frozen_autoencoder = FrozenEstimator(ensemble.autoencoder_)
dropout = [
    TargetedSynthesizer(net, frozen_autoencoder, random_state=0).fit(X_train, y_train)
    for net in frozen_nets
]
both = TargetedSynthesizer(
    frozen_nets, frozen_autoencoder, members="dropout", n_members=16, random_state=0
).fit(X_train, y_train)

proba = np.array([net.predict_proba(X_test[:, None]) for net in ensemble.classifier_])
single = (proba.argmax(-1) == y_test).mean(1)
print("accuracy on test images")
print("  single nets   ", " ".join(f"{value:.3f}" for value in single))
print(f"  their mean     {(proba.mean(0).argmax(-1) == y_test).mean():.3f}")

# %%
# What is each uncertain about?
# -----------------------------
# The mutual information of each image, for the first network with dropout, for the ensemble, and
# for both together:
schemes = {
    "dropout in one net": dropout[0],
    "ensemble of five": ensemble,
    "dropout in all five": both,
}
uncertainty = {
    scheme: {group: synthesizer.uncertainty(images) for group, images in groups.items()}
    for scheme, synthesizer in schemes.items()
}
# sphinx_gallery_thumbnail_number = 2
fig, axes = plt.subplots(1, 3, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, (scheme, values) in zip(axes, uncertainty.items(), strict=True):
    ax.boxplot(
        list(values.values()),
        tick_labels=[name.replace(" ", "\n") for name in values],
        widths=0.6,
        medianprops={"color": "#D55E00", "linewidth": 2},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "0.5"},
    )
    ax.set_title(scheme)
axes[0].set_ylabel("mutual information (nats)")
plt.show()

# %%
# Do not compare heights between panels: members that differ more disagree more about everything.
# What counts is how far the box of unlike images lies above that of the test images beside it. The
# ROC AUC measures it: how often an unlike image has more mutual information than a test image; 0.5
# is chance. The cheapest rival needs no members: the entropy of a single network's prediction. For
# single networks we print the mean and the range of the five.
from sklearn.metrics import roc_auc_score


def auc(score):
    real = score(groups["test"])
    return [
        roc_auc_score(np.repeat([0, 1], [len(real), len(unlike)]), np.append(real, unlike))
        for unlike in (score(images) for name, images in groups.items() if name != "test")
    ]


def entropy_of(net):
    def score(images):
        p = net.predict_proba(images[:, None])
        return -(p * np.log(p.clip(1e-30))).sum(1)

    return score


rows = {
    "entropy of one net, no members": [auc(entropy_of(net)) for net in ensemble.classifier_],
    "dropout in one net": [auc(synthesizer.uncertainty) for synthesizer in dropout],
    "ensemble of five": [auc(ensemble.uncertainty)],
    "dropout in all five": [auc(both.uncertainty)],
}
print(f"{'ROC AUC':<32}" + "".join(f"{name:^20}" for name in list(groups)[1:]))
for name, values in rows.items():
    values = np.array(values)
    cells = [
        f"{mean:.3f}" + (f" ({low:.3f}-{high:.3f})" if len(values) > 1 else "")
        for mean, low, high in zip(values.mean(0), values.min(0), values.max(0), strict=True)
    ]
    print(f"{name:<32}" + "".join(f"{cell:^20}" for cell in cells))

# %%
# Read each column. If the first row is level with the others, members tell no more than a single
# prediction. If single networks come close to the ensemble, five trainings have brought little; if
# the range of single networks is wide, they have brought reliability. If all rows are low, the
# networks hardly notice the change. An image can also mislead all networks in the same way; then
# they do not disagree.
#
# Synthesise with an ensemble
# ---------------------------
# Synthesis works as with one classifier. It costs more: each step computes all five networks in
# full, while dropout masks of one network share all layers before the first dropout.
for name, synthesizer in schemes.items():
    _, _, info = synthesizer.synthesize(X_train, y_train, random_state=0, return_info=True)
    print(
        f"{name:<20} {info.uncertainty_source.mean():.3f} -> {info.uncertainty.mean():.3f} nats, "
        f"predicted as labelled {info.label_agreement.mean():.0%}"
    )

from tsynd_sk.inspection import SynthesisDisplay

_ = SynthesisDisplay.from_estimator(ensemble, X_train, random_state=0).plot()
plt.show()

# %%
# Try next
# --------
# - :doc:`/guide/members` compares all kinds of members.
# - :doc:`/guide/speed`: what members cost, and ``restrict``.
# - Pass uncertain images to a person: :ref:`sphx_glr_auto_examples_plot_triage.py`.
# - Maximise something else: :ref:`sphx_glr_auto_examples_plot_own_objective.py`.
