"""
A deep ensemble
===============

You will learn how to give the synthesizer several classifiers, and how the uncertainty of such an
ensemble compares with that of a single net under dropout: on real images, on spoilt ones, and on
images of a kind that was never trained on.
"""

# %%
# Images like and unlike those of training
# ----------------------------------------
# We train on the digits 0 to 7. The test has more of them, the same ones under heavy noise or
# turned by a right angle, and the digits 8 and 9, which no net has seen.
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
# Five nets, and each of them alone
# ---------------------------------
# A list of classifiers is an ensemble. Its members are the nets, each as it predicts, from
# initial weights and batches of its own. To compare like with like, the single nets are those of
# the ensemble, frozen, each with sixteen dropout masks for members. ``members="dropout"`` with a
# list has both: masks in every net.
from sklearn.frozen import FrozenEstimator

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier

nets = [NetClassifier(max_epochs=20, lr=5e-3, module__width=16) for _ in range(5)]
autoencoder = AutoencoderNet(max_epochs=10, module__width=32)
ensemble = TargetedSynthesizer(nets, autoencoder, random_state=0).fit(X_train, y_train)

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
# Who is uncertain of what?
# -------------------------
# The mutual information of every image, in nats, for the first net under dropout, for the
# ensemble, and for both together:
schemes = {
    "dropout in one net": dropout[0],
    "ensemble of five": ensemble,
    "dropout in all five": both,
}
uncertainty = {
    scheme: {group: synthesizer.uncertainty(images) for group, images in groups.items()}
    for scheme, synthesizer in schemes.items()
}
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
# Heights of different schemes should not be compared, for more and more different members disagree
# more about everything. What counts is how far a box of unlike images stands above that of
# the test images beside it. One number for it is the ROC AUC: how often an unlike image has more
# mutual information than a test image. 0.5 is chance. The cheapest rival needs no members at
# all: the entropy of what a single net predicts. For single nets there is the mean of the five, and
# the range, for with one net you have one of them at random.
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
# Read the columns of this table, not only its best cell. Where the first row is level with the
# others, or ahead of the second, members have told nothing that a single prediction does not.
# Where single nets are within reach of the ensemble, five trainings have bought little; where the
# range of the single nets is wide, they have bought reliability. And where all rows are low, as
# they can be for noise that hardly keeps the nets from reading a digit, there is little to be
# uncertain of. An image can also be unlike the others and mislead all nets alike; then no
# disagreement tells.
#
# Targeted images of an ensemble
# ------------------------------
# Synthesis works as with one classifier. Each step asks all five nets in full, whereas dropout
# masks of one net share all layers before the first dropout, and so cost less.
for name, synthesizer in schemes.items():
    _, _, info = synthesizer.synthesize(X_train, y_train, random_state=0, return_info=True)
    print(
        f"{name:<20} {info.uncertainty_source.mean():.3f} -> {info.uncertainty.mean():.3f} nats, "
        f"label predicted for {info.label_agreement.mean():.0%}"
    )

from tsynd_sk.inspection import SynthesisDisplay

_ = SynthesisDisplay.from_estimator(ensemble, X_train, random_state=0).plot()
plt.show()

# %%
# Try next
# --------
# - :doc:`/guide/members` compares all kinds of members.
# - :doc:`/guide/speed`: what members cost, and ``restrict``.
# - Reject the images that a classifier is uncertain of, by a threshold that was chosen on
#   validation data: :ref:`sphx_glr_auto_examples_plot_triage.py`.
# - :ref:`sphx_glr_auto_examples_plot_own_objective.py`: have something else maximised over the
#   same members.
