"""
Is my classifier robust to corruption and attack?
=================================================

You will learn how to compare classifiers on corrupted and attacked images, how to read intervals
and corrected tests, what a mean hides, and how to tell whether an attack was too weak.
"""

# %%
# Three ways to train
# -------------------
# Sixty images of the digits 3, 5, 8 and 9, which are easily confused, are labelled. Targeted images
# have to beat standard augmentation: random turns, scalings and shifts. So we train three arms:
# plain, standard, and standard with targeted images. (``flip=False``, because a mirrored digit is
# not the same digit.)
#
# Synthetic images add gradient steps. The other arms get more epochs instead, so that all make
# about as many steps.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import AugmentedClassifier
from tsynd_sk.augmentation import TransformRows, standard_transform
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
alike = np.isin(labels, [3, 5, 8, 9])
X_pool, X_test, y_pool, y_test = train_test_split(
    images[alike], labels[alike], test_size=120, stratify=labels[alike], random_state=0
)
standard = {"iterator_train__collate_fn": TransformRows(standard_transform(flip=False))}


def net(max_epochs, **params):
    return NetClassifier(max_epochs=max_epochs, lr=1e-2, module__width=12, **params)


def targeted(seed):
    return AugmentedClassifier(net(25, **standard), random_state=seed)


def real_alone(seed, steps, **params):
    epochs = round(sum(steps) / steps[0])
    return AugmentedClassifier(net(epochs, **params), synthetic_ratio=0, random_state=seed)


# %%
# Each of three seeds draws its own training images and trains all arms on them. The report pairs
# classifiers by their place in the lists.
arms = {"plain": [], "standard": [], "standard + targeted": []}
for seed in range(3):
    X_train, _, y_train, _ = train_test_split(
        X_pool, y_pool, train_size=60, stratify=y_pool, random_state=seed
    )
    classifier = targeted(seed).fit(X_train, y_train)
    steps = [epoch["train_batch_count"] for epoch in classifier.history_]
    arms["plain"].append(real_alone(seed, steps).fit(X_train, y_train))
    arms["standard"].append(real_alone(seed, steps, **standard).fit(X_train, y_train))
    arms["standard + targeted"].append(classifier)
print(f"{sum(steps)} steps with targeted images")

# %%
# The report
# ----------
# We score on all twelve kinds of corruption at severity 3 of 5, and under projected gradient
# descent with changes of at most 8/255 and 16/255. (These digits have 17 grey levels; 16/255 is one
# of them.) Choose strengths before you look at scores: with enough of them, something always looks
# good. ``reference`` is the arm that the others are compared with: here standard augmentation.
from tsynd_sk.evaluation import robustness_report

report = robustness_report(
    arms,
    X_test,
    y_test,
    severities=[3],
    attacks=["pgd"],
    eps=[8 / 255, 16 / 255],
    attack_params={"max_iter": 10, "n_restarts": 1},
    metrics=["accuracy"],
    reference="standard",
    random_state=0,
)
print(report)

# %%
import matplotlib.pyplot as plt

from tsynd_sk.inspection import RobustnessDisplay

RobustnessDisplay.from_report(report).plot()
plt.show()

# %%
# The left panel shows scores. Their intervals cover other test images and other trainings. They
# overlap, because a hard test set or a lucky training set affects all arms alike. The right panel
# shows differences, paired by seed and image. **Read the right panel first.**
#
# Among many intervals, some exclude zero by chance. So a difference is *significant* only if it
# holds after Holm's correction for all tests of the report. Its marker is filled:
for row in report.comparisons:
    clear = row["low"] > 0 or row["high"] < 0
    verdict = "holds after correction" if row["p_holm"] < 0.05 else "does not hold"
    print(
        f"{row['condition']:<11}{row['estimator']:<21}{row['difference']:+.3f} "
        f"[{row['low']:+.3f}, {row['high']:+.3f}]{'' if clear else ', reaches zero'}; "
        f"p = {row['p_holm']:.3f}, {verdict}"
    )

# %%
# If an interval excludes zero but its marker is hollow, run more seeds. A hollow marker does not
# prove that there is no difference: three seeds and 120 test images show large differences only.
#
# Compare "standard" with "plain", too. Standard augmentation is usual, which does not make it
# better on your data. With other digits, labels or epochs the order of the arms can change. For
# evidence see :doc:`/evidence`.
#
# What does the mean hide?
# ------------------------
# "corrupted" averages over kinds that have little in common. ``rows`` holds every measurement.
kinds = list(dict.fromkeys(row["kind"] for row in report.rows if "kind" in row))
accuracy = {
    name: np.array(
        [
            [r["accuracy"] for r in report.rows if r.get("kind") == kind and r["estimator"] == name]
            for kind in kinds
        ]
    )
    for name in arms
}
order = np.argsort(accuracy["standard"].mean(axis=1))
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
looks = {
    "plain": ("s", "black"),
    "standard": ("o", "#0072B2"),
    "standard + targeted": ("D", "#D55E00"),
}
for shift, (name, (marker, color)) in zip([-0.2, 0, 0.2], looks.items(), strict=True):
    values = accuracy[name][order]
    heights = np.arange(len(kinds)) + shift
    ax.plot(values, heights, marker, ms=2.5, color=color, alpha=0.5)
    ax.plot(values.mean(axis=1), heights, marker, ms=6, color=color, label=name)
ax.set_yticks(range(len(kinds)), [kinds[i] for i in order])
ax.set_xlabel("accuracy (share of images); small: single seeds, large: their means")
ax.grid(axis="x", color="0.9")
fig.legend(loc="outside upper center", ncols=3, frameon=False)
plt.show()

# %%
# Standard augmentation trains on rotation, shift and scale, so a gain there is expected; the other
# kinds tell more. Look for kinds where one arm leads in all seeds, and for kinds where the order
# changes.
#
# Was the attack strong enough?
# -----------------------------
# Accuracy under attack can be high for two reasons: the network is robust, or the attack fails
# because gradients are uninformative (*gradient masking*). Three checks help: attacks with
# gradients should do at least as well as "square", which uses predictions alone; many steps at
# least as well as one; larger changes at least as well as smaller ones.
from tsynd_sk.evaluation import adversarial_scores

checked = adversarial_scores(
    arms["standard + targeted"][0],
    X_test[:60],
    y_test[:60],
    attacks=["fgsm", "pgd", "square"],
    eps=[8 / 255, 16 / 255, 32 / 255],
    max_iter=20,
    n_restarts=1,
    n_queries=100,
    random_state=0,
)
for row in checked.rows:
    print(f"{row['attack']:<8}{255 * row['eps']:>4.0f}/255   accuracy {row['accuracy']:.3f}")
print(f"the loss rises along its gradient on {checked.loss_rises:.0%} of the images")
print("signs of gradient masking:", checked.gradient_masking or "none")

# %%
# "pgd" should be lowest at each strength, and approach zero for large changes. Then you can trust
# the scores. No sign of masking is no proof: for numbers to publish, use "autoattack", more steps
# and restarts. If there are signs, a warning says so, and only the lowest accuracy counts.
#
# Try next
# --------
# - ``python -m tsynd_sk --dataset FOLDER --eps 2/255 4/255`` runs this comparison on your images,
#   with a control of randomly moved images. :doc:`/guide/evaluation` has more.
# - :doc:`/guide/augmentation`: other transforms.
# - :doc:`/guide/pitfalls`: random networks, imbalanced data, small test sets.
# - What the classifiers look at: :ref:`sphx_glr_auto_examples_plot_saliency.py`.
