"""
How do I balance a rare class?
==============================

You will learn how to oversample a rare class with synthetic images in imbalanced-learn's
``Pipeline``, how to judge the result class by class, and why to compare with mere repetition of the
rare images.
"""

# %%
# A rare digit
# ------------
# The digits 3, 5, 8 and 9 are easily confused. The 8 is rare in training. The test set has as many
# images of each, so that the recall of each is measured equally well.
import numpy as np

from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
digits, rare = [3, 5, 8, 9], 8
n_common, n_rare, n_test = 60, 6, 100


def split(seed):
    rng = np.random.default_rng(seed)
    rows = {digit: rng.permutation(np.flatnonzero(labels == digit)) for digit in digits}
    train = [rows[digit][n_test:][: n_rare if digit == rare else n_common] for digit in digits]
    test = [rows[digit][:n_test] for digit in digits]
    return np.concatenate(train), np.concatenate(test)


train, test = split(seed=0)
for name, rows in {"training": train, "test": test}.items():
    print(f"{name:<9}", {digit: int((labels[rows] == digit).sum()) for digit in digits})

# %%
# Three ways to train
# -------------------
# In a pipeline, a :class:`~tsynd_sk.TargetedSynthesizer` balances the images that the next step
# trains on (:doc:`/guide/imbalance`). ``RandomOverSampler`` repeats rare images until the classes
# are balanced. It is the fair comparison: a gain over the images as they are may come from balance;
# only a gain over repetition comes from synthesis. It takes flat rows, so we pass ``image_shape``.
# The last step is a plain network.
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier


def pipeline(balance, seed):
    synthesizer = TargetedSynthesizer(
        NetClassifier(max_epochs=20, lr=1e-2, module__width=12),
        image_shape=(8, 8),
        random_state=seed,
    )
    samplers = {
        "as it is": "passthrough",
        "repeated": RandomOverSampler(random_state=seed),
        "targeted": synthesizer,
    }
    classifier = AugmentedClassifier(
        NetClassifier(max_epochs=20, lr=1e-2, module__width=12),
        TargetedSynthesizer(image_shape=(8, 8)),
        synthetic_ratio=0,
        random_state=seed,
    )
    return Pipeline([("balance", samplers[balance]), ("classify", classifier)])


# %%
# Several splits
# --------------
# Six images can be good or bad examples of their class, so a single split says little. The recall
# of a class is the share of its test images that are predicted as such.
from sklearn.metrics import recall_score

ways, seeds = ["as it is", "repeated", "targeted"], range(3)
recalls = np.empty((len(ways), len(seeds), len(digits)))
for seed in seeds:
    train, test = split(seed)
    for i, way in enumerate(ways):
        fitted = pipeline(way, seed).fit(images[train].reshape(-1, 64), labels[train])
        predicted = fitted.predict(images[test].reshape(-1, 64))
        recalls[i, seed] = recall_score(labels[test], predicted, average=None, labels=digits)

print("mean recall " + "".join(f"{digit:>8}" for digit in digits) + "   balanced accuracy")
for way, recall in zip(ways, recalls, strict=True):
    by_class = "".join(f"{value:8.3f}" for value in recall.mean(0))
    print(f"{way:<12}{by_class}{recall.mean():20.3f}")

# %%
# The same split by split: a line joins the results of one split, and large marks are means.
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, len(digits), figsize=(8, 3.4), sharey=True, layout="constrained")
for ax, digit, recall in zip(axes, digits, recalls.transpose(2, 0, 1), strict=True):
    ax.plot(ways, recall, color="0.6", lw=1, marker="o", ms=3)
    ax.plot(ways, recall.mean(1), "D", color="#0072B2", ms=8)
    n = n_rare if digit == rare else n_common
    ax.set_title(f"digit {digit}, {n} images" + (" (rare)" if digit == rare else ""), fontsize=9)
    ax.tick_params(axis="x", rotation=60)
    ax.margins(x=0.2)
axes[0].set(ylabel="recall on test images", ylim=(0, 1.02))
plt.show()

# %%
# The step from "as it is" to "repeated" is the effect of balance, and the step from "repeated" to
# "targeted" that of synthesis. Look also at the other classes: a classifier that predicts 8 more
# often is also wrong more often when it does. The second step, paired by split:
gain = recalls[2] - recalls[1]
for name, values in {
    f"recall of the {rare}": gain[:, digits.index(rare)],
    "balanced accuracy": gain.mean(1),
}.items():
    error = values.std(ddof=1) / len(values) ** 0.5
    told = "more than chance" if abs(values.mean()) > 2 * error else "could be chance"
    print(f"targeted - repeated, {name}: {values.mean():+.3f}, standard error {error:.3f}, {told}")

# %%
# A mean within two standard errors of zero could be chance. Then choose repetition, which costs
# less. Three splits are too few to find small differences.
#
# Look at the synthetic images
# ----------------------------
# We ask the synthesizer of the last split for three more images of each real 8. ``source_index``
# gives the source of each.
sampler = fitted.named_steps["balance"]
X_new, _, info = sampler.sample(y={rare: 3 * n_rare}, return_info=True)
sources = np.unique(info.source_index)
fig, axes = plt.subplots(4, n_rare, figsize=(6, 4.3), layout="constrained")
for column, source in zip(axes.T, sources, strict=True):
    made = X_new[info.source_index == source]
    for ax, row in zip(column, [images[train][source].ravel(), *made], strict=True):
        ax.imshow(row.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("real")
for ax in axes[1:, 0]:
    ax.set_ylabel("synthetic")
plt.show()

# %%
# Try next
# --------
# - Search ``balance__sampling_strategy`` and ``balance__radius``, as in
#   :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
# - Balance while the network trains, without a pipeline:
#   ``AugmentedClassifier(synthetic_ratio="balanced")``. See :doc:`/guide/imbalance`, which also has
#   cheaper rivals.
# - :doc:`/guide/pitfalls`: why resampling comes after the split, and accuracy misleads.
