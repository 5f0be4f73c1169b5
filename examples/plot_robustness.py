"""
Robustness under corruption and attack
======================================

You will learn how to compare classifiers on corrupted and attacked images by one report, how to
read its intervals and its corrected tests, what to look at behind a mean, and how to see whether an
attack was too weak to mean anything.
"""

# %%
# Three ways to train
# -------------------
# Sixty images of the digits 3, 5, 8 and 9, which are easily mistaken for each other, are labelled.
# Standard augmentation, random turns, scalings and shifts, is the rival that targeted images have
# to beat. So there are three arms: plain, standard, and standard with targeted images on top. (Left
# and right mean something in digits, hence ``flip=False``.)
#
# Synthetic rows add gradient steps. The arms without them get more epochs instead, so that all make
# about equally many steps.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.augmentation import TransformRows, standard_transform
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
alike = np.isin(labels, [3, 5, 8, 9])
X_pool, X_test, y_pool, y_test = train_test_split(
    images[alike], labels[alike], test_size=200, stratify=labels[alike], random_state=0
)
standard = {"iterator_train__collate_fn": TransformRows(standard_transform(flip=False))}


def net(max_epochs, **params):
    return NetClassifier(max_epochs=max_epochs, lr=5e-3, module__width=16, **params)


def targeted(seed):
    synthesizer = TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=5, module__width=32))
    return AugmentedClassifier(net(40, **standard), synthesizer, random_state=seed)


def real_alone(seed, steps, **params):
    epochs = round(sum(steps) / steps[0])
    return AugmentedClassifier(net(epochs, **params), synthetic_ratio=0, random_state=seed)


# %%
# Four seeds: each draws its own training images, and trains all arms on them. The first of
# every list belong together, and so on; that is how the report pairs them.
arms = {"plain": [], "standard": [], "standard + targeted": []}
for seed in range(4):
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
# All twelve kinds of corruption at a middle severity, and projected gradient descent with changes
# of at most 8 and 16 grey levels of 255. These digits have 17 levels in all, so that the larger
# change is one of them. Settle strengths before you look at scores, for with enough of them
# something always looks good. ``reference`` is what the others are compared with: here the rival.
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
# On the left are scores. Their intervals are for other test images and other trainings, and they
# overlap a lot: much of what makes a test set hard or a training set lucky is common to all arms.
# On the right that is gone, because each seed and each image is compared with itself. **Read the
# right panel first.** We call a difference found when its interval excludes zero.
#
# The markers are stricter. Among many intervals, some miss zero by chance. A filled marker stands
# for a difference that holds after Holm's correction for all tests of the report:
for row in report.comparisons:
    clear = row["low"] > 0 or row["high"] < 0
    verdict = "holds after correction" if row["p_holm"] < 0.05 else "does not hold"
    print(
        f"{row['condition']:<11}{row['estimator']:<21}{row['difference']:+.3f} "
        f"[{row['low']:+.3f}, {row['high']:+.3f}]{'' if clear else ', reaches zero'}; "
        f"p = {row['p_holm']:.3f}, {verdict}"
    )

# %%
# An interval may exclude zero while the marker stays hollow: a hint, and a reason to run more
# seeds, not a result. Nor does a hollow marker say that there is no difference. Four seeds and two
# hundred images of eight by eight pixels see large differences only; how large, the widths of the
# intervals tell.
#
# These are four digits, one number of labels and one number of epochs. With others the order of
# the arms can be another. So take it as a lesson in reading, and look for evidence in
# :doc:`/evidence`.
#
# Compare "standard" with "plain" too, in all rows. What turns and shifts teach is paid for
# elsewhere, if it is: that a rival is the usual one does not make it the better one on your data.
#
# Behind the mean
# ---------------
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
# Rotation, shift and scale are what standard augmentation trains on, so that a gain there is no
# surprise, and the other kinds tell more. Look for kinds in which one arm leads in all seeds, and
# for those in which the order turns round.
#
# Was the attack any good?
# ------------------------
# Accuracy under attack is high for two reasons: the net is robust, or the attack fails, because the
# gradients that it follows say nothing. The second is called gradient masking. Three checks tell
# some of it: attacks with gradients have to do at least as well as "square", which sees predictions
# alone; more steps as well as one; and more strength as well as less.
from tsynd_sk.evaluation import adversarial_scores

checked = adversarial_scores(
    arms["standard + targeted"][0],
    X_test,
    y_test,
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
# In the table above, "pgd" should be lowest at each strength, and go towards zero where the
# strength is large enough. Then the scores under attack mean what they say. An empty list of signs
# is no proof, though: for numbers that are to be published, take "autoattack", more steps and
# restarts. For a net that does show signs there is a warning, and only the lowest accuracy counts.
#
# Try next
# --------
# - ``python -m tsynd_sk --dataset FOLDER --eps 2/255 4/255`` runs this comparison on your images,
#   with controls: an arm with randomly moved images tells whether *targeting* helps.
#   :doc:`/guide/evaluation` has more.
# - :doc:`/guide/augmentation`: other transforms, and what a schedule costs.
# - :doc:`/guide/pitfalls`: nets that draw, imbalanced data, small test sets.
# - What the classifiers look at: :ref:`sphx_glr_auto_examples_plot_saliency.py`.
